"""`duemark up` with all its processes, on a home of its own: up, broken on purpose, down. In this order."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.orchestration.instance import load_instance
from pipelines.orchestration.launcher import CodeServerRunLauncher
from pipelines.processes.parts import socket_of
from pipelines.processes.running import running_supervisor
from pipelines.warehouse import embedded
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import ROOT, Settings
from tests.waiting import HUNG, until

CATALOG = {
    "applications/a.yml": "applications:\n  - {id: risk, name: Risk, timezone: UTC}\n",
    "calendars/c.yml": "calendars:\n  - {id: daily, weekdays: [mon, tue, wed, thu, fri, sat, sun]}\n",
    "jobs/j.yml": "jobs:\n  - {id: var, application: risk, name: Value at risk}\n",
    "slos/s.yml": "slos:\n  - id: var-there\n    name: Value at risk is there\n    application: risk\n"
    "    calendar: daily\n    effective_from: 2026-01-01\n    jobs: [{job: risk/var, end: '23:59'}]\n",
}


@dataclass
class Up:
    """A home and the `duemark up` that runs for it."""

    settings: Settings
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    drops: int = 0

    @property
    def output(self) -> str:
        return (self.settings.home / "up.out").read_text("utf-8")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments]

    @property
    def env(self) -> dict[str, str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("DUEMARK_")}
        return env | self.settings.as_env() | {"PYTHONPATH": str(ROOT)}

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env=self.env, capture_output=True, text=True, timeout=HUNG
        )

    def start(self) -> subprocess.Popen[str]:
        with (self.settings.home / "up.out").open("a") as output:
            process = subprocess.Popen(
                self.command("up", "--port", "0", "--serve-port", "0"),
                env=self.env,
                stdout=output,
                stderr=output,
                text=True,
            )
        self.processes.append(process)
        return process

    def state(self) -> dict[str, Any]:
        return running_supervisor(self.settings) or {"parts": {}}

    def is_up(self) -> bool:
        assert self.processes[-1].poll() is None, self.output
        parts = self.state()["parts"]
        return bool(parts) and all(part["state"] == "up" for part in parts.values())

    def pid(self, name: str) -> int:
        return int(self.state()["parts"][name]["pid"])

    def drop(self) -> None:
        """Land a file, and wait until the mart shows it."""
        self.drops += 1
        now = datetime.now(UTC)
        folder = Path(self.settings.landing) / "job_status"
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{self.drops}.csv.part"
        draft.write_text(
            "application_id,job_id,status_code,status_at,business_date,run_id\n"
            f"risk,var,START,{(now - timedelta(seconds=2)).isoformat()},{now.date()},{self.drops}\n"
            f"risk,var,SUCCEED,{(now - timedelta(seconds=1)).isoformat()},{now.date()},{self.drops}\n"
        )
        draft.rename(draft.with_suffix(""))
        until(self._is_visible)

    def _is_visible(self) -> bool:
        with connect(self.settings, "transform") as connection:
            row = connection.execute(
                "select count(*) from marts.slo_performance as p join marts.job_run as r using (business_date)"
                " where p.outcome = 'on_time' and r.run_id = %s",
                [str(self.drops)],
            ).fetchone()
        return row is not None and row[0] == 1

    def left(self) -> list[str]:
        """Processes of this home, and sockets in it."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                is_ours = process.environ().get("DUEMARK_HOME") == str(self.settings.home) or any(
                    str(self.settings.home) in word for word in words
                )
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(words))
            except psutil.Error:
                continue
        found += [str(path) for path in self.settings.home.rglob("*") if path.is_socket()]
        return found + [str(path) for path in (self.settings.home / "run").glob("*.pid")]


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    # Not in pytest's own folder: with its long names no socket would fit into it.
    home = Path(tempfile.mkdtemp(prefix="duemark-up-"))
    for name, text in CATALOG.items():
        (home / "catalog" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "catalog" / name).write_text(text)
    env = {"DUEMARK_HOME": str(home), "DUEMARK_CATALOG": str(home / "catalog")}
    it = Up(Settings.from_env(env))
    try:
        it.start()
        until(it.is_up)
        yield it
    finally:
        it.call("down")
        for process in it.processes:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


