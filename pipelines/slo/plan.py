"""Promises into the warehouse: the occurrences of every version of every SLO, for the dates that may be asked for.

Promises are journals: rows are added, for dates not yet covered, and never changed. Which version stands for a date
is decided where they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from pipelines.landing.load import begin_load, end_load
from pipelines.warehouse.connect import connect
from pipelines.warehouse.copy import copy_table
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

    from pipelines.slo.promises import Promise

# Promises reach this far ahead of the moment of judging, and are extended when less than the second is left.
HORIZON = timedelta(days=35)
LEAST_HORIZON = timedelta(days=28)
# An open start looks no further back: a mistyped year must not make decades of misses.
EARLIEST = date(2000, 1, 1)
# Rows sent at once: bounds memory for a catalog of thousands of SLOs.
BATCH = 20_000
# Rows added from which the planner has to be told at once; below, autovacuum does.
ANALYSE_ABOVE = 1_000


@dataclass(frozen=True)
class _Gap:
    """Business dates, both included, for which a version has no promises yet."""

    slo_id: str
    load_id: int
    entry_no: int
    spec: dict[str, Any]
    start: date
    end: date


def plan_promises(settings: Settings, as_of: datetime) -> int:
    """Make promises up to some weeks past `as_of` where they are missing.

    One load, and none when nothing is missing. Returns the last load up to which all statuses and versions have the
    promises they need; what comes after it is for the next tick.
    """
    with connect(settings, "ingest") as connection, connection.cursor() as cursor:
        # Before the look: what is committed in between is seen, and not counted on.
        seen = _last_load(cursor)
        if not _gaps(cursor, as_of):
            return seen
        connection.rollback()
        load_id = begin_load(cursor)
        gaps = _gaps(cursor, as_of)
        if not gaps:
            connection.rollback()
            return load_id - 1
        count = _store(cursor, load_id, gaps)
        end_load(cursor, load_id, "promises", f"{len(gaps)} versions", count)
    if count > ANALYSE_ABOVE:
        with connect(settings, "ingest", autocommit=True) as connection:
            connection.execute("analyze catalog.promise, catalog.promise_job")
    return load_id


def _last_load(cursor: psycopg.Cursor[Any]) -> int:
    row = cursor.execute("select coalesce(max(load_id), 0) from raw.load").fetchone()
    return int(row[0]) if row else 0


def _new_dates(cursor: psycopg.Cursor[Any]) -> tuple[date, date]:
    """The business dates, from and to, of what came since the last tick, by the months of its loads."""
    row = cursor.execute(
        """
        select min(month), max(month), coalesce(bool_or(months is null), false)
        from raw.load left join unnest(months) as month on true
        where feed = 'job_status' and load_id > (select published_high from control.tick)
        """
    ).fetchone()
    if row is None or row[2]:
        return date.min, date.max
    if row[0] is None:
        return date.max, date.min
    return row[0], row[1] + timedelta(days=30)


def _has_unplanned(cursor: psycopg.Cursor[Any]) -> bool:
    row = cursor.execute(
        """
        select exists (
            select from catalog.slo_version left join catalog.plan_coverage using (slo_id, load_id, entry_no)
            where planned_to is null and not is_retired
        )
        """
    ).fetchone()
    return row is None or bool(row[0])


def _gaps(cursor: psycopg.Cursor[Any], as_of: datetime) -> list[_Gap]:
    """What is missing: versions that stand and are not covered, ahead, or back to the first status of an open start."""
    # A business date is at most a day ahead of UTC.
    today = as_of.astimezone(UTC).date() + timedelta(days=1)
    new_from, new_to = _new_dates(cursor)
    # Said to the planner, which need not think about what will not be read.
    is_looking_back = _has_unplanned(cursor)
    cursor.execute(
        """
        with standing as (
            select *, coalesce(min(applies_from) over (
                partition by slo_id order by load_id desc, applies_from desc, entry_no desc
                rows between unbounded preceding and 1 preceding), 'infinity') as applies_before
            from catalog.slo_version
        ),
        -- what came since the last tick can only move the first date of its own jobs
        first_new as (
            select application_id, job_id, min(business_date) as business_date
            from raw.job_status
            where load_id > (select published_high from control.tick)
                and business_date between %(new_from)s and %(new_to)s
            group by application_id, job_id
        ),
        -- a version that has no promises yet looks back over all that ever came
        first_ever as (
            select application_id, job_id, seen.business_date
            from (
                select distinct application_id, job_id
                from standing inner join catalog.slo_job using (slo_id, load_id, entry_no)
                left join catalog.plan_coverage using (slo_id, load_id, entry_no)
                where is_open_start and planned_to is null and not is_retired and applies_before > applies_from
            ) as unplanned
            cross join lateral (
                select business_date from raw.job_status as status
                where %(is_looking_back)s
                    and status.application_id = unplanned.application_id
                    and status.job_id = unplanned.job_id
                order by business_date limit 1
            ) as seen
        ),
        first_status as (
            select slo_id, load_id, entry_no, min(first_date.business_date) as business_date
            from standing inner join catalog.slo_job using (slo_id, load_id, entry_no)
            inner join (select * from first_new union all select * from first_ever) as first_date
                using (application_id, job_id)
            where is_open_start
            group by slo_id, load_id, entry_no
        )
        select slo_id, load_id, entry_no, spec,
            case when is_open_start then first_status.business_date else applies_from end as wanted_from,
            nullif(least(applies_before - 1, effective_to), 'infinity') as wanted_to,
            planned_from, planned_to
        from standing
        left join catalog.plan_coverage using (slo_id, load_id, entry_no)
        left join first_status using (slo_id, load_id, entry_no)
        where not is_retired and applies_before > applies_from
            and (
                planned_to is null
                or planned_to < least(%(least)s::date, applies_before - 1, effective_to)
                or first_status.business_date < planned_from
            )
        order by slo_id, load_id, entry_no
        """,
        {
            "least": today + LEAST_HORIZON,
            "new_from": new_from,
            "new_to": new_to,
            "is_looking_back": is_looking_back,
        },
    )
    gaps = []
    for (
        slo_id,
        load_id,
        entry_no,
        spec,
        wanted_from,
        wanted_to,
        planned_from,
        planned_to,
    ) in cursor.fetchall():
        end = today + HORIZON if wanted_to is None else min(wanted_to, today + HORIZON)
        start = max(wanted_from, EARLIEST) if wanted_from else (planned_from or today)
        if planned_from is None:
            spans = [(start, max(start, end))]
        else:
            spans = [(start, planned_from - timedelta(days=1)), (planned_to + timedelta(days=1), end)]
        gaps += [_Gap(slo_id, load_id, entry_no, spec, first, last) for first, last in spans if first <= last]
    return gaps


def _store(cursor: psycopg.Cursor[Any], load_id: int, gaps: list[_Gap]) -> int:
    from pipelines.catalog.models import STORED
    from pipelines.catalog.resolve import PromiseSpec
    from pipelines.slo.promises import expand

    count = 0
    promises: list[tuple[_Gap, Promise]] = []
    for gap in gaps:
        spec = PromiseSpec.model_validate_json(json.dumps(gap.spec), context=STORED)
        for promise in expand(spec, gap.start, gap.end):
            promises.append((gap, promise))
            count += 1
        if len(promises) >= BATCH:
            _copy(cursor, load_id, promises)
            promises.clear()
        cursor.execute(
            """
            insert into catalog.plan_coverage values (%s, %s, %s, %s, %s)
            on conflict (slo_id, load_id, entry_no) do update set
                planned_from = least(plan_coverage.planned_from, excluded.planned_from),
                planned_to = greatest(plan_coverage.planned_to, excluded.planned_to)
            """,
            [gap.slo_id, gap.load_id, gap.entry_no, gap.start, gap.end],
        )
    _copy(cursor, load_id, promises)
    return count


def _copy(cursor: psycopg.Cursor[Any], load_id: int, promises: list[tuple[_Gap, Promise]]) -> None:
    import pyarrow as pa

    instant = pa.timestamp("us", "UTC")
    claims = list(_claims(promises))
    key = {
        "slo_id": [gap.slo_id for gap, _ in promises],
        "load_id": [gap.load_id for gap, _ in promises],
        "entry_no": [gap.entry_no for gap, _ in promises],
        "business_date": [promise.business_date for _, promise in promises],
        "slot": [promise.slot for _, promise in promises],
    }
    copy_table(
        cursor,
        "catalog.promise",
        pa.table(
            key
            | {
                "opens_at": pa.array([p.opens_at for _, p in promises], instant),
                "claims_from": [_text(begin, "-infinity") for begin, _ in claims],
                "claims_before": [_text(end, "infinity") for _, end in claims],
                "expected_start_at": pa.array([p.expected_start_at for _, p in promises], instant),
                "expected_end_at": pa.array([p.expected_end_at for _, p in promises], instant),
                "planned_load_id": [load_id] * len(promises),
            }
        ),
    )
    jobs = [(gap, promise, job) for gap, promise in promises for job in promise.jobs]
    copy_table(
        cursor,
        "catalog.promise_job",
        pa.table(
            {
                "slo_id": [gap.slo_id for gap, _, _ in jobs],
                "load_id": [gap.load_id for gap, _, _ in jobs],
                "entry_no": [gap.entry_no for gap, _, _ in jobs],
                "business_date": [promise.business_date for _, promise, _ in jobs],
                "slot": [promise.slot for _, promise, _ in jobs],
                "application_id": [job.application for *_, job in jobs],
                "job_id": [job.job for *_, job in jobs],
                "expected_start_at": pa.array([job.expected_start_at for *_, job in jobs], instant),
                "expected_end_at": pa.array([job.expected_end_at for *_, job in jobs], instant),
                "upstream_rank": [job.upstream_rank for *_, job in jobs],
            }
        ),
    )


def _claims(promises: list[tuple[_Gap, Promise]]) -> Iterator[tuple[datetime | None, datetime | None]]:
    """From when to before when a run's first status makes it a run of each slot; None is without end."""
    for (gap, promise), following in zip_longest(promises, promises[1:]):
        is_last = (
            following is None
            or following[0] is not gap
            or following[1].business_date != promise.business_date
        )
        yield promise.claims_from, None if is_last or following is None else following[1].claims_from


def _text(instant: datetime | None, unbounded: str) -> str:
    return unbounded if instant is None else instant.isoformat()
