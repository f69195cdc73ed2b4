"""A warehouse for many examples: deployed once, emptied between them; files in, ticks, rows of the marts out."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from pipelines.catalog.store import store_catalog
from pipelines.errors import DuemarkError
from pipelines.landing.ingest import IngestReport, ingest
from pipelines.transform.project import ModelResult, Project
from pipelines.transform.tick import TickReport, tick
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from tests.examples import examples
from tests.waiting import HUNG

__all__ = ["examples"]

Status = dict[str, Any]
Row = dict[str, Any]
Rows = dict[str, list[Row]]
Documents = Mapping[str, Sequence[Mapping[str, Any]]]
"""A catalog: kind (applications, calendars, jobs, slos) to entries as they would stand in YAML."""

COLUMNS = ("application_id", "job_id", "status_code", "status_at", "business_date", "run_id", "host_id")
# What forecasts learn and say; their journal tells what was said when, and is no function of the facts.
FORECASTS = ("series", "job_past", "occurrence", "waiting_job")
MARTS = (
    "job_run", "slo_job_run", "slo_job_performance", "slo_performance", "slo_error_budget", "slo_punctuality",
    "job_duration_trend",
)  # fmt: skip


def utc(text: str) -> datetime:
    """`2026-03-03 08:00` as an instant, UTC unless it has an offset."""
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


class Killed(Exception):  # noqa: N818
    """Stands for the end of a process, where a test does not end a real one."""


class DyingProject(Project):
    """A project whose process ends within dbt: before it ran, after it, or after the models in `survives`."""

    def __init__(self, project: Project, survives: Sequence[str]) -> None:
        super().__init__(project.settings)
        self._warm = project
        self._survives = survives

    def run(self, *args: str) -> list[ModelResult]:
        if self._survives == ["*"]:
            self._warm.run(*args)
        elif self._survives:
            self._warm.run("run", "--select", *self._survives)
        raise Killed


@dataclass
class Warehouse:
    """A deployed warehouse and the parsed project, kept for a whole test session."""

    settings: Settings
    project: Project
    stored_at: datetime | None = None
    """When catalogs are stored, as far as they can tell; None: now."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def reset(self) -> None:
        """Take out every row: the next tick is the first, on the tables that are there."""
        with connect(self.settings) as connection:
            tables = connection.execute(
                "select schemaname, tablename from pg_tables"
                " where schemaname in ('raw', 'catalog', 'forecast', 'marts')"
            ).fetchall()
            for schema, table in tables:
                connection.execute(sql.SQL("delete from {}").format(sql.Identifier(str(schema), str(table))))
            connection.execute("delete from control.purged_hour")
            connection.execute(
                "update control.tick set low = 0, high = 0, previous_as_of = '-infinity', as_of = '-infinity',"
                " published_high = 0, published_as_of = '-infinity', published_at = null, needs_rebuild = true"
            )

    def write_catalog(self, documents: Documents) -> None:
        """Put these files in place of the catalog; JSON is YAML too."""
        shutil.rmtree(self.settings.catalog, ignore_errors=True)
        for kind, entries in documents.items():
            folder = self.settings.catalog / kind
            folder.mkdir(parents=True)
            (folder / "all.yml").write_text(json.dumps({kind: entries}, indent=1), "utf-8")

    def store_catalog(self, documents: Documents) -> int | None:
        """Put these files in place of the catalog, and store them as a tick would; None when nothing changed."""
        self.write_catalog(documents)
        return store_catalog(self.settings, self.stored_at)

    def ingest(self, statuses: Iterable[Status] | str) -> IngestReport:
        """Land a CSV file of its own, and ingest it."""
        text = statuses if isinstance(statuses, str) else csv_text(statuses)
        path = Path(self.settings.landing) / "job_status" / f"{next(self._numbers)}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return ingest(self.settings, [str(path)])

    def tick(self, as_of: datetime | str, *, rebuild: bool = False) -> TickReport:
        return tick(self.project, utc(as_of) if isinstance(as_of, str) else as_of, rebuild=rebuild)

    def killed_tick(self, as_of: datetime, point: str) -> None:
        """A tick whose process ends at a point of KILL_POINTS; one with nothing to do passes none of them."""
        if point == "publish":
            with self.refusing_inserts("slo_performance"):
                try:
                    tick(self.project, as_of)
                except DuemarkError:
                    return
            return  # no row was to be put in: the tick was done
        survives = {"begin": [], "scope": ["scope_job_date", "scope_occurrence"], "dbt": ["*"]}[point]
        try:
            report = tick(DyingProject(self.project, survives), as_of)
        except Killed:
            return
        assert report.low == report.high, "it should have died"

    @contextmanager
    def refusing_inserts(self, mart: str) -> Iterator[None]:
        """While it lasts the mart takes no row, so that publishing breaks off where it has changed marts before it."""
        name = sql.Identifier("marts", mart)
        with connect(self.settings, autocommit=True) as connection:
            connection.execute(
                "create or replace function public.refuse() returns trigger language plpgsql as"
                " $$ begin raise exception 'refused by the test'; end $$"
            )
            connection.execute(
                sql.SQL("create trigger refuse before insert on {} execute function public.refuse()").format(
                    name
                )
            )
            try:
                yield
            finally:
                connection.execute(sql.SQL("drop trigger refuse on {}").format(name))
                # The warehouse is shared: nothing stays in it that no role was given.
                connection.execute("drop function public.refuse()")

    def query(self, statement: str, *parameters: Any) -> list[Row]:
        with psycopg.Connection[Row].connect(
            connect_url(self.settings), options="-c timezone=UTC", row_factory=dict_row
        ) as connection:
            return connection.execute(statement.encode(), parameters or None).fetchall()

    def marts(self) -> Rows:
        """All rows of all marts, each in the order of its columns."""
        return {name: self.query(f"select * from marts.{name} as mart order by mart::text") for name in MARTS}

    def forecasts(self) -> Rows:
        """All that forecasts have learned and say, each table in the order of its columns."""
        return {
            name: self.query(f"select * from forecast.{name} as kept order by kept::text")
            for name in FORECASTS
        }

    def rows(self, mart: str, *columns: str, where: str = "true") -> list[tuple[Any, ...]]:
        """These columns of the rows, ordered by them; instants as text in UTC, intervals in minutes."""
        names = ", ".join(columns)
        return [
            tuple(_shown(value) for value in row.values())
            for row in self.query(f"select {names} from marts.{mart} where {where} order by {names}")
        ]


