"""Code servers asked in their own protocol: real ones, that load, that do not, and that are gone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.errors import DuemarkError
from pipelines.orchestration.dagster_private.servers import Server, has_run
from pipelines.orchestration.locations import ask, servers
from tests.watch.support import CODE, Watched, code_server


@pytest.fixture(scope="module")
def short_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A socket's path may have a hundred bytes."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture(scope="module")
def good(short_folder: Path) -> Iterator[tuple[Path, int]]:
    with code_server(short_folder, "good", CODE) as found:
        yield found


@pytest.fixture(scope="module")
def broken(short_folder: Path) -> Iterator[tuple[Path, int]]:
    with code_server(short_folder, "broken", "def broken(:\n") as found:
        yield found


def serve(watched: Watched, **sockets: Path) -> None:
    """Write the workspace that has these servers."""
    lines = ["load_from:"]
    for name, socket in sockets.items():
        lines += [f"  - grpc_server: {{socket: {json.dumps(str(socket))}, location_name: {name}}}"]
    path = watched.settings.home / "run" / "workspace.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines), "utf-8")


def test_what_a_location_declares(watched: Watched, good: tuple[Path, int], tmp_path: Path) -> None:
    serve(watched, good=good[0], nowhere=tmp_path / "nowhere.sock")
    answers = {one.location: one for one in ask(watched.settings)}
    declared = {one.name: one for one in answers["good"].declared or ()}
    assert answers["good"].is_ok
    assert {name: (one.is_on, one.interval, one.cron, one.timezone) for name, one in declared.items()} == {
        "on": (True, 10, (), "UTC"),
        "off": (False, 30, (), "UTC"),
        "often": (True, None, ("*/5 * * * *",), "Asia/Tokyo"),
    }
    assert not answers["nowhere"].is_ok
    assert not answers["nowhere"].is_error
    assert answers["nowhere"].reason == "its code server does not answer"


def test_code_that_does_not_load(watched: Watched, broken: tuple[Path, int]) -> None:
    serve(watched, broken=broken[0])
    [answer] = ask(watched.settings)
    assert (answer.is_ok, answer.is_error) == (False, True)
    assert "invalid syntax" in answer.reason


def test_a_server_that_hangs(watched: Watched, good: tuple[Path, int]) -> None:
    serve(watched, good=good[0])
    os.kill(good[1], signal.SIGSTOP)
    try:
        # It would answer in minutes, or never.
        [answer] = ask(watched.settings, 1.0)
        assert answer.reason == "its code server takes too long to answer"
    finally:
        os.kill(good[1], signal.SIGCONT)


def test_a_server_knows_its_runs(good: tuple[Path, int], tmp_path: Path) -> None:
    assert has_run(Server("good", str(good[0])), "a-run-of-nobody") is False
    assert has_run(Server("gone", str(tmp_path / "gone.sock")), "a-run-of-nobody") is None


def test_workspaces(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "workspace.yaml"
    settings = watched.settings.having(DUEMARK_WORKSPACE=str(path))
    assert servers(settings) == []
    path.write_text(
        "load_from:\n  - grpc_server: {host: code, port: 4000}\n  - python_module: {module_name: here}\n",
        "utf-8",
    )
    assert servers(settings) == [Server("grpc:code:4000", None, "code", 4000)]
    path.write_text("load_from: {a", "utf-8")
    with pytest.raises(DuemarkError, match="is no workspace"):
        servers(settings)


# 5, and what depends on it


def test_a_location_that_does_not_load_is_told_at_once(
    watched: Watched, good: tuple[Path, int], broken: tuple[Path, int]
) -> None:
    serve(watched, pipelines=broken[0])
    watched.heartbeat()
    seen = watched.look()
    assert [one.key[:2] for one in seen.opened] == [("location_failed", "pipelines")]
    assert "does not load" in seen.opened[0].message
    assert "invalid syntax" in seen.opened[0].message
    watched.later(10)
    watched.look()
    serve(watched, pipelines=good[0])
    watched.later(10)
    assert [one.resolution for one in watched.look().resolved] == ["loaded"]
    assert watched.told() == [
        ("opened", "location_failed", "pipelines"),
        ("resolved", "location_failed", "pipelines"),
    ]


def test_a_location_that_does_not_answer_may_be_starting(
    watched: Watched, good: tuple[Path, int], tmp_path: Path
) -> None:
    """Its sensors stand still with it: that is one incident, not one each."""
    serve(watched, good=good[0])
    state = watched.sensor("good/on", interval=10)
    watched.settle()
    serve(watched, good=tmp_path / "nowhere.sock")
    opened = []
    for _ in range(20):
        watched.later(10)
        opened += [one.key[:2] for one in watched.look().opened]
    assert opened == [("location_failed", "good")]
    serve(watched, good=good[0])
    for _ in range(9):
        watched.later(10)
        assert watched.look().opened == []
    watched.tick(state)
    assert watched.look().open == []


def test_what_the_code_declares_to_be_on_is_expected_to_be_on(
    watched: Watched, good: tuple[Path, int]
) -> None:
    serve(watched, good=good[0])
    watched.expect = frozenset({("good", "never-was"), ("good", "off")})
    on, often = watched.sensor("good/on", interval=10), watched.schedule("good/often", "*/5 * * * *")
    # Of a sensor that the code does not have any more, Dagster keeps the row.
    watched.sensor("good/removed", "RUNNING")
    found = set()
    for _ in range(12):
        watched.heartbeat()
        watched.tick(on)
        watched.tick(often)
        found |= {one.key[:2] for one in watched.look().opened}
        watched.later(10)
    assert found == {("sensor_off", "good/never-was"), ("sensor_off", "good/off")}
    watched.sensor("good/on", "STOPPED", interval=10, is_new=False)
    assert [one.key[:2] for one in watched.look().opened] == [("sensor_off", "good/on")]
    # The schedule has five minutes, and some.
    for _ in range(10):
        watched.later(55)
        found |= {one.key[:2] for one in watched.look().opened}
    assert ("sensor_late", "good/often") in found
    watched.tick(often)
    assert ("sensor_late", "good/often") in {one.key[:2] for one in watched.look().resolved}


def test_a_run_whose_code_server_does_not_have_it(watched: Watched, good: tuple[Path, int]) -> None:
    from dagster._core.storage.dagster_run import DagsterRunStatus

    info = json.dumps({"host": "localhost", "socket": str(good[0])})
    serve(watched, good=good[0])
    run_id = watched.pending(DagsterRunStatus.STARTED, **{".dagster/grpc_info": info})
    watched.heartbeat()
    watched.look()
    watched.later(50)
    assert watched.look().opened == []
    watched.now += timedelta(seconds=15)
    seen = watched.look()
    assert [tuple(one.key) for one in seen.opened] == [("run_stuck", "nightly", run_id)]
    assert "has no process any more" in seen.opened[0].message
