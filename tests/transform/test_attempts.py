"""A tick that fails again and again is known, however it fails: to `status`, and to whoever watches, told once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.orchestration.dagster_private.tables import FailedRun, Heartbeat, PendingRun
from pipelines.processes.status import PartStatus, report
from pipelines.transform.attempts import KILLED, Attempts, attempts
from pipelines.transform.project import DbtError
from pipelines.transform.tick import TickRefusedError
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import ROOT
from sensors.oncall.incidents.model import Key
from sensors.oncall.watch.findings import TICKING, judge
from sensors.oncall.watch.limits import Limits
from sensors.oncall.watch.look import look
from sensors.oncall.watch.observed import Memory, Observed
from tests.transform.support import Warehouse, held, waiting_backend
from tests.transform.test_golden import CATALOG, CHARGE, HEADER
from tests.transform.test_killed_ticks import CHILD
from tests.waiting import HUNG

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)


@pytest.fixture
def bank(warehouse: Warehouse) -> Warehouse:
    """A first tick, and something for the second one to do."""
    with connect(warehouse.settings) as connection:
        connection.execute(
            "update control.attempt set begun_at = null, failures = 0, since = null, failed_at = null"
        )
        connection.execute("truncate ops.incident, ops.alert_outbox, ops.notice, ops.watch, ops.watcher")
    warehouse.store_catalog(CATALOG)
    warehouse.ingest(HEADER + CHARGE.format("START", "00:31:00", "r1,h1"))
    warehouse.tick("2026-03-03 07:00")
    warehouse.ingest(HEADER + CHARGE.format("SUCCEED", "02:30:00", "r1,h1"))
    return warehouse


def last(bank: Warehouse) -> Attempts:
    with connect(bank.settings, "operate") as connection, connection.cursor() as cursor:
        return attempts(cursor)


def fail(bank: Warehouse) -> None:
    with bank.refusing_inserts("slo_performance"), pytest.raises(DbtError):
        bank.tick("2026-03-03 08:30")


def die(bank: Warehouse) -> None:
    """A tick whose process the kernel kills, in the middle of its work."""
    with held(bank.settings, "work.int_job_run"):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, "2026-03-03T08:30:00Z"],
            env={**os.environ, **bank.settings.as_env(), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            waiting_backend(bank.settings, "work.int_job_run")
            assert last(bank).begun_at is not None
        finally:
            child.kill()
            child.wait()
    # What it had asked of the server ends a moment later.
    deadline = time.monotonic() + HUNG
    while last(bank).begun_at is not None and time.monotonic() < deadline:
        time.sleep(0.05)


def tick_part(bank: Warehouse) -> PartStatus:
    (part,) = (one for one in report(bank.settings).parts if one.name == "tick")
    return part


def test_failures_in_a_row_are_counted_until_one_is_published(bank: Warehouse) -> None:
    fail(bank)
    fail(bank)
    found = last(bank)
    assert (found.failures, found.has_raised, found.begun_at) == (2, True, None)
    assert "slo_performance was not published" in found.reason
    assert found.since is not None
    assert found.failed_at is not None
    assert found.since < found.failed_at
    # What was refused was not begun.
    with pytest.raises(TickRefusedError):
        bank.tick("2026-03-03 06:00")
    assert last(bank) == found
    part = tick_part(bank)
    assert not part.is_ready
    assert part.reason.startswith("it has failed 2 times in a row, last ")
    assert "the marts stand as of 2026-03-03 07:00:00Z" in part.reason
    bank.tick("2026-03-03 08:30")
    assert last(bank) == Attempts()


def test_one_whose_process_is_killed_is_known_at_once_and_told(bank: Warehouse) -> None:
    now = datetime.now(UTC)
    assert look(bank.settings, now, expect=()).opened == []
    die(bank)
    assert (last(bank).failures, last(bank).reason) == (1, KILLED)
    fail(bank)
    die(bank)
    assert last(bank).failures == 3
    opened = look(bank.settings, now + timedelta(seconds=10), expect=()).opened
    assert [one.key for one in opened] == [TICKING]
    assert "The tick has failed 3 times in a row" in opened[0].message
    assert KILLED in opened[0].message
    assert look(bank.settings, now + timedelta(seconds=20), expect=()).opened == []
    bank.tick("2026-03-03 08:30")
    ended = look(bank.settings, now + timedelta(seconds=30), expect=()).resolved
    assert [(one.key, one.resolution) for one in ended] == [(TICKING, "published")]


def test_one_that_was_killed_after_it_had_published_did_not_fail(bank: Warehouse) -> None:
    with connect(bank.settings) as connection:
        connection.execute(
            "update control.attempt set backend_pid = -1, begun_at = (select published_at from control.tick) - interval"
            " '1 second'"
        )
    assert last(bank) == Attempts()


# What is told of it


def observed(**changes: object) -> Observed:
    memory = Memory(NOW, NOW - timedelta(hours=1))
    heartbeats = [Heartbeat("SENSOR", "p", NOW)]
    return Observed(NOW, memory, heartbeats=heartbeats, **changes)  # type: ignore[arg-type]


def told(found: Observed) -> dict[Key, Key | None]:
    return {one.key: one.cause for one in judge(found, Limits(), frozenset(), [])}


def test_one_failure_is_not_told_two_are() -> None:
    assert told(observed(attempts=Attempts(1, NOW, NOW, "why", True))) == {}
    assert told(observed(attempts=Attempts(2, NOW, NOW, "why", True))) == {TICKING: None}


def test_what_waits_is_told_within_two_minutes_when_nobody_ticks() -> None:
    waits = {"waiting_since": NOW - timedelta(seconds=100)}
    assert told(observed(**waits)) == {TICKING: None}
    assert told(observed(waiting_since=NOW - timedelta(seconds=99))) == {}
    # One is under way, or about to be.
    assert told(observed(**waits, attempts=Attempts(begun_at=NOW))) == {}
    run = PendingRun("r1", "tick", "STARTED", NOW, NOW)
    assert told(observed(**waits, pending_runs=[run])) == {}


def test_what_says_why_it_fails_is_told_in_its_place() -> None:
    run = FailedRun("tick", "r1", NOW, False, False, "why")
    found = told(observed(attempts=Attempts(2, NOW, NOW, "why", True), failed_runs=[run]))
    assert found == {Key("run_failed", "tick"): None, TICKING: Key("run_failed", "tick")}
