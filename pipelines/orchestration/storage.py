"""Dagster's Postgres storage with its connections kept open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config

if TYPE_CHECKING:
    from dagster._serdes import ConfigurableClassData

# Not for a runaway query's sake: a connection that nobody answers any more must not hold a run for ever.
STATEMENT_TIMEOUT_MS = 300_000


class PooledPostgresStorage(DagsterPostgresStorage):
    """The stock storage opens a connection for every event that a run writes, which costs more than the write.

    The web interface always kept its connections; this does the same in runs and in the daemon.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PooledPostgresStorage:
        storage = cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )
        for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
            part.optimize_for_webserver(
                statement_timeout=STATEMENT_TIMEOUT_MS, pool_recycle=3600, max_overflow=20
            )
        return storage
