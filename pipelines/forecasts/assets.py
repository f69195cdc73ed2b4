"""What the subject adds to the assets: the tables that it fills in the publication of a tick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.orchestration.tables import INTERNALS, table_spec

if TYPE_CHECKING:
    import dagster as dg

OWNERS = ["team:platform"]
DEPS: Mapping[str, list[list[str]]] = {
    "series": [["marts", "slo_performance"]],
    "made": [["forecast", "series"]],
    "job_past": [["marts", "job_run"]],
    "occurrence": [
        ["forecast", "series"],
        ["forecast", "job_past"],
        ["intermediate", "int_forecast_occurrence"],
        ["intermediate", "int_coming_job_edge"],
        ["marts", "slo_job_performance"],
    ],
    "waiting_job": [["forecast", "occurrence"]],
    "job_trend": [["marts", "job_run"], ["marts", "slo_job_performance"]],
}


def forecast_specs(manifest: Mapping[str, Any]) -> list[dg.AssetSpec]:
    """What was learned, what is expected, and what was said: tables behind the marts of forecasts."""
    return [
        table_spec(
            manifest,
            "forecast",
            table,
            group=INTERNALS,
            kinds={"python", "postgres"},
            owners=OWNERS,
            deps=deps,
            skippable=True,
        )
        for table, deps in DEPS.items()
    ]
