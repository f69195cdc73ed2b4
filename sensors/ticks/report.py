"""Tell Dagster of tracked jobs and SLOs what the ticks since the last time have changed, and only that.

Other schedulers run the jobs; here each completion becomes one materialisation of its asset, and the verdict on each
SLO's latest occurrence its check `met`. What is yet to be told stands in a journal (ops.reported_*) before it is told
and is crossed off afterwards: told at least once, and twice only when a process dies in between.

When history is back-filled, Dagster is told each job's newest completion only: what ended more than a day before the
tick's moment is history, and so is what comes in greater numbers than one look tells.
"""
# Dagster reads the types of the arguments: annotations stay values here.

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from time import monotonic
from typing import Any, TypeVar

import dagster as dg
import psycopg

from pipelines.logs import get_logger
from pipelines.slo.events import (
    OccurrenceKey,
    RunKey,
    latest_decided,
    occurrence_events,
    run_events,
    verdict_events,
)
from pipelines.warehouse.connect import connect
from pipelines.warehouse.locks import Lock, held_at_once
from pipelines.warehouse.settings import Settings
from sensors.newer import rests_beside_a_newer_database

log = get_logger(__name__)

Row = TypeVar("Row")

# Events in one look; an event is two or three statements of Dagster's.
MOST = 500
# Written and crossed off together: what a process that dies may tell twice.
TOGETHER = 50
# Of more records than this nobody reads each; a look at every job costs less than a look at every record.
MANY_RECORDS = 50_000
BUDGET_SECONDS = 30.0


@dataclass(frozen=True)
class Reported:
    """What a look told: completions of jobs and of SLOs, verdicts; how many events still wait."""

    jobs: int = 0
    slos: int = 0
    verdicts: int = 0
    waiting: int = 0

    @property
    def events(self) -> int:
        return self.jobs + self.slos + self.verdicts


# What the ticks since (load_id, as_of) touched. The same keys as a tick's scope, of all of them together.
CHANGED = """
create temporary table changed on commit drop as
select distinct application_id, job_id, business_date
from raw.job_status
where load_id > %(low)s and load_id <= %(high)s
union
select application_id, job_id, business_date
from raw.unload as taken
inner join raw.job_status as status on status.load_id = taken.unloaded_load_id
    and status.seq >= taken.first_seq and status.seq < taken.end_seq
where taken.load_id > %(low)s and taken.load_id <= %(high)s
union
select application_id, job_id, business_date
from raw.job_status
where load_id <= %(low)s and status_at > %(since)s::timestamptz and status_at <= %(as_of)s::timestamptz
"""

CHANGED_COMPLETIONS = """
select array['jobs', application_id, job_id] as asset, business_date, run_key as occurrence, ended_at
from changed
inner join marts.job_run using (application_id, job_id, business_date)
where final_status = 'SUCCEED'
union all
select array['slos', slo_id], business_date, slot, actual_end_at
from (
    select slo_id, business_date from changed
    inner join catalog.promise_job using (application_id, job_id, business_date)
    union
    select slo_id, business_date from catalog.promise
    where planned_load_id > %(low)s and planned_load_id <= %(high)s
) as occurrence
inner join marts.slo_performance using (slo_id, business_date)
where actual_end_at is not null
"""

CHANGED_SLOS = """
select slo_id from changed inner join catalog.promise_job using (application_id, job_id, business_date)
union
select slo_id from catalog.promise
where expected_end_at >= %(since)s::timestamptz and expected_end_at < %(as_of)s::timestamptz
union
select slo_id from marts.slo_performance
where outcome in ('overdue', 'missed', 'late', 'on_time')
    and expected_end_at >= %(since)s::timestamptz and expected_end_at < %(as_of)s::timestamptz
union
select slo_id from marts.slo_performance
where gives_up_at >= %(since)s::timestamptz and gives_up_at < %(as_of)s::timestamptz
union
select slo_id from catalog.exception_version
where slo_id is not null and load_id > %(low)s and load_id <= %(high)s
union
select slo_version.slo_id from catalog.slo_version
inner join catalog.exception_version on exception_version.application_id = spec ->> 'application'
where exception_version.load_id > %(low)s and exception_version.load_id <= %(high)s
union
select slo_id from catalog.promise where planned_load_id > %(low)s and planned_load_id <= %(high)s
union
select slo_id from catalog.slo_version where load_id > %(low)s and load_id <= %(high)s
"""

