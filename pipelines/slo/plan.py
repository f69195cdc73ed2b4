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
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.catalog.calendar_years import CalendarYear, missing_years, store_years
from pipelines.warehouse.connect import connect
from pipelines.warehouse.copy import copy_table
from pipelines.warehouse.loads import begin_load, end_load
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

    from pipelines.slo.promises import Promise

# Promises reach this far ahead of the moment of judging, and are extended when less than the second is left.
HORIZON = timedelta(days=35)
LEAST_HORIZON = timedelta(days=28)
# An open start looks no further back: a mistyped year must not make decades of misses.
EARLIEST = date(2000, 1, 1)
# Days after a business date within which another one opens an SLO with it; control.opens_slo has the whole rule.
NEAR = 45
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


class _Planned(NamedTuple):
    """A promise of a gap, and when the next business date falls due."""

    gap: _Gap
    promise: Promise
    next_due_at: datetime | None


def plan_promises(settings: Settings, as_of: datetime) -> int:
    """Make promises up to some weeks past `as_of` where they are missing, and the dates of calendars.

    One load, and none when nothing is missing. Returns the last load up to which all statuses and versions have the
    promises they need; what comes after it is for the next tick.
    """
    with connect(settings, "ingest") as connection, connection.cursor() as cursor:
        # Before the look: what is committed in between is seen, and not counted on.
        seen = _last_load(cursor)
        if not any(_missing(cursor, as_of)):
            return seen
        connection.rollback()
        load_id = begin_load(cursor)
        gaps, years = _missing(cursor, as_of)
        if not gaps and not years:
            connection.rollback()
            return load_id - 1
        count = _store(cursor, load_id, gaps)
        store_years(cursor, load_id, years)
        source = f"{len(gaps)} versions, {len(years)} years of calendars"
        end_load(cursor, load_id, "promises", source, count)
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


def _missing(cursor: psycopg.Cursor[Any], as_of: datetime) -> tuple[list[_Gap], list[CalendarYear]]:
    gaps = _gaps(cursor, as_of)
    row = cursor.execute("select min(planned_from) from catalog.plan_coverage").fetchone()
    starts = [gap.start for gap in gaps] + ([row[0]] if row and row[0] else [])
    return gaps, missing_years(cursor, min(starts, default=None), as_of)


def _gaps(cursor: psycopg.Cursor[Any], as_of: datetime) -> list[_Gap]:
    """What is missing: versions that stand and are not covered, ahead, or back to the date that opens an open start."""
    # A business date is at most a day ahead of UTC.
    today = as_of.astimezone(UTC).date() + timedelta(days=1)
    new_from, new_to = _new_dates(cursor)
    cursor.execute(
        """
        with standing as (
            select *, coalesce(min(applies_from) over (
                partition by slo_id order by load_id desc, applies_from desc, entry_no desc
                rows between unbounded preceding and 1 preceding), 'infinity') as applies_before
            from catalog.slo_version
        ),
        -- what came since the last tick can move the start of a version; a date that is far from it cannot
        first_new as (
            select application_id, job_id, min(business_date) as business_date
            from raw.job_status
            where load_id > (select published_high from control.tick)
                and business_date between %(new_from)s and %(new_to)s
            group by application_id, job_id
        ),
        moved as (
            select distinct slo_id, load_id, entry_no
            from standing inner join catalog.slo_job using (slo_id, load_id, entry_no)
            inner join first_new using (application_id, job_id)
            inner join catalog.plan_coverage using (slo_id, load_id, entry_no)
            where is_open_start and first_new.business_date < planned_from + %(near)s
        )
        select slo_id, load_id, entry_no, spec,
            is_open_start and (planned_to is null or moved.slo_id is not null) as is_start_asked,
            case when not is_open_start then applies_from end as wanted_from,
            nullif(least(applies_before - 1, effective_to), 'infinity') as wanted_to,
            planned_from, planned_to
        from standing
        left join catalog.plan_coverage using (slo_id, load_id, entry_no)
        left join moved using (slo_id, load_id, entry_no)
        where not is_retired and applies_before > applies_from
            and (
                planned_to is null
                or planned_to < least(%(least)s::date, applies_before - 1, effective_to)
                or moved.slo_id is not null
            )
        order by slo_id, load_id, entry_no
        """,
        {"least": today + LEAST_HORIZON, "new_from": new_from, "new_to": new_to, "near": NEAR},
    )
    rows = cursor.fetchall()
    starts = _starts(cursor, [row[:3] for row in rows if row[4]])
    gaps = []
    for slo_id, load_id, entry_no, spec, _, wanted_from, wanted_to, planned_from, planned_to in rows:
        end = today + HORIZON if wanted_to is None else min(wanted_to, today + HORIZON)
        start = wanted_from or starts.get((slo_id, load_id, entry_no))
        # A start that is yet to come changes nothing: promises ahead are made anyway.
        start = max(start, EARLIEST) if start and start <= today else (planned_from or today)
        if planned_from is None:
            spans = [(start, max(start, end))]
        else:
            spans = [(start, planned_from - timedelta(days=1)), (planned_to + timedelta(days=1), end)]
        gaps += [_Gap(slo_id, load_id, entry_no, spec, first, last) for first, last in spans if first <= last]
    return gaps


