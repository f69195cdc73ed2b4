"""Checks that fail by what incidents tell: one fact, one alert.

Checks are for who looks at an asset. What they find in a feed is judged by the rules of incidents too, file by file and
job by job, and told by them. Only what those left untold (few rejected records in each of many files, say) is told of
the check.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pipelines.landing.known_feeds import tables
from pipelines.orchestration.dagster_private.tables import FailedCheck

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]

# Whether incidents tell of a check that failed at `failed_at`, of an asset into which `feeds` are loaded.
_TOLD = {
    "registered_jobs": """
        select exists (select from ops.incident where kind = 'unregistered_job' and resolved_at is null)
    """,
    "quarantined_files": """
        select not exists (
            select from raw.landed_file as file
            where feed = any(%(feeds)s) and status = 'quarantined'
                and not exists (
                    select from raw.landed_file as later
                    where later.feed = file.feed and later.path = file.path
                        and later.landed_file_id > file.landed_file_id
                )
                and not exists (
                    select from ops.incident
                    where kind = 'rejected_records' and subject = file.path and occurrence = file.landed_file_id::text
                )
        )
    """,
    # The check is of the records of a day.
    "rejected_share": """
        select exists (
            select from ops.incident
            where kind = 'rejected_records' and detail ->> 'feed' = any(%(feeds)s)
                and opened_at > %(failed_at)s - interval '1 day'
        )
    """,
}


def told_by_incidents(cursor: Cursor, checks: Iterable[FailedCheck]) -> frozenset[tuple[str, str]]:
    """Of these checks those, by asset and name, whose facts have an incident of their own."""
    found = set()
    for one in checks:
        schema, _, table = one.asset.partition("/")
        if one.check not in _TOLD or schema != "raw" or table not in tables():
            continue
        row = cursor.execute(
            _TOLD[one.check], {"feeds": tables()[table], "failed_at": one.failed_at}
        ).fetchone()
        if row is not None and row[0]:
            found.add((one.asset, one.check))
    return frozenset(found)
