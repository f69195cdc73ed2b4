"""The nine ways to fail, in what Dagster stores of them: each is told once, and its end once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus
from psycopg import sql

from pipelines.warehouse.connect import connect
from sensors.oncall.watch.look import look
from tests.watch.support import TIMED_OUT, UNREACHED, Watched, tick_job


def test_nothing_is_wrong_with_a_new_house(watched: Watched) -> None:
    watched.settle()
    assert watched.told() == []


# 1: runs


def test_a_failed_run_is_told_once_and_its_end_once(watched: Watched) -> None:
    run_id = watched.run(fails=True)
    seen = watched.look()
    assert [one.key[:2] for one in seen.opened] == [("run_failed", "nightly")]
    assert run_id in seen.opened[0].message
    assert "Step work: ValueError: the source is empty" in seen.opened[0].message
    watched.look()
    watched.run(fails=True)
    watched.look()
    assert watched.told() == [("opened", "run_failed", "nightly")]
    watched.run(fails=False)
    assert [one.resolution for one in watched.look().resolved] == ["succeeded"]
    watched.look()
    assert watched.told() == [("opened", "run_failed", "nightly"), ("resolved", "run_failed", "nightly")]


def test_a_failure_that_was_over_before_anybody_looked_is_told_all_the_same(watched: Watched) -> None:
    watched.look()
    watched.run(fails=True)
    watched.run(fails=False)
    watched.look()
    watched.look()
    watched.look()
    assert watched.told() == [("opened", "run_failed", "nightly"), ("resolved", "run_failed", "nightly")]


def test_every_failed_job_is_told_however_many_there_are(watched: Watched) -> None:
    for number in range(6):
        job = dg.GraphDefinition(f"job_{number}", node_defs=[failing]).to_job()
        assert not job.execute_in_process(instance=watched.instance, raise_on_error=False).success
    watched.now = watched.now + timedelta(seconds=60)
    assert len(watched.look().opened) == 6
    assert len(watched.look().opened) == 0


@dg.op
def failing() -> None:
    raise ValueError("no")


def test_a_failed_tick_is_over_when_one_without_a_run_has_published(watched: Watched) -> None:
    watched.run(fails=True, job=tick_job)
    assert [one.key[:2] for one in watched.look().opened] == [("run_failed", "tick")]
    with connect(watched.settings, "transform") as connection:
        connection.execute("update control.tick set published_at = clock_timestamp()")
    assert [one.resolution for one in watched.look().resolved] == ["succeeded"]


def test_a_failed_run_that_somebody_deletes(watched: Watched) -> None:
    run_id = watched.run(fails=True)
    watched.look()
    watched.instance.delete_run(run_id)
    assert [one.resolution for one in watched.look().resolved] == ["withdrawn"]


def test_a_failure_that_nobody_repeats_is_closed_after_a_week(watched: Watched) -> None:
    watched.run(fails=True)
    watched.look()
    watched.later(7 * 86_400 + 60)
    assert [one.resolution for one in watched.look().resolved] == ["expired"]
    assert watched.look().opened == []


# 2: checks


@pytest.mark.parametrize(
    ("severity", "expected"),
    [(dg.AssetCheckSeverity.ERROR, "critical"), (dg.AssetCheckSeverity.WARN, "warning")],
)
def test_a_failed_check(watched: Watched, severity: dg.AssetCheckSeverity, expected: str) -> None:
    watched.check(passed=True)
    assert watched.look().opened == []
    watched.check(passed=False, severity=severity)
    seen = watched.look()
    assert [(one.key[:2], one.severity) for one in seen.opened] == [
        (("check_failed", "marts/table unique"), expected)
    ]
    assert "3 rows twice" in seen.opened[0].message
    watched.check(passed=False, severity=severity)
    assert watched.look().opened == []
    # Long after the failure has left what is read of the event log.
    for _ in range(3):
        watched.later(700)
        assert watched.look().resolved == []
    watched.check(passed=True)
    assert [one.resolution for one in watched.look().resolved] == ["passed"]
    assert [event for event, _, _ in watched.told()] == ["opened", "resolved"]


def test_a_check_that_failed_and_passed_between_two_looks(watched: Watched) -> None:
    watched.look()
    watched.check(passed=False)
    watched.check(passed=True)
    for _ in range(3):
        watched.look()
        watched.later(10)
    assert [event for event, _, _ in watched.told()] == ["opened", "resolved"]


def test_whether_slos_are_met_is_told_as_incidents_of_the_slos(watched: Watched) -> None:
    watched.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(["slos", "x"]), check_name="met", passed=False, metadata={}
        )
    )
    assert watched.look().opened == []


def incident(
    watched: Watched, kind: str, subject: str, occurrence: str = "", *, is_over: bool = False
) -> None:
    with connect(watched.settings, "operate") as connection:
        connection.execute(
            """
            insert into ops.incident
                (kind, subject, occurrence, severity, title, message, detail, began_at, opened_at, last_seen_at,
                 tell_from, resolved_at, resolution)
            select
                %(kind)s, %(subject)s, %(occurrence)s, 'warning', 't', 'm', '{"feed": "job_status"}', now(), now(),
                now(), now(), case when %(over)s then now() end, case when %(over)s then 'expired' end
            """,
            {"kind": kind, "subject": subject, "occurrence": occurrence, "over": is_over},
        )


def opened(watched: Watched) -> list[str]:
    return [one.key.subject for one in watched.look().opened]


def test_what_incidents_tell_is_not_told_again_of_a_check(watched: Watched) -> None:
    checks = ("registered_jobs", "rejected_share", "quarantined_files")
    with connect(watched.settings, "ingest") as connection:
        (file_id,) = connection.execute(
            "insert into raw.landed_file (feed, path, status, size_bytes, message)"
            " values ('job_status', 'a.csv', 'quarantined', 1, 'no header')"
            " returning landed_file_id"
        ).fetchone() or ("",)
    # Whose facts no incident has told, because nobody judges, say: the check tells them.
    for name in checks:
        watched.check(passed=False, asset="raw/job_status", name=name)
    assert sorted(opened(watched)) == sorted(f"raw/job_status {name}" for name in checks)
    for name in checks:
        watched.check(passed=True, asset="raw/job_status", name=name)
    watched.look()
    incident(watched, "unregistered_job", "core/stray")
    # It need not be open any more: once told is told.
    incident(watched, "rejected_records", "a.csv", str(file_id), is_over=True)
    for name in checks:
        watched.check(passed=False, asset="raw/job_status", name=name)
    # Of other assets, and other checks of this one, it is told.
    watched.check(passed=False, asset="raw/metric_input", name="rejected_share")
    watched.check(passed=False, asset="raw/job_status", name="unique")
    assert sorted(opened(watched)) == ["raw/job_status unique", "raw/metric_input rejected_share"]
    watched.later(30)
    assert opened(watched) == []


# 3: sensors that raise


def test_a_sensor_that_raises(watched: Watched) -> None:
    state = watched.sensor("drill/raises", interval=10)
    watched.settle()
    watched.tick(state, "FAILURE", "ValueError: no such table\n")
    seen = watched.look()
    assert [one.key[:2] for one in seen.opened] == [("sensor_failed", "drill/raises")]
    assert seen.opened[0].message == (
        "The sensor raises of the code location drill raised: ValueError: no such table."
    )
    # Now well, now not: that is one failure.
    for status in ("SKIPPED", "FAILURE", "SKIPPED", "SKIPPED"):
        watched.later(10)
        watched.tick(state, status, "ValueError: no such table\n" if status == "FAILURE" else "")
        watched.look()
    assert [event for event, _, _ in watched.told()] == ["opened"]
    for _ in range(6):
        watched.later(10)
        watched.tick(state)
        watched.look()
    assert [event for event, _, _ in watched.told()] == ["opened", "resolved"]


def test_a_sensor_that_raised_once_while_nobody_looked(watched: Watched) -> None:
    state = watched.sensor("drill/raises", interval=10)
    watched.settle()
    watched.tick(state, "FAILURE", "ValueError: no\n")
    for _ in range(11):
        watched.later(10)
        watched.tick(state)
    watched.look()
    watched.later(5)
    watched.look()
    assert [event for event, _, _ in watched.told()] == ["opened", "resolved"]


# 4: sensors and schedules that hang or stop


def test_a_sensor_that_times_out(watched: Watched) -> None:
    state = watched.sensor("drill/hangs", interval=10)
    watched.settle()
    watched.tick(state, "STARTED")
    watched.later(60)
    watched.tick(state, "FAILURE", TIMED_OUT)
    seen = watched.look()
    assert [one.key[:2] for one in seen.opened] == [("sensor_late", "drill/hangs")]
    assert "timed out" in seen.opened[0].message
    watched.later(10)
    watched.tick(state, "STARTED")
    assert watched.look().resolved == []
    watched.later(30)
    watched.look()
    for _ in range(7):
        watched.later(10)
        watched.tick(state)
        watched.look()
    assert [event for event, _, _ in watched.told()] == ["opened", "resolved"]


def test_a_sensor_that_stops_ticking(watched: Watched) -> None:
    state = watched.sensor("drill/stops", interval=10)
    watched.settle()
    watched.tick(state)
    for _ in range(9):
        watched.later(10)
        assert watched.look().opened == []
    watched.later(10)
    seen = watched.look()
    assert [one.key[:2] for one in seen.opened] == [("sensor_late", "drill/stops")]
    assert "stopped ticking" in seen.opened[0].message
    watched.later(10)
    watched.tick(state)
    assert [one.resolution for one in watched.look().resolved] == ["running"]


def test_a_server_that_was_not_reached_is_not_the_sensors_fault(watched: Watched) -> None:
    state = watched.sensor("drill/stops", interval=10)
    watched.settle()
    watched.tick(state)
    for _ in range(9):
        watched.later(10)
        watched.tick(state, "FAILURE", UNREACHED)
        assert watched.look().opened == []
    # … but it does not tick either, and nobody else will say so.
    watched.later(10)
    watched.tick(state, "FAILURE", UNREACHED)
    assert [one.key.kind for one in watched.look().opened] == ["sensor_late"]


# 6: what is off


def test_a_sensor_that_is_switched_off(watched: Watched) -> None:
    watched.expect = frozenset({("drill", "wanted")})
    watched.heartbeat()
    state = watched.sensor("drill/wanted")
    other = watched.sensor("drill/other", "RUNNING")
    for one in (state, other):
        watched.tick(one)
    watched.look()
    for name in ("wanted", "other"):
        watched.sensor(f"drill/{name}", "STOPPED", is_new=False)
    seen = watched.look()
    # Of one's own sensors that nobody expects to run, off is as good as on.
    assert [one.key[:2] for one in seen.opened] == [("sensor_off", "drill/wanted")]
    watched.later(10)
    watched.look()
    watched.sensor("drill/wanted", "RUNNING", is_new=False)
    watched.tick(state)
    assert [one.key.kind for one in watched.look().resolved] == ["sensor_off"]
    assert [event for event, _, _ in watched.told()] == ["opened", "resolved"]


def test_a_sensor_that_is_missing(watched: Watched) -> None:
    watched.expect = frozenset({("drill", "wanted")})
    for _ in range(6):
        watched.heartbeat()
        assert watched.look().opened == []
        watched.later(15)
    seen = watched.look()
    assert [one.key[:2] for one in seen.opened] == [("sensor_off", "drill/wanted")]
    assert "is missing" in seen.opened[0].message


# 7: the daemon


def test_a_dead_daemon_is_all_that_is_told_of_it(watched: Watched) -> None:
    """Sensors that do not tick and runs that are not dequeued follow from it."""
    state = watched.sensor("drill/steady", interval=10)
    watched.settle()
    watched.tick(state)
    watched.pending(DagsterRunStatus.QUEUED)
    watched.look()
    for _ in range(12):
        watched.later(10, heartbeat=False)
        assert watched.look().opened == []
    watched.later(10, heartbeat=False)
    assert [one.key[:2] for one in watched.look().opened] == [("daemon_dead", "daemon")]
    for _ in range(12):
        watched.later(100, heartbeat=False)
        watched.look()
    assert watched.told() == [("opened", "daemon_dead", "daemon")]
    # It is back: its sensors have their time to tick again, and the queue to empty.
    watched.process = "daemon-2"
    watched.later(10)
    assert [one.resolution for one in watched.look().resolved] == ["alive"]
    for _ in range(9):
        watched.later(65)
        watched.tick(state)
        assert watched.look().opened == []
    watched.later(20)
    watched.tick(state)
    assert [one.key[:2] for one in watched.look().opened] == [("run_stuck", "queue")]


def test_a_daemon_that_was_dead_before_anybody_looked_may_be_about_to_start(watched: Watched) -> None:
    watched.heartbeat(at=watched.now - timedelta(days=1))
    for _ in range(9):
        assert watched.look().opened == []
        watched.later(10, heartbeat=False)
    assert [one.key.kind for one in watched.look().opened] == ["daemon_dead"]


def test_what_was_told_goes_on_when_watching_begins_anew(watched: Watched) -> None:
    """A watcher that starts gives everything time to start, too; what it finds told is not over for that."""
    state = watched.sensor("drill/stops", interval=10)
    watched.settle()
    watched.tick(state)
    for _ in range(2):
        watched.later(60)
        watched.look()
    assert watched.told() == [("opened", "sensor_late", "drill/stops")]
    for _ in range(3):
        watched.later(60, heartbeat=False)
        watched.look()
    assert watched.told()[1:] == [("opened", "daemon_dead", "daemon")]
    watched.later(3600, heartbeat=False)
    for _ in range(3):
        watched.later(20, heartbeat=False)
        assert watched.look().resolved == []
    watched.process = "daemon-2"
    for _ in range(5):
        watched.later(5)
        watched.look()
    assert watched.told()[2:] == [("resolved", "daemon_dead", "daemon")]
    watched.tick(state)
    watched.look()
    assert watched.told()[3:] == [("resolved", "sensor_late", "drill/stops")]


def test_a_part_of_the_daemon_that_died(watched: Watched) -> None:
    watched.settle()
    # Left by an earlier process that had one part more: no longer configured.
    watched.process, process = "daemon-0", watched.process
    watched.heartbeat("ASSET", at=watched.now - timedelta(hours=1))
    watched.process = process
    for _ in range(9):
        watched.later(15, heartbeat=False)
        watched.heartbeat("SENSOR", "QUEUED_RUN_COORDINATOR")
        watched.look()
    seen = watched.look()
    assert [one.key.kind for one in seen.open] == ["daemon_dead"]
    assert "SCHEDULER" in seen.open[0].message
    assert "ASSET" not in seen.open[0].message


# 8: stuck runs


def test_runs_in_the_queue_are_one_incident(watched: Watched) -> None:
    watched.heartbeat()
    watched.pending(DagsterRunStatus.QUEUED)
    run_id = watched.pending(DagsterRunStatus.QUEUED)
    watched.look()
    watched.later(601)
    watched.look()
    watched.later(10)
    watched.look()
    assert watched.told() == [("opened", "run_stuck", "queue")]
    for run in watched.instance.get_runs():
        watched.instance.report_run_canceled(run)
    assert watched.instance.get_run_by_id(run_id) is not None
    watched.look()
    assert watched.told() == [("opened", "run_stuck", "queue"), ("resolved", "run_stuck", "queue")]


@pytest.mark.parametrize(
    ("status", "seconds", "says"),
    [
        (DagsterRunStatus.STARTED, 1801, "has said nothing since"),
        (DagsterRunStatus.STARTING, 241, "is starting since"),
        (DagsterRunStatus.CANCELING, 241, "is being cancelled since"),
    ],
)
def test_a_run_that_is_stuck(watched: Watched, status: DagsterRunStatus, seconds: int, says: str) -> None:
    watched.heartbeat()
    run_id = watched.pending(status)
    watched.look()
    watched.later(seconds - 20)
    assert watched.look().opened == []
    watched.later(30)
    seen = watched.look()
    assert [tuple(one.key) for one in seen.opened] == [("run_stuck", "nightly", run_id)]
    assert says in seen.opened[0].message
    run = watched.instance.get_run_by_id(run_id)
    assert run is not None
    # It gives a sign of life.
    watched.instance.report_run_canceled(run)
    assert [one.resolution for one in watched.look().resolved] == ["moving"]


# 9: delivery


def test_alerts_that_do_not_reach_their_route(watched: Watched) -> None:
    with connect(watched.settings, "operate") as connection:
        connection.execute(
            "insert into ops.alert_outbox (route, event, severity, title, body, created_at, next_attempt_at, attempts,"
            " last_error) values ('pager', 'opened', 'critical', 'x', 'y', %(now)s, %(now)s, 3, '503')",
            {"now": watched.now},
        )
    watched.later(50)
    assert watched.look(delivers=False).opened == []
    watched.later(20)
    seen = watched.look(delivers=False)
    assert [one.key[:2] for one in seen.opened] == [("delivery_failed", "pager")]
    assert seen.opened[0].message == "pager refuses them: 503"
    with connect(watched.settings, "operate") as connection:
        connection.execute("update ops.alert_outbox set delivered_at = %s", [watched.now])
    assert [one.resolution for one in watched.look(delivers=False).resolved] == ["delivered"]


# Watching


def test_several_watchers_tell_once(watched: Watched) -> None:
    watched.run(fails=True)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: watched.look(), range(8)))
    assert watched.told() == [("opened", "run_failed", "nightly")]


def test_dagster_that_never_ran_is_no_error(watched: Watched, server_url: str) -> None:
    empty = f"{watched.settings.dagster_database}_empty"
    with connect(watched.settings, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(empty)))
        try:
            settings = replace(watched.settings, dagster_database=empty)
            assert look(settings, watched.now, expect=()).open == []
            assert look(settings, watched.now + timedelta(seconds=60), expect=()).open == []
            seen = look(settings, watched.now + timedelta(seconds=95), expect=())
            assert [one.message for one in seen.open] == [
                "The Dagster daemon: it never gave a heartbeat. Without it nothing is ticked, queued or monitored."
            ]
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(empty)))


def test_messages_do_not_change_from_look_to_look(watched: Watched) -> None:
    """Or every look would write, and somebody who reads them would see news where there are none."""
    watched.run(fails=True)
    first = watched.look().open[0]
    watched.later(100)
    second = watched.look().open[0]
    assert (first.message, json.dumps(first.detail)) == (second.message, json.dumps(second.detail))
