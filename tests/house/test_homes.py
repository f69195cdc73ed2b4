"""What a process remembers stands in one object for each home, and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.warehouse import homes
from pipelines.warehouse.homes import MOST_HOMES, Slot
from pipelines.warehouse.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
# What is remembered of something else than a home.
OTHERS = {
    "pipelines/warehouse/homes.py: _homes": "the homes themselves",
    "pipelines/warehouse/connect.py: _looked": "of a database, by its URL: databases of others, too",
    "pipelines/orchestration/storage.py: _engines": "by process and URL: Dagster makes it, and knows no settings",
    "pipelines/orchestration/storage.py: _made": "the same",
}


def is_empty(value: ast.expr | None) -> bool:
    """Whether it is a container with nothing in it, which is there to be filled."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in {"dict", "set", "list", "defaultdict", "OrderedDict"} and not value.keywords
    if isinstance(value, ast.Dict):
        return not value.keys
    return isinstance(value, ast.List) and not value.elts


def caches(tree: ast.Module) -> Iterator[str]:
    """Names of a module that are filled while it runs, and functions that remember their answer for settings."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and is_empty(node.value):
            yield ast.unparse(node.target)
        elif isinstance(node, ast.Assign) and is_empty(node.value):
            yield from map(ast.unparse, node.targets)
        elif isinstance(node, ast.FunctionDef) and any(
            "cache" in ast.unparse(d) for d in node.decorator_list
        ):
            kinds = [ast.unparse(one.annotation) for one in node.args.args if one.annotation is not None]
            if "Settings" in kinds:
                yield node.name


def test_nothing_of_a_home_is_remembered_elsewhere() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("pipelines", "sensors")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in caches(ast.parse(path.read_text("utf-8")))
    ]
    assert sorted(found) == sorted(OTHERS), "declare a Slot beside the code: see pipelines/warehouse/homes.py"


def test_caches_are_found_whatever_their_form() -> None:
    source = (
        "a: dict[str, int] = {}\nb = set()\nc = [1]\nd = OrderedDict()\nE = {}\n"
        "@functools.lru_cache(maxsize=8)\ndef f(settings: Settings) -> int: ...\n"
        "@cache\ndef g(zone: str) -> int: ...\n"
    )
    assert list(caches(ast.parse(source))) == ["a", "b", "d", "E", "f"]


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings.from_env({"DUEMARK_HOME": str(tmp_path)})


def test_each_home_has_its_own(home: Settings) -> None:
    seen: Slot[set[str]] = Slot(lambda _: set())
    other: Slot[set[str]] = Slot(lambda _: set())
    homes.of(home).get(seen).add("a")
    # Settings are compared by what they say.
    assert homes.of(replace(home)).get(seen) == {"a"}
    assert homes.of(home).get(other) == set()
    assert homes.of(replace(home, database_url="postgresql:///other")).get(seen) == set()


def test_what_is_taken_is_forgotten(home: Settings) -> None:
    made: list[Settings] = []

    def first(settings: Settings) -> int:
        made.append(settings)
        return len(made)

    slot = Slot(first)
    assert [homes.of(home).get(slot) for _ in range(3)] == [1, 1, 1]
    assert homes.of(home).take(slot) == 1
    assert homes.of(home).get(slot) == 2
    homes.of(home).put(slot, 7)
    assert homes.of(home).get(slot) == 7
    assert made == [home, home]


def test_what_cannot_be_made_is_tried_again(home: Settings) -> None:
    answers = iter([0, 1])
    slot: Slot[int] = Slot(lambda _: 1 // next(answers))
    with pytest.raises(ZeroDivisionError):
        homes.of(home).get(slot)
    assert homes.of(home).get(slot) == 1


def test_of_many_homes_the_oldest_is_forgotten(home: Settings) -> None:
    slot: Slot[int] = Slot(lambda _: 0)
    homes.of(home).put(slot, 1)
    others = [replace(home, landing=str(number)) for number in range(MOST_HOMES)]
    for one in others[:-1]:
        homes.of(one)
    assert homes.of(home).get(slot) == 1
    for one in others:
        homes.of(one)
    assert homes.of(home).get(slot) == 0
