"""One deployed warehouse for all tests of a worker; parsing and DDL cost seconds, emptying the tables milliseconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import sql

from pipelines.transform.deploy import deploy
from pipelines.transform.project import Project
from pipelines.warehouse.connect import connect, with_database
from pipelines.warehouse.settings import ROOT, Settings
from tests.conftest import _database, _drop
from tests.transform.support import Warehouse


@pytest.fixture(scope="session")
def deployed(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A warehouse to `reset` and use; for tests that run many examples."""
    name = _database(server_url, template)
    home = tmp_path_factory.mktemp("warehouse")
    (home / "landing").mkdir()
    settings = Settings(
        home=home,
        database_url=with_database(server_url, name),
        catalog=home / "catalog",
        landing=str(home / "landing"),
        dbt_project=ROOT / "dbt_project",
        dagster_database=f"{template}_dagster",
    )
    with connect(settings, autocommit=True) as connection:
        # Servers do not crash here, and thousands of commits need not wait for a disk.
        connection.execute(
            sql.SQL("alter database {} set synchronous_commit = off").format(sql.Identifier(name))
        )
    project = Project(settings)
    deploy(project)
    yield Warehouse(settings, project)
    _drop(server_url, name)


@pytest.fixture
def warehouse(deployed: Warehouse) -> Warehouse:
    """An empty warehouse, for one test."""
    deployed.reset()
    return deployed
