"""The pages, the commands and queries in them, and a small demonstration to try them on."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from pipelines.console import answer
from pipelines.landing.ingest import ingest
from pipelines.simulator import simulate
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import with_database
from pipelines.warehouse.settings import ROOT, Settings
from tests.conftest import _database, _drop

Ask = Callable[[str], str]


def page(name: str) -> str:
    """Text of a page, by its path in the tree."""
    return (ROOT / name).read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def asked(text: str) -> list[str]:
    """The queries of the commands `duemark sql "…"`."""
    return re.findall(r'duemark sql "([^"]*)"', text)


@pytest.fixture(scope="session")
def empty(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a migrated warehouse that nothing was put into."""
    name = _database(server_url, template)
    home = tmp_path_factory.mktemp("docs")
    yield replace(
        Settings.from_env({}),
        home=home,
        landing=str(home / "landing"),
        database_url=with_database(server_url, name),
        dagster_database=f"{template}_dagster",
    )
    _drop(server_url, name)


@pytest.fixture(scope="session")
def demonstration(empty: Settings) -> Ask:
    """Asks the marts of the demonstration bank, after some weeks of it; gives the table as text."""
    simulated = simulate(empty.home, 1, 25, 42, catalog=empty.catalog, split="day", requests=100)
    ingest(empty)
    tick(Project(empty), datetime.fromisoformat(simulated.as_of))

    def ask(query: str) -> str:
        out = io.StringIO()
        answer(empty, query, "table", out)
        return out.getvalue()

    return ask


@pytest.fixture
def bank(server_url: str, template: str, tmp_path: Path, empty: Settings) -> Iterator[Settings]:
    """Settings of an empty warehouse for the bank that README makes."""
    name = _database(server_url, template)
    yield replace(
        empty,
        catalog=tmp_path / ".duemark" / "bank" / "catalog",
        landing=str(tmp_path / ".duemark" / "bank" / "landing"),
        database_url=with_database(server_url, name),
        # What another test parsed serves this one too.
        home=empty.home,
    )
    _drop(server_url, name)
