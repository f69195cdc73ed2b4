"""Fixtures: a real Postgres (the embedded one, or DUEMARK_DATABASE_URL's server), a fresh database per test."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import pipelines.subjects  # noqa: F401 # hands the subjects in, as the top of every program does
from pipelines.warehouse import embedded
from pipelines.warehouse.connect import with_database
from pipelines.warehouse.migrate import migrate
from pipelines.warehouse.settings import Settings
from tests import examples as _examples
from tests.waiting import HUNG

# For all property tests, those too that say nothing of it themselves.
_examples.load()

ROOT = Path(__file__).resolve().parents[1]
_numbers = itertools.count()


# Who stops after some seconds and goes on the next time, by a clock of this name.
HURRIED = ("sensors.ticks.report", "sensors.oncall.incidents.judge", "sensors.oncall.incidents.delivery")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `deep`, unless it is asked for by its mark."""
    if "deep" in config.option.markexpr:
        return
    deep = [item for item in items if item.get_closest_marker("deep")]
    if deep:
        config.hook.pytest_deselected(items=deep)
        items[:] = [item for item in items if not item.get_closest_marker("deep")]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look does all that there is to do, and a tick waits for copies, however slow the machine is."""
    for name in HURRIED:
        if name in sys.modules:
            monkeypatch.setattr(sys.modules[name], "monotonic", lambda: 0.0)
    if (copies := sys.modules.get("pipelines.copies.refresh")) is not None:
        monkeypatch.setattr(copies, "WAIT", HUNG)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """URL of a server of this test session: the embedded one, in a home of its own, unless one is given."""
    given = os.environ.get("DUEMARK_DATABASE_URL")
    if given:
        yield given
        return
    home = Path(tempfile.mkdtemp(prefix="duemark-test-"))
    try:
        url = embedded.start(home)
        _hasten(url)
        yield url
    finally:
        embedded.stop(home)
        shutil.rmtree(home, ignore_errors=True)


def _hasten(url: str) -> None:
    """Have a server that only tests use wait for no disk: what it holds need not survive a power cut."""
    with psycopg.connect(with_database(url, "postgres"), autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes"):
            connection.execute(sql.SQL("alter system set {} = off").format(sql.Identifier(setting)))
        connection.execute("select pg_reload_conf()")


def _database(server_url: str, template: str = "template0") -> str:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return name


def _drop(server_url: str, name: str) -> None:
    with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def template(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of a migrated database from which each test's own is copied."""
    name = _database(server_url)
    settings = replace(
        Settings.from_env({}),
        home=tmp_path_factory.mktemp("home"),
        database_url=with_database(server_url, name),
    )
    migrate(replace(settings, dagster_database=f"{name}_dagster"))
    yield name
    _drop(server_url, name)
    _drop(server_url, f"{name}_dagster")


@contextmanager
def fresh_home(server_url: str, template: str, folder: Path) -> Iterator[Settings]:
    """Settings of a fresh, migrated warehouse, an empty landing folder and the demonstration catalog, for a block."""
    name = _database(server_url, template)
    landing = folder / "landing"
    landing.mkdir()
    try:
        yield Settings(
            home=folder / "home",
            database_url=with_database(server_url, name),
            catalog=ROOT / "catalog",
            landing=str(landing),
            dbt_project=ROOT / "dbt_project",
            dagster_database=f"{template}_dagster",
        )
    finally:
        _drop(server_url, name)


@pytest.fixture
def settings(server_url: str, template: str, tmp_path: Path) -> Iterator[Settings]:
    """Those of a home of the test's own; see `fresh_home`."""
    with fresh_home(server_url, template, tmp_path) as found:
        yield found