# A few index entries for each job and SLO, however long their history.
NEWEST_COMPLETIONS = """
select array['jobs', application_id, job_id] as asset, newest.business_date, newest.run_key as occurrence,
    newest.ended_at
from (select distinct application_id, job_id from catalog.job_version) as job
cross join lateral (
    select run.business_date, run.run_key, run.ended_at
    from marts.job_run as run
    where (run.application_id, run.job_id) = (job.application_id, job.job_id) and run.final_status = 'SUCCEED'
        and run.business_date = (
            select max(business_date) from marts.job_run as other
            where (other.application_id, other.job_id) = (job.application_id, job.job_id)
                and other.final_status = 'SUCCEED'
        )
    order by run.ended_at desc
    limit 1
) as newest
union all
select array['slos', slo_id], newest.business_date, newest.slot, newest.actual_end_at
from (select distinct slo_id from catalog.slo_version) as slo
cross join lateral (
    select business_date, slot, actual_end_at
    from marts.slo_performance as performance
    where performance.slo_id = slo.slo_id and actual_end_at is not null
    order by expected_end_at desc
    limit 1
) as newest
"""

ALL_SLOS = "select distinct slo_id from catalog.slo_version"

# Assets that are shown: jobs and SLOs as the catalog has them now.
ENQUEUE = """
insert into ops.reported_completion (asset, business_date, occurrence, ended_at)
select asset, business_date, occurrence, ended_at
from (
    select *, row_number() over (partition by asset order by business_date desc, ended_at desc) = 1 as is_newest
    from ({completions}) as completion
) as found
where
    case asset[1]
        when 'jobs' then (
            select not is_retired from catalog.job_version
            where application_id = asset[2] and job_id = asset[3] order by load_id desc limit 1
        )
        else (
            -- what a restatement withdrew stands beside its entries
            select not is_retired from catalog.slo_version
            where slo_id = asset[2] order by load_id desc, is_retired limit 1
        )
    end
    and (
        ended_at > greatest(%(as_of)s::timestamptz, %(since)s::timestamptz) - interval '1 day'
        or is_newest
        and not exists (
            select from ops.reported_completion as known
            where known.asset = found.asset
                and (known.business_date, known.ended_at) >= (found.business_date, found.ended_at)
        )
    )
on conflict do nothing
"""

KEEP_NEWEST = """
update ops.reported_completion as older set reported_at = '-infinity'
where reported_at is null
    and exists (
        select from ops.reported_completion as newer
        where newer.asset = older.asset
            and (newer.business_date, newer.ended_at) > (older.business_date, older.ended_at)
    )
"""

FORGET = """
delete from ops.reported_completion as older
where reported_at is not null and ended_at < %(as_of)s::timestamptz - interval '2 days'
    and exists (
        select from ops.reported_completion as newer
        where newer.asset = older.asset and newer.reported_at > '-infinity'
            and (newer.business_date, newer.ended_at) > (older.business_date, older.ended_at)
    )
"""

VERDICTS = """
insert into ops.reported_verdict as verdict (slo_id, business_date, slot, outcome)
select slo_id, business_date, slot, performance.outcome
from unnest(%s::text[], %s::date[], %s::text[]) as wanted (slo_id, business_date, slot)
inner join marts.slo_performance as performance using (slo_id, business_date, slot)
where (
    select not is_retired from catalog.slo_version as version
    where version.slo_id = performance.slo_id order by load_id desc, is_retired limit 1
)
on conflict (slo_id) do update
    set business_date = excluded.business_date, slot = excluded.slot, outcome = excluded.outcome, reported_at = null
    where (verdict.business_date, verdict.slot, verdict.outcome)
        <> (excluded.business_date, excluded.slot, excluded.outcome)
"""


def report(
    settings: Settings, instance: dg.DagsterInstance, most: int = MOST, seconds: float = BUDGET_SECONDS
) -> Reported:
    """Tell Dagster what changed: at most `most` events, the newest of them; the rest the next time.

    Raises DuemarkError when the database does not answer.
    """
    deadline = monotonic() + seconds
    # Dagster lets an evaluation that takes too long run on beside the next one.
    with (
        connect(settings, "operate", autocommit=True) as connection,
        held_at_once(connection, Lock.REPORT) as other,
    ):
        if other is not None:
            return Reported()
        _look(connection, most)
        return _tell(connection, instance, most, deadline)


def _look(connection: psycopg.Connection[Any], most: int) -> None:
    """Write into the journal what the ticks since the last look have changed."""
    with connection.transaction():
        row = connection.execute(
            """
            select report.load_id, tick.published_high, report.as_of::text, tick.published_as_of::text,
                (
                    select coalesce(sum(record_count), 0) > %s from raw.load
                    where load_id > report.load_id and load_id <= tick.published_high
                ),
                tick.deployed_project is distinct from report.project or tick.published_as_of < report.as_of,
                tick.published_as_of::date is distinct from report.as_of::date
            from control.tick cross join ops.report
            where not needs_rebuild and tick.published_at is distinct from report.published_at
            """,
            [MANY_RECORDS],
        ).fetchone()
        if row is None:
            return
        # Instants as text: Python has none for -infinity.
        low, high, since, as_of, is_many, is_judged_anew, is_another_day = row
        between = {"low": low, "high": high, "since": since, "as_of": as_of}
        if not is_many:
            connection.execute(CHANGED, between)
            connection.execute("analyze changed")
        completions = NEWEST_COMPLETIONS if is_many else CHANGED_COMPLETIONS
        connection.execute(ENQUEUE.format(completions=completions), between)
        # Another project, or an earlier moment, may judge otherwise what nothing else has touched.
        slos = ALL_SLOS if is_many or is_judged_anew else CHANGED_SLOS
        touched = [slo for (slo,) in connection.execute(slos, between).fetchall()]
        latest = latest_decided(connection, touched)
        connection.execute(VERDICTS, [list(column) for column in zip(*latest, strict=True)] or [[], [], []])
        if is_another_day:
            connection.execute(FORGET, between)
        if _waiting(connection) > most:
            connection.execute(KEEP_NEWEST)
        connection.execute(
            "update ops.report set load_id = %(high)s, as_of = %(as_of)s::timestamptz,"
            " published_at = tick.published_at, project = tick.deployed_project, looked_at = clock_timestamp()"
            " from control.tick",
            between,
        )


