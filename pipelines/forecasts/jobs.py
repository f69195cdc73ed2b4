"""The jobs of a business date as a graph: their past dates, and how they stand."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from pipelines.forecasts.ends import Floats, Ints
from pipelines.forecasts.graph import Graph, Habits, History, Today, habits
from pipelines.forecasts.tables import many_rows
from pipelines.subject import Publication

if TYPE_CHECKING:
    from pipelines.subject import Connection

KEPT_DATES = 100
"""Past dates of a job that are remembered."""
# A job that no SLO promises is waited for where it ran on this weekday of late.
HABIT = (timedelta(days=7), timedelta(days=14))

JobKey = tuple[str, str]
"""Application and job."""

# Of each job in `jobs` the newest dates on which it ran, by the index; of these the ones on which it ended.
_COLUMNS = """
    with
        newest as (
            select jobs.application_id, jobs.job_id, dates.business_date
            from ({jobs}) as jobs
            cross join
                lateral (
                    select distinct business_date
                    from marts.job_run as run
                    where run.application_id = jobs.application_id and run.job_id = jobs.job_id
                    order by business_date desc
                    limit %(looked_at)s
                ) as dates
        ),

        dated as (
            select
                application_id,
                job_id,
                business_date,
                min(started_at) as started_at,
                min(ended_at) filter (where final_status = 'SUCCEED') as ended_at,
                min(ended_at) filter (where final_status = 'FAIL') as failed_at
            from newest
            inner join marts.job_run using (application_id, job_id, business_date)
            group by application_id, job_id, business_date
        )

    select
        application_id,
        job_id,
        array_agg(business_date - date '0001-01-01' + 1 order by business_date),
        array_agg(coalesce(extract(epoch from started_at)::float8, 'nan') order by business_date),
        array_agg(extract(epoch from ended_at)::float8 order by business_date),
        array_agg(coalesce(extract(epoch from ended_at - failed_at)::float8, 'nan') order by business_date)
    from dated
    where ended_at is not null
    group by application_id, job_id
