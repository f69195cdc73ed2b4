"""When copies are to be read again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg

from pipelines.catalog.kpis import Database
from pipelines.copies.declared import Declared
from pipelines.copies.state import is_there, read_states


def due_tables(connection: psycopg.Connection[Any], declared: Declared) -> list[tuple[Database, list[str]]]:
    """Of each declared database the tables that are to be read now; databases without one are left out."""
    states = read_states(connection)
    now = datetime.now(UTC)
    due = []
    for database in declared.databases:
        tables = [
            name
            for name in database.tables
            if (state := states.get((database.id, name))) is None or state.next_at <= now
        ]
        if tables:
            due.append((database, tables))
    return due


def next_instant(connection: psycopg.Connection[Any]) -> datetime | None:
    """When the next copy is due: a tick reads it."""
    if not is_there(connection):
        return None
    row: Any = connection.execute("select min(greatest(next_at, '1970-01-01')) from copies.state").fetchone()
    return row[0] if row else None
