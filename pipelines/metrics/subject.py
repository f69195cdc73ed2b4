"""The subject of logs: lines in, hourly records of indicators out."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pipelines.metrics.due import next_instant
from pipelines.subject import FeedEntry, Publication, Step, Subject

if TYPE_CHECKING:
    from pipelines.landing.feed import LogFeed
    from pipelines.subject import Connection
    from pipelines.warehouse.settings import Settings


def _metric_log() -> LogFeed:
    from pipelines.metrics.access_log import METRIC_LOG

    return METRIC_LOG


def _uptime() -> LogFeed:
    from pipelines.metrics.uptime import UPTIME

    return UPTIME


def _prepare(settings: Settings, as_of: datetime) -> None:  # noqa: ARG001 # what is registered knows no time
    from pipelines.metrics.definitions import store_indicators

    store_indicators(settings)


def _restore(connection: Connection, is_rebuild: bool) -> None:
    from pipelines.metrics.purge import restore

    restore(connection, is_rebuild)


def _purge(connection: Connection, is_rebuild: bool) -> list[Publication]:  # noqa: ARG001 # a rebuild purges the same
    from pipelines.metrics.purge import purge

    return purge(connection)


METRICS = Subject(
    name="metrics",
    feeds=(
        FeedEntry(
            "metric_log", "metric_input", followed=_metric_log, records=("line of logs", "lines of logs")
        ),
        FeedEntry("uptime", "metric_input", followed=_uptime, records=("heartbeat", "heartbeats")),
    ),
    prepare=_prepare,
    restore=_restore,
    forget=(Step("marts.indicator_record", _purge),),
    next_due=next_instant,
)
