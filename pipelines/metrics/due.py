"""When time alone will change an indicator's records."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipelines.metrics.purge import retention

if TYPE_CHECKING:
    import psycopg


def next_instant(connection: psycopg.Connection[Any], published: datetime) -> datetime | None:
    """The first instant after `published` at which a held fact may be seen, an hour ends, or a record expires."""
    deployed = connection.execute("select to_regclass('marts.indicator_record') is not null").fetchone()
    if not deployed or not deployed[0]:
        return None  # an older version's tables: the next tick deploys
    row = connection.execute(
        """
        select least(
            (
                select min(minute_at) from raw.metric_input
                where minute_at > %(published)s and load_id <= (select published_high from control.tick)
            ),
            (
                select min(hour_at) + interval '1 hour' from marts.indicator_record
                where provisional and hour_at > %(published)s - interval '1 hour'
            ),
            (
                select min(hour_at) + %(retention)s::interval from marts.indicator_record
                -- two days: a year after 29 February is a matter of opinion
                where hour_at >= %(published)s - %(retention)s::interval - interval '2 days'
                    and hour_at + %(retention)s::interval >= %(published)s
            )
        )
        """,
        {"published": published, "retention": retention()},
    ).fetchone()
    return row[0] if row else None
