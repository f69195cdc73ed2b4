"""A database that is interrupted, in whatever way: told once, with its end; and what is known while it is away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import psycopg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from pipelines.errors import DuemarkError
from pipelines.orchestration.instance import load_instance
from pipelines.warehouse import embedded
from pipelines.warehouse.connect import connect
from pipelines.warehouse.migrate import migrate
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.delivery import deliver
from sensors.oncall.incidents.model import Key
from sensors.oncall.watch import outage
from sensors.oncall.watch.findings import RESTARTED, judge
from sensors.oncall.watch.limits import Limits
from sensors.oncall.watch.look import Seen, look
from sensors.oncall.watch.observed import Database, Memory, Observed
from sensors.oncall.watch.outside import Outside
from tests.waiting import until

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
STARTED = ("opened", "database_restarted")
STEADY = ("resolved", "database_restarted")


@dataclass
class Server:
    """An embedded server of the test's own, which it may break."""

    settings: Settings
    instance: dg.DagsterInstance
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def pid(self) -> int:
        pid = embedded.running_pid(self.settings.home)
        assert pid is not None
        return pid

    def kill(self) -> None:
        """The postmaster, as the kernel does when memory is short; its children see it and go."""
        process = psutil.Process(self.pid())
        os.kill(process.pid, signal.SIGKILL)
        gone(process)
        self.start()

    def stop_by_hand(self) -> None:
        """What `pg_ctl stop -m fast` does, or a shutdown of the machine."""
        process = psutil.Process(self.pid())
        os.kill(process.pid, signal.SIGINT)
        gone(process)
        self.start()

    def start(self) -> None:
        embedded.start(self.settings.home)

    def kill_backend(self) -> None:
        """Any process of the server that is killed takes all others along, but for the postmaster."""
        with connect(self.settings) as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)
            with suppress(psycopg.Error):
                connection.execute("select pg_sleep(60)")
        until(lambda: embedded.is_ready(self.settings.home))

    def look(self, seconds: float = 10) -> Seen:
        """The next look, so much later."""
        self.now += timedelta(seconds=seconds)
        self.instance.add_daemon_heartbeat(DaemonHeartbeat(self.now.timestamp(), "SENSOR", "daemon", []))
        seen = look(self.settings, self.now, expect=())
        deliver(self.settings, self.now)
        return seen

    def told(self) -> list[tuple[str, str]]:
        return [(one["event"], one["kind"]) for one in self.messages()]

    def messages(self) -> list[dict[str, Any]]:
        path = self.settings.home / "alerts.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def gone(process: psutil.Process) -> None:
    until(lambda: not is_alive(process))


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    # Folders of pytest are closed to the account of the server by every other pytest that starts.
    home = Path(tempfile.mkdtemp(prefix="duemark-test-"))
    settings = replace(
        Settings.from_env({}), home=home, database_url=None, landing=str(home / "landing"), catalog=home / "catalog"
    )  # fmt: skip
    routes = settings.catalog / "routes" / "all.yml"
    routes.parent.mkdir(parents=True)
    routes.write_text('routes:\n  - {id: all, to: "file:alerts.jsonl", repeat: 0m}\n', "utf-8")
    try:
        embedded.start(home)
        migrate(settings)
        with load_instance(settings) as instance:
            yield Server(settings, instance)
    finally:
        embedded.stop(home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def server(own: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """It runs, and has been looked at."""
    monkeypatch.setattr("sensors.oncall.watch.limits.EXPECTED", frozenset())
    own.start()
    own.now = datetime.now(UTC)
    with connect(own.settings, "operate") as connection:
        connection.execute("truncate ops.incident, ops.alert_outbox, ops.notice, ops.watch, ops.watcher")
    (own.settings.home / "alerts.jsonl").unlink(missing_ok=True)
    outage.clear(own.settings)
    own.look()
    own.look()
    assert own.told() == []
    return own


@pytest.mark.parametrize("how", ["kill", "stop_by_hand", "kill_backend"])
def test_an_interruption_is_told_once_and_its_end_once(server: Server, how: str) -> None:
    getattr(server, how)()
    seen = server.look()
    assert [one.key for one in seen.opened] == [RESTARTED]
    assert "runs again since" in seen.opened[0].message
    assert seen.server_started_at is not None
    server.look()
    assert server.told() == [STARTED]
    assert [one.resolution for one in server.look(60).resolved] == ["steady"]
    server.look()
    assert server.told() == [STARTED, STEADY]


def test_one_that_comes_again_and_again_is_one(server: Server) -> None:
    for _ in range(2):
        server.kill()
        server.look(30)
    (incident,) = server.look(20).open
    assert "It is number 2 in a row." in incident.message
    assert server.told() == [STARTED]
    server.look(60)
    assert server.told() == [STARTED, STEADY]


def test_down_and_up_are_no_interruption(server: Server) -> None:
    embedded.stop(server.settings.home, is_planned=True)
    server.start()
    server.look()
    assert server.told() == []
    # The next one that nobody planned is told, whatever was planned before.
    server.kill()
    server.look()
    assert server.told() == [STARTED]


def test_an_outage_that_was_told_is_not_told_as_a_restart_too(server: Server) -> None:
    """The watcher outside tells it past the database, also when it was started anew meanwhile."""
    nowhere = replace(server.settings, database_url="postgresql://nobody@127.0.0.1:1/duemark")
    began = datetime.now(UTC) - timedelta(seconds=62)
    for seconds in (0, 61):
        assert Outside(nowhere, Limits(), None).step(began + timedelta(seconds=seconds)) is None
    assert server.told() == [("opened", "database_down")]
    file = server.settings.home / "watch" / "outage.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(DuemarkError, match="Nothing can be watched"):
        Outside(nowhere, Limits(), None).once()
    server.kill()
    server.look()
    Outside(server.settings, Limits(), None).step()
    assert server.told() == [("opened", "database_down"), ("resolved", "database_down")]
    assert "The database was started on " in server.messages()[-1]["body"]
    assert not file.exists()
    server.look()
    assert len(server.told()) == 2


def test_a_note_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    settings = replace(Settings.from_env({}), home=tmp_path)
    assert outage.read(settings) is None
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "outage.json").write_text("{", "utf-8")
    assert outage.read(settings) is None
    outage.write(settings, outage.Outage(NOW, "why"))
    assert outage.read(settings) == outage.Outage(NOW, "why")


def test_what_a_look_remembers_comes_back() -> None:
    for database in (None, Database(NOW), Database(NOW, NOW, NOW - timedelta(seconds=10))):
        memory = Memory(NOW, NOW, server=database)
        assert Memory.from_json(NOW, NOW, json.loads(json.dumps(memory.to_json()))) == memory


def test_symptoms_stand_under_the_restart_and_hold_it_for_a_while() -> None:
    from pipelines.orchestration.dagster_private.tables import FailedRun, Heartbeat

    before = NOW - timedelta(seconds=20)
    memory = Memory(NOW, NOW - timedelta(hours=1), server=Database(NOW, NOW, before))
    run = FailedRun("tick", "r1", NOW - timedelta(seconds=5), False, False, "the connection was closed")
    old = FailedRun("nightly", "r0", NOW - timedelta(minutes=9), False, False, "no")
    observed = Observed(NOW, memory, failed_runs=[run, old], heartbeats=[Heartbeat("SENSOR", "p", NOW)])
    causes = {one.key: one.cause for one in judge(observed, Limits(), frozenset(), [])}
    assert causes == {
        RESTARTED: None,
        Key("run_failed", "tick"): RESTARTED,
        Key("run_failed", "nightly"): None,
    }
    # It is over after a minute, whatever becomes of the run: then that one is told.
    later = replace(observed, now=NOW + timedelta(seconds=61))
    assert {one.key: one.cause for one in judge(later, Limits(), frozenset(), [])} == {
        Key("run_failed", "tick"): None,
        Key("run_failed", "nightly"): None,
    }
