"""The subject of forecasts: from how things went to how they will go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipelines.forecasts import risk
from pipelines.subject import Publication, Step, Subject

if TYPE_CHECKING:
    import dagster as dg

    from pipelines.subject import Connection


def _learn(connection: Connection, is_rebuild: bool) -> list[Publication]:
    from pipelines.forecasts.learn import learn

    return learn(connection, is_rebuild)


def _remember(connection: Connection, is_rebuild: bool) -> list[Publication]:
    from pipelines.forecasts.jobs import remember

    return remember(connection, is_rebuild)


def _forecast(connection: Connection, is_rebuild: bool) -> list[Publication]:
    from pipelines.forecasts.occurrences import forecast

    return forecast(connection, is_rebuild)


def _next_refresh(connection: Connection, as_of: datetime) -> datetime | None:
    from pipelines.forecasts.due import next_refresh

    return next_refresh(connection, as_of)


def _kept(manifest: Mapping[str, Any]) -> Sequence[dg.AssetSpec]:
    from pipelines.forecasts.assets import forecast_specs

    return forecast_specs(manifest)


def _trends(connection: Connection, is_rebuild: bool) -> list[Publication]:
    from pipelines.forecasts.trends import refresh

    return refresh(connection, is_rebuild)


def _form() -> str:
    from pipelines.forecasts.ends import State

    return str(State.FORM)


FORECASTS = Subject(
    name="forecasts",
    publish=(
        Step("forecast.series", _learn),
        Step("forecast.job_past", _remember),
        Step("forecast.occurrence", _forecast),
        Step("forecast.job_trend", _trends),
    ),
    next_refresh=_next_refresh,
    kept=_kept,
    # No SQL reads the form: with another one the next tick is a rebuild, which makes all states anew.
    constants={**risk.CONSTANTS, "DUEMARK_DBT_FORECAST_FORM": _form},
    behind={
        "forecast.series": "slo_forecast",
        "forecast.occurrence": "slo_forecast",
        "forecast.job_past": "slo_forecast_job",
        "forecast.waiting_job": "slo_forecast_job",
        "forecast.made": "forecast_score",
        "forecast.job_trend": "job_duration_trend",
    },
)
