"""The dbt project as assets, and the one op that computes them: the tick, all of it or nothing."""
# Dagster reads the types of an op's arguments when it is made: annotations stay values here.

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from graphlib import TopologicalSorter
from typing import Any, cast

import dagster as dg
import psycopg
from dagster_dbt import DagsterDbtTranslator
from pydantic import Field

from pipelines.errors import DuemarkError
from pipelines.orchestration.failures import explained
from pipelines.orchestration.tables import INTERNALS, markdown_table, table_spec, valid_owners
from pipelines.subject import Publication, in_use
from pipelines.transform.project import project_of
from pipelines.transform.publish import told
from pipelines.transform.tick import TickReport, tick
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

# Runs with an op of this pool wait for each other; the lock inside a tick is what makes it sure.
POOL = "tick"

Metadata = dict[str, dg.MetadataValue[Any] | int | float]
# The materialisations of the selector `tick`; deploy makes all else, once.
COMPUTED = {"work", "scoped"}

# Groups of sources; of all others it is that of internals.
GROUPS = {"raw": "landing"}

# About the tick itself: a schema of sources, and a folder of marts.
CONTROL = "control"

# Schemas of sources that are read by many and say nothing of lineage: the control row.
UNSHOWN = {CONTROL}


class TickConfig(dg.Config):
    """What a person may ask of a tick."""

    # Text, not null: the launchpad leaves out what is null, and nobody would know that it can be given.
    as_of: str = Field(
        default="",
        description="Judge as of this instant, ISO 8601 with an offset (2026-03-03T03:00:00-05:00); empty: now.",
    )
    rebuild: bool = Field(
        default=False, description="Compute every row again; needed to judge as of an earlier instant."
    )


class Translator(DagsterDbtTranslator):
    """How a dbt node is shown: key [schema, name], group and owner as in its yml, description without the SQL."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        node = self.get_resource_props(manifest, unique_id)
        form = node["config"].get("materialized")
        return spec.replace_attributes(
            deps=[dep for dep in spec.deps if dep.asset_key.path[0] not in UNSHOWN],
            kinds={"dbt", "postgres", *({"view": ["view"], "table_function": ["function"]}.get(form, []))},
            skippable=False,
        ).merge_attributes(metadata={"file": node["original_file_path"]})

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Of a mart the subject, as its dbt group or else its folder says; what is no mart is internal."""
        if schema := dbt_resource_props.get("source_name"):
            return GROUPS.get(schema, INTERNALS)
        layer, folder = dbt_resource_props["fqn"][1:3]
        if layer != "marts" or folder == CONTROL:
            return INTERNALS
        return str(dbt_resource_props["config"].get("group") or folder)

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return str(dbt_resource_props.get("description") or "").strip()

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str]:
        config, group = dbt_resource_props.get("config") or {}, dbt_resource_props.get("group") or {}
        own = (config.get("meta") or {}).get("owner")
        return valid_owners(own) or valid_owners(
            (group.get("owner") or {}).get("name") if isinstance(group, dict) else None
        )


def model_specs(manifest: Mapping[str, Any]) -> tuple[list[dg.AssetSpec], list[dg.AssetSpec]]:
    """Specs of all models: those that a tick computes, in its order, and all others (views, functions, …)."""
    translator = Translator()
    computed: list[dg.AssetSpec] = []
    shown: list[dg.AssetSpec] = []
    for unique_id, node in sorted(manifest["nodes"].items()):
        if node["resource_type"] == "model":
            spec = translator.get_asset_spec(manifest, unique_id, None)
            (computed if node["config"]["materialized"] in COMPUTED else shown).append(spec)
    return in_order(computed), shown


def in_order(specs: Sequence[dg.AssetSpec]) -> list[dg.AssetSpec]:
    """What another one reads comes first: Dagster wants the outputs of an op so."""
    by_key = {spec.key: spec for spec in specs}
    upstream = {
        key: [dep.asset_key for dep in spec.deps if dep.asset_key in by_key] for key, spec in by_key.items()
    }
    return [by_key[key] for key in TopologicalSorter(upstream).static_order()]


def source_specs(manifest: Mapping[str, Any], known: Sequence[dg.AssetSpec]) -> list[dg.AssetSpec]:
    """Sources that models read and nobody else declares, so that each has its description."""
    declared = {spec.key for spec in known}
    read = {dep.asset_key for spec in known for dep in spec.deps}
    return [
        table_spec(
            manifest,
            source["source_name"],
            source["name"],
            group=GROUPS.get(source["source_name"], INTERNALS),
            kinds={"postgres"},
        )
        for source in manifest["sources"].values()
        if (key := dg.AssetKey([source["source_name"], source["name"]])) in read and key not in declared
    ]


