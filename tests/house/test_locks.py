"""Locks: a table for each use, all of them in one place, and none that an analyst can take."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import sleep

import psycopg
import pytest
from psycopg import sql

from pipelines.warehouse.connect import application_name, connect
from pipelines.warehouse.locks import (
    Lock,
    blockers,
    held,
    held_at_once,
    held_up_by_no_analyst,
    take_to_commit,
    try_take_to_commit,
)
from pipelines.warehouse.settings import Settings
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
HOME = Path("pipelines/warehouse/locks.py")
# What takes an advisory lock, which everybody can (by a function, or a key like those of old), or the lock of a table.
TAKES = re.compile(r"advisory_(?:xact_)?(?:un)?lock|\b7_?345_?\d{3}\b|\block table\b", re.IGNORECASE)
# A table of locks by its name; migrations make them.
NAMES = re.compile(r"\bcontrol\.lock_\w+")
MIGRATIONS = Path("pipelines/warehouse/migrations")
# Those that are held by a connection of their own; a copy has one for each name.
WHOLE = [lock for lock in Lock if lock is not Lock.COPY]


def sources() -> Iterator[Path]:
    for folder in ("pipelines", "sensors", "dbt_project", "deploy"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".sql", ".yml", ".sh"} and "target" not in path.parts:
                yield path.relative_to(ROOT)


def is_free(settings: Settings, lock: Lock) -> bool:
    with connect(settings) as other, held_at_once(other, lock) as holder:
        return holder is None


def test_only_the_module_of_locks_takes_any() -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in sources()
        if path != HOME
        for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), 1)
        if TAKES.search(line)
    ]
    assert found == []
    assert TAKES.search((ROOT / HOME).read_text("utf-8"))


def test_nobody_else_names_their_tables() -> None:
    found = [
        f"{path}: {name}"
        for path in sources()
        if path != HOME and MIGRATIONS not in path.parents
        for name in NAMES.findall((ROOT / path).read_text("utf-8"))
    ]
    assert found == []


def test_each_has_a_table_of_its_own(settings: Settings) -> None:
    """A table that no lock has would be taken for one that is free to be used."""
    with connect(settings) as connection:
        tables = connection.execute(
            "select 'control.' || relname from pg_class where relnamespace = 'control'::regnamespace"
            " and relkind = 'r' and relname like 'lock\\_%'"
        ).fetchall()
    assert len({lock.value for lock in Lock}) == len(Lock.__members__)
    assert {name for (name,) in tables} == {lock.value for lock in Lock} - {Lock.MIGRATE.value}


def test_a_lock_keeps_out_its_own_kind_only(settings: Settings) -> None:
    for lock in WHOLE:
        with connect(settings) as one, held(one, lock):
            assert [each for each in WHOLE if not is_free(settings, each)] == [lock]
        assert is_free(settings, lock)


def test_a_lock_of_a_name_keeps_out_the_same_name_only(settings: Settings) -> None:
    with connect(settings, "ingest") as one, connect(settings, "ingest") as other:
        for _ in range(2):  # the first time the row of the name is made
            assert try_take_to_commit(one, Lock.COPY, "copies.orders")
            assert not try_take_to_commit(other, Lock.COPY, "copies.orders")
            assert try_take_to_commit(other, Lock.COPY, "copies.visits")
            one.commit()
            assert try_take_to_commit(other, Lock.COPY, "copies.orders")
            other.rollback()


def test_a_lock_is_let_go_when_its_block_fails(settings: Settings) -> None:
    with connect(settings) as one:
        with suppress(ZeroDivisionError), held(one, Lock.FOLLOW):
            assert not is_free(settings, Lock.FOLLOW)
            raise ZeroDivisionError
        assert is_free(settings, Lock.FOLLOW)


@pytest.mark.parametrize("lock", Lock)
def test_an_analyst_can_take_none(settings: Settings, lock: Lock) -> None:
    modes = ["access share", "row exclusive", "share update exclusive", "access exclusive"]
    for mode in modes:
        with connect(settings, "analyst") as analyst, pytest.raises(psycopg.errors.InsufficientPrivilege):
            analyst.execute(
                sql.SQL("lock table {} in {} mode").format(
                    sql.Identifier(*lock.value.split(".")), sql.SQL(mode)
                )
            )
    with connect(settings, "analyst") as analyst, pytest.raises(psycopg.errors.InsufficientPrivilege):
        analyst.execute(sql.SQL("select from {} for update").format(sql.Identifier(*lock.value.split("."))))


def test_advisory_locks_of_others_hold_up_nothing(settings: Settings) -> None:
    with connect(settings, "analyst") as analyst:
        analyst.execute("select pg_advisory_lock(key) from generate_series(7345001, 7345009) as key")
        analyst.execute("select pg_advisory_lock(7345009, hashtext('copies.orders'))")
        assert all(is_free(settings, lock) for lock in WHOLE)
        with connect(settings, "ingest") as other:
            assert try_take_to_commit(other, Lock.COPY, "copies.orders")


@pytest.mark.parametrize("role", ["ingest", "transform", "operate"])
def test_a_lock_that_is_held_keeps_back_no_vacuum(settings: Settings, role: str) -> None:
    """It has neither a snapshot nor a transaction id, however long it is held."""
    with connect(settings, role) as one, held(one, Lock.TICK), connect(settings) as other:  # type: ignore[arg-type]
        row = other.execute(
            "select backend_xid, backend_xmin from pg_locks inner join pg_stat_activity using (pid)"
            " where relation = 'control.lock_tick'::regclass and datname = current_database()"
        ).fetchall()
    assert row == [(None, None)]


def test_a_backup_passes_locks_that_are_held(settings: Settings) -> None:
    with connect(settings) as one, held(one, Lock.TICK), connect(settings) as backup:
        backup.execute("set lock_timeout = '5s'")
        backup.execute("lock table control.lock_tick in access share mode")


def test_a_deploy_is_held_up_by_no_analyst(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    with connect(settings, "transform") as connection:
        connection.execute("create table marts.something ()")
    with connect(settings, "analyst") as analyst, connect(settings, "transform") as deploying:
        # A login may lift its own limits.
        analyst.execute("set statement_timeout = 0")
        analyst.execute("set idle_in_transaction_session_timeout = 0")
        analyst.execute("select from marts.something")
        with held_up_by_no_analyst(deploying, patience=0.1):
            deploying.execute("drop table marts.something")
        # It is told by another thread, when the deploy may be done.
        told = [""]

        def is_told() -> bool:
            told[0] += capfd.readouterr().err
            return "was ended, because a deploy waited for it" in told[0]

        until(is_told)
        assert str(analyst.info.backend_pid) in told[0]
        with pytest.raises(psycopg.OperationalError):
            analyst.execute("select")


def test_only_analysts_are_ended(settings: Settings) -> None:
    with connect(settings, "transform") as connection:
        connection.execute("create table marts.something ()")
    with connect(settings, "operate") as other, connect(settings, "transform") as deploying:
        other.execute("select from marts.something")
        deploying.execute("set lock_timeout = '2s'")
        with (
            held_up_by_no_analyst(deploying, patience=0.1),
            pytest.raises(psycopg.errors.LockNotAvailable),
        ):
            deploying.execute("drop table marts.something")
        assert other.execute("select 1").fetchone() == (1,)


def test_who_waits_says_for_whom(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    has_waited = threading.Event()

    def wait() -> None:
        with connect(settings, "ingest") as second, second.transaction():
            take_to_commit(second, Lock.LOAD)
            has_waited.set()

    with connect(settings, "ingest") as first, connect(settings) as asking:
        first.execute("select")
        take_to_commit(first, Lock.LOAD)
        waiting = threading.Thread(target=wait)
        waiting.start()
        told, pid = "", first.info.backend_pid
        while "\n" not in told and waiting.is_alive():
            told += capfd.readouterr().err
            sleep(0.05)
        assert not has_waited.is_set()
        pids: list[int] = [
            int(str(pid))
            for (pid,) in asking.execute(
                "select pid from pg_locks where relation = 'control.lock_load'::regclass and not granted"
            )
        ]
        assert [holder.pid for each in pids for holder in blockers(asking, each)] == [pid]
        first.commit()
        waiting.join(60)
    assert has_waited.is_set()
    assert str(pid) in told
    assert application_name("ingest") in told
    assert "load" in told
