"""A small bank in a deployed database: its statuses are landed, ticks are run, and incidents looked at."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pipelines.catalog.store import store_catalog
from pipelines.landing.ingest import ingest
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import connect, with_database
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.evaluate import Summary, evaluate
from sensors.oncall.incidents.model import Incident
from sensors.oncall.incidents.store import open_incidents, read_incidents
from tests.waiting import HUNG

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count()

# Later than all that is judged here: a change of the catalog leaves these dates their promises, on any day.
STORED_AT = datetime(2026, 11, 28, 12, tzinfo=UTC)

APPLICATIONS = """
applications:
  - {id: core, timezone: UTC, owner: "team:core"}
  - {id: desk, timezone: UTC, owner: "team:desk"}
"""
CALENDARS = """
calendars:
  - {id: every_day, weekdays: [mon, tue, wed, thu, fri, sat, sun]}
  - {id: sundays, weekdays: [sun]}
"""
JOBS = """
jobs:
  - {id: a, application: core}
  - {id: b, application: desk, depends_on: [core/a]}
  - {id: c, application: desk, depends_on: [b]}
  - {id: lone, application: core}
  - {id: window, application: core}
  - {id: weekly, application: desk}
"""
# From a -> b -> c, what each promises; `lone` waits for nobody.
SLOS = """
slos:
  - {id: slo-a, name: The load, application: core, calendar: every_day, jobs: [{job: a, start: "01:00", end: "03:00"}]}
  - {id: slo-b, application: desk, calendar: every_day, jobs: [{job: b, start: "03:00", end: "04:00"}]}
  - {id: slo-c, application: desk, calendar: every_day, jobs: [{job: c, start: "04:00", end: "05:00"}]}
  - {id: slo-lone, application: core, calendar: every_day, jobs: [{job: lone, start: "02:00", end: "03:30"}]}
"""
INTRADAY = """
slos:
  - id: slo-window
    application: core
    calendar: every_day
    effective_from: 2026-03-02
    every: {minutes: 30, from: "06:00", to: "08:00", due_after: 10m}
    jobs: [{job: window}]
"""
WEEKLY = """
slos:
  - {id: slo-weekly, application: desk, calendar: sundays, jobs: [{job: weekly, end: "12:00"}]}
"""
ROUTES = """
routes:
  - {id: all, to: "file:alerts.jsonl"}
"""


def at(text: str) -> datetime:
    """`03:10` of 3 March 2026, or `5 03:10` of another day of that month, in UTC."""
    day, _, clock = text.rpartition(" ")
    hour, minute = clock.split(":")
    return datetime(2026, 3, int(day or 3), tzinfo=UTC) + timedelta(hours=int(hour), minutes=int(minute))


@dataclass
class Bank:
    """The system under test, with short words for what tests do to it."""

    settings: Settings
    project: Project
    lines: list[dict[str, object]] = field(default_factory=list)

    def write(self, name: str, content: str) -> None:
        """A file of the catalog."""
        path = self.settings.catalog / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")

    def sends(
        self, job: str, *codes_and_times: str, date: str = "2026-03-03", run: str | None = None
    ) -> None:
        """Land statuses: `sends("core/a", "START 01:00", "SUCCEED 02:00")`."""
        application, _, name = job.partition("/")
        lines = []
        for one in codes_and_times:
            code, _, clock = one.partition(" ")
            lines.append(
                {
                    "application_id": application,
                    "job_id": name,
                    "status_code": code,
                    "status_at": at(clock).isoformat(),
                    "business_date": date,
                    "run_id": run,
                }
            )
        self.lands("\n".join(json.dumps(line) for line in lines))

    def lands(self, content: str) -> None:
        """Land a file of JSON lines as it is."""
        folder = Path(self.settings.landing) / "job_status"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{next(_numbers):06}.ndjson").write_text(content + "\n", "utf-8")

    def tick(self, moment: str | datetime, *, rebuild: bool = False) -> datetime:
        """Take in what landed and judge as of `moment`."""
        as_of = at(moment) if isinstance(moment, str) else moment
        store_catalog(self.settings, STORED_AT)
        ingest(self.settings)
        tick(self.project, as_of, rebuild=rebuild)
        return as_of

    def at(self, moment: str, *, rebuild: bool = False) -> Summary:
        """A tick and an evaluation, both at `moment`."""
        as_of = self.tick(moment, rebuild=rebuild)
        return evaluate(self.settings, as_of)

    def usual_day(self, date: str = "2026-03-02") -> None:
        """All jobs of the chain reported and were on time; so that they are known to send.

        And on the day before: one business date alone, received so long after it, opens no SLO.
        """
        for number in (int(date[-2:]) - 1, int(date[-2:])):
            self._usual_day(f"{date[:-2]}{number:02}", str(number))

    def _usual_day(self, date: str, day: str) -> None:
        for job, start, end in (
            ("core/a", "01:00", "02:00"),
            ("core/lone", "02:00", "02:30"),
            ("desk/b", "03:00", "03:20"),
            ("desk/c", "04:00", "04:20"),
        ):
            self.sends(job, f"START {day} {start}", f"SUCCEED {day} {end}", date=date)

    def open(self) -> dict[str, Incident]:
        """Open incidents by `kind subject`, and the occurrence where it is not the day's own."""
        with connect(self.settings, "operate") as connection, connection.cursor() as cursor:
            return {_name(one): one for one in open_incidents(cursor)}

    def all(self) -> list[Incident]:
        with connect(self.settings, "operate") as connection, connection.cursor() as cursor:
            return read_incidents(cursor, "true")

    def grouping(self) -> dict[str, str | None]:
        """The cause of every open incident."""
        standing = self.open()
        names = {one.incident_id: name for name, one in standing.items()}
        return {name: names.get(one.cause_id or 0) for name, one in standing.items()}

    def messages(self) -> list[tuple[str, ...]]:
        """(event, title) of all messages in the outbox, and (route, event, title) of routes other than `all`."""
        return [row[1:] if row[0] == "all" else row for row in self.outbox()]

    def outbox(self) -> list[tuple[str, str, str]]:
        return self.query("select route, event, title from ops.alert_outbox order by outbox_id")

    def query(self, statement: str) -> list[Any]:
        with connect(self.settings) as connection:
            return connection.execute(statement).fetchall()


