"""`duemark watch`: what it does beside looking, and what it does when it cannot look."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipelines.errors import DuemarkError
from pipelines.orchestration.instance import instance_env
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.oncall.watch import outside
from sensors.oncall.watch.limits import Limits, expected
from sensors.oncall.watch.outside import Outside
from tests.waiting import HUNG, until
from tests.watch.support import Watched


class Deadman:
    """The address that expects pings."""

    def __init__(self) -> None:
        self.pings = 0
        deadman = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                deadman.pings += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class says so
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/alive"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def deadman(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deadman]:
    monkeypatch.setattr(outside, "PING_SECONDS", 0.0)
    # What is expected to run is another test's.
    monkeypatch.setattr("sensors.oncall.watch.limits.EXPECTED", frozenset())
    found = Deadman()
    yield found
    found.server.shutdown()
    found.server.server_close()


def told(watched: Watched) -> list[dict[str, Any]]:
    path = watched.settings.home / "alerts.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def test_it_pings_as_long_as_it_can_tell(watched: Watched, deadman: Deadman) -> None:
    watcher = Outside(watched.settings, Limits(), deadman.url)
    watched.heartbeat()
    watcher.step()
    assert deadman.pings == 1
    # What an alert tells, the ping does not tell again.
    watched.run(fails=True)
    seen = watcher.step()
    assert seen is not None
    assert [one.key.kind for one in seen.open] == ["run_failed"]
    assert deadman.pings == 2


def test_it_does_not_ping_while_alerts_are_refused(watched: Watched, deadman: Deadman) -> None:
    since = datetime.now(UTC) - timedelta(seconds=90)
    with connect(watched.settings, "operate") as connection:
        connection.execute(
            "insert into ops.alert_outbox (route, event, severity, title, body, created_at, next_attempt_at)"
            " values ('gone', 'opened', 'critical', 'x', 'y', %(since)s, %(since)s)",
            {"since": since},
        )
    seen = Outside(watched.settings, Limits(), deadman.url).step()
    assert seen is not None
    assert [one.key[:2] for one in seen.open] == [("delivery_failed", "gone")]
    assert deadman.pings == 0


def test_it_delivers_what_was_left_lying(watched: Watched, deadman: Deadman) -> None:
    watched.run(fails=True)
    watched.look(delivers=False)
    watcher = Outside(watched.settings, Limits(), None)
    watcher.step()
    assert told(watched) == []
    with connect(watched.settings, "operate") as connection:
        connection.execute(
            "update ops.alert_outbox set next_attempt_at = next_attempt_at - interval '30 seconds'"
        )
    watcher.step()
    assert [one["kind"] for one in told(watched)] == ["run_failed"]


def test_what_it_cannot_see_it_tells_past_the_database(watched: Watched, deadman: Deadman) -> None:
    nowhere = replace(watched.settings, database_url="postgresql://nobody@127.0.0.1:1/duemark")
    watcher, now = Outside(nowhere, Limits(), deadman.url), datetime.now(UTC)
    for seconds in (0, 30, 61, 90):
        assert watcher.step(now + timedelta(seconds=seconds)) is None
    watcher.settings = watched.settings
    assert watcher.step(now + timedelta(seconds=120)) is not None
    watcher.step(now + timedelta(seconds=130))
    assert [(one["event"], one["kind"]) for one in told(watched)] == [
        ("opened", "database_down"),
        ("resolved", "database_down"),
    ]
    assert "The database does not answer" in told(watched)[0]["body"]
    assert deadman.pings == 2


def test_one_look(watched: Watched, deadman: Deadman, capsys: pytest.CaptureFixture[str]) -> None:
    watched.heartbeat()
    watcher = Outside(watched.settings, Limits(), deadman.url)
    assert watcher.once() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing is wrong"
    watched.run(fails=True)
    assert watcher.once() == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("run_failed nightly: Run ")
    watcher.settings = replace(watched.settings, database_url="postgresql://nobody@127.0.0.1:1/duemark")
    with pytest.raises(DuemarkError, match="Nothing can be watched"):
        watcher.once()


def is_watching(watched: Watched) -> bool:
    with connect(watched.settings, "operate") as connection:
        return connection.execute("select from ops.watcher where watcher = 'outside'").fetchone() is not None


def test_the_process_watches_until_it_is_told_to_stop(watched: Watched) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from pipelines.cli import main; main()", "watch", "--interval", "0.5"],
        env={**os.environ, **instance_env(watched.settings)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until(lambda: process.poll() is not None or is_watching(watched))
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=HUNG)
    finally:
        process.kill()
    assert process.returncode == 0, error
    assert '"watching"' in error


def test_settings_of_the_environment() -> None:
    def given(**env: str) -> Settings:
        return Settings.from_env(env)

    assert Limits.of(given()) == Limits()
    assert Limits.of(given(DUEMARK_WATCH_QUEUED="20m")) == replace(Limits(), queued=timedelta(minutes=20))
    with pytest.raises(DuemarkError, match="DUEMARK_WATCH_QUEUED='soon' is no duration"):
        Limits.of(given(DUEMARK_WATCH_QUEUED="soon"))
    assert ("mine", "sensor/with/slashes") in expected(
        given(DUEMARK_WATCH_EXPECT="mine/sensor/with/slashes, a/b")
    )
    with pytest.raises(DuemarkError, match="is no sensor or schedule"):
        expected(given(DUEMARK_WATCH_EXPECT="mine"))
    with pytest.raises(DuemarkError, match="is no address"):
        _ = given(DUEMARK_DEADMAN_URL="file:///etc/passwd").deadman_url
