"""Tell Dagster of tracked jobs and SLOs what the ticks since the last time have changed, and only that.

Other schedulers run the jobs; here each completion becomes one materialisation of its asset, how jobs and SLOs stand
their checks `on_time` and `met`, and the newest occurrence of an SLO that is open an observation. What is yet to be
told stands in a journal (ops.reported_*) before it is told and is crossed off afterwards: told at least once, and
twice only when a process dies in between.

An asset that is told of for the first time brings its history: of each of its last dates the last completion, in one
batch, at its own time. Of what is back-filled later each asset's newest completion is told only: what ended more than a
day before the tick's moment is history then, and so is what comes in greater numbers than one look tells.
"""
# Dagster reads the types of the arguments: annotations stay values here.

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from time import monotonic
from typing import Any, TypeVar

import dagster as dg
import psycopg

from pipelines.catalog.assets import TRACKED
from pipelines.logs import get_logger
from pipelines.orchestration.dagster_private.calls import never_run, tell_past
from pipelines.orchestration.jobs import CHECKS
from pipelines.orchestration.purge import EVENTS_KEPT
from pipelines.slo.events import (
    JOB_STANDING,
    NEWEST_OPEN,
    SLO_STANDING,
    JobKey,
    OccurrenceKey,
    RunKey,
    job_verdicts,
    occurrence_events,
    run_events,
    slo_verdicts,
)
from pipelines.warehouse import homes
from pipelines.warehouse.connect import connect
from pipelines.warehouse.homes import Slot
from pipelines.warehouse.locks import Lock, held_at_once
from pipelines.warehouse.settings import Settings
from sensors.newer import rests_beside_a_newer_database

log = get_logger(__name__)

Row = TypeVar("Row")
Asset = tuple[str, ...]
# (asset key, business date, run_key or slot, when it ended)
Completion = tuple[list[str], date, str, datetime]

# Events in one look; an event is two or three statements of Dagster's.
MOST = 500
# Written and crossed off together: what a process that dies may tell twice.
TOGETHER = 50
# Of more records than this nobody reads each; a look at every job costs less than a look at every record.
MANY_RECORDS = 50_000
BUDGET_SECONDS = 30.0
# Dates of history of an asset; fewer where so many assets have one that all of it would be more events than that.
PAST_DATES = EVENTS_KEPT
MOST_PAST = 30_000


@dataclass(frozen=True)
class Reported:
    """What a look told: completions of jobs and of SLOs, verdicts on both, occurrences that are open; how many wait.

    `past`: events of history that came along with the first completion of an asset.
    """

    jobs: int = 0
    slos: int = 0
    verdicts: int = 0
    occurrences: int = 0
    waiting: int = 0
    past: int = 0

    @property
    def events(self) -> int:
        return self.jobs + self.slos + self.verdicts + self.occurrences


# Whether all checks that are run have run once.
HAVE_RUN: Slot[bool] = Slot(lambda _: False)

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
where outcome = 'not_due'
    and expected_start_at >= %(since)s::timestamptz and expected_start_at < %(as_of)s::timestamptz
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

