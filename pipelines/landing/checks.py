"""Checks of every feed: how much of what came was rejected, and which files lie in quarantine."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from pipelines.landing.assets import feed_key
from pipelines.landing.known_feeds import tables
from pipelines.orchestration.failures import explained
from pipelines.orchestration.tables import markdown_table
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

# Of the records of the last day, more rejected ones than this are worth a look.
MOST_REJECTED = 0.01
WINDOW = timedelta(days=1)


def feed_checks() -> dg.AssetChecksDefinition:
    """Two checks for each table of feeds, in the op `check_feeds`."""
    specs = [
        spec
        for feeds in tables().values()
        for spec in (
            dg.AssetCheckSpec(
                "rejected_share",
                asset=feed_key(feeds[0]),
                description=f"Of the records of the last 24 hours at most {MOST_REJECTED:.0%} broke their contract.",
            ),
            dg.AssetCheckSpec(
                "quarantined_files",
                asset=feed_key(feeds[0]),
                description="No landed file waits in quarantine: each was loaded, or replaced by one that was.",
            ),
        )
    ]

    @dg.multi_asset_check(name="check_feeds", specs=specs, can_subset=True)
    def _check_feeds(
        context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.AssetCheckResult]:
        with explained():
            for key in context.selected_asset_check_keys:
                feeds = tables()[key.asset_key.path[-1]]
                judge = _rejected_share if key.name == "rejected_share" else _quarantined_files
                yield judge(settings, feeds)

    return _check_feeds


def _rejected_share(settings: Settings, feeds: list[str]) -> dg.AssetCheckResult:
    with connect(settings, "ingest") as connection:
        row = connection.execute(
            "select coalesce(sum(record_count), 0)::bigint, coalesce(sum(rejected_count), 0)::bigint from raw.load"
            " where feed = any(%s) and received_at > clock_timestamp() - %s",
            [feeds, WINDOW],
        ).fetchone()
        reasons = connection.execute(
            "select reason ->> 'field', count(*), min(reason ->> 'message') from raw.rejected_record"
            " cross join lateral jsonb_array_elements(reasons) as reason"
            " where feed = any(%s) and rejected_at > clock_timestamp() - %s group by 1 order by 2 desc, 1 limit 20",
            [feeds, WINDOW],
        ).fetchall()
    accepted, rejected = (int(str(value)) for value in row or (0, 0))
    share = rejected / (accepted + rejected) if rejected else 0.0
    return dg.AssetCheckResult(
        asset_key=feed_key(feeds[0]),
        check_name="rejected_share",
        passed=share <= MOST_REJECTED,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{rejected} of {accepted + rejected} records were rejected.",
        metadata={
            "share": share,
            "rejected": rejected,
            "accepted": accepted,
            "why": dg.MetadataValue.md(markdown_table(["field", "records", "for example"], reasons)),
        },
    )


def _quarantined_files(settings: Settings, feeds: list[str]) -> dg.AssetCheckResult:
    with connect(settings, "ingest") as connection:
        rows = connection.execute(
            """
            select path, message, hint, seen_at
            from raw.landed_file as quarantined
            where feed = any(%s) and status = 'quarantined'
                -- what was said of the path last
                and not exists (
                    select from raw.landed_file as later
                    where later.feed = quarantined.feed and later.path = quarantined.path
                        and later.landed_file_id > quarantined.landed_file_id
                )
                -- a log that could be read since
                and not exists (
                    select from raw.log_read as later
                    where later.feed = quarantined.feed and later.path = quarantined.path
                        and later.read_at > quarantined.seen_at
                )
            order by seen_at desc, path
            """,
            [feeds],
        ).fetchall()
    return dg.AssetCheckResult(
        asset_key=feed_key(feeds[0]),
        check_name="quarantined_files",
        passed=not rows,
        severity=dg.AssetCheckSeverity.WARN,
        description="1 file lies in quarantine."
        if len(rows) == 1
        else f"{len(rows)} files lie in quarantine.",
        metadata={
            "files": len(rows),
            "quarantined": dg.MetadataValue.md(markdown_table(["file", "why", "what to do", "seen"], rows)),
        },
    )
