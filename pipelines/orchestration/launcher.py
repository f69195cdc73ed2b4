"""Runs in processes of the code server, and word of those that died with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher

if TYPE_CHECKING:
    from dagster._grpc.client import DagsterGrpcClient


class CodeServerRunLauncher(DefaultRunLauncher):
    """The stock launcher, that can also be asked whether a run is still alive.

    A code server tells of a run whose process died, but of none when it is killed itself: such a run would count as
    started for hours, and every tick would wait for it. A server that knows nothing of a run does not run it.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED when the run's code server does not have it; RUNNING as long as nobody can say."""
        from dagster._core.errors import DagsterUserCodeUnreachableError
        from dagster._grpc.types import GetCurrentRunsResult
        from dagster._serdes import deserialize_value

        client: DagsterGrpcClient | None = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "not launched in a code server")
        try:
            answer = deserialize_value(client.get_current_runs(), GetCurrentRunsResult)
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "the code server does not answer")
        if run.run_id in answer.current_runs:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its process is gone with the code server")