# A job may be due before its SLO is.
CHANGED_JOBS = """
select application_id, job_id from changed
union
select job.application_id, job.job_id
from (select distinct application_id from catalog.application_version) as application
inner join marts.slo_job_performance as job using (application_id)
where job.expected_end_at >= %(since)s::timestamptz and job.expected_end_at < %(as_of)s::timestamptz
union
select application_id, job_id from catalog.slo_job where slo_id = any(%(slos)s::text[])
union
select application_id, job_id from catalog.job_version where load_id > %(low)s and load_id <= %(high)s
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
ALL_JOBS = "select distinct application_id, job_id from catalog.job_version"

# Of each date the last completion; of an SLO what was missed, too.
PAST = """
select array['jobs', application_id, job_id] as asset, past.*
from unnest(%(applications)s::text[], %(jobs)s::text[]) as wanted (application_id, job_id)
cross join lateral (
    select distinct on (business_date) business_date, run_key as occurrence, ended_at
    from marts.job_run as run
    where (run.application_id, run.job_id) = (wanted.application_id, wanted.job_id) and final_status = 'SUCCEED'
    order by business_date desc, ended_at desc
    limit %(dates)s
) as past
union all
select array['slos', slo_id], past.*
from unnest(%(slos)s::text[]) as wanted (slo_id)
cross join lateral (
    select distinct on (business_date) business_date, slot, coalesce(actual_end_at, gives_up_at)
    from marts.slo_performance as performance
    where performance.slo_id = wanted.slo_id and (actual_end_at is not null or outcome = 'missed')
    order by business_date desc, expected_end_at desc
    limit %(dates)s
) as past
"""

# Assets that are shown: jobs and SLOs as the catalog has them now.
IS_SHOWN = """
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
"""

ENQUEUE = f"""
insert into ops.reported_completion (asset, business_date, occurrence, ended_at)
select asset, business_date, occurrence, ended_at
from (
    select *, row_number() over (partition by asset order by business_date desc, ended_at desc) = 1 as is_newest
    from ({{completions}}) as completion
) as found
where
    {IS_SHOWN}
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
"""  # noqa: S608 - a constant

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

STATES = f"""
insert into ops.reported_state as known (asset, aspect, business_date, slot, state, reported_at)
select asset, aspect, business_date, slot, state,
    -- that nothing is open is told by nobody
    case when aspect = 'newest' and business_date is null then clock_timestamp() end
from (
    select array['jobs', application_id, job_id] as asset, 'verdict' as aspect, business_date, slot,
        concat_ws(' ', outcome, progress) as state
    from ({JOB_STANDING}) as job
    union all
    select array['slos', slo_id], 'verdict', business_date, slot, outcome from ({SLO_STANDING}) as slo
    union all
    select array['slos', slo_id], 'newest', business_date, slot,
        concat_ws(' ', outcome, case when progress = 'failed' then progress end)
    from ({NEWEST_OPEN}) as newest
) as found
where {IS_SHOWN}
on conflict (asset, aspect) do update
    set business_date = excluded.business_date, slot = excluded.slot, state = excluded.state,
        reported_at = excluded.reported_at
    where (known.business_date, known.slot, known.state)
        is distinct from (excluded.business_date, excluded.slot, excluded.state)
