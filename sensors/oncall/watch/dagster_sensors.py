"""The watcher inside: a sensor of the location `oncall`, which goes on when the pipelines' own does not load.

It writes incidents and messages only: what tells them has its own sensor, and whoever watches both is outside. There is
no `run_failure_sensor` here: it loses what happens while it raises, and sees five runs a tick.
"""

# Dagster reads the types of the arguments: annotations stay values here.

import dagster as dg

from pipelines.warehouse.settings import Settings
from sensors.newer import rests_beside_a_newer_database
from sensors.oncall.watch.look import look


@dg.sensor(
    name="watch",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reports failed runs and checks, of sensors that raise, hang, stop or are switched off, of code"
    " locations that do not load, of stuck runs and of alerts that nobody takes. `duemark watch` does so from outside.",
)
@rests_beside_a_newer_database
def watch_sensor(settings: dg.ResourceParam[Settings]) -> dg.SkipReason:
    """Look at all of Duemark's own parts."""
    seen = look(settings, watcher="inside")
    if not seen.open:
        return dg.SkipReason("nothing is wrong")
    names = ", ".join(sorted({f"{one.key.kind} {one.key.subject}" for one in seen.open}))
    return dg.SkipReason(f"{len(seen.open)} open: {names}")
