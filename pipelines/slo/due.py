"""When time alone will change what is said of an SLO."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipelines.warehouse.locks import are_free_to_read

if TYPE_CHECKING:
    import psycopg


# Whether a sender is silent is asked of those of which something fell due lately without a word, and no others. What is
# usual is another thing at another time of day, so that it may be asked again then.
SILENT = """
-- Silent is who is quiet for longer.
select min(silent_from_at) + interval '1 microsecond'
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


# An exception may have put off what is due; of those that are overdue there are few.
JUDGED = """
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
"""


def next_instant(connection: psycopg.Connection[Any], published: datetime) -> datetime | None:
    """The first instant after `published` at which time alone changes something.

    An occurrence opens, falls due or is given up, a held status may be seen, or a sender has been quiet for longer
    than usual.
    """
    found = [_promised(connection, published), _judged(connection, published)]
    return min((instant for instant in found if instant is not None), default=None)


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
    return row[0] if row else None


def _judged(connection: psycopg.Connection[Any], published: datetime) -> datetime | None:
    """What the marts know of it; `published` where they do not say: then a tick is to be done."""
    if connection.execute("select to_regclass('marts.sender_silence')").fetchone() == (None,):
        # After an upgrade, before the first tick, the marts are those of the version before.
        return published
    if not are_free_to_read(connection, "marts.slo_performance", "marts.slo_job_performance"):
        # They are made anew: who asks what is due does not wait for that.
        return published
    found = [
        row[0]
        for query in (JUDGED, SILENT)
        if (row := connection.execute(query, {"published": published}).fetchone()) and row[0]
    ]
    return min(found, default=None)
