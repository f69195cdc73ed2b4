"""`/metrics`: how the parts stand, what is late, and what the receiver answered, for Prometheus.

What stands in the database is read when it is asked for. Where there are several workers each counts its requests in
files of one folder, and the one that is asked adds them up.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from pipelines.processes.status import PartStatus, report
from pipelines.receivers.doors import Door
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

router = APIRouter()

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The library's own variable: it has to be there before its first import in a worker."""

REQUESTS = Histogram(
    "duemark_http_request_seconds",
    "How long requests took, by path of the interface and status of the answer.",
    ["method", "path", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    registry=None,
)
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"}

LATE = """
select count(*) filter (where not is_at_risk and outcome = 'overdue'), count(*) filter (where is_at_risk),
    count(*) filter (where not is_at_risk and outcome <> 'overdue')
from marts.slo_late
"""
TICK = """
select extract(epoch from as_of), extract(epoch from published_at) from marts.tick
where as_of is not null and published_at is not null
"""
OPEN = "select severity, count(*) from ops.incident where resolved_at is null group by severity"


def prepare(home: Path) -> Path:
    """Make the folder in which the workers of this process count; those of receivers that are gone go."""
    for old in (home / "serve").glob("metrics-*"):
        if not psutil.pid_exists(int(old.name.rpartition("-")[2])):
            shutil.rmtree(old, ignore_errors=True)
    folder = home / "serve" / f"metrics-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def count(method: str, path: str, status: int, seconds: float) -> None:
    """Note an answer. `path` is that of the interface, not of the request, so that there are few."""
    REQUESTS.labels(method if method in METHODS else "other", path, str(status)).observe(seconds)


class Standing(Collector):
    """How the parts stand and what is late, asked anew for each answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges; without a database those that need none."""
        found = report(self._settings)
        ready = GaugeMetricFamily(
            "duemark_ready", "Whether a part is ready, as `duemark status` says it.", labels=["part"]
        )
        for part in found.parts:
            ready.add_metric([part.name], float(part.is_ready))
        yield ready
        for part in found.parts:
            yield from _facts(part)
        if any(part.name == "database" and part.is_ready for part in found.parts):
            yield from self._marts()

    def _marts(self) -> Iterator[GaugeMetricFamily]:
        with connect(self._settings, "operate") as connection:
            there = connection.execute(
                "select to_regclass('marts.slo_late'), to_regclass('marts.tick')"
            ).fetchone()
            if there is None or None in there:
                return
            ticks = connection.execute(TICK).fetchall()
            late: tuple[Any, ...] | None = connection.execute(LATE).fetchone()
            incidents: dict[Any, Any] = {row[0]: row[1] for row in connection.execute(OPEN)}
        for as_of, published in ticks:
            yield _gauge(
                "duemark_tick_as_of_timestamp_seconds", "The moment that the marts are as of.", as_of
            )
            yield _gauge(
                "duemark_tick_published_timestamp_seconds", "When the last tick published.", published
            )
        if late is not None:
            family = GaugeMetricFamily(
                "duemark_slo_late", "Occurrences in slo_late, by how they stand.", labels=["state"]
            )
            for state, value in zip(("overdue", "at_risk", "late"), late, strict=True):
                family.add_metric([state], float(value))
            yield family
        family = GaugeMetricFamily("duemark_incidents_open", "Open incidents.", labels=["severity"])
        for severity in ("critical", "warning", "info"):
            family.add_metric([severity], float(incidents.get(severity, 0)))
        yield family


def _gauge(name: str, said: str, value: Any) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, said, value=float(value))


def _facts(part: PartStatus) -> Iterator[GaugeMetricFamily]:
    """The numbers that a part knows of itself, such as the files that wait in the landing folder."""
    for fact, value in part.facts.items():
        if isinstance(value, int | float):
            name = re.sub(r"\W+", "_", f"duemark_part_{part.name}_{fact}".lower())
            yield _gauge(name, f"{part.name}: {fact}, as `duemark status --json` says it.", value)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """How the parts stand, what is late, and what was answered, in the text format of Prometheus."""
    door: Door = request.app.state.door
    await door.admitted(request, "analyst")
    text = await asyncio.to_thread(_text, request.app.state.settings)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _text(settings: Settings) -> bytes:
    registry = CollectorRegistry()
    registry.register(Standing(settings))
    if os.environ.get(FOLDER):
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(REQUESTS)
    return generate_latest(registry)
