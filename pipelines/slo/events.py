"""What Dagster is told of tracked jobs and SLOs.

Completions are materialisations, what is open or was missed of an SLO observations; how both stand is said by the
checks `on_time` and `met`.

Dagster's own times are those of the telling: when a run started and ended stands in the metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from pipelines.catalog.assets import job_key, slo_key
from pipelines.catalog.names import split_job

if TYPE_CHECKING:
    import psycopg

MET = "met"
ON_TIME = "on_time"
NOTHING_DUE = "Nothing of it has been due yet."

Metadata = dict[str, dg.MetadataValue[Any] | str | int | float]
# (application, job), (application, job, business date, run_key) and (slo, business date, slot)
JobKey = tuple[str, str]
RunKey = tuple[str, str, date, str]
OccurrenceKey = tuple[str, date, str]
# What is wrong as long as it is so; what came late is there.
WRONG = {"failed", "overdue", "missed"}

# A run's end is a revision where its job was complete before: then the verdict is not of it.
RUNS = """
select run.application_id, run.job_id, run.business_date, run.run_key, run.run_id, run.attempt, run.host_id,
    run.started_at, run.ended_at, run.duration, promise.slos, promise.slot, promise.late_by, promise.is_revision
from unnest(%s::text[], %s::text[], %s::date[], %s::text[])
    as wanted (application_id, job_id, business_date, run_key)
inner join marts.job_run as run using (application_id, job_id, business_date, run_key)
left join lateral (
    select
        array_agg(job.slo_id order by job.expected_end_at, job.slo_id) as slos,
        (array_agg(nullif(job.slot, '00:00') order by job.expected_end_at, job.slo_id))[1] as slot,
        run.ended_at - min(job.expected_end_at) as late_by,
        coalesce(bool_and(job.actual_end_at < run.ended_at), false) as is_revision
    from marts.slo_job_performance as job
    where
        job.application_id = run.application_id
        and job.job_id = run.job_id
        and job.business_date = run.business_date
        and exists (
            select from marts.slo_job_run as counted
            where (counted.slo_id, counted.business_date, counted.slot, counted.application_id, counted.job_id,
                counted.run_key)
                = (job.slo_id, job.business_date, job.slot, run.application_id, run.job_id, run.run_key)
        )
) as promise on true
where run.final_status = 'SUCCEED'
"""

OCCURRENCES = """
select performance.slo_id, performance.business_date, performance.slot, performance.outcome,
    performance.expected_end_at, performance.actual_start_at, performance.actual_end_at, performance.late_by,
    performance.blocking_job, performance.job_count, performance.completed_job_count, performance.explanation
from unnest(%s::text[], %s::date[], %s::text[]) as wanted (slo_id, business_date, slot)
inner join marts.slo_performance as performance using (slo_id, business_date, slot)
"""

# How SLOs stand: of the occurrences that are decided, the last to fall due.
SLO_STANDING = """
select slo_id, latest.business_date, latest.slot, coalesce(latest.outcome, 'none') as outcome
from unnest(%(slos)s::text[]) as wanted (slo_id)
left join lateral (
    select business_date, slot, outcome
    from marts.slo_performance as performance
    where performance.slo_id = wanted.slo_id and outcome <> 'not_due'
    order by expected_end_at desc, business_date desc, slot desc
    limit 1
) as latest on true
"""

# How jobs stand: of each SLO that promises the job, the newest occurrence of which something can be said, as far as it
# is the job's; of these the worst. Where none promises it, its newest run.
JOB_STANDING = """
with wanted as (
    select * from unnest(%(applications)s::text[], %(jobs)s::text[]) as wanted (application_id, job_id)
),
promised as (
    select distinct application_id, job_id, slo_id
    from wanted
    inner join catalog.slo_job using (application_id, job_id)
    inner join (select slo_id, max(load_id) as load_id from catalog.slo_version group by slo_id) as version
        using (slo_id, load_id)
),
newest as (
    select promised.*, occurrence.*
    from promised
    cross join control.tick
    cross join lateral (
        select job.business_date, job.slot, job.expected_end_at, job.actual_start_at, job.actual_end_at, job.progress,
            job.last_status_at,
            case
                when job.actual_end_at <= job.expected_end_at then 'on_time'
                when job.actual_end_at is not null then 'late'
                when tick.published_as_of > performance.gives_up_at then 'missed'
                when tick.published_as_of > job.expected_end_at then 'overdue'
                else 'failed'
            end as outcome
        from marts.slo_job_performance as job
        inner join marts.slo_performance as performance using (slo_id, business_date, slot)
        where (job.slo_id, job.application_id, job.job_id)
            = (promised.slo_id, promised.application_id, promised.job_id)
            and not performance.is_waived
            and (
                job.actual_end_at is not null or job.progress = 'failed' or job.expected_end_at < tick.published_as_of
            )
        order by job.business_date desc, job.expected_end_at desc
        limit 1
    ) as occurrence
)
select distinct on (application_id, job_id)
    application_id, job_id, slo_id, coalesce(newest.business_date, run.business_date) as business_date, slot,
    coalesce(
        outcome,
        case run.final_status when 'FAIL' then 'failed' when 'SUCCEED' then 'succeeded' when 'START' then 'running' end,
        'none'
    ) as outcome,
    progress, expected_end_at, coalesce(actual_start_at, run.started_at) as started_at,
    coalesce(actual_end_at, run.ended_at) as ended_at, coalesce(last_status_at, run.ended_at) as last_status_at
