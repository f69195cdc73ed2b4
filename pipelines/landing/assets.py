"""Feeds as assets: materialising one loads what has landed for it."""
# Dagster reads the types of an op's arguments when it is made: annotations stay values here.

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from pipelines.catalog.store import refresh_catalog
from pipelines.landing import known_feeds
from pipelines.landing.ledger import FileOutcome
from pipelines.orchestration.failures import explained
from pipelines.orchestration.tables import markdown_table, table_spec
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from pipelines.landing.ingest import IngestReport

GROUP = "landing"
OWNERS = ["team:platform"]


def feed_key(feed: str) -> dg.AssetKey:
    """Asset key of a feed's table."""
    return dg.AssetKey(["raw", known_feeds.entry(feed).table])


def feed_assets(manifest: Mapping[str, Any]) -> dg.AssetsDefinition:
    """One asset for each table of feeds, all loaded by the op `ingest`; any of them can be asked for alone."""
    specs = [
        table_spec(manifest, "raw", table, group=GROUP, kinds={"file", "postgres"}, owners=OWNERS)
        for table in known_feeds.tables()
    ]

    @dg.multi_asset(
        name="ingest",
        specs=specs,
        can_subset=True,
        description="Load the files that landed since: each in one transaction, once.",
    )
    def _ingest(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        # pandas: a second of every process that only shows the assets
        from pipelines.landing.ingest import ingest

        feeds = [feed for feed in known_feeds.names() if feed_key(feed) in context.selected_asset_keys]
        with explained():
            # Times without an offset are read in the zone that the catalog gives their application.
            problem = refresh_catalog(settings)
            if problem is not None:
                context.log.error("%s", problem)
            report = ingest(settings, feeds=feeds)
        for key, its_feeds in by_key(feeds).items():
            yield dg.MaterializeResult(asset_key=key, metadata=feed_metadata(report, its_feeds))

    return _ingest


def by_key(feeds: Iterable[str]) -> dict[dg.AssetKey, list[str]]:
    """The feeds of each asset."""
    found: dict[dg.AssetKey, list[str]] = {}
    for feed in feeds:
        found.setdefault(feed_key(feed), []).append(feed)
    return found


def feed_metadata(
    report: "IngestReport", feeds: Collection[str]
) -> dict[str, dg.MetadataValue[Any] | int | float]:
    """What an ingest did for the feeds of an asset."""
    files = [outcome for outcome in report.files if outcome.feed in feeds]
    loaded = [outcome for outcome in files if outcome.status == "loaded"]
    quarantined = [outcome for outcome in files if outcome.status == "quarantined"]
    warnings = [(outcome.path, warning) for outcome in loaded for warning in outcome.warnings]
    metadata: dict[str, dg.MetadataValue[Any] | int | float] = {
        "files": len(loaded),
        "rows": sum(outcome.record_count for outcome in loaded),
        "rejected": sum(outcome.rejected_count for outcome in loaded),
        "duplicate files": sum(outcome.status == "duplicate" for outcome in files),
        "quarantined files": len(quarantined),
        "warnings": len(warnings) + len(report.warnings),
    }
    if with_rejected := [outcome for outcome in loaded if outcome.rejected_count]:
        metadata["files with rejected records"] = _files(with_rejected)
    if quarantined:
        metadata["quarantined"] = dg.MetadataValue.md(
            markdown_table(
                ["file", "why", "what to do"], [(file.path, file.message, file.hint) for file in quarantined]
            )
        )
    if warnings or report.warnings:
        rows: list[Sequence[object]] = [
            (path, warning.get("line"), warning["message"], warning["hint"]) for path, warning in warnings
        ]
        rows += [(None, None, text, None) for text in report.warnings]
        metadata["warned of"] = dg.MetadataValue.md(
            markdown_table(["file", "line", "warning", "what to do"], rows)
        )
    return metadata


def _files(outcomes: list[FileOutcome]) -> dg.MarkdownMetadataValue:
    rows = sorted(
        ((file.path, file.record_count, file.rejected_count) for file in outcomes),
        key=lambda row: -row[2],
    )
    return dg.MetadataValue.md(markdown_table(["file", "rows", "rejected"], rows))