def _name(one: Incident) -> str:
    name = f"{one.key.kind} {one.key.subject}"
    return name if one.key.occurrence in {"", "2026-03-03 00:00"} else f"{name} {one.key.occurrence}"


@pytest.fixture(scope="session")
def deployed(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A database with the dbt project deployed, and its parsed project; tests empty it."""
    name = f"{template}_incidents"
    with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    home = tmp_path_factory.mktemp("incidents")
    (home / "catalog").mkdir()
    settings = Settings(
        home=home / "home",
        database_url=with_database(server_url, name),
        catalog=home / "catalog",
        landing=str(home / "landing"),
        dbt_project=ROOT / "dbt_project",
        dagster_database=f"{template}_dagster",
    )
    project = Project(settings)
    tick(project, at("1 00:00"))
    yield project
    with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def bank(deployed: Project, tmp_path: Path) -> Bank:
    return empty_bank(deployed, tmp_path)


def empty_bank(deployed: Project, tmp_path: Path) -> Bank:
    """The bank with its four daily SLOs, one route, and nothing in the database."""
    settings = replace(deployed.settings, catalog=tmp_path / "catalog", landing=str(tmp_path / "landing"))
    # What a route writes lies in the home: a fresh one would cost a parse of the dbt project.
    for old in settings.home.glob("*.jsonl"):
        old.unlink()
    with connect(settings, autocommit=True) as connection:
        tables = connection.execute(
            """
            select schemaname, tablename from pg_tables
            where schemaname in ('raw', 'catalog', 'copies', 'forecast', 'marts', 'work')
                or schemaname = 'ops' and tablename <> 'evaluation'
            """
        ).fetchall()
        names = sql.SQL(", ").join(sql.Identifier(str(schema), str(table)) for schema, table in tables)
        connection.execute(sql.SQL("truncate {} restart identity").format(names))
        connection.execute("delete from ops.evaluation")
        connection.execute("insert into ops.evaluation default values")
        connection.execute(
            "update control.tick set low = 0, high = 0, previous_as_of = '-infinity', as_of = '-infinity',"
            " published_high = 0, published_as_of = '-infinity', published_at = null, needs_rebuild = true"
        )
    deployed.settings = settings
    made = Bank(settings, deployed)
    for name, content in (
        ("applications/bank.yml", APPLICATIONS),
        ("calendars/bank.yml", CALENDARS),
        ("jobs/bank.yml", JOBS),
        ("slos/bank.yml", SLOS),
        ("routes/on_call.yml", ROUTES),
    ):
        made.write(name, content)
    return made


# A real HTTP server


@dataclass
class Hook:
    """A server on loopback that takes messages, and answers with the codes it is told, then with 200."""

    server: ThreadingHTTPServer
    codes: list[int] = field(default_factory=list)
    received: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """As apprise spells it."""
        return f"json://127.0.0.1:{self.server.server_port}/alerts"

    def taken(self) -> list[dict[str, Any]]:
        """What was answered with 200."""
        return [message for code, message in self.received if code == 200]


@pytest.fixture
def hook() -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = made.codes.pop(0) if made.codes else 200
            made.received.append((code, message))
            made.arrived.set()
            made.hold.wait(HUNG)
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    made = Hook(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    made.hold.set()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.hold.set()
    made.server.shutdown()
    made.server.server_close()