from wanted
left join newest using (application_id, job_id)
left join lateral (
    select business_date, final_status, started_at, ended_at
    from marts.job_run
    where newest.slo_id is null
        and (job_run.application_id, job_run.job_id) = (wanted.application_id, wanted.job_id)
    order by business_date desc, attempt desc
    limit 1
) as run on true
order by application_id, job_id, array_position(array['overdue', 'failed', 'missed', 'late'], newest.outcome),
    expected_end_at desc
"""

# What of an SLO is open: the newest occurrence that has begun and is not complete. One that was given up is none any
# more after a day.
NEWEST_OPEN = """
select slo_id, newest.business_date, newest.slot, newest.outcome, newest.progress
from unnest(%(slos)s::text[]) as wanted (slo_id)
cross join control.tick
left join lateral (
    select business_date, slot, outcome, progress
    from marts.slo_performance as performance
    where performance.slo_id = wanted.slo_id and actual_end_at is null and not is_waived
        and (
            outcome = 'overdue'
            or outcome = 'missed' and gives_up_at > tick.published_as_of - interval '1 day'
            or outcome = 'not_due' and (expected_start_at <= tick.published_as_of or progress <> 'pending')
        )
    order by expected_end_at desc, business_date desc, slot desc
    limit 1
) as newest on true
"""


def run_events(
    connection: psycopg.Connection[Any], keys: Iterable[RunKey]
) -> Iterator[tuple[RunKey, dg.AssetMaterialization]]:
    """A materialisation for each of these runs that (still) stands as completed."""
    for row in connection.execute(RUNS, _columns(keys, 4)).fetchall():
        application, job, day, run_key, run_id, attempt, host, started, ended, duration, *promise = row
        slos, slot, late_by, is_revision = promise
        metadata: Metadata = {"business date": str(day)}
        said = [" ".join(filter(None, (str(day), slot))) + ": succeeded"]
        if run_id:
            metadata["run id"] = run_id
        if attempt > 1:
            metadata["attempt"] = attempt
        if host:
            metadata["host"] = host
        if started:
            metadata["started"] = dg.MetadataValue.timestamp(started)
        metadata["ended"] = dg.MetadataValue.timestamp(ended)
        if duration is not None:
            metadata["duration, minutes"] = _minutes(duration)
            said[0] += f" after {_hours(duration)}"
        if slos:
            metadata["SLO"] = dg.MetadataValue.asset(slo_key(slos[0]))
            if further := list(dict.fromkeys(slos[1:])):
                metadata["further SLOs"] = ", ".join(further)
        if is_revision:
            metadata["revision"] = "yes: it had succeeded before"
        elif late_by is not None:
            metadata["late by, minutes"] = _minutes(late_by)
            said.append(_late(late_by))
        event = dg.AssetMaterialization(
            job_key(application, job), description=", ".join(said), metadata=metadata
        )
        yield (application, job, day, run_key), event


def occurrence_events(
    connection: psycopg.Connection[Any], keys: Iterable[OccurrenceKey]
) -> Iterator[tuple[OccurrenceKey, dg.AssetMaterialization | dg.AssetObservation]]:
    """A materialisation for each of these occurrences that (still) stands as complete, an observation of the others."""
    for row in connection.execute(OCCURRENCES, _columns(keys, 3)).fetchall():
        slo, day, slot, _, _, _, ended, *_, explanation = row
        kind = dg.AssetObservation if ended is None else dg.AssetMaterialization
        yield (slo, day, slot), kind(slo_key(slo), description=explanation, metadata=_occurrence(row))


def slo_verdicts(
    connection: psycopg.Connection[Any], slos: Iterable[str]
) -> Iterator[tuple[str, dg.AssetCheckEvaluation]]:
    """The check `met` of each of these SLOs, of the last occurrence that was due.

    Passed when it was on time, or nothing was due yet; a warning when late, else an error.
    """
    wanted = list(dict.fromkeys(slos))
    standing = connection.execute(SLO_STANDING, {"slos": wanted}).fetchall()
    keys = [(slo, day, slot) for slo, day, slot, _ in standing if day is not None]
    decided = {row[0]: row for row in connection.execute(OCCURRENCES, _columns(keys, 3)).fetchall()}
    for slo in wanted:
        row = decided.get(slo)
        outcome, explanation = (row[3], row[-1]) if row else ("none", NOTHING_DUE)
        yield slo, _verdict(slo_key(slo), MET, outcome, explanation, _occurrence(row) if row else {})


def job_verdicts(
    connection: psycopg.Connection[Any], jobs: Iterable[JobKey]
) -> Iterator[tuple[JobKey, dg.AssetCheckEvaluation]]:
    """The check `on_time` of each of these jobs: an error while it has failed, is overdue or was given up; late warns.

    Each promise has its own due time for a job; the check speaks of the worst of the newest.
    """
    applications, ids = _columns(dict.fromkeys(jobs), 2)
    for row in connection.execute(JOB_STANDING, {"applications": applications, "jobs": ids}).fetchall():
        application, job, slo, day, slot, outcome, progress, due, started, ended, last = row
        metadata: Metadata = {}
        if day is not None:
            metadata["business date"] = str(day)
        if slot not in (None, "00:00"):
            metadata["slot"] = slot
        metadata["outcome"] = outcome.replace("_", " ")
        if slo is not None:
            metadata["SLO"] = dg.MetadataValue.asset(slo_key(slo))
            metadata["due"] = dg.MetadataValue.timestamp(due)
        metadata |= _instants(started=started, ended=ended)
        description = NOTHING_DUE
        if day is not None:
            description = f"{day}: {_job_said(slo, outcome, progress, due, started, ended, last)}."
        yield (application, job), _verdict(job_key(application, job), ON_TIME, outcome, description, metadata)


def _job_said(
    slo: str | None, outcome: str, progress: str | None, due: datetime, started: datetime, ended: datetime | None,
    last: datetime,
) -> str:  # fmt: skip
    if slo is None:
        if outcome == "failed":
            return f"failed at {_utc(last)}; no SLO says when it is due"
        return f"{outcome}; no SLO says when it is due"
    if ended is not None:
        return f"complete {_late(ended - due)} for {slo}"
    stands = "nothing was reported"
    if progress == "failed":
        stands = f"failed at {_utc(last)}"
    elif progress == "running":
        stands = f"running since {_utc(started)}"
    return f"{stands}; {'given up, ' if outcome == 'missed' else ''}due at {_utc(due)} for {slo}"


def _verdict(
    key: dg.AssetKey, check: str, outcome: str, description: str, metadata: Metadata
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=check,
        passed=outcome not in {"late", *WRONG},
        severity=dg.AssetCheckSeverity.ERROR if outcome in WRONG else dg.AssetCheckSeverity.WARN,
        description=description,
        metadata=metadata,
    )


def _occurrence(row: tuple[Any, ...]) -> Metadata:
    _, day, slot, outcome, due, started, ended, late_by, blocking, jobs, completed, _ = row
    metadata: Metadata = {"business date": str(day)}
    if slot != "00:00":
        metadata["slot"] = slot
    metadata |= {"outcome": outcome.replace("_", " "), "due": dg.MetadataValue.timestamp(due)}
    metadata |= _instants(started=started, ended=ended)
    if late_by is not None:
        metadata["late by, minutes"] = _minutes(late_by)
    if jobs > 1:
        metadata["jobs complete"] = f"{completed} of {jobs}"
    metadata["last job" if ended else "waits for"] = dg.MetadataValue.asset(job_key(*split_job(blocking)))
    return metadata


def _instants(**instants: datetime | None) -> Metadata:
    return {name: dg.MetadataValue.timestamp(at) for name, at in instants.items() if at is not None}


def _utc(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _columns(keys: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    rows = list(keys)
    return [[row[place] for row in rows] for place in range(width)]


def _minutes(span: timedelta) -> float:
    return round(span.total_seconds() / 60, 1)


def _hours(span: timedelta) -> str:
    """`0:45` hours and minutes; seconds below a minute."""
    seconds = abs(int(span.total_seconds()))
    return f"{seconds} s" if seconds < 60 else f"{seconds // 3600}:{seconds // 60 % 60:02} h"


def _late(late_by: timedelta) -> str:
    if late_by > timedelta():
        return f"{_hours(late_by)} late"
    return f"{_hours(late_by)} before it was due" if late_by else "just in time"
