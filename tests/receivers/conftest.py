"""A receiver that runs, in a process of its own, on a database of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.access.tokens import issue
from pipelines.catalog.store import store_catalog
from pipelines.transform.deploy import deploy
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import ROOT, Settings
from tests.conftest import fresh_home
from tests.waiting import HUNG

CATALOG = {
    "applications/a.yml": """
applications:
  - id: deposits
    timezone: America/New_York
    senders: [scheduler, other-feed, nobody-yet, lineage]
    namespaces: [prod, {name: nights, business_date: {cut_off: "06:00"}}]
  - {id: treasury, timezone: Asia/Singapore, senders: [scheduler-abroad]}
""",
    "calendars/c.yml": "calendars:\n  - {id: daily, weekdays: [mon, tue, wed, thu, fri, sat, sun]}\n",
    "jobs/j.yml": "jobs:\n  - {id: load, application: deposits}\n",
    "slos/s.yml": "slos:\n  - id: loaded\n    application: deposits\n    calendar: daily\n"
    "    effective_from: 2026-03-01\n    jobs: [{job: load, end: '05:00', day_offset: 1}]\n",
    "kpis/k.yml": """
kpis:
  - id: on-time-share
    name: On-time share
    category: performance
    description: Occurrences that were complete by their due time, of all that fell due.
    owner: team:platform
    unit: share
    formula:
      type: composite
      expression: on_time / due
      variables:
        on_time:
          source: &occurrences {table: marts.slo_performance, aggregation: count}
          time_column: business_date
          filters: ["outcome = 'on_time'"]
          dimensions: &application {application: application_id}
        due:
          source: *occurrences
          time_column: business_date
          dimensions: *application
    filters: ["outcome <> 'not_due'"]
    aggregations: [day, week]
    dimensions: [application]
    schedule: {frequency: minute, timezone: America/New_York}
""",
    "senders/s.yml": """
senders:
  - {id: gateway, applications: ["*"]}
  - {id: lineage, applications: [deposits], feeds: [job_status, openlineage]}
  - {id: dashboards, roles: [analyst]}
  - {id: other-feed, applications: [deposits], feeds: [metric_log]}
  - {id: nobody-yet, applications: [deposits]}
""",
}
STATUS: dict[str, Any] = {
    "application_id": "deposits",
    "job_id": "load",
    "status_code": "START",
    "status_at": "2026-03-02T00:31:07-05:00",
    "business_date": "2026-03-01",
    "run_id": "r1",
    "host_id": "h1",
}
PATH = "/api/v1/job-status"
AS_OF = "2026-03-04T08:00:00+00:00"


@dataclass
class Receiver:
    """`duemark serve` for a home, and ways to ask it."""

    settings: Settings
    arguments: tuple[str, ...] = ()
    url: str = ""
    process: subprocess.Popen[str] | None = None
    tokens: dict[str, str] = field(default_factory=dict)

    def start(self, port: int = 0) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("DUEMARK_")}
        log = self.settings.home / "serve.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from pipelines.cli import main; main()", "serve", "--port", str(port),
                 *self.arguments],
                env=env | self.settings.as_env() | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("serving on http"), log.read_text()
        self.url = line.split()[-1]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(HUNG)

    def token(self, sender: str) -> str:
        if sender not in self.tokens:
            self.tokens[sender] = issue(self.settings, sender).token
        return self.tokens[sender]

    def client(self, sender: str | None = "scheduler") -> httpx.Client:
        headers = {} if sender is None else {"Authorization": f"Bearer {self.token(sender)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=HUNG)

    def post(self, content: Any, sender: str | None = "scheduler", **headers: str) -> httpx.Response:
        """Send JSON, or bytes as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        given = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        with self.client(sender) as client:
            return client.post(PATH, content=body, headers=given)

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with connect(self.settings) as connection:
            return connection.execute(sql.encode(), parameters or None).fetchall()


def write_catalog(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


@contextmanager
def running(settings: Settings, *arguments: str) -> Iterator[Receiver]:
    """A receiver for a home, started, and ended with the block."""
    receiver = Receiver(settings, arguments)
    receiver.start()
    try:
        yield receiver
    finally:
        if receiver.process is not None and receiver.process.poll() is None:
            receiver.process.kill()
            receiver.process.wait()


@pytest.fixture(scope="session")
def home(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a home of their own, with the catalog above stored."""
    folder = tmp_path_factory.mktemp("receiver")
    with fresh_home(server_url, template, folder) as found:
        settings = replace(found, catalog=write_catalog(folder / "catalog", CATALOG))
        store_catalog(settings)
        deploy(Project(settings))
        yield settings


@pytest.fixture(scope="session")
def receiver(home: Settings) -> Iterator[Receiver]:
    """A receiver that asks for tokens."""
    with running(home.having(DUEMARK_HTTP_BODY_SECONDS="3", DUEMARK_HTTP_WAIT_SECONDS="3")) as found:
        yield found


@pytest.fixture
def fresh() -> Callable[..., dict[str, Any]]:
    """A status that nobody has sent yet, with other values where they are given."""
    return lambda **values: STATUS | {"run_id": os.urandom(8).hex()} | values


@pytest.fixture(scope="session")
def judged(home: Settings, receiver: Receiver) -> Receiver:
    """A load that failed on one date and was there on the one before, and a tick."""
    for date, code in (("2026-03-01", "SUCCEED"), ("2026-03-02", "FAIL")):
        done = receiver.post(
            {
                "application_id": "deposits", "job_id": "load", "status_code": code, "business_date": date,
                "status_at": f"{date[:-1]}{int(date[-1]) + 1}T04:00:00-05:00", "run_id": f"asked {date}",
            }
        )  # fmt: skip
        assert done.status_code == 201
    tick(Project(home), datetime.fromisoformat(AS_OF), rebuild=True)
    return receiver
