"""Records that are kept no longer: taken out after all that reads them has been computed, and noted hour by hour.

What was purged is remembered for good, because a value over it must stay as it is; nothing is decided by a date alone.
An old hour whose first lines have only now come is counted once, and purged by the same tick.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pipelines.subject import Publication
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

RELATION = "marts.indicator_record"


def retention() -> str:
    """How long records are kept, counted back from as_of: an interval; one that is exactly so old still is."""
    return Settings.indicator_retention.now()


def restore(connection: psycopg.Connection[Any], is_rebuild: bool) -> None:
    """Let a rebuild bring back hours that would not be old as of its moment, where raw still has them.

    Within the tick's publication, before its marts.
    """
    if is_rebuild:
        connection.execute(
            """
            delete from control.purged_hour as purged using control.tick
            where relation = %s and hour_at >= tick.as_of - %s::interval and exists (
                select from raw.metric_input
                where minute_at >= purged.hour_at and minute_at < purged.hour_at + interval '1 hour'
            )
            """,
            [RELATION, retention()],
        )


def purge(connection: psycopg.Connection[Any]) -> list[Publication]:
    """Take out the records that are older than what is kept, and note their hours, within the tick's publication."""
    started = time.monotonic()
    row: Any = connection.execute(
        """
        with
            gone as (
                delete from marts.indicator_record as record using control.tick
                where record.hour_at < tick.as_of - %s::interval
                returning record.indicator_id, record.hour_at, tick.high
            ),
            noted as (
                insert into control.purged_hour (relation, part, hour_at, load_id)
                select distinct %s, indicator_id::text, hour_at, high from gone
                on conflict do nothing
            )
        select count(*) from gone
        """,
        [retention(), RELATION],
    ).fetchone()
    if not row[0]:
        return []
    return [Publication("indicator_record", int(row[0]), 0, time.monotonic() - started)]