KILL_POINTS = ("begin", "scope", "dbt", "publish")


def connect_url(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url


def csv_text(statuses: Iterable[Status]) -> str:
    """Statuses as a file that senders would write; an aware time with its offset, a naive one without."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for status in statuses:
        writer.writerow({name: _field(status.get(name)) for name in COLUMNS})
    return out.getvalue()


def _field(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime | date) else value


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ").removesuffix(":00")
    if isinstance(value, timedelta):
        return value / timedelta(minutes=1)
    return str(value) if isinstance(value, date) else value


@contextmanager
def held(
    settings: Settings, relation: str, mode: str = "access exclusive"
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Nobody else gets at the relation while it lasts; yields the connection that does."""
    with connect(settings) as connection:
        connection.execute(f"lock table {relation} in {mode} mode".encode())
        yield connection
        connection.rollback()


def waiting_backend(settings: Settings, relation: str, child: subprocess.Popen[bytes] | None = None) -> int:
    """Process id of the backend that waits for the relation, as soon as one does; `child` is to come to it."""
    deadline = time.monotonic() + HUNG
    with connect(settings, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(
                "select pid from pg_locks where relation = %s::regclass and not granted", [relation]
            ).fetchone()
            if row is not None:
                return int(str(row[0]))
            assert child is None or child.poll() is None, f"it ended and had not come to {relation}"
            time.sleep(0.05)
    raise AssertionError(f"nobody came to {relation}")
