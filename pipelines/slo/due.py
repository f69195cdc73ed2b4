"""When time alone will change what is said of an SLO."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


def next_instant(connection: psycopg.Connection[Any], published: datetime) -> datetime | None:
    """The first instant after `published` at which an occurrence opens, is due or given up, or a status is seen."""
    row = connection.execute(
        """
        select least(
            (select min(opens_at) from catalog.promise where opens_at > %(published)s),
            (select min(expected_end_at) from catalog.promise where expected_end_at >= %(published)s),
            (
                select min(status_at) from raw.job_status
                where status_at > %(published)s and load_id <= (select published_high from control.tick)
            )
        )
        """,
        {"published": published},
    ).fetchone()
    instants = [row[0] if row else None]
    # After an upgrade, before the first tick, the mart is that of the version before.
    found = connection.execute(
        "select from pg_attribute where attrelid = to_regclass('marts.slo_performance') and attname = 'gives_up_at'"
    ).fetchone()
    if found is not None:
        # An exception may have put off what is due; of those that are overdue there are few.
        instants += connection.execute(
            """
            select least(
                (
                    select min(expected_end_at) from marts.slo_performance
                    where outcome = 'not_due' and expected_end_at >= %(published)s
                ),
                (
                    select min(gives_up_at) from marts.slo_performance
                    where outcome = 'overdue' and gives_up_at >= %(published)s
                )
            )
            """,
            {"published": published},
        ).fetchall()[0]
    return min((instant for instant in instants if instant is not None), default=None)
