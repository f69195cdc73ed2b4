"""SLOs and jobs with their past: each mart is asked once, for all pages.

Pasts come as one row for each SLO or job, its dates packed into an array: rows of a year of a thousand SLOs would take
longer to fetch than all else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.board import ask
from pipelines.board.tracked import (
    Budget,
    Day,
    Deadline,
    Ended,
    Expected,
    JobDay,
    JobKey,
    JobOfSlo,
    Miss,
    Promise,
    Punctuality,
    Told,
    TrackedJob,
    TrackedSlo,
    Trend,
    Try,
    Waiver,
)

if TYPE_CHECKING:
    from pipelines.board.ask import Connection

Key = TypeVar("Key")
Value = TypeVar("Value")

# A page shows so many dates one by one, a map of so many days (53 weeks), and lists so many of a kind.
SHOWN_DATES = 60
MAP_DAYS = 371
MOST_MISSES = 8
MOST_INCIDENTS = 8
MOST_TRIES = 6


def read_slos(connection: Connection, as_of: datetime) -> tuple[TrackedSlo, ...]:
    """Every SLO of the catalog, and every one that was taken out of it and has a past; by name."""
    entries = ask.rows(
        connection,
        """
        select
            slo_id,
            is_retired,
            slo_name as name,
            application_id,
            description,
            runbook,
            timezone,
            objective::double precision as objective,
            owner
        from marts.slo
        order by name, slo_id
        """,
    )
    ids = [row.slo_id for row in entries]
    days, years = _days(connection, as_of, ids)
    promises, jobs = _promises(connection), _jobs_of_slos(connection)
    expected, ended = _expected(connection), _ended(connection, ids)
    misses = _misses(connection)
    budgets, punctuality = _budgets(connection), _punctuality(connection)
    incidents, waivers = _incidents(connection), _waivers(connection)
    found = []
    for row in entries:
        past = days.get(row.slo_id, ())
        if row.is_retired and not past:
            continue
        many, count = misses.get(row.slo_id, ((), 0))
        found.append(
            TrackedSlo(
                id=row.slo_id,
                name=row.name,
                application_id=row.application_id or "",
                timezone=row.timezone,
                objective=row.objective,
                owner=row.owner,
                description=row.description,
                runbook=row.runbook,
                is_retired=row.is_retired,
                days=past,
                year=years.get(row.slo_id, {}),
                expected=expected.get(row.slo_id, ()),
                ended=ended.get(row.slo_id),
                misses=many,
                miss_count=count,
                promises=promises.get(row.slo_id, ()),
                budgets=budgets.get(row.slo_id, ()),
                punctuality=punctuality.get(row.slo_id),
                incidents=incidents.get(row.slo_id, ()),
                waivers=waivers.get((row.slo_id, None), ()) + waivers.get((None, row.application_id), ()),
                jobs=jobs.get(row.slo_id, ()),
            )
        )
    return tuple(found)


def read_jobs(connection: Connection, as_of: datetime, slos: Sequence[TrackedSlo]) -> tuple[TrackedJob, ...]:
    """Every job of the catalog, by application and id."""
    entries = ask.rows(
        connection,
        """
        with
            upstream as (
                select
                    application_id,
                    job_id,
                    array_agg(
                        array[upstream_application_id, upstream_job_id]
                        order by upstream_application_id, upstream_job_id
                    ) as depends_on
                from marts.job_dependency
                where distance = 1
                group by application_id, job_id
            )

        select
            application_id,
            job_id,
            job_name as name,
            job.description,
            runbook,
            is_restartable,
            depends_on,
            job.owner,
            timezone
        from marts.job
        inner join marts.application using (application_id)
        left join upstream using (application_id, job_id)
        where not job.is_retired
        order by application_id, job_id
        """,
    )
    serves: dict[JobKey, list[JobOfSlo]] = defaultdict(list)
    for slo in slos:
        for job in slo.jobs:
            serves[job.key].append(job)
    keys = [(row.application_id, row.job_id) for row in entries]
    days, tries = _job_days(connection, as_of, keys), _tries(connection, keys)
    deadlines, trends = _deadlines(connection), _trends(connection)
    return tuple(
        TrackedJob(
            key=key,
            name=row.name,
            timezone=row.timezone,
            owner=row.owner,
            description=row.description,
            runbook=row.runbook,
            restartable=row.is_restartable,
            upstream=tuple((application_id, job_id) for application_id, job_id in row.depends_on or ()),
            days=days.get(key, ()),
            tries=tries.get(key, ()),
            deadlines=deadlines.get(key, ()),
            trend=trends.get(key),
            slos=tuple(serves.get(key, ())),
        )
        for key, row in zip(keys, entries, strict=True)
    )


def _by_key(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, tuple[Value, ...]]:
    found: dict[Key, list[Value]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return {key: tuple(many) for key, many in found.items()}


# SLOs


def _days(
    connection: Connection, as_of: datetime, ids: Sequence[str]
) -> tuple[dict[str, tuple[Day, ...]], dict[str, dict[int, str]]]:
    """By SLO its newest dates, and the outcomes of a year by the date's distance from as_of's."""
    today = as_of.astimezone(UTC).date()
    days: dict[str, tuple[Day, ...]] = {}
    years: dict[str, dict[int, str]] = {}
    for row in ask.rows(
        connection,
        """
        select
            slo.slo_id,
            string_agg(
                case
                    when date.overdue > 0 then 'v'
                    when date.missed > 0 then 'm'
                    when date.late > 0 and date.worst < interval '15 minutes' then 'a'
                    when date.late > 0 and date.worst < interval '1 hour' then 'b'
                    when date.late > 0 then 'c'
                    when date.on_time > 0 then 'o'
                    when date.is_waived then 'w'
                    else 'n'
                end,
                '' order by date.age desc
            ) as signs,
            array_agg(date.age order by date.age desc) as ages,
            array_agg(
                array[
                    date.on_time,
                    date.late,
                    date.overdue,
                    date.missed,
                    date.not_due,
                    date.is_waived::integer,
                    extract(epoch from date.worst)
                ]::integer[]
                order by date.age desc
            ) filter (where date.place <= %(shown)s) as counts
        from unnest(%(slos)s::text[]) as slo (slo_id)
        cross join
            lateral(
                select
                    %(today)s::date - business_date as age,
                    row_number() over (order by business_date desc) as place,
                    count(*) filter (where outcome = 'on_time') as on_time,
                    count(*) filter (where outcome = 'late') as late,
                    count(*) filter (where outcome = 'overdue') as overdue,
                    count(*) filter (where outcome = 'missed') as missed,
                    count(*) filter (where outcome = 'not_due') as not_due,
                    bool_and(is_waived) as is_waived,
                    max(late_by) as worst
                from marts.slo_performance as performance
                where performance.slo_id = slo.slo_id
                group by business_date
                order by business_date desc
                limit %(most)s
            ) as date
        group by slo.slo_id
        """,
        {"slos": list(ids), "today": today, "shown": SHOWN_DATES, "most": MAP_DAYS},
    ):
        years[row.slo_id] = {
            age: sign for age, sign in zip(row.ages, row.signs, strict=True) if age < MAP_DAYS and sign != "n"
        }
        newest = zip(row.ages[-len(row.counts) :], row.counts, strict=True)
        days[row.slo_id] = tuple(_day(today - timedelta(age), counts) for age, counts in newest)
    return days, years


def _day(business_date: date, counts: Sequence[Any]) -> Day:
    on_time, late, overdue, missed, not_due, is_waived, worst = counts
    return Day(business_date, on_time, late, overdue, missed, not_due, bool(is_waived), worst)


def _expected(connection: Connection) -> dict[str, tuple[Expected, ...]]:
    rows = ask.rows(
        connection,
        """
        select
            slo_id, business_date, slot, expected_end_at, is_open, p10, p50, p90, miss_probability, is_at_risk, rule
        from marts.slo_forecast
        order by slo_id, expected_end_at, business_date, slot
        """,
    )
    return _by_key((row.slo_id, Expected(*row[1:])) for row in rows)


def _ended(connection: Connection, ids: Sequence[str]) -> dict[str, Ended]:
    return {
        row.slo_id: Ended(row.business_date, row.slot, row.outcome, row.actual_end_at, row.late_by)
        for row in ask.rows(
            connection,
            """
            select slo.slo_id, newest.*
            from unnest(%s::text[]) as slo (slo_id)
            cross join
                lateral(
                    select business_date, slot, outcome, actual_end_at, late_by
                    from marts.slo_performance as performance
                    where performance.slo_id = slo.slo_id and late_by is not null
                    order by business_date desc, slot desc
                    limit 1
                ) as newest
            """,
            [list(ids)],
        )
    }


def _misses(connection: Connection) -> dict[str, tuple[tuple[Miss, ...], int]]:
    """By SLO its newest misses, the newest first, and how many there are."""
    found: dict[str, list[Miss]] = defaultdict(list)
    counts: dict[str, int] = {}
    for row in ask.rows(
        connection,
        """
        select *
        from
            (
                select
                    slo_id, business_date, slot, outcome, expected_end_at, late_by, explanation,
                    coalesce(cause_job, blocking_job) as blocking_job,
                    count(*) over (partition by slo_id) as of,
                    row_number() over (
                        partition by slo_id order by expected_end_at desc, business_date desc, slot desc
                    ) as place
                from marts.slo_performance
                where outcome in ('late', 'overdue', 'missed')
            ) as miss
        where place <= %s
        order by slo_id, place
        """,
        [MOST_MISSES],
    ):
        counts[row.slo_id] = row.of
        found[row.slo_id].append(
            Miss(
                row.business_date, row.slot, row.outcome, row.expected_end_at, row.late_by, row.blocking_job,
                row.explanation,
            )
        )  # fmt: skip
    return {slo_id: (tuple(many), counts[slo_id]) for slo_id, many in found.items()}


def _promises(connection: Connection) -> dict[str, tuple[Promise, ...]]:
    """By SLO its versions, the newest first."""
    rows = ask.rows(
        connection,
        """
        select
            slo_id,
            nullif(applies_from, '-infinity') as applies_from,
            least(nullif(applies_before, 'infinity') - 1, effective_to) as applies_to,
            is_retired,
            timezone,
            objective::double precision as objective,
            spec
        from
            (
                select
                    *,
                    coalesce(
                        min(applies_from) over (
                            partition by slo_id
                            order by load_id desc, applies_from desc, entry_no desc
                            rows between unbounded preceding and 1 preceding
                        ),
                        'infinity'::date
                    ) as applies_before
                from catalog.slo_version
                where load_id <= (select high from marts.tick)
            ) as version
        where version.applies_from < version.applies_before
        order by slo_id, version.applies_from desc
        """,
    )
    return _by_key((row.slo_id, Promise(*row[1:])) for row in rows)


def _budgets(connection: Connection) -> dict[str, tuple[Budget, ...]]:
    rows = ask.rows(
        connection,
        """
        select
            slo_id, window_dates, date_count, occurrence_count, misses_allowed, misses_spent, misses_left,
            recent_misses, late_by_total
        from marts.slo_error_budget
        order by slo_id, window_dates
        """,
    )
    return _by_key((row.slo_id, Budget(*row[1:])) for row in rows)


def _punctuality(connection: Connection) -> dict[str, Punctuality]:
    return {
        row.slo_id: Punctuality(
            row.occurrence_count, float(row.on_time_share), float(row.share_low), float(row.share_high),
            row.median_late_by, row.p90_late_by, row.verdict, row.proposed_due_time, row.proposed_shift,
            None if row.expected_miss_rate is None else float(row.expected_miss_rate),
        )
        for row in ask.rows(connection, "select * from marts.slo_punctuality")
    }  # fmt: skip


def _incidents(connection: Connection) -> dict[str, tuple[Told, ...]]:
    """By SLO its newest incidents, the newest first."""
    rows = ask.rows(
        connection,
        """
        select *
        from
            (
                select
                    slo_id, incident_id, kind, severity, title, opened_at, acknowledged_by, resolved_at, resolution,
                    row_number() over (
                        partition by slo_id order by resolved_at is null desc, opened_at desc, incident_id desc
                    ) as place
                from ops.incident
                where slo_id is not null
            ) as incident
        where place <= %s
        order by slo_id, place
        """,
        [MOST_INCIDENTS],
    )
    return _by_key((row.slo_id, Told(*row[1:-1])) for row in rows)


def _waivers(connection: Connection) -> dict[tuple[str | None, str | None], tuple[Waiver, ...]]:
    """Exceptions that stand, by (SLO, application), of which one is None; the newest first."""
    rows = ask.rows(
        connection,
        """
        select *
        from
            (
                select distinct on (exception_id) *
                from catalog.exception_version
                where load_id <= (select high from marts.tick)
                order by exception_id, load_id desc
            ) as newest
        where not is_retired
        order by from_date desc, to_date desc, slot, exception_id
        """,
    )
    return _by_key(
        (
            (row.slo_id, row.application_id),
            Waiver(row.from_date, row.to_date, row.slot, row.due_minutes, row.reason, row.excepted_by),
        )
        for row in rows
    )


def _jobs_of_slos(connection: Connection) -> dict[str, tuple[JobOfSlo, ...]]:
    """By SLO its jobs, as they stand in its newest occurrence that has begun."""
    rows = ask.rows(
        connection,
        """
        select
            slo_job.slo_id,
            slo_job.application_id,
            slo_job.job_id,
            newest.business_date,
            newest.slot,
            newest.expected_start_at,
            newest.expected_end_at,
            newest.actual_start_at,
            newest.actual_end_at,
            newest.progress
        from marts.slo_job
        inner join marts.slo using (slo_id)
        left join
            lateral(
                select *
                from marts.slo_job_performance as job
                where
                    job.slo_id = slo_job.slo_id
                    and job.application_id = slo_job.application_id
                    and job.job_id = slo_job.job_id
                order by job.business_date desc, job.slot desc
                limit 1
            ) as newest
            on true
        where not slo.is_retired
        order by slo_id, newest.expected_end_at nulls last, slo_job.application_id, slo_job.job_id
        """,
    )
    return _by_key(
        (
            row.slo_id,
            JobOfSlo(
                row.slo_id,
                (row.application_id, row.job_id),
                row.business_date,
                row.slot or "",
                row.expected_start_at,
                row.expected_end_at,
                row.actual_start_at,
                row.actual_end_at,
                row.progress or "pending",
            ),
        )
        for row in rows
    )


# Jobs


def _job_days(
    connection: Connection, as_of: datetime, keys: Sequence[JobKey]
) -> dict[JobKey, tuple[JobDay, ...]]:
    """By job its newest dates: those with a run, and those for which an SLO expects one."""
    today = as_of.astimezone(UTC).date()
    parameters = {**_unzipped(keys), "today": today, "as_of": as_of, "shown": SHOWN_DATES}
    ran = _dates(
        connection,
        """
        select job.application_id, job.job_id, array_agg(date.numbers) as dates
        from unnest(%(applications)s::text[], %(jobs)s::text[]) as job (application_id, job_id)
        cross join
            lateral(
                select
                    array[
                        %(today)s::date - business_date,
                        count(*),
                        count(*) filter (where final_status = 'FAIL'),
                        bool_or(final_status = 'SUCCEED')::integer,
                        (array_agg(final_status = 'FAIL' order by attempt desc))[1]::integer,
                        extract(
                            epoch
                            from
                                percentile_disc(0.5) within group (order by duration) filter (
                                    where final_status = 'SUCCEED'
                                )
                        )
                    ]::integer[] as numbers
                from marts.job_run as run
                where run.application_id = job.application_id and run.job_id = job.job_id
                group by business_date
                order by business_date desc
                limit %(shown)s
            ) as date
        group by job.application_id, job.job_id
        """,
        parameters,
    )
    promised = _dates(
        connection,
        """
        with waived as (select slo_id, business_date, slot from marts.slo_performance where is_waived)
        select job.application_id, job.job_id, array_agg(date.numbers) as dates
        from unnest(%(applications)s::text[], %(jobs)s::text[]) as job (application_id, job_id)
        cross join
            lateral(
                select
                    array[
                        %(today)s::date - business_date,
                        bool_or(actual_end_at is null and expected_end_at < %(as_of)s)::integer,
                        bool_or(actual_end_at is null)::integer,
                        extract(epoch from max(actual_end_at - expected_end_at))
                    ]::integer[] as numbers
                from marts.slo_job_performance as promise
                where
                    promise.application_id = job.application_id
                    and promise.job_id = job.job_id
                    and (slo_id, business_date, slot) not in (select slo_id, business_date, slot from waived)
                group by business_date
                order by business_date desc
                limit %(shown)s
            ) as date
        group by job.application_id, job.job_id
        """,
        parameters,
    )
    found = {}
    for key in {*ran, *promised}:
        runs, promises = ran.get(key, {}), promised.get(key, {})
        ages = sorted({*runs, *promises})[:SHOWN_DATES]
        found[key] = tuple(
            _job_day(today - timedelta(age), runs.get(age), promises.get(age)) for age in reversed(ages)
        )
    return found


def _unzipped(keys: Sequence[JobKey]) -> dict[str, list[str]]:
    return {
        "applications": [application_id for application_id, _ in keys],
        "jobs": [job_id for _, job_id in keys],
    }


def _dates(
    connection: Connection, query: str, parameters: Mapping[str, Any]
) -> dict[JobKey, dict[int, list[int | None]]]:
    """By job, and by how many days a date lies back, the numbers of that date."""
    return {
        (row.application_id, row.job_id): {age: rest for age, *rest in row.dates}
        for row in ask.rows(connection, query, parameters)
    }


def _job_day(business_date: date, ran: list[int | None] | None, promised: list[int | None] | None) -> JobDay:
    runs, fails, is_done, has_failed, duration = ran or (0, 0, 0, 0, None)
    is_over, is_open, late_by = promised or (0, 0, None)
    if is_over:
        outcome = "failed" if has_failed else "overdue"
    elif has_failed and not is_done:
        outcome = "failed"
    elif is_open or not is_done:
        outcome = "not_due"
    else:
        outcome = "late" if (late_by or 0) > 0 else "on_time"
    return JobDay(business_date, outcome, runs or 0, fails or 0, duration, late_by)


def _tries(connection: Connection, keys: Sequence[JobKey]) -> dict[JobKey, tuple[Try, ...]]:
    """By job its newest runs, the newest first."""
    rows = ask.rows(
        connection,
        """
        select job.application_id, job.job_id, run.*
        from unnest(%(applications)s::text[], %(jobs)s::text[]) as job (application_id, job_id)
        cross join
            lateral(
                select business_date, attempt, run_id, started_at, ended_at, duration, final_status, host_id
                from marts.job_run
                where job_run.application_id = job.application_id and job_run.job_id = job.job_id
                order by business_date desc, attempt desc
                limit %(most)s
            ) as run
        order by job.application_id, job.job_id, run.business_date desc, run.attempt desc
        """,
        {**_unzipped(keys), "most": MOST_TRIES},
    )
    return _by_key(((row.application_id, row.job_id), Try(*row[2:])) for row in rows)


def _deadlines(connection: Connection) -> dict[JobKey, tuple[Deadline, ...]]:
    rows = ask.rows(
        connection,
        """
        select
            application_id, job_id, business_date, progress, typical_duration, p50, p80, latest_start_at, latest_end_at,
            slo_id
        from marts.slo_forecast_job
        order by application_id, job_id, business_date
        """,
    )
    return _by_key(((row.application_id, row.job_id), Deadline(*row[2:])) for row in rows)


def _trends(connection: Connection) -> dict[JobKey, Trend]:
    return {
        (row.application_id, row.job_id): Trend(*row[2:])
        for row in ask.rows(
            connection,
            """
            select
                application_id,
                job_id,
                basis,
                date_count,
                extract(epoch from level_at_first)::double precision as level,
                extract(epoch from slope_per_date)::double precision as slope,
                is_slowing,
                changed_on,
                days_until_due,
                evidence
            from marts.job_duration_trend
            """,
        )
    }