def test_the_web_interface_answers(up: Up) -> None:
    url = up.state()["url"]
    with urllib.request.urlopen(f"{url}/server_info", timeout=HUNG) as answer:
        assert "dagster_version" in json.load(answer)
    query = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError {"
    query += " __typename ... on RepositoryLocation { repositories { sensors { name sensorState { status } }"
    query += " schedules { name scheduleState { status } } } } } } } } }"
    request = urllib.request.Request(
        f"{url}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=HUNG) as answer:
        entries = json.load(answer)["data"]["workspaceOrError"]["locationEntries"]
    found = {}
    for entry in entries:
        assert entry["locationOrLoadError"]["__typename"] == "RepositoryLocation", entry
        (repository,) = entry["locationOrLoadError"]["repositories"]
        states = {one["name"]: one["sensorState"]["status"] for one in repository["sensors"]}
        states |= {one["name"]: one["scheduleState"]["status"] for one in repository["schedules"]}
        found[entry["name"]] = states
    assert found["pipelines"].keys() >= {"arrivals", "tick"}
    assert found["oncall"].keys() >= {"incidents", "delivery"}
    assert {status for states in found.values() for status in states.values()} == {"RUNNING"}


def test_what_lands_becomes_visible(up: Up) -> None:
    up.drop()


def test_the_board_is_kept_fresh(up: Up) -> None:
    index = up.settings.board / "index.html"
    until(lambda: index.exists() and "Value at risk is there" in index.read_text("utf-8"))
    assert f"the board: {index.as_uri()}" in up.output


def test_a_second_one_is_refused(up: Up) -> None:
    second = up.call("up", "--port", "0", "--serve-port", "0")
    assert second.returncode == 2
    assert f"runs already for {up.settings.home} as process {up.state()['pid']}" in second.stderr
    assert "duemark down" in second.stderr


def test_a_run_that_its_code_server_does_not_know_is_dead(up: Up) -> None:
    import dagster as dg

    def tagged(path: object) -> dict[str, str]:
        return {".dagster/grpc_info": json.dumps({"host": "localhost", "socket": str(path)})}

    with load_instance(up.settings) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, CodeServerRunLauncher)
        verdicts = []
        for tags in (tagged(socket_of(up.settings, "pipelines")), tagged("/nowhere.sock"), {}):
            run = instance.create_run_for_job(_job(), tags=tags, status=dg.DagsterRunStatus.STARTED)
            verdicts.append(launcher.check_run_worker_health(run).status.value)
            instance.report_run_failed(run)
    assert verdicts == ["FAILED", "RUNNING", "RUNNING"]


def _job() -> Any:
    import dagster as dg

    @dg.job
    def nothing() -> None:
        pass

    return nothing


def test_killed_parts_come_back(up: Up) -> None:
    # Who cleans up after the supervisor, and the database, may die as well.
    (reaper,) = [
        process
        for process in psutil.Process(up.state()["pid"]).children()
        if "pipelines.processes.reaper" in process.cmdline()
    ]
    reaper.kill()
    for name in ("daemon", "pipelines"):
        os.kill(up.pid(name), signal.SIGKILL)
    server = embedded.running_pid(up.settings.home)
    assert server is not None
    os.kill(server, signal.SIGKILL)
    until(lambda: all(up.state()["parts"][name]["restarts"] for name in ("daemon", "pipelines")))
    until(up.is_up)
    assert up.state()["parts"]["daemon"]["restarts"] == 1
    assert "daemon was killed by SIGKILL; starting it again" in up.output
    assert "the reaper is gone; starting it again" in up.output
    up.drop()


def test_a_killed_supervisor_leaves_nothing_and_starts_again(up: Up) -> None:
    up.processes[-1].kill()
    up.processes[-1].wait()
    # At once: it waits for what the other one left to end.
    up.start()
    until(up.is_up)
    up.drop()


def test_down_leaves_nothing(up: Up) -> None:
    supervisor = up.processes[-1]
    done = up.call("down")
    assert done.returncode == 0, done.stderr
    assert "stopped what `duemark up` ran" in done.stdout
    assert supervisor.wait(HUNG) == 0
    assert until(lambda: not up.left()), up.left()
    assert up.call("down").stdout == "nothing was running\n"


def test_a_signal_while_it_starts_leaves_nothing(up: Up) -> None:
    process = up.start()
    until(lambda: up.state()["parts"])
    process.send_signal(signal.SIGINT)
    assert process.wait(HUNG) == 0
    assert up.left() == []
