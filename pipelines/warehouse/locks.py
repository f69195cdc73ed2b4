"""Locks: what is done by one at a time. Each stands here, and whoever takes one names it.

A lock is that of an empty table on which analysts have no right, so that nobody but Duemark can hold one; an advisory
lock could be taken by everybody who may connect. The mode is the weakest that excludes itself: it needs no transaction
id and keeps no snapshot, so that a lock held for long holds back no vacuum, and backups, which only read, pass. A lock
ends with the transaction that took it, and so with its holder's connection: a process that dies leaves none behind.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, unique
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from pipelines import logs

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]
    Cursor = psycopg.Connection[Any] | psycopg.Cursor[Any]

# Whoever has waited so long says for whom, once.
TELL_AFTER = 1.0
LOOK_SECONDS = 5.0

# Sessions that keep one of ours waiting, of logins that have the role `analyst`, and ours in that role.
ANALYSTS_AHEAD = """
select distinct ahead.pid, ahead.application_name, coalesce(ahead.xact_start, ahead.backend_start)
from pg_stat_activity as ours
cross join unnest(pg_blocking_pids(ours.pid)) as blocker (pid)
inner join pg_stat_activity as ahead on ahead.pid = blocker.pid
inner join pg_roles as login on login.oid = ahead.usesysid
where ours.datname = current_database() and ours.application_name like 'duemark%'
    and ours.application_name not like '%(analyst)'
    and (
        ahead.application_name like 'duemark%(analyst)'
        or (pg_has_role(login.oid, 'analyst', 'member') and not login.rolsuper and login.rolname <> session_user)
    )
"""


@unique
class Lock(Enum):
    """What is done by one at a time, each by the table that is locked."""

    MIGRATE = "public.alembic_version"
    """Migrations: two processes that start at once run them one after the other. The one table that is there before."""
    LOAD = "control.lock_load"
    """The handing out of load_id, to the commit: a higher one never becomes visible before a lower one."""
    TICK = "control.lock_tick"
    """A tick, from start to publication; a deploy."""
    INCIDENTS = "control.lock_incidents"
    """Changes of incidents and of what is told."""
    FOLLOW = "control.lock_follow"
    """Reading on in logs: two who read on from one position would only do the work twice."""
    REPORT = "control.lock_report"
    """Telling Dagster what ticks changed."""
    COPY = "control.lock_copy"
    """The copying of one table of another database: a row for each, by name."""


@dataclass(frozen=True)
class Holder:
    """Who keeps somebody waiting: the server's process, how it names itself, and since when."""

    pid: int
    application_name: str
    since: datetime | None

    def __str__(self) -> str:
        since = f" since {self.since:%Y-%m-%d %H:%M:%S}Z" if self.since else ""
        return (
            f"{self.application_name or 'a session without a name'} (process {self.pid} of the server){since}"
        )


@contextmanager
def held(connection: Connection, lock: Lock) -> Iterator[None]:
    """Wait for `lock`, and hold it for the block, whatever transactions begin and end in it.

    By a connection of its own, made like `connection`. Who waits says for whom.
    """
    with _like(connection) as holding:
        take_to_commit(holding, lock)
        yield


@contextmanager
def held_at_once(connection: Connection, lock: Lock) -> Iterator[Holder | None]:
    """Hold `lock` for the block as `held` does, if it is free: None. Else who has it, and then it is not held."""
    with _like(connection) as holding:
        try:
            holding.execute(_statement(lock, nowait=True))
        except psycopg.errors.LockNotAvailable:
            holding.rollback()
            yield _holder(holding, lock) or Holder(0, "", None)
        else:
            yield None


def take_to_commit(connection: Cursor, lock: Lock) -> None:
    """Wait for `lock`, and hold it until the transaction ends. Who waits says for whom.

    Takes no snapshot: of a transaction that begins with it, the snapshot is from when the lock was had.
    """
    its = connection.connection if isinstance(connection, psycopg.Cursor) else connection
    with told_when_waiting(its, lock.name.lower()):
        connection.execute(_statement(lock))


def try_take_to_commit(connection: Connection, lock: Lock, name: str) -> bool:
    """Hold the `lock` of this `name` until the transaction ends; False when another has it."""
    table = sql.Identifier(*lock.value.split("."))
    row = sql.SQL("select from {} where name = %s").format(table)
    if connection.execute(row + sql.SQL(" for update skip locked"), [name]).fetchone() is not None:
        return True
    if connection.execute(row, [name]).fetchone() is not None:
        return False
    with _like(connection, autocommit=True) as other:
        # Committed at once, or the next one would wait for us instead of going on.
        other.execute(
            sql.SQL("insert into {} (name) values (%s) on conflict do nothing").format(table), [name]
        )
    return connection.execute(row + sql.SQL(" for update skip locked"), [name]).fetchone() is not None


