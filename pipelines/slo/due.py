"""When time alone will change what is said of an SLO."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from psycopg.errors import LockNotAvailable

if TYPE_CHECKING:
    import psycopg


# Whether a sender is silent is asked of those of which something fell due lately without a word, and no others. What is
# usual is another thing at another time of day, so that it may be asked again then.
SILENT = """
select min(silent_from_at)
from (
    select job.application_id
    from marts.slo_performance as performance
    inner join marts.slo_job_performance as job using (slo_id, business_date, slot)
    where performance.outcome = 'overdue' and performance.expected_end_at > %(published)s - interval '6 hours'
        and job.progress = 'pending'
    group by job.application_id
) as quiet
cross join lateral (
    select silent_from_at from marts.sender_silence as sender
    where sender.application_id = quiet.application_id and missing_moments > 0
    offset 0
) as sender
where silent_from_at >= %(published)s
"""


def next_instant(connection: psycopg.Connection[Any], published: datetime) -> datetime | None:
    """The first instant after `published` at which time alone changes something.

    An occurrence opens, falls due or is given up, a held status may be seen, or a sender has been quiet for longer
    than usual.
    """
    found = [
        instant for instant in (_promised(connection, published), _silent(connection, published)) if instant
    ]
    return min(found, default=None)


def _silent(connection: psycopg.Connection[Any], published: datetime) -> datetime | None:
    if connection.execute("select to_regclass('marts.sender_silence')").fetchone() == (None,):
        # The first tick of this version has not made it yet.
        return published
    try:
        with connection.transaction():
            connection.execute(
                "lock table marts.slo_performance, marts.slo_job_performance in access share mode nowait"
            )
    except LockNotAvailable:
        # They are being made anew: who asks what is due does not wait for that.
        return published
    row = connection.execute(SILENT, {"published": published}).fetchone()
    # Silent is who is quiet for longer.
    return row[0] + timedelta(microseconds=1) if row and row[0] else None


def _promised(connection: psycopg.Connection[Any], published: datetime) -> datetime | None:
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