"""
_TOUCHED = "select distinct application_id, job_id from work.scope_job_date"
_ALL = "select distinct application_id, job_id from marts.job_run"


def remember(connection: Connection, is_rebuild: bool) -> list[Publication]:
    """Bring `forecast.job_past` up to date with job_run: the jobs in scope, or all."""
    started = time.monotonic()
    jobs = _ALL if is_rebuild else _TOUCHED
    found: dict[JobKey, bytes] = {}
    for application_id, job_id, *columns in connection.execute(
        _COLUMNS.format(jobs=jobs), {"looked_at": 2 * KEPT_DATES}
    ):
        newest = np.array([column[-KEPT_DATES:] for column in columns], "<f8")
        found[application_id, job_id] = newest.tobytes()
    kept_of = "select application_id, job_id, past from forecast.job_past"
    if not is_rebuild:
        kept_of += f" inner join ({_TOUCHED}) as touched using (application_id, job_id)"
    kept = {
        (str(application_id), str(job_id)): past
        for application_id, job_id, past in connection.execute(kept_of)
    }
    gone = sorted(kept.keys() - found.keys())
    rows = [(*key, past) for key, past in found.items() if kept.get(key) != past]
    with connection.cursor() as cursor:
        cursor.executemany("delete from forecast.job_past where application_id = %s and job_id = %s", gone)
        cursor.executemany(
            "insert into forecast.job_past (application_id, job_id, past) values (%s, %s, %s)"
            " on conflict (application_id, job_id) do update set past = excluded.past",
            rows,
        )
    return [Publication("forecast.job_past", len(gone), len(rows), time.monotonic() - started)]


@dataclass(frozen=True)
class JobNow:
    """How a job stands on a business date: instants, nan where there is none. `failed` where the last run failed."""

    started: float
    ended: float
    failed: float

    @property
    def progress(self) -> str:
        """pending, running, failed or complete."""
        if self.ended == self.ended:
            return "complete"
        if self.failed == self.failed:
            return "failed"
        return "pending" if self.started != self.started else "running"


NOT_STARTED = JobNow(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Bank:
    """What is known of jobs: whom each waits for, their pasts, and how they stand by business date."""

    upstream: Mapping[JobKey, Sequence[JobKey]]
    past: Mapping[JobKey, Floats]
    """date (ordinal), start, end, restart by column, of each job."""
    now: Mapping[tuple[JobKey, date], JobNow]


def read_upstream(connection: Connection) -> dict[JobKey, list[JobKey]]:
    """The edges of the catalog: whom each job waits for."""
    found: dict[JobKey, list[JobKey]] = {}
    for application_id, job_id, upstream_application_id, upstream_job_id in many_rows(
        connection,
        "select coalesce(json_agg(json_build_array(application_id, job_id, upstream_application_id, upstream_job_id)"
        " order by application_id, job_id, upstream_application_id, upstream_job_id), '[]')::text"
        " from intermediate.int_coming_job_edge",
    ):
        found.setdefault((application_id, job_id), []).append((upstream_application_id, upstream_job_id))
    return found


def with_upstream(jobs: Iterable[JobKey], upstream: Mapping[JobKey, Sequence[JobKey]]) -> set[JobKey]:
    """`jobs` and all that they wait for, however far."""
    found, left = set(jobs), list(jobs)
    while left:
        for key in upstream.get(left.pop(), ()):
            if key not in found:
                found.add(key)
                left.append(key)
    return found


def read_bank(
    connection: Connection, jobs: Mapping[date, set[JobKey]], upstream: Mapping[JobKey, Sequence[JobKey]]
) -> Bank:
    """Pasts of `jobs`, by business date, and how they stand on it."""
    keys = sorted(set().union(*jobs.values()) if jobs else set())
    past = {
        (str(application_id), str(job_id)): np.frombuffer(kept, "<f8").reshape(4, -1)
        for application_id, job_id, kept in connection.execute(
            "select application_id, job_id, past from forecast.job_past inner join"
            " unnest(%s::text[], %s::text[]) as wanted (application_id, job_id) using (application_id, job_id)",
            [[key[0] for key in keys], [key[1] for key in keys]],
        )
    }
    dated = sorted((key, day) for day, members in jobs.items() for key in members)
    now = {
        ((application_id, job_id), day): JobNow(started, ended, failed)
        for application_id, job_id, day, started, ended, failed in connection.execute(
            """
            select
                application_id, job_id, business_date,
                coalesce(extract(epoch from case
                    -- one that runs again began with its last run
                    when (array_agg(final_status order by attempt desc))[1] = 'START'
                        and min(ended_at) filter (where final_status = 'SUCCEED') is null
                    then (array_agg(started_at order by attempt desc))[1]
                    else min(started_at)
                end)::float8, 'nan'),
                coalesce(
                    extract(epoch from min(ended_at) filter (where final_status = 'SUCCEED'))::float8, 'nan'
                ),
                coalesce(extract(epoch from case
                    when (array_agg(final_status order by attempt desc))[1] = 'FAIL'
                        and min(ended_at) filter (where final_status = 'SUCCEED') is null
                    then (array_agg(ended_at order by attempt desc))[1]
                end)::float8, 'nan')
            from marts.job_run
            inner join unnest(%s::text[], %s::text[], %s::date[])
                as wanted (application_id, job_id, business_date) using (application_id, job_id, business_date)
            group by application_id, job_id, business_date
            """,
            [[key[0] for key, _ in dated], [key[1] for key, _ in dated], [day for _, day in dated]],
        )
    }
    return Bank(upstream, past, now)


@dataclass(frozen=True)
class Day:
    """The graph of a business date: its jobs in rows, past dates in columns, and what is known of them now."""

    jobs: list[JobKey]
    place: Mapping[JobKey, int]
    columns: Ints
    habits: Habits
    today: Today
    is_heard: Sequence[bool]
    """Whether the job, or one that it waits for, has sent anything of this date."""


def day_graph(
    bank: Bank, day: date, promised: set[JobKey], jobs: set[JobKey], zone: str, as_of: float
) -> Day:
    """Of `jobs`, those that run on `day`: the `promised`, those that have run, or did so on this weekday of late."""
    ordinal = day.toordinal()
    habit = [ordinal - back.days for back in HABIT]
    members = sorted(
        key
        for key in jobs
        if key in promised
        or (key, day) in bank.now
        or (key in bank.past and np.isin(habit, bank.past[key][0]).any())
    )
    place = {key: row for row, key in enumerate(members)}
    graph = Graph.of([[place[up] for up in bank.upstream.get(key, ()) if up in place] for key in members])
    before = [past[:, past[0] < ordinal] for key in members if (past := bank.past.get(key)) is not None]
    columns = (
        np.unique(np.concatenate([past[0] for past in before]))[-KEPT_DATES:].astype(np.int64)
        if before
        else np.empty(0, np.int64)
    )
    anchors = np.array([midnight(one, zone) for one in columns.tolist()], float)
    start, end, restart = (np.full((len(members), len(columns)), np.nan) for _ in range(3))
    for row, key in enumerate(members):
        if key not in bank.past or not len(columns):
            continue
        past = bank.past[key]
        past = past[:, (past[0] >= columns[0]) & (past[0] < ordinal)]
        at = np.searchsorted(columns, past[0].astype(np.int64))
        start[row, at], end[row, at], restart[row, at] = past[1] - anchors[at], past[2] - anchors[at], past[3]
    now = [bank.now.get((key, day), NOT_STARTED) for key in members]
    heard = [(key, day) in bank.now for key in members]
    for level in graph.levels:
        for row in level.tolist():
            waits_for = graph.upstream[graph.first[row] : graph.first[row + 1]].tolist()
            heard[row] = heard[row] or any(heard[up] for up in waits_for)
    return Day(
        members,
        place,
        columns,
        habits(graph, History(columns, start, end, restart)),
        Today.as_of(
            as_of,
            midnight(ordinal, zone),
            np.array([one.started for one in now], float),
            np.array([one.ended for one in now], float),
            np.array([one.failed for one in now], float),
        ),
        heard,
    )


@functools.lru_cache(maxsize=4096)
def midnight(ordinal: int, zone: str) -> float:
    """The instant, seconds since 1970, at which a date begins in a zone."""
    return datetime.combine(date.fromordinal(ordinal), datetime.min.time(), ZoneInfo(zone)).timestamp()
