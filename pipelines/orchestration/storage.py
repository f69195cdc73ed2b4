"""Dagster's Postgres storage with its connections kept open, and shared by all instances of a process."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dagster_postgres.utils import (
    create_pg_engine,
    get_token_provider_from_config,
    pg_url_from_config,
    set_pg_statement_timeout,
)
from sqlalchemy import event

from pipelines.orchestration.dagster_private.classes import OneEngineStorage

if TYPE_CHECKING:
    from dagster_postgres.auth import PgTokenProvider
    from sqlalchemy import Engine

    from pipelines.orchestration.dagster_private.classes import ConfigurableClassData

# Not for a runaway query's sake: a connection that nobody answers any more must not hold a run for ever.
STATEMENT_TIMEOUT_MS = 300_000
# Connections that a process keeps open; what it needs for a moment beyond these is closed after it.
KEPT = 2
MOST_BEYOND = 40

# By process too: a connection must not be used on both sides of a fork.
_engines: dict[tuple[int, str], Engine] = {}
# URLs whose tables were there, or were made.
_made: set[tuple[int, str]] = set()
_lock = threading.Lock()


def engine_of(url: str, token_provider: PgTokenProvider | None = None) -> Engine:
    """The one engine of this process for `url`.

    An instance is made for every evaluation of a sensor, and its `dispose` closes no engine: one of its own would keep
    its connections until the garbage is collected.
    """
    key = (os.getpid(), url)
    with _lock:
        if key not in _engines:
            engine = create_pg_engine(
                url, token_provider, isolation_level="AUTOCOMMIT", pool_size=KEPT, max_overflow=MOST_BEYOND,
                pool_recycle=3600,
                # A server that was started again has closed them; that is no error of whoever asks next.
                pool_pre_ping=True,
            )  # fmt: skip
            event.listen(
                engine,
                "connect",
                lambda connection, _: set_pg_statement_timeout(connection, STATEMENT_TIMEOUT_MS),
            )
            _engines[key] = engine
        return _engines[key]


class PooledPostgresStorage(OneEngineStorage):
    """The stock storage opens a connection for every event that a run writes, which costs more than the write.

    The web interface always kept its connections; this does the same in runs and in the daemon.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PooledPostgresStorage:
        url = pg_url_from_config(config_value)
        return cls(
            inst_data=inst_data,
            postgres_url=url,
            # Looked for once: it costs three connections.
            should_autocreate_tables=config_value.get("should_autocreate_tables", True)
            and (os.getpid(), url) not in _made,
            token_provider=get_token_provider_from_config(config_value),
        )

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
        token_provider: PgTokenProvider | None = None,
    ) -> None:
        super().__init__(engine_of, postgres_url, should_autocreate_tables, inst_data, token_provider)
        _made.add((os.getpid(), postgres_url))
