"""Advisory locks: a key for each use, all of them in one place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipelines.warehouse.connect import connect
from pipelines.warehouse.locks import Lock, held, take, try_take, try_take_to_commit
from pipelines.warehouse.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
HOME = Path("pipelines/warehouse/locks.py")
# What takes an advisory lock, in SQL that stands in any file, and what looks like a key of ours.
TAKES = re.compile(r"advisory_(?:xact_)?(?:un)?lock|\b7_?345_?\d{3}\b", re.IGNORECASE)


def sources() -> Iterator[Path]:
    for folder in ("pipelines", "sensors", "dbt_project", "deploy"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".sql", ".yml", ".sh"} and "target" not in path.parts:
                yield path.relative_to(ROOT)


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


def test_a_lock_keeps_out_its_own_kind_only(settings: Settings) -> None:
    for lock in Lock:
        with connect(settings, autocommit=True) as one, connect(settings, autocommit=True) as other:
            take(one, lock)
            assert [each for each in Lock if not try_take(other, each)] == [lock]


def test_a_lock_of_a_name_keeps_out_the_same_name_only(settings: Settings) -> None:
    with connect(settings) as one, connect(settings) as other:
        assert try_take_to_commit(one, Lock.COPY, "copies.orders")
        assert not try_take_to_commit(other, Lock.COPY, "copies.orders")
        assert try_take_to_commit(other, Lock.COPY, "copies.visits")
        assert try_take(other, Lock.COPY)
        one.commit()
        assert try_take_to_commit(other, Lock.COPY, "copies.orders")


def test_a_lock_is_let_go_when_its_block_fails(settings: Settings) -> None:
    with connect(settings, autocommit=True) as one, connect(settings, autocommit=True) as other:
        with suppress(ZeroDivisionError), held(one, Lock.FOLLOW):
            assert not try_take(other, Lock.FOLLOW)
            raise ZeroDivisionError
        assert try_take(other, Lock.FOLLOW)
