"""A house whose clock the test moves; what Dagster stores in it is stored by Dagster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.error import SerializableErrorInfo

from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.delivery import deliver
from sensors.oncall.watch.limits import Limits
from sensors.oncall.watch.look import Seen, look
from tests.waiting import until

# Between the error that Dagster raises for a tick that took too long, and for a server that is not there.
TIMED_OUT = "The sensor tick timed out due to taking longer than 60 seconds to execute the sensor function."
UNREACHED = "Could not reach user code server. gRPC Error code: UNAVAILABLE"

CODE = """
import dagster as dg


@dg.sensor(name="on", minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def on():
    return dg.SkipReason("well")


@dg.sensor(name="off")
def off():
    return dg.SkipReason("well")


@dg.job
def nothing():
    pass


@dg.schedule(
    name="often", job=nothing, cron_schedule="*/5 * * * *", execution_timezone="Asia/Tokyo",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def often():
    return dg.SkipReason("well")


defs = dg.Definitions(sensors=[on, off], schedules=[often], jobs=[nothing])
"""

# What the next run of `nightly` does.
_next = {"fails": False}


@dg.op
def work() -> None:
    if _next["fails"]:
        raise ValueError("the source is empty")


@dg.job(executor_def=dg.in_process_executor)
def nightly() -> None:
    work()


@dg.job(name="tick", executor_def=dg.in_process_executor)
def tick_job() -> None:
    work()


def _repository(location: str) -> RemoteRepositoryOrigin:
    place = GrpcServerCodeLocationOrigin(host="localhost", socket="/nowhere", location_name=location)
    return RemoteRepositoryOrigin(place, "__repository__")


@dataclass
class Watched:
    """Settings, the instance, and a clock that the test moves. `expect`: the inventory."""

    settings: Settings
    instance: dg.DagsterInstance
    now: datetime
    limits: Limits = field(default_factory=Limits)
    expect: frozenset[tuple[str, str]] = frozenset()
    process: str = "daemon-1"

    # Time

    def later(self, seconds: float, *, heartbeat: bool = True) -> None:
        """Let time pass; the daemon gives its heartbeat, or does not."""
        self.now += timedelta(seconds=seconds)
        if heartbeat:
            self.heartbeat()

    def heartbeat(self, *parts: str, at: datetime | None = None) -> None:
        for part in parts or ("SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR"):
            self.instance.add_daemon_heartbeat(
                DaemonHeartbeat((at or self.now).timestamp(), part, self.process, [])
            )

    def look(self, *, delivers: bool = True) -> Seen:
        """Look; what is told by it is delivered, or that would be the next thing to tell."""
        seen = look(self.settings, self.now, limits=self.limits, expect=self.expect)
        if delivers:
            deliver(self.settings, self.now)
        return seen

    def settle(self) -> None:
        """Watch for so long that what is absent counts."""
        for _ in range(7):
            self.heartbeat()
            assert self.look().opened == []
            self.later(15)

    # What Dagster stores

    def run(self, *, fails: bool, job: dg.JobDefinition = nightly) -> str:
        _next["fails"] = fails
        result = job.execute_in_process(instance=self.instance, raise_on_error=False)
        assert result.success is not fails
        self.now = max(self.now, datetime.now(UTC))
        return result.run_id

    def pending(self, status: DagsterRunStatus, **tags: str) -> str:
        """A run of `nightly` that stays in this status, made now."""
        run = self.instance.create_run_for_job(
            nightly,
            status=status,
            tags=tags,
            remote_job_origin=RemoteJobOrigin(_repository("pipelines"), "nightly"),
        )
        self.now = max(self.now, datetime.now(UTC))
        return run.run_id

    def check(
        self,
        *,
        passed: bool,
        severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
        asset: str = "marts/table",
        name: str = "unique",
    ) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(asset.split("/")),
                check_name=name,
                passed=passed,
                severity=severity,
                description="3 rows twice",
                metadata={},
            )
        )
        self.now = max(self.now, datetime.now(UTC))

    def sensor(
        self, name: str, status: str = "DECLARED_IN_CODE", *, interval: int = 30, is_new: bool = True
    ) -> InstigatorState:
        data = SensorInstigatorData(min_interval=interval, last_sensor_start_timestamp=self.now.timestamp())
        return self._instigator(name, InstigatorType.SENSOR, status, data, is_new=is_new)

    def schedule(self, name: str, cron: str) -> InstigatorState:
        data = ScheduleInstigatorData(cron, start_timestamp=self.now.timestamp())
        return self._instigator(name, InstigatorType.SCHEDULE, "DECLARED_IN_CODE", data, is_new=True)

    def _instigator(
        self, name: str, kind: InstigatorType, status: str, data: Any, *, is_new: bool
    ) -> InstigatorState:
        location, _, short = name.rpartition("/")
        origin = RemoteInstigatorOrigin(_repository(location), short)
        state = InstigatorState(origin, kind, InstigatorStatus(status), data)
        (self.instance.add_instigator_state if is_new else self.instance.update_instigator_state)(state)
        return state

    def tick(
        self, state: InstigatorState, status: str = "SKIPPED", error: str = "", *, reason: str | None = None
    ) -> None:
        cause = None
        if error in {TIMED_OUT, UNREACHED}:
            cause = SerializableErrorInfo(error, [], "DagsterUserCodeUnreachableError")
            error = (
                "dagster._core.errors.DagsterUserCodeUnreachableError: Unable to reach the user code server"
            )
        self.instance.create_tick(
            TickData(
                instigator_origin_id=state.instigator_origin_id,
                instigator_name=state.instigator_name,
                instigator_type=state.instigator_type,
                status=TickStatus(status),
                timestamp=self.now.timestamp(),
                selector_id=state.selector_id,
                skip_reason=reason,
                error=SerializableErrorInfo(error, [], "ValueError", cause=cause) if error else None,
            )
        )

    # What was told

    def told(self) -> list[tuple[str, str, str]]:
        """Event, kind and subject of every message in the outbox, in their order."""
        with connect(self.settings, "operate") as connection:
            rows = connection.execute(
                "select event, payload ->> 'kind', payload ->> 'subject' from ops.alert_outbox order by outbox_id"
            ).fetchall()
        return [(str(event), str(kind), str(subject)) for event, kind, subject in rows]


@contextmanager
def code_server(folder: Path, name: str, code: str) -> Iterator[tuple[Path, int]]:
    """A code server of `code`, which keeps up whether it loads or not; gives its socket and process id."""
    path, socket = folder / f"{name}.py", folder / f"{name}.sock"
    path.write_text(code, "utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster", "api", "grpc", "--socket", str(socket), "--python-file", str(path),
         "--location-name", name, "--lazy-load-user-code", "--log-level", "critical"],
        env={**os.environ, "DAGSTER_HOME": str(folder)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: socket.exists() or process.poll() is not None)
        assert process.poll() is None
        yield socket, process.pid
    finally:
        process.kill()
        process.wait()
