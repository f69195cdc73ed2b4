"""What Dagster is told of tracked jobs and SLOs: completions as materialisations, verdicts as the check `met`.

Dagster's own times are those of the telling: when a run started and ended stands in the metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from pipelines.catalog.assets import job_key, slo_key

if TYPE_CHECKING:
    import psycopg

MET = "met"

Metadata = dict[str, dg.MetadataValue[Any] | str | int | float]
# (application, job, business date, run_key) and (slo, business date, slot)
RunKey = tuple[str, str, date, str]
OccurrenceKey = tuple[str, date, str]

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

# The occurrence that the check speaks of: of those that are decided, the last to fall due.
LATEST = """
select slo_id, latest.business_date, latest.slot
from unnest(%s::text[]) as wanted (slo_id)
cross join lateral (
    select business_date, slot
    from marts.slo_performance as performance
    where performance.slo_id = wanted.slo_id and outcome <> 'not_due'
    order by expected_end_at desc, business_date desc, slot desc
    limit 1
) as latest
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
) -> Iterator[tuple[OccurrenceKey, dg.AssetMaterialization]]:
    """A materialisation for each of these occurrences that (still) stands as complete."""
    for row in connection.execute(OCCURRENCES, _columns(keys, 3)).fetchall():
        slo, day, slot, _, _, _, ended, *_, explanation = row
        if ended is not None:
            yield (
                (slo, day, slot),
                dg.AssetMaterialization(slo_key(slo), description=explanation, metadata=_occurrence(row)),
            )


def verdict_events(
    connection: psycopg.Connection[Any], keys: Iterable[OccurrenceKey]
) -> Iterator[tuple[OccurrenceKey, dg.AssetCheckEvaluation]]:
    """The check `met` of the SLOs of these occurrences: passed when on time, a warning when late, else an error."""
    for row in connection.execute(OCCURRENCES, _columns(keys, 3)).fetchall():
        slo, day, slot, outcome, *_, explanation = row
        if outcome != "not_due":
            event = dg.AssetCheckEvaluation(
                asset_key=slo_key(slo),
                check_name=MET,
                passed=outcome == "on_time",
                severity=dg.AssetCheckSeverity.ERROR
                if outcome in {"overdue", "missed"}
                else dg.AssetCheckSeverity.WARN,
                description=explanation,
                metadata=_occurrence(row),
            )
            yield (slo, day, slot), event


def latest_decided(connection: psycopg.Connection[Any], slos: Iterable[str]) -> list[OccurrenceKey]:
    """Of each of these SLOs the occurrence that its check speaks of; none of an SLO nothing of which was due yet."""
    return connection.execute(LATEST, [list(slos)]).fetchall()


def _occurrence(row: tuple[Any, ...]) -> Metadata:
    _, day, slot, outcome, due, started, ended, late_by, blocking, jobs, completed, _ = row
    metadata: Metadata = {"business date": str(day)}
    if slot != "00:00":
        metadata["slot"] = slot
    metadata |= {"outcome": outcome.replace("_", " "), "due": dg.MetadataValue.timestamp(due)}
    instants: dict[str, datetime | None] = {"started": started, "ended": ended}
    metadata |= {name: dg.MetadataValue.timestamp(at) for name, at in instants.items() if at is not None}
    if late_by is not None:
        metadata["late by, minutes"] = _minutes(late_by)
    if jobs > 1:
        metadata["jobs complete"] = f"{completed} of {jobs}"
    application, _, job = blocking.partition("/")
    metadata["last job" if ended else "waits for"] = dg.MetadataValue.asset(job_key(application, job))
    return metadata


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
