"""Events and ticks of the pipelines: the sensor `arrivals` sees what landed, the schedule `tick` that time passed.

Logs that grow wake nobody: the schedule reads on in them.

They live in the code location `pipelines`, whose warm process does the work; see `sensors.ticks.advance`.
"""
# Dagster reads the types of the arguments: annotations stay values here.

from time import monotonic, sleep

import dagster as dg

from pipelines.landing.ledger import pending
from pipelines.transform.waiting import waiting
from pipelines.warehouse.connect import connect
from pipelines.warehouse.loads import LOADED
from pipelines.warehouse.settings import Settings
from sensors.newer import rests_beside_a_newer_database
from sensors.ticks.advance import (
    TICK_JOB,
    advance,
    has_failed_of_late,
    is_under_way,
    look_at_catalog,
    look_at_landing,
    refresh,
    warm_up,
)
from sensors.ticks.own import tracked

# Dagster looks for sensors that are due every five seconds: with ten, a file would wait fifteen now and then.
SECONDS = 9
# Between two ticks of one evaluation.
PAUSE = 0.5
NOTHING = "nothing has landed"


def _count(loads: int) -> str:
    return "1 load waits" if loads == 1 else f"{loads} loads wait"


@dg.sensor(
    name="arrivals",
    job_name=TICK_JOB,
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Looks whether files have landed, or loads wait, as after a tick that died, and stays a while, to be"
    " woken by what the receiver stores. Few and small ones are loaded and published at once; for more it asks for"
    " one run of the job `tick`, and for none while one is under way.",
)
@rests_beside_a_newer_database
def arrivals_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SkipReason | dg.RunRequest:
    """Load and publish what has landed, and what is stored within DUEMARK_LISTEN_SECONDS."""
    end = monotonic() + settings.listen_seconds
    with connect(settings, "transform", autocommit=True) as connection:
        # Before the look, so that nothing is stored between both.
        connection.execute(f"listen {LOADED}")
        found = _look(context, settings)
        told = [found.skip_message or ""] if isinstance(found, dg.SkipReason) else []
        while isinstance(found, dg.SkipReason) and (left := end - monotonic()) > 0:
            if not any(connection.notifies(timeout=left, stop_after=1)):
                break
            # What comes at once is published by one tick, and who asks the marts has a turn between two.
            sleep(PAUSE)
            found = _look(context, settings)
            if isinstance(found, dg.SkipReason) and found.skip_message != NOTHING:
                told.append(found.skip_message or "")
    if isinstance(found, dg.RunRequest):
        return found
    done = [one for one in told if one != NOTHING]
    return dg.SkipReason("; then ".join(done) or NOTHING)


def _look(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SkipReason | dg.RunRequest:
    files = pending(settings)
    found = waiting(settings)
    if not files and not found.loads:
        warm_up(settings)
        return dg.SkipReason(NOTHING)
    what = f"{len(files)} files landed" if files else _count(found.loads)
    if is_under_way(context.instance):
        return dg.SkipReason(f"{what}; a run of the job tick is under way")
    if not files and has_failed_of_late(settings):
        return dg.SkipReason(f"{what}; the last tick failed, and the minute's tries again")
    return advance(settings, context.instance, files, found)


@dg.schedule(
    name="tick",
    job_name=TICK_JOB,
    cron_schedule="* * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Reads on in logs that have grown, and brings the marts up to date when time alone has changed"
    " them, and whatever else waits; while anything is open, looks again at the forecasts. After a pause one tick"
    " catches up with all.",
)
@rests_beside_a_newer_database
def tick_schedule(
    context: dg.ScheduleEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SkipReason | dg.RunRequest:
    """Every minute: lines of logs, what fell due or was loaded by hand, a new catalog."""

    def look() -> dg.SkipReason | dg.RunRequest:
        look_at_catalog(settings)
        logs = look_at_landing(settings)
        found = waiting(settings)
        if found.since is None and not logs and found.refresh_since is not None:
            if is_under_way(context.instance):
                return dg.SkipReason("a run of the job tick is under way")
            return refresh(settings)
        if found.since is None and not logs:
            return dg.SkipReason("nothing to do: no new loads, no new lines, and nothing fell due")
        if is_under_way(context.instance):
            return dg.SkipReason("a run of the job tick is under way")
        return advance(settings, context.instance, [], found, logs)

    return tracked(settings, context.instance, look)
