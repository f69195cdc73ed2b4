"""A server of the bench's own, with a database for each size of history."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from psycopg import sql

from bench.measure import Meter
from pipelines.simulator.simulate import Summary, simulate
from pipelines.warehouse import embedded
from pipelines.warehouse.connect import connect, with_database
from pipelines.warehouse.migrate import migrate
from pipelines.warehouse.settings import ROOT, Settings


@dataclass(frozen=True)
class Bank:
    """A simulated bank in a folder, and the warehouse made for it."""

    folder: Path
    summary: Summary
    settings: Settings

    def environment(self) -> dict[str, str]:
        """For a child process that works in this bank."""
        return {**os.environ, **self.settings.as_env(), "PYTHONPATH": str(ROOT)}

    @property
    def as_of(self) -> datetime:
        return datetime.fromisoformat(self.summary.as_of)

    @property
    def files(self) -> list[Path]:
        """Landed files, the biggest first."""
        return sorted((self.folder / "landing").rglob("*.csv"), key=lambda path: -path.stat().st_size)


@dataclass(frozen=True)
class Workshop:
    """A folder and a running server, both gone at the end."""

    folder: Path
    url: str
    meter: Meter
    banks: list[Bank] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "server"

    def bank(self, name: str, jobs: int, days: int) -> Bank:
        """Simulate a bank and make an empty, migrated warehouse for it."""
        folder = self.folder / name
        summary = simulate(folder, jobs, days, 1, split="one", formats=("csv",))
        settings = Settings(
            home=folder / "home",
            database_url=with_database(self.url, name),
            catalog=folder / "catalog",
            landing=str(folder / "landing"),
            dbt_project=ROOT / "dbt_project",
            dagster_database=f"{name}_dagster",
        )
        migrate(settings)
        self.banks.append(Bank(folder, summary, settings))
        return self.banks[-1]

    def drop_banks(self) -> None:
        """Make room for the next bench."""
        with connect(
            Settings.from_env({"DUEMARK_HOME": str(self.home)}), autocommit=True, database="postgres"
        ) as connection:
            for bank in self.banks:
                connection.execute(
                    sql.SQL("drop database {} with (force)").format(sql.Identifier(bank.folder.name))
                )
                shutil.rmtree(bank.folder)
        self.banks.clear()


@contextlib.contextmanager
def workshop() -> Iterator[Workshop]:
    folder = Path(tempfile.mkdtemp(prefix="duemark-bench-"))
    home = folder / "server"
    try:
        url = embedded.start(home)
        pid = embedded.running_pid(home)
        assert pid is not None
        settings = Settings.from_env({"DUEMARK_HOME": str(home)})
        with connect(settings, autocommit=True, database="postgres") as connection:
            # It would come in between, for one side and not for the other.
            connection.execute("alter system set autovacuum = off")
            connection.execute("select pg_reload_conf()")
        yield Workshop(folder, url, Meter(pid))
    finally:
        embedded.stop(home)
        shutil.rmtree(folder, ignore_errors=True)
