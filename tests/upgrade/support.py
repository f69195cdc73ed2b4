"""Dumps of homes of earlier versions: load them, upgrade what was loaded, and say what the marts hold."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pipelines.warehouse.connect import with_database
from pipelines.warehouse.settings import ROOT, Settings
from tests.conftest import _database, _drop

DUMPS = Path(__file__).with_name("dumps")
# Stands in a dump for the folder in which files had landed.
LANDING = "@LANDING@"
# Dumps before this one have SLOs that a lone business date had opened (tests/transform/test_open_start.py).
LONE_OPENS_NOTHING = "0015"
# Where KPIs of the dumps' catalogs find the second database.
VARIABLES = ("PAYMENTS_DB_URL", "FINANCE_DB_URL", "USERS_DB_URL")

Row = dict[str, Any]
Tables = dict[str, list[Row]]


@dataclass(frozen=True)
class Dump:
    """One folder of `dumps`, called by the newest migration that it had; see tests/upgrade/make.py."""

    folder: Path

    @property
    def revision(self) -> str:
        return self.folder.name

    @property
    def as_of(self) -> datetime:
        return self._instant("as_of")

    @property
    def next_as_of(self) -> datetime:
        return self._instant("next_as_of")

    def _instant(self, name: str) -> datetime:
        return datetime.fromisoformat(json.loads((self.folder / "about.json").read_text("utf-8"))[name])

    def sql(self, database: str) -> str:
        """The SQL of `warehouse` or `business`."""
        return gzip.decompress((self.folder / f"{database}.sql.gz").read_bytes()).decode()

    def unpack(self, folder: Path) -> None:
        """Write `landing`, as it was, and `next`, as it is later, into a folder."""
        with tarfile.open(self.folder / "files.tar.gz") as archive:
            archive.extractall(folder, filter="data")


DUMPED = [Dump(folder) for folder in sorted(DUMPS.iterdir())]


@dataclass(frozen=True)
class Home:
    """A dump that was loaded: the warehouse, the second database, the files."""

    dump: Dump
    settings: Settings
    business_url: str

    @property
    def url(self) -> str:
        assert self.settings.database_url is not None
        return self.settings.database_url

    def tables(self, schema: str) -> Tables:
        """All rows of all tables and views of a schema, as JSON has them; instants in UTC."""
        with psycopg.connect(self.url, options="-c timezone=UTC") as connection:
            names = connection.execute(
                "select relname from pg_class where relnamespace = %s::regnamespace and relkind in ('r', 'v', 'p')"
                " and not relispartition order by relname",
                [schema],
            ).fetchall()
            return {
                str(name): [
                    row
                    for (row,) in connection.execute(
                        sql.SQL("select to_jsonb(found) from {} as found").format(
                            sql.Identifier(schema, name)
                        )
                    )
                ]
                for (name,) in names
            }

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, options="-c timezone=UTC") as connection:
            return connection.execute(statement.encode()).fetchall()

    def run(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`duemark …`, begun as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments],
            env={**os.environ, **self.settings.as_env(), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


@contextmanager
def loaded(
    dump: Dump, server_url: str, folder: Path, dagster_database: str, *, keeps_starts: bool = True
) -> Iterator[Home]:
    """A dump in fresh databases of a server, and its files in `folder`; `keeps_starts` as that of `loaded_into`."""
    names = [_database(server_url) for _ in range(2)]
    warehouse, business = (with_database(server_url, name) for name in names)
    with loaded_into(dump, warehouse, business, folder, dagster_database, keeps_starts=keeps_starts) as home:
        yield home
    for name in names:
        _drop(server_url, name)


@contextmanager
def loaded_into(
    dump: Dump,
    warehouse: str,
    business: str,
    folder: Path,
    dagster_database: str,
    *,
    keeps_starts: bool = True,
) -> Iterator[Home]:
    """A dump in two databases, which are empty, and its files in `folder`.

    A lone business date opens no SLO any more, and one had in dumps before 0015. With `keeps_starts` their SLOs are
    taken as if they had an `effective_from`: else every number of that SLO would be another one.
    """
    landing = folder / "landing"
    dump.unpack(folder)
    for name, url in (("warehouse", warehouse), ("business", business)):
        with psycopg.connect(url) as connection:
            connection.execute(dump.sql(name).replace(LANDING, str(landing)).encode())
    with psycopg.connect(warehouse) as connection:
        # Else the newest dump would be one of the very project that is to be deployed.
        connection.execute("update control.tick set deployed_project = 'an earlier one'")
        if keeps_starts and dump.revision < LONE_OPENS_NOTHING:
            connection.execute(
                "update catalog.slo_version as version set is_open_start = false, applies_from = found.first_date"
                " from (select slo_id, min(business_date) as first_date from marts.slo_performance group by slo_id)"
                " as found where version.slo_id = found.slo_id and version.is_open_start"
            )
    settings = replace(
        Settings.from_env({}),
        home=folder / "home",
        database_url=warehouse,
        catalog=dump.folder / "catalog",
        landing=str(landing),
        dagster_database=dagster_database,
    )
    with pytest.MonkeyPatch.context() as patch:
        for variable in VARIABLES:
            patch.setenv(variable, business)
        yield Home(dump, settings, business)


def rows_of(mart: list[Row], columns: Sequence[str]) -> list[str]:
    """Rows as texts in one order, of these columns: what is compared, and short to show."""
    return sorted(json.dumps([row[name] for name in columns], sort_keys=True) for row in mart)
