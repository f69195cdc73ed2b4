"""The sensor `purge`: every hour, what Dagster keeps of runs that nobody asks for any more."""

# Dagster reads the types of the arguments: annotations stay values here.

import dagster as dg

from pipelines.orchestration.purge import purge
from pipelines.warehouse.settings import Settings
from sensors.newer import rests_beside_a_newer_database

# An evaluation may take a minute before Dagster gives it up; what is left is for the next one.
SECONDS = 20.0


# A sensor, because a schedule needs a job: a run would only make more to purge.
@dg.sensor(
    name="purge",
    minimum_interval_seconds=3600,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Takes out runs, their logs and events that are older than DUEMARK_KEEP_RUNS (30 days).",
)
@rests_beside_a_newer_database
def purge_sensor(context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]) -> dg.SkipReason:
    """Purge for some seconds."""
    gone = purge(settings, context.instance, settings.keep_runs, seconds=SECONDS)
    rest = "" if gone.is_done else "; the rest in an hour"
    return dg.SkipReason(f"{gone.runs} runs and {gone.events} events taken out{rest}")
