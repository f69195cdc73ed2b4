"""The code location `oncall`: everything that must go on when the pipelines' own location does not load."""

from __future__ import annotations

import dagster as dg

import pipelines.subjects  # noqa: F401 # hands the subjects in
from pipelines import logs
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.dagster_sensors import delivery_sensor, incidents_sensor
from sensors.oncall.purge import purge_sensor
from sensors.oncall.watch.dagster_sensors import watch_sensor


def build_defs(settings: Settings | None = None) -> dg.Definitions:
    """All sensors of the location, for `settings` (default: the environment's). Opens no connection."""
    return dg.Definitions(
        sensors=[incidents_sensor, delivery_sensor, watch_sensor, purge_sensor],
        resources={"settings": settings or Settings.from_env()},
    )


logs.ensure()
defs = build_defs()
