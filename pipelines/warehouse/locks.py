"""The advisory locks: every key stands here, and whoever takes one names it, so that two uses never share a key.

An advisory lock is of one database and goes with its holder's connection: a process that dies leaves none behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum, unique
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any] | psycopg.Cursor[Any]


@unique
class Lock(IntEnum):
    """What is done by one at a time. A number is never given a second time: an older process may still hold it."""

    MIGRATE = 7_345_001
    """Migrations: two processes that start at once run them one after the other."""
    LOAD = 7_345_002
    """The handing out of load_id, to the commit: a higher one never becomes visible before a lower one."""
    TICK = 7_345_003
    """A tick, from start to publication."""
    INCIDENTS = 7_345_004
    """Changes of incidents and of what is told."""
    FOLLOW = 7_345_007
    """Reading on in logs: two who read on from one position would only do the work twice."""
    REPORT = 7_345_008
    """Telling Dagster what ticks changed."""
    COPY = 7_345_009
    """The copying of one table of another database."""


@contextmanager
def held(connection: Connection, lock: Lock) -> Iterator[None]:
    """Wait for `lock`, and hold it for the block, whatever transactions begin and end in it."""
    take(connection, lock)
    try:
        yield
    finally:
        # A connection that broke holds none any more.
        with suppress(Exception):
            connection.execute("select pg_advisory_unlock(%s)", [int(lock)])


def take(connection: Connection, lock: Lock) -> None:
    """Wait for `lock`, and hold it as long as the connection lasts."""
    connection.execute("select pg_advisory_lock(%s)", [int(lock)])


def try_take(connection: Connection, lock: Lock) -> bool:
    """Hold `lock` as long as the connection lasts; False when another has it."""
    return _is_had(connection.execute("select pg_try_advisory_lock(%s)", [int(lock)]).fetchone())


def take_to_commit(connection: Connection, lock: Lock) -> None:
    """Wait for `lock`, and hold it until the transaction ends."""
    connection.execute("select pg_advisory_xact_lock(%s)", [int(lock)])


def try_take_to_commit(connection: Connection, lock: Lock, name: str) -> bool:
    """Hold the `lock` of this `name` until the transaction ends; False when another has it.

    Keys of two numbers are no keys of one: no name can be the key of another lock.
    """
    row = connection.execute(
        "select pg_try_advisory_xact_lock(%s::integer, hashtext(%s))", [int(lock), name]
    ).fetchone()
    return _is_had(row)


def _is_had(row: Any) -> bool:
    return bool(row and row[0])
