"""What Dagster does not publish, tried on the installed one: a new version that changes any of it fails here."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG
from dagster_postgres.utils import create_pg_engine
from sqlalchemy import Engine

from pipelines.orchestration.dagster_private import calls, classes, servers, tables
from pipelines.orchestration.instance import load_instance, storage_url
from pipelines.warehouse.connect import connect
from pipelines.warehouse.migrate import migrate
from tests.watch.conftest import databases, settings_of
from tests.watch.support import CODE, TIMED_OUT, UNREACHED, Watched, code_server, nightly

SOURCE = Path(tables.__file__).parent
Cursor = psycopg.Cursor[tuple[object, ...]]


@pytest.fixture(scope="module")
def watched(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """An instance on databases of its own; each test stores something that no other looks at."""
    name = f"test_private_{os.getpid()}"
    settings = settings_of(server_url, name, tmp_path_factory.mktemp(name))
    with databases(server_url, name):
        migrate(settings)
        with load_instance(settings) as instance:
            instance.get_runs_count()
            yield Watched(settings, instance, datetime.now(UTC))


@pytest.fixture
def cursor(watched: Watched) -> Iterator[Cursor]:
    settings = watched.settings
    with (
        connect(settings, autocommit=True, database=settings.dagster_database) as connection,
        connection.cursor() as found,
    ):
        yield found


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with code_server(tmp_path_factory.mktemp("s"), "good", CODE) as (path, _):
        yield path


def test_everything_of_the_adapter_is_tried_here() -> None:
    names = set()
    for path in SOURCE.glob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(f"{path.stem}.{node.name}")
            elif isinstance(node, ast.Assign):
                names |= {f"{path.stem}.{one.id}" for one in node.targets if isinstance(one, ast.Name)}
    public = {name for name in names if not name.partition(".")[2].startswith("_")}
    tried = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(Path(__file__).read_text("utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    # How long is waited is ours to say.
    assert sorted(public - tried) == ["servers.DECLARED_SECONDS", "servers.SECONDS"]


# Its tables


def test_its_tables(watched: Watched, cursor: Cursor) -> None:
    made = {
        name
        for metadata in (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata)
        for name in metadata.tables
    }
    assert set(tables.TABLES) <= made
    assert tables.are_there(cursor)
    with connect(watched.settings) as other, other.cursor() as elsewhere:
        assert not tables.are_there(elsewhere)


def test_heartbeats(watched: Watched, cursor: Cursor) -> None:
    watched.heartbeat("SENSOR")
    assert tables.heartbeats(cursor) == [tables.Heartbeat("SENSOR", watched.process, watched.now)]


def test_sensors_and_schedules(watched: Watched, cursor: Cursor) -> None:
    on = watched.sensor("pipelines/on", interval=10)
    off = watched.sensor("pipelines/off", "STOPPED")
    often = watched.schedule("oncall/often", "*/5 * * * *")
    began = watched.now

    def read(since: datetime = began) -> dict[str, tables.Instigator]:
        return {one.name: one for one in tables.instigators(cursor, since - timedelta(seconds=1))}

    found = read()
    assert found["on"] == tables.Instigator("pipelines", "on", False, "DECLARED_IN_CODE", 10, began, None)
    assert (found["off"].status, found["often"].location, found["often"].is_schedule) == (
        "STOPPED",
        "oncall",
        True,
    )
    watched.later(1)
    watched.tick(on)
    watched.tick(off, "FAILURE", "the source is empty")
    watched.tick(often, "FAILURE", TIMED_OUT)
    ticked = watched.now
    found = read()
    assert (found["on"].ticked_at, found["on"].is_failing, found["on"].failed) == (ticked, False, None)
    assert found["off"].failed == tables.FailedTick(ticked, False, "the source is empty")
    assert found["often"].failed == tables.FailedTick(ticked, True, TIMED_OUT)
    watched.later(1)
    # The code was not reached: no word of the sensor.
    watched.tick(on, "FAILURE", UNREACHED)
    watched.tick(off, "SKIPPED")
    found = read(watched.now)
    assert (found["on"].ticked_at, found["on"].failed) == (ticked, None)
    assert (found["off"].is_failing, found["off"].failed) == (False, None)


def test_runs_that_failed(watched: Watched, cursor: Cursor) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    run_id = watched.run(fails=True)
    (failed,) = tables.failed_runs(cursor, before)
    assert isinstance(failed, tables.FailedRun)
    assert (failed.job, failed.run_id, failed.is_over, failed.is_retried, failed.reason) == (
        "nightly",
        run_id,
        False,
        False,
        "Step work: ValueError: the source is empty",
    )
    assert before < failed.ended_at <= datetime.now(UTC)
    watched.instance.add_run_tags(run_id, {"dagster/will_retry": "true"})
    watched.run(fails=False)
    (failed,) = tables.failed_runs(cursor, before)
    assert (failed.is_over, failed.is_retried) == (True, True)


def test_runs_that_have_not_ended(watched: Watched, cursor: Cursor) -> None:
    info = json.dumps({"host": "localhost", "socket": "/here.sock"})
    run_id = watched.pending(DagsterRunStatus.STARTED, **{".dagster/grpc_info": info})
    other = watched.pending(DagsterRunStatus.QUEUED)
    found = {run.run_id: run for run in tables.pending_runs(cursor)}
    assert isinstance(found[run_id], tables.PendingRun)
    assert (found[run_id].job, found[run_id].status, found[other].status) == ("nightly", "STARTED", "QUEUED")
    assert found[run_id].created_at <= found[run_id].active_at <= datetime.now(UTC)
    assert tables.server_of(cursor, run_id) == servers.Server("", "/here.sock")
    assert tables.server_of(cursor, other) is None


def test_checks_that_failed(watched: Watched, cursor: Cursor) -> None:
    def read(low: int, *others: tuple[str, str, str], but: str = "slos") -> list[tables.FailedCheck]:
        floor = datetime.now(UTC) - timedelta(days=1)
        return tables.failed_checks(
            cursor, low, others, floor, but_assets=[but, "jobs"], but_check="thresholds"
        )

    low = tables.last_event_id(cursor)
    watched.check(passed=False, severity=dg.AssetCheckSeverity.WARN)
    assert tables.last_event_id(cursor) > low
    (failed,) = read(low)
    assert (failed.asset, failed.check, failed.partition, failed.reason) == (
        "marts/table",
        "unique",
        "",
        "3 rows twice",
    )
    assert (failed.is_over, failed.is_warning) == (False, True)
    assert read(low, but="marts") == []
    watched.check(passed=True)
    assert read(tables.last_event_id(cursor)) == []
    assert [one.is_over for one in read(tables.last_event_id(cursor), ('["marts", "table"]', "unique", ""))]


def test_what_is_old(watched: Watched, cursor: Cursor) -> None:
    runs = [nightly.execute_in_process(instance=watched.instance).run_id for _ in range(2)]
    for _ in range(2):
        watched.instance.report_runless_asset_event(dg.AssetMaterialization("old"))
        watched.check(passed=True)
    before = datetime.now(UTC) + timedelta(minutes=1)
    found = tables.old_runs(cursor, before, 1000)
    assert runs[0] in found
    assert runs[1] not in found
    assert tables.old_runs(cursor, before - timedelta(days=1), 1000) == []
    assert tables.delete_old_events(cursor, before - timedelta(days=1), 1000, kept=1) == 0
    assert tables.delete_old_events(cursor, before, 1000, kept=1) >= 2
    assert watched.instance.get_latest_materialization_event(dg.AssetKey("old")) is not None
    assert tables.delete_old_checks(cursor, before, 1000) >= 1
    assert tables.delete_old_checks(cursor, before, 1000) == 0


def test_ticks_that_did_nothing(watched: Watched, cursor: Cursor) -> None:
    states = [watched.sensor(f"pipelines/{name}", interval=10) for name in ("first", "second")]
    for state in states:
        for reason in ("nothing new", "2 delivered", "nothing new", None, "nothing new"):
            watched.tick(state, reason=reason)
        watched.tick(state, "FAILURE", "nothing new")
    watched.tick(states[1], reason="nothing new")

    def left() -> list[list[str | None]]:
        return [
            [
                tick.skip_reason
                for tick in watched.instance.get_ticks(state.instigator_origin_id, state.selector_id)
            ]
            for state in states
        ]

    at = watched.now
    assert tables.delete_idle_ticks(cursor, at, 100, "^nothing ") == 0
    assert tables.delete_idle_ticks(cursor, at + timedelta(seconds=1), 2, "^nothing ") == 2
    assert tables.delete_idle_ticks(cursor, at + timedelta(seconds=1), 100, "^nothing ") == 4
    assert [sorted(map(str, one)) for one in left()] == [
        ["2 delivered", "None", "None"],
        # The newest says when it last ran.
        ["2 delivered", "None", "None", "nothing new"],
    ]


# Its wire


def test_a_code_server(socket: Path, tmp_path: Path) -> None:
    import grpc

    server = servers.Server("good", str(socket))
    name = servers.identity(server)
    assert servers.identity(server) == name
    assert servers.problem(server) is None
    assert set(servers.declared(server, name)) == {
        servers.Declared("on", True, 10),
        servers.Declared("off", False, 30),
        servers.Declared("often", True, None, ("*/5 * * * *",), "Asia/Tokyo"),
    }
    assert servers.has_run(server, "a-run-of-nobody") is False
    gone = servers.Server("gone", str(tmp_path / "gone.sock"))
    assert servers.has_run(gone, "a-run-of-nobody") is None
    with pytest.raises(grpc.RpcError):
        servers.identity(gone)


def test_code_that_does_not_load(tmp_path_factory: pytest.TempPathFactory) -> None:
    with code_server(tmp_path_factory.mktemp("s"), "broken", "def broken(:\n") as (path, _):
        assert "invalid syntax" in str(servers.problem(servers.Server("broken", str(path))))


def test_a_stored_error_is_told_by_its_innermost_cause() -> None:
    cause = {"message": "the source\n is empty\n", "cause": None}
    assert servers.error_text({"message": "a step failed", "cause": cause}) == "the source is empty"
    assert servers.error_text(None) == ""


# Its functions


def test_the_daemon_is_a_program() -> None:
    assert importlib.util.find_spec(f"{calls.DAEMON_MODULE}.__main__") is not None


def test_a_run_in_this_process(watched: Watched) -> None:
    result = calls.run_here(watched.instance, nightly, {}, module="somewhere.definitions", location="place")
    assert result.success
    (run,) = watched.instance.get_runs(dg.RunsFilter(run_ids=[result.run_id]))
    assert calls.REPOSITORY_TAG == REPOSITORY_LABEL_TAG
    assert run.tags[calls.REPOSITORY_TAG] == "__repository__@place"
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.location_name == "place"


def test_a_cron_is_read_backwards() -> None:
    at = datetime(2026, 3, 1, 12, 3, tzinfo=UTC)
    assert calls.last_moment("*/5 * * * *", "UTC", at) == at.replace(minute=0)
    assert calls.last_moment("0 9 * * *", "Asia/Tokyo", at) == at.replace(hour=0, minute=0)


# Its classes


class Launcher(classes.AskedRunLauncher):
    """Says of every run what it was told."""

    answer: tuple[bool, str | None] = (True, None)

    def is_alive(self, run_id: str) -> tuple[bool, str | None]:
        return self.answer


def test_a_launcher_is_asked(watched: Watched, socket: Path) -> None:
    def run(path: str | None) -> dg.DagsterRun:
        tags = {".dagster/grpc_info": json.dumps({"host": "localhost", "socket": path})} if path else {}
        run_id = watched.pending(DagsterRunStatus.STARTED, **tags)
        (found,) = watched.instance.get_runs(dg.RunsFilter(run_ids=[run_id]))
        return found

    launcher = Launcher()
    launcher.register_instance(watched.instance)
    assert launcher.supports_check_run_worker_health
    assert launcher.check_run_worker_health(run(None)).status.value == "RUNNING"
    launcher.answer = (False, "gone")
    health = launcher.check_run_worker_health(run(None))
    assert (health.status.value, health.msg) == ("FAILED", "gone")
    assert list(launcher.runs_beside(run(str(socket)).run_id) or []) == []
    assert launcher.runs_beside(run(str(socket)).run_id) is not None
    assert launcher.runs_beside(run(None).run_id) is None
    with pytest.raises(ConnectionError):
        launcher.runs_beside(run("/nowhere.sock").run_id)


def test_a_storage_of_one_engine(watched: Watched) -> None:
    url = storage_url(watched.settings)
    asked: list[str] = []
    engine = create_pg_engine(url, None, isolation_level="AUTOCOMMIT")

    def engine_of(of: str, _: object) -> Engine:
        asked.append(of)
        return engine

    storage = classes.OneEngineStorage(engine_of, url, True, None, None)
    assert asked == [url] * 3
    for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
        part.optimize_for_webserver(1000, 60, 20)
    assert asked == [url] * 6
    assert storage.run_storage.get_runs_count() == watched.instance.get_runs_count()
    assert storage.event_log_storage.all_asset_keys() is not None
    assert storage.schedule_storage.all_instigator_state() is not None
    engine.dispose()


def test_events_of_the_past_have_their_own_times(watched: Watched) -> None:
    key = dg.AssetKey("past")
    first = datetime(2026, 3, 2, 8, tzinfo=UTC)
    times = [first + timedelta(days=day) for day in range(3)]
    for kind in (dg.AssetObservation, dg.AssetMaterialization):
        calls.tell_past(watched.instance, [(kind(key, metadata={"at": at.timestamp()}), at) for at in times])
    made = watched.instance.fetch_materializations(key, limit=10).records
    seen = watched.instance.fetch_observations(key, limit=10).records
    for records in (made, seen):
        assert [record.timestamp for record in records] == [at.timestamp() for at in reversed(times)]
    latest = watched.instance.get_latest_materialization_event(key)
    assert latest is not None
    assert latest.timestamp == times[-1].timestamp()
    # As what is told of the present.
    watched.instance.report_runless_asset_event(dg.AssetMaterialization(key))
    (now,) = watched.instance.fetch_materializations(key, limit=1).records
    assert (now.run_id, now.event_log_entry.job_name) == (made[0].run_id, made[0].event_log_entry.job_name)


def test_checks_that_were_never_run(watched: Watched) -> None:
    watched.check(passed=False)
    known, other = (dg.AssetCheckKey(dg.AssetKey(["marts", "table"]), name) for name in ("unique", "other"))
    assert calls.never_run(watched.instance, [known, other]) == [other]
