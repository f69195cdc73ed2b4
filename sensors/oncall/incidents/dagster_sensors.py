"""The two sensors of incidents: one judges the marts when a tick published them, one empties the outbox.

Both do their work in their own evaluation, which a run would delay by ten seconds; each is quick, and done again from
where it stood when it is cut off. Whatever they raise is raised: a sensor that swallows its errors shows green.
"""

# Dagster reads the types of the arguments: annotations stay values here.

from datetime import UTC, datetime

import dagster as dg

from pipelines.warehouse.settings import Settings
from sensors.newer import rests_beside_a_newer_database
from sensors.oncall.incidents.delivery import deliver
from sensors.oncall.incidents.judge import BUDGET_SECONDS, look


@dg.sensor(
    name="incidents",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Opens, groups and closes incidents when a tick has published, and writes notices to the outbox.",
)
@rests_beside_a_newer_database
def incidents_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SkipReason:
    """Judge the marts; the cursor holds when it last did, for people to read."""
    summary = look(settings)
    if not summary.is_change:
        return dg.SkipReason(
            f"nothing new as of {summary.as_of.isoformat()}" if summary.as_of else "no tick yet"
        )
    context.update_cursor(datetime.now(UTC).isoformat())
    return dg.SkipReason(
        f"opened {summary.opened}, closed {summary.resolved}, {summary.messages} messages"
        + ("" if summary.is_complete else "; more records to look through")
    )


@dg.sensor(
    name="delivery",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends what stands in the outbox, and again what a route refused.",
)
@rests_beside_a_newer_database
def delivery_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SkipReason:
    """Empty the outbox as far as the routes take it."""
    done = deliver(settings, seconds=BUDGET_SECONDS)
    if done.failed:
        context.log.warning("%s alerts were refused and will be tried again", done.failed)
    return dg.SkipReason(f"{done.delivered} delivered, {done.failed} refused, {done.pending} waiting")