def _starts(cursor: psycopg.Cursor[Any], versions: list[tuple[Any, ...]]) -> dict[tuple[Any, ...], date]:
    """The business dates that open versions with an open start, by all that ever came; absent where none does.

    From the future and taken out again, too: there may be a promise too many, but none is missing for any moment. The
    rule is that of the macro `open_starts`.
    """
    if not versions:
        return {}
    next_date = """
        select min(of_job.business_date) as business_date
        from catalog.slo_job
        cross join lateral (
            select status.business_date from raw.job_status as status
            where status.application_id = slo_job.application_id and status.job_id = slo_job.job_id
                and status.business_date > {after}
            order by status.business_date limit 1
        ) as of_job
        where slo_job.slo_id = {version}.slo_id
            and (slo_job.load_id, slo_job.entry_no) = ({version}.load_id, {version}.entry_no)
    """
    is_opening = """
        control.opens_slo(
            {version}.slo_id, {version}.load_id, {version}.entry_no, {version}.{this}, after.business_date,
            9223372036854775807, 0, 'infinity'
        )
    """
    cursor.execute(
        f"""
        with recursive asked as (
            select * from unnest(%s::text[], %s::bigint[], %s::integer[]) as asked (slo_id, load_id, entry_no)
        ),
        begun as (
            select asked.*, first_date.business_date
            from asked cross join lateral ({next_date.format(version="asked", after="'-infinity'")}) as first_date
            where first_date.business_date is not null
        ),
        candidate as (
            select begun.*, after.business_date as following,
                {is_opening.format(version="begun", this="business_date")} as is_opening
            from begun cross join lateral ({next_date.format(version="begun", after="begun.business_date")}) as after
            union all
            select before.slo_id, before.load_id, before.entry_no, before.following, after.business_date,
                {is_opening.format(version="before", this="following")}
            from candidate as before
            cross join lateral ({next_date.format(version="before", after="before.following")}) as after
            where not before.is_opening and before.following is not null
        )
        select slo_id, load_id, entry_no, business_date from candidate where is_opening
        """,  # noqa: S608 - of constants
        [list(column) for column in zip(*versions, strict=True)],
    )
    return {(slo_id, load_id, entry_no): start for slo_id, load_id, entry_no, start in cursor.fetchall()}


def _store(cursor: psycopg.Cursor[Any], load_id: int, gaps: list[_Gap]) -> int:
    from pipelines.catalog.models import STORED
    from pipelines.catalog.resolve import PromiseSpec
    from pipelines.slo.promises import LOOK_AHEAD, expand, next_dues

    count = 0
    promises: list[_Planned] = []
    for gap in gaps:
        spec = PromiseSpec.model_validate_json(json.dumps(gap.spec), context=STORED)
        # Further than what is stored: the last one too is followed by another.
        found = list(expand(spec, gap.start, gap.end + LOOK_AHEAD))
        for promise, next_due_at in zip(found, next_dues(found), strict=True):
            if promise.business_date <= gap.end:
                promises.append(_Planned(gap, promise, next_due_at))
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
    _follow(cursor, gaps)
    return count


def _follow(cursor: psycopg.Cursor[Any], gaps: list[_Gap]) -> None:
    """What an older version planned last does not know what is due after it: weeks ahead of what anybody asks for."""
    cursor.execute(
        """
        update catalog.promise as last set next_due_at = following.due_at
        from unnest(%s::text[], %s::bigint[], %s::integer[], %s::date[]) as gap (slo_id, load_id, entry_no, start)
        cross join lateral (
            select min(expected_end_at) as due_at from catalog.promise as later
            where (later.slo_id, later.load_id, later.entry_no) = (gap.slo_id, gap.load_id, gap.entry_no)
                and later.business_date between gap.start and gap.start + 14
            group by later.business_date
            order by later.business_date limit 1
        ) as following
        where (last.slo_id, last.load_id, last.entry_no) = (gap.slo_id, gap.load_id, gap.entry_no)
            and last.business_date between gap.start - 14 and gap.start - 1
            and last.next_due_at is null and last.expected_end_at < following.due_at
        """,
        [
            [gap.slo_id for gap in gaps],
            [gap.load_id for gap in gaps],
            [gap.entry_no for gap in gaps],
            [gap.start for gap in gaps],
        ],
    )


def _copy(cursor: psycopg.Cursor[Any], load_id: int, promises: list[_Planned]) -> None:
    import pyarrow as pa

    instant = pa.timestamp("us", "UTC")
    claims = list(_claims(promises))
    key = {
        "slo_id": [one.gap.slo_id for one in promises],
        "load_id": [one.gap.load_id for one in promises],
        "entry_no": [one.gap.entry_no for one in promises],
        "business_date": [one.promise.business_date for one in promises],
        "slot": [one.promise.slot for one in promises],
    }
    copy_table(
        cursor,
        "catalog.promise",
        pa.table(
            key
            | {
                "opens_at": pa.array([one.promise.opens_at for one in promises], instant),
                "claims_from": [_text(begin, "-infinity") for begin, _ in claims],
                "claims_before": [_text(end, "infinity") for _, end in claims],
                "expected_start_at": pa.array([one.promise.expected_start_at for one in promises], instant),
                "expected_end_at": pa.array([one.promise.expected_end_at for one in promises], instant),
                "next_due_at": pa.array([one.next_due_at for one in promises], instant),
                "planned_load_id": [load_id] * len(promises),
            }
        ),
    )
    jobs = [(one.gap, one.promise, job) for one in promises for job in one.promise.jobs]
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


def _claims(promises: list[_Planned]) -> Iterator[tuple[datetime | None, datetime | None]]:
    """From when to before when a run's first status makes it a run of each slot; None is without end."""
    for one, following in zip_longest(promises, promises[1:]):
        is_last = (
            following is None
            or following.gap is not one.gap
            or following.promise.business_date != one.promise.business_date
        )
        yield one.promise.claims_from, None if is_last else following.promise.claims_from


def _text(instant: datetime | None, unbounded: str) -> str:
    return unbounded if instant is None else instant.isoformat()
