"""The subject of forecasts: what is known of jobs and SLOs from their own past."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.subject import Publication, Step, Subject

if TYPE_CHECKING:
    from pipelines.subject import Connection


def _trends(connection: Connection, is_rebuild: bool) -> list[Publication]:
    from pipelines.forecasts.trends import refresh

    return refresh(connection, is_rebuild)


FORECASTS = Subject(
    name="forecasts",
    publish=(Step("forecast.job_trend", _trends),),
    behind={"job_trend": "job_duration_trend"},
)
