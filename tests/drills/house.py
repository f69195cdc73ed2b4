"""A running Duemark of the drill's own: `duemark up` on a fresh home, with one more code location, and two routes.

One route is a file, the other an HTTP server of the drill, which can be told to answer 503.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipelines.orchestration.instance import instance_env
from pipelines.processes.running import running_supervisor
from pipelines.processes.supervisor import stop
from pipelines.warehouse import embedded
from pipelines.warehouse.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
LOCATION = "drill"
MODULE = "duemark_drill_location"

CATALOG = {
    "applications/drill.yml": "applications:\n  - {id: drill, timezone: UTC}\n",
    "jobs/drill.yml": "jobs:\n  - {id: nightly, application: drill}\n",
    "routes/drill.yml": "routes:\n"
    '  - {id: journal, to: "file:alerts.jsonl", repeat: 0m}\n'
    '  - {id: pager, to: "${DUEMARK_DRILL_PAGER}", repeat: 0m}\n'
    "rules:\n  digest_above: 100\n",
}
# Shorter than in earnest where what is drilled is that it is noticed, not how long it takes to begin.
LIMITS = {
    "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "20",
    "DUEMARK_WATCH_SILENT": "40s",
    "DUEMARK_WATCH_QUEUED": "60s",
}
UP = (
    "import sys; from pipelines.processes import parts; from pipelines.cli import main;"
    f" parts.LOCATIONS[{LOCATION!r}] = {MODULE!r}; main(sys.argv[1:])"
)


@dataclass(frozen=True)
class Alert:
    """A message as the file has it; `at`: seconds of the drill's clock, when the drill saw it."""

    at: float
    event: str
    kind: str
    subject: str
    title: str
    body: str