"""  # noqa: S608 - a constant


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
        is_all = is_many or is_judged_anew
        slos = [
            slo for (slo,) in connection.execute(ALL_SLOS if is_all else CHANGED_SLOS, between).fetchall()
        ]
        jobs: list[JobKey] = connection.execute(
            ALL_JOBS if is_all else CHANGED_JOBS, {**between, "slos": slos}
        ).fetchall()
        touched = {"slos": slos, "applications": [one for one, _ in jobs], "jobs": [one for _, one in jobs]}
        connection.execute(STATES, touched)
        if is_another_day:
            connection.execute(FORGET, between)
        if _waiting(connection)[0] > most:
            connection.execute(KEEP_NEWEST)
        connection.execute(
            "update ops.report set load_id = %(high)s, as_of = %(as_of)s::timestamptz,"
            " published_at = tick.published_at, project = tick.deployed_project, looked_at = clock_timestamp()"
            " from control.tick",
            between,
        )


def _waiting(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """How many completions wait, and how many states."""
    row = connection.execute(
        "select (select count(*) from ops.reported_completion where reported_at is null),"
        " (select count(*) from ops.reported_state where reported_at is null)"
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _tell(
    connection: psycopg.Connection[Any], instance: dg.DagsterInstance, most: int, deadline: float
) -> Reported:
    """Tell what waits in the journal, the newest first where it is too much; within a look in the order of time."""
    _, states = _waiting(connection)
    chosen: list[Completion] = connection.execute(
        "select asset, business_date, occurrence, ended_at from ops.reported_completion where reported_at is null"
        " order by ended_at desc, asset limit %s",
        [max(0, most - states)],
    ).fetchall()
    # The web interface shows what was told last as the latest.
    chosen.reverse()
    told: Counter[str] = Counter()
    _tell_completions(connection, instance, chosen, deadline, told)
    # After the materialisation that they speak of.
    _tell_states(connection, instance, most - told["jobs"] - told["slos"], deadline, told)
    done = Reported(**told, waiting=sum(_waiting(connection)))
    if done.events:
        log.info("told dagster", **told, waiting=done.waiting)
    return done


def _tell_completions(
    connection: psycopg.Connection[Any],
    instance: dg.DagsterInstance,
    chosen: list[Completion],
    deadline: float,
    told: Counter[str],
) -> None:
    new = _new(connection, chosen)
    for assets in _parts(new):
        rows = {_key(row): row for row in [*_past(connection, assets), *chosen] if tuple(row[0]) in assets}
        events = _events(connection, list(rows.values()))
        for asset in assets:
            if monotonic() > deadline:
                return
            timed = sorted(
                ((events[key], row[3]) for key, row in rows.items() if key[0] == asset and key in events),
                key=lambda one: one[1],
            )
            # What is told last is the latest: a completion.
            for kind in (dg.AssetObservation, dg.AssetMaterialization):
                if batch := [one for one in timed if isinstance(one[0], kind)]:
                    tell_past(instance, batch)
            now = [row for row in chosen if tuple(row[0]) == asset]
            completions = sum(_key(row) in events for row in now)
            told[asset[0]] += completions
            told["past"] += len(timed) - completions
            _cross_off(connection, now)
    for part in _parts([row for row in chosen if tuple(row[0]) not in new]):
        if monotonic() > deadline:
            return
        events = _events(connection, part)
        for row in part:
            event = events.get(_key(row))
            # What a later tick took away is told by nobody.
            if isinstance(event, dg.AssetMaterialization):
                instance.report_runless_asset_event(event)
                told[row[0][0]] += 1
        _cross_off(connection, part)


def _tell_states(
    connection: psycopg.Connection[Any],
    instance: dg.DagsterInstance,
    most: int,
    deadline: float,
    told: Counter[str],
) -> None:
    states: list[tuple[list[str], str, date | None, str | None]] = connection.execute(
        "select asset, aspect, business_date, slot from ops.reported_state where reported_at is null"
        " order by business_date desc nulls last, asset, aspect desc limit %s",
        [most],
    ).fetchall()
    for part in _parts(states):
        if monotonic() > deadline:
            return
        verdicts = [asset for asset, aspect, *_ in part if aspect == "verdict"]
        slos = slo_verdicts(connection, [asset[1] for asset in verdicts if asset[0] == "slos"])
        jobs = job_verdicts(connection, [(asset[1], asset[2]) for asset in verdicts if asset[0] == "jobs"])
        for evaluation in [*(event for _, event in slos), *(event for _, event in jobs)]:
            instance.report_runless_asset_event(evaluation)
            told["verdicts"] += 1
        newest = [
            (asset[1], day, slot) for asset, aspect, day, slot in part if aspect == "newest" and day and slot
        ]
        for _, event in occurrence_events(connection, newest):
            # One that was completed since is told as such.
            if isinstance(event, dg.AssetObservation):
                instance.report_runless_asset_event(event)
                told["occurrences"] += 1
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(
                "update ops.reported_state set reported_at = clock_timestamp() where asset = %s and aspect = %s",
                [(asset, aspect) for asset, aspect, *_ in part],
            )


def _parts(rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
    return (rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER))


def _key(row: Completion) -> tuple[Asset, date, str]:
    return tuple(row[0]), row[1], row[2]


def _new(connection: psycopg.Connection[Any], rows: Sequence[Completion]) -> list[Asset]:
    """Those assets of these completions no completion of which was told before."""
    assets = dict.fromkeys(tuple(asset) for asset, *_ in rows)
    known = connection.execute(
        "select distinct asset from ops.reported_completion where reported_at > '-infinity'"
    ).fetchall()
    return [asset for asset in assets if asset not in {tuple(asset) for (asset,) in known}]


def _past(connection: psycopg.Connection[Any], assets: Sequence[Asset]) -> list[Completion]:
    """The history of these assets: of each of their last dates one completion, or what was missed."""
    row = connection.execute(
        "select (select count(distinct (application_id, job_id)) from catalog.job_version)"
        " + (select count(distinct slo_id) from catalog.slo_version)"
    ).fetchone()
    jobs = [asset for asset in assets if asset[0] == "jobs"]
    return connection.execute(
        PAST,
        {
            "applications": [asset[1] for asset in jobs],
            "jobs": [asset[2] for asset in jobs],
            "slos": [asset[1] for asset in assets if asset[0] == "slos"],
            "dates": min(PAST_DATES, MOST_PAST // max(1, int(row[0]) if row else 1)),
        },
    ).fetchall()


def _events(
    connection: psycopg.Connection[Any], rows: Sequence[Completion]
) -> dict[tuple[Asset, date, str], dg.AssetMaterialization | dg.AssetObservation]:
    """By asset key, business date and occurrence; runs that a later tick took away are missing."""
    runs: list[RunKey] = [(key[1], key[2], day, run) for key, day, run, _ in rows if key[0] == "jobs"]
    occurrences: list[OccurrenceKey] = [(key[1], day, slot) for key, day, slot, _ in rows if key[0] == "slos"]
    found: dict[tuple[Asset, date, str], dg.AssetMaterialization | dg.AssetObservation] = {}
    for (application, job, day, run), event in run_events(connection, runs):
        found[("jobs", application, job), day, run] = event
    for (slo, day, slot), told in occurrence_events(connection, occurrences):
        found[("slos", slo), day, slot] = told
    return found


def _cross_off(connection: psycopg.Connection[Any], rows: Sequence[Completion]) -> None:
    """Note that completions were told; what is open of the same SLO is told once more, to be the latest again."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "update ops.reported_completion set reported_at = clock_timestamp()"
            " where asset = %s and business_date = %s and occurrence = %s",
            [(key, day, occurrence) for key, day, occurrence, _ in rows],
        )
        cursor.execute(
            "update ops.reported_state set reported_at = null"
            " where aspect = 'newest' and business_date is not null and asset[1] = 'slos' and asset[2] = any(%s)",
            [[key[1] for key, *_ in rows if key[0] == "slos"]],
        )


