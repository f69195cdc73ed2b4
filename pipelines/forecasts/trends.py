"""Trends of jobs in the database: series of those that a tick touched are read, rows of those that changed are made.

A row is a function of the job's series alone: its last dates with a SUCCEED, what each took, and where it ended
measured from its due time. So a job whose series is the same keeps its row, and incremental equals full. What depends
on other jobs too, whether a trend counts among so many, is decided in the mart.
"""

from __future__ import annotations

import time
from datetime import date
from typing import TYPE_CHECKING, Any

from pipelines.subject import Publication

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.forecasts.trend import Trend
    from pipelines.subject import Connection

TABLE = "forecast.job_trend"
METHOD = 1
"""Counts up with every change of what is computed: then all rows are made again."""

# What an idle tick leaves in the work tables is of the one before it.
IS_NEWS = """
select
    low < high or exists (
        select from raw.job_status where status_at > tick.previous_as_of and status_at <= tick.as_of
    )
from control.tick as tick
"""

ALL = "select application_id, job_id from marts.job_run group by application_id, job_id"

# Time alone opens occurrences and lets them fall due, which changes nothing of what a job took.
TOUCHED = """
select application_id, job_id from work.scope_job_date
union
select slo_job.application_id, slo_job.job_id
from (
    select distinct scope.slo_id
    from work.scope_occurrence as scope
    cross join control.tick as tick
    where
        not exists (
            select from catalog.promise
            where promise.slo_id = scope.slo_id and promise.business_date = scope.business_date
                and (
                    promise.opens_at > tick.previous_as_of and promise.opens_at <= tick.as_of
                    or promise.expected_end_at >= tick.previous_as_of and promise.expected_end_at < tick.as_of
                )
        )
        or exists (
            select from catalog.promise
            where promise.slo_id = scope.slo_id and promise.business_date = scope.business_date
                and promise.planned_load_id > tick.low and promise.planned_load_id <= tick.high
        )
        or exists (
            select from catalog.slo_version as version
            where version.slo_id = scope.slo_id and version.load_id > tick.low and version.load_id <= tick.high
        )
        -- what is due later
        or exists (
            select from catalog.exception_version as exception
            where exception.load_id > tick.low and exception.load_id <= tick.high
        )
) as slo
inner join catalog.slo_job using (slo_id)
"""

# Of several runs of a date the one that made the job complete; of a job with windows the median of those that
# succeeded. Ends: the latest from its due time, over all that promise the job.
SERIES = """
with
    run as (
        select job.application_id, job.job_id, run.*
        from trend_job as job
        cross join lateral (
            select
                business_date,
                (array_agg(extract(epoch from duration)::float8 / 60 order by ended_at, run_key))[1] as first_took,
                percentile_cont(0.5) within group (order by extract(epoch from duration)::float8 / 60) as usually_took
            from marts.job_run as run
            where run.application_id = job.application_id and run.job_id = job.job_id and final_status = 'SUCCEED'
            group by business_date
            order by business_date desc
            limit %(window)s
        ) as run
    ),

    ended as (
        select
            job.application_id,
            job.job_id,
            performance.business_date,
            count(*) > count(distinct performance.slo_id) as has_windows,
            max(extract(epoch from actual_end_at - expected_end_at)::float8 / 60) as ended_at
        from (
            select application_id, job_id, min(business_date) as first_date
            from run group by application_id, job_id
        ) as job
        inner join marts.slo_job_performance as performance
            on performance.application_id = job.application_id and performance.job_id = job.job_id
            and performance.business_date >= job.first_date and actual_end_at is not null
        group by job.application_id, job.job_id, performance.business_date
    ),

    series as (
        select
            application_id,
            job_id,
            array_agg(business_date - date '0001-01-01' + 1 order by business_date) as dates,
            array_agg(case when has_windows then usually_took else first_took end order by business_date) as took,
            array_agg(ended_at order by business_date) as ended
        from run
        left join ended using (application_id, job_id, business_date)
        group by application_id, job_id
    )

select application_id, job_id, input, dates, took, ended
from series
cross join lateral (select md5(dates::text || took::text || ended::text) as input) as hash
where not exists (
    select from forecast.job_trend as known
    where known.application_id = series.application_id and known.job_id = series.job_id and known.input = hash.input
)
"""

INSERT = """
insert into forecast.job_trend values (
    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
)
"""


def refresh(connection: Connection, is_rebuild: bool) -> list[Publication]:
    """Bring `forecast.job_trend` up to date with the marts, in the caller's transaction."""
    started = time.monotonic()
    is_all = is_rebuild or _is_of_another_method(connection)
    if not is_all and not _is(connection, IS_NEWS):
        return []
    deleted = connection.execute("delete from forecast.job_trend").rowcount if is_all else 0
    connection.execute("drop table if exists trend_job")
    connection.execute(
        f"create temporary table trend_job on commit drop as {ALL if is_all else TOUCHED}".encode()
    )
    connection.execute("analyze trend_job")
    deleted += connection.execute(
        """
        delete from forecast.job_trend as known using trend_job as job
        where known.application_id = job.application_id and known.job_id = job.job_id and not exists (
            select from marts.job_run as run
            where run.application_id = job.application_id and run.job_id = job.job_id and final_status = 'SUCCEED'
        )
        """
    ).rowcount
    changed = _changed(connection)
    if changed:
        deleted += connection.execute(
            """
            delete from forecast.job_trend as known using unnest(%s::text[], %s::text[]) as job (application_id, job_id)
            where known.application_id = job.application_id and known.job_id = job.job_id
            """,
            [[row[0] for row in changed], [row[1] for row in changed]],
        ).rowcount
    rows = _computed(changed)
    with connection.cursor() as cursor:
        cursor.executemany(INSERT, rows)
    return [Publication("forecast.job_trend", deleted, len(rows), time.monotonic() - started)]


def _is(connection: Connection, question: str) -> bool:
    row = connection.execute(question.encode()).fetchone()
    return bool(row and row[0])


def _is_of_another_method(connection: Connection) -> bool:
    return _is(connection, f"select exists (select from forecast.job_trend where method <> {METHOD})")  # noqa: S608


def _changed(connection: Connection) -> list[tuple[Any, ...]]:
    """Jobs in `trend_job` whose series is not that of their row: application, job, hash, dates, took, ended."""
    from pipelines.forecasts.trend import WINDOW

    return connection.execute(SERIES.encode(), {"window": WINDOW}).fetchall()


def _computed(changed: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    if not changed:
        return []
    import numpy as np

    from pipelines.forecasts.trend import trend

    rows = []
    for application, job, hashed, dates, took, ended in changed:
        found = trend(np.array(dates, np.int64), np.array(took, float), np.array(ended, float))
        if found is not None:
            rows.append((application, job, METHOD, hashed, *_row(found)))
    return rows


def _row(found: Trend) -> tuple[Any, ...]:
    return (
        found.basis, found.dates, date.fromordinal(found.first_date), date.fromordinal(found.last_date), found.level,
        found.slope, found.slope_low, found.slope_high, found.grew_by, found.p_value, found.is_large, found.shape,
        date.fromordinal(found.changed_on), found.p90_end, found.days_until_due,
    )  # fmt: skip
