"""Copies brought up to date before a tick, a thread for each database."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime

import psycopg

from pipelines.catalog.kpis import Database
from pipelines.copies.declared import declared_databases, is_idle, read_declared
from pipelines.copies.due import due_tables
from pipelines.copies.forget import drop_unread, forget
from pipelines.copies.kept import note
from pipelines.copies.source import columns_of, opened
from pipelines.copies.state import is_there, note_failure, read_states, said
from pipelines.copies.table import make_table
from pipelines.copies.update import update_copy
from pipelines.errors import DuemarkError
from pipelines.logs import get_logger
from pipelines.warehouse import homes
from pipelines.warehouse.connect import connect
from pipelines.warehouse.homes import Slot
from pipelines.warehouse.settings import Settings

log = get_logger(__name__)

WAIT = 3.0
"""Seconds that a tick waits for copies."""
RUNNING: Slot[dict[str, Future[None]]] = Slot(lambda _: {})
_lock = threading.Lock()


def refresh(settings: Settings) -> None:
    """Bring the copies that are due up to date, as a preparation of a tick; see the module.

    Never raises for a database's sake: what is wrong with one stands in `copies.state`.
    """
    declared = read_declared(settings)
    if is_idle(settings, declared):
        return
    with connect(settings, "ingest", autocommit=True) as connection:
        if not is_there(connection):
            return
        forget(settings, connection, declared)
        if declared.is_faultless:
            drop_unread(settings, connection)
        due = due_tables(connection, declared)
    if due:
        futures = [_start(settings, database, tables) for database, tables in due]
        wait([future for future in futures if future is not None], timeout=WAIT)


def refresh_now(settings: Settings, *, compare: bool = False) -> None:
    """Read all copies now, due or not, and wait for them; `compare` also compares all rows."""
    ensure(settings)
    for database in declared_databases(settings):
        _read_database(settings, database, list(database.tables), compare=compare)


def ensure(settings: Settings) -> bool:
    """Make the tables of copies that are missing, empty; True when one was made.

    A database that does not answer leaves its tables unmade, and the KPIs over them wait.
    """
    declared = read_declared(settings)
    if is_idle(settings, declared):
        return False
    with connect(settings, "ingest", autocommit=True) as connection:
        if not is_there(connection):
            return False
        # Another copy may take the name of one that is gone.
        forget(settings, connection, declared)
        states = read_states(connection)
        made = False
        for database in declared.databases:
            for name, table in database.tables.items():
                state = states.get((database.id, name))
                now = datetime.now(UTC)
                if state is not None and (state.columns or state.next_at > now):
                    continue
                try:
                    with opened(settings, database) as engine:
                        columns = columns_of(engine, database, name)
                    make_table(connection, database, name, table, columns)
                    made = True
                except Exception as error:  # noqa: BLE001 # whatever a driver raises is that database's own
                    note_failure(connection, database, name, error)
        note(settings, connection)
    return made


def _start(settings: Settings, database: Database, tables: list[str]) -> Future[None] | None:
    """Read a database in a thread; None while the one begun before is still at it."""
    running = homes.of(settings).get(RUNNING)
    with _lock:
        before = running.get(database.id)
        if before is not None and not before.done():
            return None
        pool = ThreadPoolExecutor(1, thread_name_prefix=f"copy-{database.id}")
        running[database.id] = pool.submit(_read_database, settings, database, tables)
        pool.shutdown(wait=False)
        return running[database.id]


def _read_database(
    settings: Settings, database: Database, tables: Iterable[str], *, compare: bool = False
) -> None:
    """Copy tables one by one; what fails is noted, and never raised."""
    try:
        with connect(settings, "ingest") as connection:
            for name in tables:
                began_at = datetime.now(UTC)
                try:
                    with opened(settings, database) as engine:
                        update_copy(connection, engine, database, name, began_at, compare=compare)
                    connection.commit()
                except Exception as error:  # noqa: BLE001 # whatever a driver raises is that database's own
                    connection.rollback()
                    note_failure(connection, database, name, error)
                    connection.commit()
            note(settings, connection)
    except (DuemarkError, psycopg.Error) as error:
        log.warning("copies were not read", database=database.id, error=said(error))