class Pager:
    """Takes alerts at /alert, answers what it is told to, and counts the pings at /alive."""

    def __init__(self) -> None:
        self.status = 200
        self.titles: list[str] = []
        self.pings: list[float] = []
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if pager.status == 200:
                    pager.titles.append(body["title"])
                self._answer(pager.status)

            def do_GET(self) -> None:
                pager.pings.append(time.monotonic())
                self._answer(200)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class says so
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class House:
    """Everything that `duemark up` runs, and what it has told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pager = Pager()
        self.flags = folder / "flags"
        self.module = folder / "code" / f"{MODULE}.py"
        self.settings = replace(
            Settings.from_env({}),
            home=folder / "home",
            database_url=os.environ.get("DUEMARK_DATABASE_URL") or None,
            catalog=folder / "catalog",
            landing=str(folder / "landing"),
        )
        for path in (self.flags, self.module.parent, folder / "landing", self.settings.home):
            path.mkdir(parents=True, exist_ok=True)
        for name, text in CATALOG.items():
            path = self.settings.catalog / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        self.mend_module()
        self.env = {
            **os.environ,
            **instance_env(self.settings),
            **LIMITS,
            "PYTHONPATH": os.pathsep.join([str(self.module.parent), str(ROOT)]),
            "DUEMARK_DRILL_FLAGS": str(self.flags),
            "DUEMARK_DRILL_PAGER": f"json://127.0.0.1:{self.pager.port}/alert",
            "DUEMARK_DEADMAN_URL": f"http://127.0.0.1:{self.pager.port}/alive",
            "DUEMARK_LOG_LEVEL": "INFO",
        }
        self.alerts: list[Alert] = []
        self._closed = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        self._up: subprocess.Popen[bytes] | None = None

    # Up and down

    def start(self, seconds: float = 240) -> None:
        """Start everything, and wait until it is up and has been watched for a while."""
        output = (self.folder / "up.log").open("wb")
        self._up = subprocess.Popen(
            [sys.executable, "-c", UP, "up", "--port", "0", "--serve-port", "0"], env=self.env, stdout=output,
            stderr=subprocess.STDOUT, cwd=self.folder,
        )  # fmt: skip
        self.wait("everything to be up", self._is_up, seconds)

    def _is_up(self) -> bool:
        assert self._up is not None
        if self._up.poll() is not None:
            raise SystemExit(f"`duemark up` ended:\n{(self.folder / 'up.log').read_text()}")
        state = running_supervisor(self.settings)
        return state is not None and all(part["state"] == "up" for part in state["parts"].values())

    def close(self) -> None:
        """Stop it, and leave no process behind."""
        if self._up is not None:
            self._up.send_signal(signal.SIGCONT)
            stop(self.settings)
            self._up.wait(120)
        self._closed.set()
        self.pager.close()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    # What it says

    def _listen(self) -> None:
        """Read the file of alerts as it grows."""
        path, place = self.settings.home / "alerts.jsonl", 0
        while not self._closed.wait(0.2):
            if not path.exists():
                continue
            content = path.read_bytes()[place:]
            whole = content[: content.rfind(b"\n") + 1]
            place += len(whole)
            for line in whole.splitlines():
                told = json.loads(line)
                alert = Alert(
                    time.monotonic(), told["event"], told.get("kind", ""), told.get("subject", ""), told["title"],
                    told["body"],
                )  # fmt: skip
                self.alerts.append(alert)

    # What is done to it

    def pid(self, part: str) -> int:
        state = running_supervisor(self.settings)
        assert state is not None
        return int(state["parts"][part]["pid"])

    def database(self) -> int:
        pid = embedded.running_pid(self.settings.home)
        assert pid is not None
        return pid

    def supervisor(self) -> int:
        assert self._up is not None
        return self._up.pid

    def flag(self, name: str, *, is_set: bool) -> None:
        path = self.flags / name
        if is_set:
            path.touch()
        else:
            path.unlink(missing_ok=True)

    def break_module(self) -> None:
        self.module.write_text("def broken(:\n", "utf-8")

    def mend_module(self) -> None:
        shutil.copyfile(Path(__file__).parent / "location.py", self.module)

    def launch(self, job: str) -> str:
        """Ask the web interface for a run; returns its id."""
        answer = self.graphql(
            "mutation($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename"
            " ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
            {"p": {"selector": self._selector(jobName=job), "runConfigData": {}}},
        )["launchRun"]
        assert "run" in answer, answer
        return str(answer["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        self.graphql(
            "mutation($r: [String!]!) { terminateRuns(runIds: $r,"
            " terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY) { __typename } }",
            {"r": [run_id]},
        )

    def run_status(self, run_id: str) -> str:
        answer = self.graphql(
            "query($r: ID!) { runOrError(runId: $r) { ... on Run { status } } }", {"r": run_id}
        )
        return str(answer["runOrError"]["status"])

    def switch(self, name: str, *, is_on: bool, location: str = LOCATION) -> None:
        """Switch a sensor on or off, as somebody does in the web interface."""
        selector = self._selector(location, sensorName=name)
        if is_on:
            self.graphql(
                "mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }",
                {"s": selector},
            )
            return
        found = self.graphql(
            "query($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor { sensorState { id } } } }",
            {"s": selector},
        )
        answer = self.graphql(
            "mutation($i: String!) { stopSensor(id: $i) { __typename } }",
            {"i": found["sensorOrError"]["sensorState"]["id"]},
        )
        assert answer["stopSensor"]["__typename"] == "StopSensorMutationResult", answer

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        state = running_supervisor(self.settings)
        assert state is not None
        request = urllib.request.Request(
            f"{state['url']}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.loads(reply.read())
        assert "errors" not in answer, answer["errors"]
        return dict(answer["data"])

    def _selector(self, location: str = LOCATION, **names: str) -> dict[str, str]:
        return {"repositoryLocationName": location, "repositoryName": "__repository__", **names}

    def wait(self, what: str, is_done: Callable[[], object], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if is_done():
                return
            time.sleep(0.5)
        raise TimeoutError(f"waited {seconds:.0f} s for {what}")


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)
