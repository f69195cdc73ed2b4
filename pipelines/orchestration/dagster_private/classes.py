"""Classes of Dagster to derive from, and how they take what is derived. Imports Dagster."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import ConfigurableClassData, deserialize_value
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)

if TYPE_CHECKING:
    from dagster._grpc.client import DagsterGrpcClient
    from dagster_postgres.auth import PgTokenProvider
    from sqlalchemy import Engine

    EngineOf = Callable[[str, PgTokenProvider | None], Engine]

__all__ = ["AskedRunLauncher", "ConfigurableClassData", "OneEngineStorage"]


class AskedRunLauncher(DefaultRunLauncher):
    """The stock launcher, that Dagster also asks whether a run still lives. Who derives from it says so."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """What the daemon asks of every run that has started."""
        is_alive, why = self.is_alive(run.run_id)
        return CheckRunHealthResult(WorkerStatus.RUNNING if is_alive else WorkerStatus.FAILED, why)

    def is_alive(self, run_id: str) -> tuple[bool, str | None]:
        """Whether the run's process lives, as far as is known, and a word why."""
        raise NotImplementedError

    def runs_beside(self, run_id: str) -> Collection[str] | None:
        """Ids of all runs that the run's code server has now; None where it was not launched in one.

        Raises ConnectionError where the server does not answer.
        """
        client: DagsterGrpcClient | None = self._get_grpc_client_for_termination(run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return None
        try:
            answer = deserialize_value(client.get_current_runs(), GetCurrentRunsResult)
        except DagsterUserCodeUnreachableError as error:
            raise ConnectionError(str(error)) from error
        return answer.current_runs


class _Shared:
    """A storage whose engine is given; also in the web interface, which asks for one that is kept."""

    postgres_url: str
    engine_of: EngineOf
    _token_provider: PgTokenProvider | None
    _engine: Engine

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:  # noqa: ARG002
        self._engine = self.engine_of(self.postgres_url, self._token_provider)


class _Runs(_Shared, PostgresRunStorage):
    pass


class _Events(_Shared, PostgresEventLogStorage):
    pass


class _Schedules(_Shared, PostgresScheduleStorage):
    pass


class OneEngineStorage(DagsterPostgresStorage):
    """The stock storage, whose parts all use the engine that `engine_of` gives for a URL."""

    def __init__(
        self,
        engine_of: EngineOf,
        postgres_url: str,
        should_autocreate_tables: bool,
        inst_data: ConfigurableClassData | None,
        token_provider: PgTokenProvider | None,
    ) -> None:
        # The stock parts open nothing when they need not look for their tables; ours take their place.
        super().__init__(postgres_url, False, inst_data, token_provider)
        self.should_autocreate_tables = should_autocreate_tables
        self._run_storage = _Runs(postgres_url, should_autocreate_tables, token_provider=token_provider)
        self._event_log_storage = _Events(
            postgres_url, should_autocreate_tables, token_provider=token_provider
        )
        self._schedule_storage = _Schedules(
            postgres_url, should_autocreate_tables, token_provider=token_provider
        )
        for part in (self._run_storage, self._event_log_storage, self._schedule_storage):
            part.engine_of = engine_of
            part.optimize_for_webserver(0, 0, 0)
