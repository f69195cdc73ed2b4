"""What is known of each copy (`copies.state`): its columns, when it is due, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from pipelines.catalog.kpis import Database
from pipelines.errors import DuemarkError
from pipelines.logs import get_logger

log = get_logger(__name__)
FEED = "copy"
SCHEMA = "copies"
LONGEST_BACK_OFF = timedelta(hours=1)
MADE = "Copy of {} of the database {}; see copies.state."
"""The comment of a copy."""


@dataclass(frozen=True)
class State:
    """A row of `copies.state`; `columns`: names and types, none before the first copy; `failures`: in a row."""

    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    compared_at: datetime | None
    next_at: datetime
    failures: int


def is_there(connection: psycopg.Connection[Any]) -> bool:
    """Whether the migration that makes `copies.state` was run."""
    return connection.execute("select to_regclass('copies.state')").fetchone() != (None,)


def read_states(connection: psycopg.Connection[Any]) -> dict[tuple[str, str], State]:
    """The state of each copy, by database and table."""
    return {
        (str(database), str(table)): State(
            tuple((str(name), str(kind)) for name, kind in columns),
            tuple(key),
            compared_at,
            next_at,
            failures,
        )
        for database, table, columns, key, compared_at, next_at, failures in connection.execute(
            "select database_id, table_name, columns, key, compared_at, greatest(next_at, '1970-01-01'), failures"
            " from copies.state"
        )
    }


def said(error: BaseException) -> str:
    """The first lines of an error, short enough for a table; drivers do not put passwords in them."""
    original = getattr(error, "orig", None) or error
    text = original.message if isinstance(original, DuemarkError) else str(original)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:3])[:500] or type(original).__name__


def note_failure(
    connection: psycopg.Connection[Any], database: Database, name: str, error: Exception
) -> None:
    """Note a failure; the next try comes later each time."""
    log.warning("a copy failed", database=database.id, table=name, error=said(error))
    connection.execute(
        """
        insert into copies.state (database_id, table_name, relation, key, columns, error, failed_at, failures, next_at)
        values (%(database)s, %(table)s, %(relation)s, %(key)s, '[]', %(error)s, %(now)s, 1, %(now)s + %(every)s)
        on conflict (database_id, table_name) do update set
            error = excluded.error, failed_at = excluded.failed_at, failures = state.failures + 1,
            next_at = excluded.failed_at + least(
                %(every)s * power(2, least(state.failures, 10)), greatest(%(most)s, %(every)s)
            )
        """,
        {
            "database": database.id, "table": name, "relation": database.relation(name),
            "key": list(database.tables[name].key), "error": said(error), "now": datetime.now(UTC),
            "every": database.every, "most": LONGEST_BACK_OFF,
        },
    )  # fmt: skip
