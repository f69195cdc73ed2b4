"""A migrated warehouse and a Dagster instance of its own for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pipelines.orchestration.instance import load_instance
from pipelines.warehouse.connect import connect, with_database
from pipelines.warehouse.migrate import migrate
from pipelines.warehouse.settings import Settings
from tests.watch.support import Watched

_numbers = count()

ROUTES = """
routes:
  - {id: all, to: "file:alerts.jsonl", repeat: 0m}
"""


@contextmanager
def databases(server_url: str, name: str) -> Iterator[None]:
    try:
        yield
    finally:
        with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
            for database in (name, f"{name}_dagster"):
                connection.execute(
                    sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database))
                )


def settings_of(server_url: str, name: str, home: Path) -> Settings:
    return replace(
        Settings.from_env({}),
        home=home,
        database_url=with_database(server_url, name),
        landing=str(home / "landing"),
        catalog=home / "catalog",
        dagster_database=f"{name}_dagster",
    )


@pytest.fixture(scope="module")
def house(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Databases of the module: making them takes seconds, emptying them does not."""
    name = f"test_watch_{os.getpid()}_{next(_numbers)}"
    settings = settings_of(server_url, name, tmp_path_factory.mktemp(name))
    routes = settings.catalog / "routes" / "all.yml"
    routes.parent.mkdir(parents=True)
    routes.write_text(ROUTES, "utf-8")
    with databases(server_url, name):
        migrate(settings)
        with load_instance(settings) as instance:
            instance.get_runs_count()
            yield Watched(settings, instance, datetime.now(UTC))


@pytest.fixture
def watched(house: Watched) -> Watched:
    """Nothing has happened yet."""
    kept = {"alembic_version", "secondary_indexes", "instance_info"}
    with connect(house.settings, autocommit=True, database=house.settings.dagster_database) as connection:
        rows = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        tables = [sql.Identifier(str(row[0])) for row in rows if row[0] not in kept]
        connection.execute(sql.SQL("truncate {} restart identity").format(sql.SQL(", ").join(tables)))
    with connect(house.settings, "operate") as connection:
        connection.execute(
            "truncate ops.incident, ops.alert_outbox, ops.notice, ops.held, ops.untold, ops.watch, ops.watcher"
        )
        connection.execute("set role transform")
        connection.execute("update control.tick set published_at = null")
    (house.settings.home / "alerts.jsonl").unlink(missing_ok=True)
    return replace(house, now=datetime.now(UTC))