@contextmanager
def told_when_waiting(connection: Connection, what: str) -> Iterator[None]:
    """Say, on stderr and in the log, for whom `connection` waits, when it does so in the block for a second."""
    timer = threading.Timer(TELL_AFTER, _tell, [connection, connection.info.backend_pid, what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def held_up_by_no_analyst(connection: Connection, patience: float) -> Iterator[None]:
    """In the block, end the sessions of analysts that keep one of ours waiting for longer than `patience` seconds.

    Their limits they may lift themselves; and a change of a table that waits for one reader keeps out all others. Said
    on stderr and in the log: who is waited for, and whose session was ended, or who may not end it.
    """
    done = threading.Event()
    looking = threading.Thread(target=_keep_free, args=(connection, patience, done), daemon=True)
    looking.start()
    try:
        yield
    finally:
        done.set()


def _keep_free(connection: Connection, patience: float, done: threading.Event) -> None:
    waited: dict[int, float] = {}
    while not done.wait(min(LOOK_SECONDS, patience + 0.1)):
        with suppress(psycopg.Error), _like(connection, autocommit=True, role=False) as other:
            found = {int(pid): Holder(pid, name, since) for pid, name, since in other.execute(ANALYSTS_AHEAD)}
            waited = {pid: waited.get(pid, time.monotonic()) for pid in found}
            for pid, began in waited.items():
                if time.monotonic() - began < patience:
                    continue
                _end(other, found[pid])


def _end(connection: Connection, holder: Holder) -> None:
    try:
        connection.execute("select pg_terminate_backend(%s)", [holder.pid])
    except psycopg.errors.InsufficientPrivilege:
        logs.notice(
            "waiting for an analyst, whose session may not be ended", holder=str(holder),
            way_out="grant pg_signal_backend to this user, or end that session",
        )  # fmt: skip
    else:
        logs.notice("the session of an analyst was ended, because a deploy waited for it", holder=str(holder))


def blockers(connection: Connection, pid: int) -> list[Holder]:
    """Whom the server's process `pid` waits for."""
    return [
        Holder(*row)
        for row in connection.execute(
            "select pid, application_name, coalesce(xact_start, backend_start) from pg_stat_activity"
            " where pid = any(pg_blocking_pids(%s)) order by 3",
            [pid],
        )
    ]


def _tell(connection: Connection, pid: int, what: str) -> None:
    with suppress(psycopg.Error), _like(connection, autocommit=True, role=False) as other:
        for holder in blockers(other, pid):
            logs.notice(
                "waiting for another", what=what, holder=str(holder), pid=holder.pid,
                application_name=holder.application_name, since=holder.since and holder.since.isoformat(),
            )  # fmt: skip
        sys.stderr.flush()


def _holder(connection: Connection, lock: Lock) -> Holder | None:
    with _like(connection, autocommit=True, role=False) as other:
        row: Any = other.execute(
            "select pid, application_name, coalesce(xact_start, backend_start)"
            " from pg_locks inner join pg_stat_activity using (pid)"
            " where relation = to_regclass(%s) and granted and mode = 'ShareUpdateExclusiveLock'"
            " and pg_locks.database = pg_stat_activity.datid",
            [lock.value],
        ).fetchone()
    return Holder(*row) if row else None


def _statement(lock: Lock, *, nowait: bool = False) -> sql.Composed:
    return sql.SQL("lock table {} in share update exclusive mode{}").format(
        sql.Identifier(*lock.value.split(".")), sql.SQL(" nowait" if nowait else "")
    )


def _like(connection: Connection, *, autocommit: bool = False, role: bool = True) -> Connection:
    """Another connection to the same database; without its `role`, as who connects, who may see all of our sessions."""
    info = connection.info
    parameters: dict[str, Any] = info.get_parameters()
    if not role:
        parameters["options"] = "-c timezone=UTC"
    return psycopg.connect(**parameters, password=info.password or None, autocommit=autocommit)


def are_free_to_read(connection: psycopg.Connection[Any], *relations: str) -> bool:
    """Whether these relations can be read now, without waiting for who makes them anew; until the transaction ends."""
    names = sql.SQL(", ").join(sql.Identifier(*relation.split(".")) for relation in relations)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("lock table {} in access share mode nowait").format(names))
    except psycopg.errors.LockNotAvailable:
        return False
    return True