def first_checks(
    settings: Settings, instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]
) -> dg.RunRequest | None:
    """Ask for a run of the job `checks` where any of `checks` has not run yet, once there was a tick; else for none."""
    home = homes.of(settings)
    if home.get(HAVE_RUN):
        return None
    # Those of tracked jobs and SLOs are told, not run.
    wanted = sorted(key for key in checks if key.asset_key.path[0] not in TRACKED)
    with connect(settings, "operate") as connection:
        if connection.execute("select published_at from ops.report").fetchone() in {None, (None,)}:
            return None
    waiting = never_run(instance, wanted)
    home.put(HAVE_RUN, not waiting)
    if not waiting:
        return None
    # Dagster launches one run for a key, whatever becomes of it.
    run_key = sha256(" ".join(key.to_user_string() for key in waiting).encode()).hexdigest()
    return dg.RunRequest(run_key, tags={"duemark/reason": f"{len(waiting)} checks have not run yet"})


@dg.sensor(
    name="report",
    job_name=CHECKS,
    minimum_interval_seconds=9,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reports of tracked jobs and SLOs what the last ticks changed: a materialisation for each completion,"
    " the checks `on_time` and `met`, what of an SLO is open. An asset that is new brings its last 60 dates; of what is"
    " back-filled later only the newest completion is reported. After the first tick it asks for a run of the checks"
    " that have not run yet.",
)
@rests_beside_a_newer_database
def report_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SkipReason | dg.RunRequest:
    """One look; what is too much for it is told by the next ones."""
    done = report(settings, context.instance)
    if context.repository_def is not None:
        checks = context.repository_def.asset_graph.asset_check_keys
        if (request := first_checks(settings, context.instance, checks)) is not None:
            return request
    if not done.events:
        return dg.SkipReason("nothing new")
    return dg.SkipReason(
        f"told {done.jobs} completions of jobs, {done.slos} of SLOs, {done.verdicts} verdicts,"
        f" {done.occurrences} occurrences that are open"
        + (f", {done.past} events of history" if done.past else "")
        + (f"; {done.waiting} more wait" if done.waiting else "")
    )