def tick_assets(
    models: Sequence[dg.AssetSpec], before: Sequence[dg.AssetSpec], kept: Sequence[dg.AssetSpec] = ()
) -> dg.AssetsDefinition:
    """The op `transform`, one tick: `before` (catalog and promises), all `models`, and what subjects `kept` of them.

    Keys are [schema, table].
    """

    @dg.multi_asset(
        name="transform",
        specs=[*before, *models, *in_order(kept)],
        pool=POOL,
        description="One tick: what is new, and what time alone has changed, into the marts; visible together.",
    )
    def _transform(
        context: dg.AssetExecutionContext, config: TickConfig, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        with explained():
            with connect(settings, "transform") as connection:
                row = connection.execute("select published_high from control.tick").fetchone()
            report = tick(project_of(settings), _instant(config.as_of), rebuild=config.rebuild)
            for problem in report.problems:
                context.log.error("%s", problem)
            with connect(settings, "transform") as connection:
                loads = _new_loads(connection, int(cast("int", row[0])) if row else 0, report.high)
                sizes = _sizes(connection)
                yield from _before(before, loads)
                yield from _models(models, report, sizes, connection)
                yield from _kept(kept, report, sizes, connection)
                ours = {spec.key.path[-1] for spec in [*models, *kept]}
                for mart in told(report.publications):
                    if mart.name not in ours and (mart.inserted or mart.deleted):
                        # A view is no output of this op, and has something to tell all the same.
                        context.log_event(
                            dg.AssetMaterialization(
                                ["marts", mart.name],
                                metadata=_mart(report, mart, sizes, connection),
                            )
                        )

    return _transform


def _instant(text: str) -> datetime | None:
    if not text.strip():
        return None
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise DuemarkError(
            f"as_of: {text!r} is no instant.",
            "Write it like 2026-03-03T03:00:00-05:00, or leave it empty for now.",
        ) from error


def _new_loads(connection: psycopg.Connection[Any], low: int, high: int) -> dict[str, tuple[int, int]]:
    """(loads, records) by feed, of the loads in (low, high]."""
    rows = connection.execute(
        "select feed, count(*), sum(record_count)::bigint from raw.load"
        " where load_id > %s and load_id <= %s group by feed",
        [low, high],
    ).fetchall()
    return {feed: (loads, records) for feed, loads, records in rows}


def _sizes(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Rows of each mart as the server estimates them: counting would cost more with every year."""
    rows = connection.execute(
        "select relname, n_live_tup from pg_stat_user_tables where schemaname = 'marts'"
    ).fetchall()
    return dict(rows)


def _before(
    specs: Sequence[dg.AssetSpec], loads: Mapping[str, tuple[int, int]]
) -> Iterator[dg.MaterializeResult[Any]]:
    """What the tick did before dbt; a catalog that did not change is not told of."""
    for spec in specs:
        feed = "promises" if spec.key.path[-1].startswith("promise") else "catalog"
        if feed in loads or not spec.skippable:
            yield dg.MaterializeResult(
                asset_key=spec.key, metadata={"rows inserted": loads.get(feed, (0, 0))[1]}
            )


def _models(
    specs: Sequence[dg.AssetSpec],
    report: TickReport,
    sizes: Mapping[str, int],
    connection: psycopg.Connection[Any],
) -> Iterator[dg.MaterializeResult[Any]]:
    seconds = {model.name: model.seconds for model in report.models}
    published = {publication.name: publication for publication in told(report.publications)}
    for spec in specs:
        name = spec.key.path[-1]
        if mart := published.get(name):
            metadata = _mart(report, mart, sizes, connection)
        else:
            metadata = {"as of": dg.MetadataValue.timestamp(report.as_of)}
            if name in seconds:
                metadata["seconds"] = round(seconds[name], 3)
        yield dg.MaterializeResult(asset_key=spec.key, metadata=metadata)


def _kept(
    specs: Sequence[dg.AssetSpec],
    report: TickReport,
    sizes: Mapping[str, int],
    connection: psycopg.Connection[Any],
) -> Iterator[dg.MaterializeResult[Any]]:
    """What was filled after the marts; a table in which no row changed is not told of."""
    published = {publication.name: publication for publication in report.publications}
    for spec in in_order(specs):
        table = published.get(".".join(spec.key.path))
        if table is not None and (table.inserted or table.deleted):
            yield dg.MaterializeResult(asset_key=spec.key, metadata=_mart(report, table, sizes, connection))


def _mart(
    report: TickReport,
    mart: Publication,
    sizes: Mapping[str, int],
    connection: psycopg.Connection[Any],
) -> Metadata:
    metadata: Metadata = {
        "as of": dg.MetadataValue.timestamp(report.as_of),
        "rows inserted": mart.inserted,
        "rows deleted": mart.deleted,
        "rows, estimated": sizes.get(mart.name, 0),
        "seconds": round(mart.seconds, 3),
    }
    if (describe := in_use().describe().get(mart.name)) is not None:
        metadata |= describe(connection, report)
        metadata["tick"] = dg.MetadataValue.md(_tick_table(report))
    return metadata


def changed_marts(settings: Settings, report: TickReport) -> list[dg.AssetMaterialization]:
    """What a tick outside a run has to tell Dagster: each mart in which it exchanged a row."""
    changed = [mart for mart in told(report.publications) if mart.inserted or mart.deleted]
    if not changed:
        return []
    with connect(settings, "transform") as connection:
        sizes = _sizes(connection)
        return [
            dg.AssetMaterialization(["marts", mart.name], metadata=_mart(report, mart, sizes, connection))
            for mart in changed
        ]


def _tick_table(report: TickReport) -> str:
    rows: list[tuple[str, object]] = [
        ("loads", f"{report.low + 1} to {report.high}" if report.high > report.low else "none"),
        ("rebuild", "yes" if report.is_rebuild else "no"),
        *((f"seconds: {step}", f"{spent:.2f}") for step, spent in report.seconds.items()),
    ]
    return markdown_table(["", ""], rows)