def _waiting(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(
        "select (select count(*) from ops.reported_completion where reported_at is null)"
        " + (select count(*) from ops.reported_verdict where reported_at is null)"
    ).fetchone()
    return int(row[0]) if row else 0


def _tell(
    connection: psycopg.Connection[Any], instance: dg.DagsterInstance, most: int, deadline: float
) -> Reported:
    """Tell what waits in the journal, the newest first where it is too much; within a look in the order of time."""
    verdicts: list[OccurrenceKey] = connection.execute(
        "select slo_id, business_date, slot from ops.reported_verdict where reported_at is null"
        " order by business_date desc, slo_id limit %s",
        [most],
    ).fetchall()
    chosen: list[tuple[list[str], date, str, datetime]] = connection.execute(
        "select asset, business_date, occurrence, ended_at from ops.reported_completion where reported_at is null"
        " order by ended_at desc, asset limit %s",
        [most - len(verdicts)],
    ).fetchall()
    # The web interface shows what was told last as the latest.
    chosen.reverse()
    jobs = slos = told = 0
    for part in _parts(chosen):
        if monotonic() > deadline:
            break
        events = _materialisations(connection, part)
        for asset, day, occurrence, _ in part:
            event = events.get((tuple(asset), day, occurrence))
            if event is not None:
                instance.report_runless_asset_event(event)
                jobs += asset[0] == "jobs"
                slos += asset[0] == "slos"
        _cross_off(connection, part)
    # After the materialisation that they speak of.
    for wanted in _parts(verdicts):
        if monotonic() > deadline:
            break
        for _, evaluation in verdict_events(connection, wanted):
            instance.report_runless_asset_event(evaluation)
            told += 1
        connection.execute(
            "update ops.reported_verdict set reported_at = clock_timestamp()"
            " where slo_id = any(%s) and reported_at is null",
            [[slo for slo, _, _ in wanted]],
        )
    done = Reported(jobs, slos, told, _waiting(connection))
    if done.events:
        log.info("told dagster", jobs=jobs, slos=slos, verdicts=told, waiting=done.waiting)
    return done


def _parts(rows: list[Row]) -> Iterable[list[Row]]:
    return (rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER))


def _materialisations(
    connection: psycopg.Connection[Any], rows: list[tuple[list[str], date, str, datetime]]
) -> dict[tuple[tuple[str, ...], date, str], dg.AssetMaterialization]:
    """By asset key, business date and occurrence; what a later tick took away is missing."""
    runs: list[RunKey] = [(key[1], key[2], day, run) for key, day, run, _ in rows if key[0] == "jobs"]
    occurrences: list[OccurrenceKey] = [(key[1], day, slot) for key, day, slot, _ in rows if key[0] == "slos"]
    found: dict[tuple[tuple[str, ...], date, str], dg.AssetMaterialization] = {}
    for (application, job, day, run), event in run_events(connection, runs):
        found[("jobs", application, job), day, run] = event
    for (slo, day, slot), event in occurrence_events(connection, occurrences):
        found[("slos", slo), day, slot] = event
    return found


def _cross_off(
    connection: psycopg.Connection[Any], rows: list[tuple[list[str], date, str, datetime]]
) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "update ops.reported_completion set reported_at = clock_timestamp()"
            " where asset = %s and business_date = %s and occurrence = %s",
            [(key, day, occurrence) for key, day, occurrence, _ in rows],
        )


@dg.sensor(
    name="report",
    minimum_interval_seconds=9,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells of tracked jobs and SLOs what the last ticks changed: a materialisation for each completion,"
    " the check `met` for each verdict. Tells of back-filled history each job's newest completion only.",
)
@rests_beside_a_newer_database
def report_sensor(context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]) -> dg.SkipReason:
    """One look; what is too much for it is told by the next ones."""
    done = report(settings, context.instance)
    if not done.events:
        return dg.SkipReason("nothing new")
    return dg.SkipReason(
        f"told {done.jobs} completions of jobs, {done.slos} of SLOs, {done.verdicts} verdicts"
        + (f"; {done.waiting} more wait" if done.waiting else "")
    )
