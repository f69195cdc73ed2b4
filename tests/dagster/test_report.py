"""What Dagster is told of tracked jobs and SLOs: what changed, once, and of history the newest only."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from pipelines.orchestration.instance import load_instance
from pipelines.slo import events
from pipelines.warehouse.connect import connect
from sensors.ticks import report as module
from sensors.ticks.report import Reported, report, report_sensor
from tests.dagster.conftest import HEADER, House, values

CHARGE = dg.AssetKey(["jobs", "overdrafts", "charge-overdrafts"])
CHARGED = dg.AssetKey(["slos", "overdraft-charges"])
AS_OF = "2026-03-12T12:00:00Z"


def run(day: int, minutes_late: int = -15, job: str = "overdrafts,charge-overdrafts", tag: str = "") -> str:
    """A run of a business date of March, from 00:30 in New York on the day after; due at 03:00."""
    end = 3 * 60 + minutes_late
    # Clocks go forward on 8 March.
    offset = "-05:00" if day + 1 < 8 else "-04:00"
    at = f"2026-03-{day + 1:02}T"
    return (
        f"{job},START,{at}00:30:00{offset},2026-03-{day:02},r{day}{tag}\n"
        f"{job},SUCCEED,{at}{end // 60:02}:{end % 60:02}:00{offset},2026-03-{day:02},r{day}{tag}\n"
    )


@pytest.fixture(scope="module")
def instance(house: House) -> Iterator[dg.DagsterInstance]:
    with load_instance(house.settings) as found:
        yield found


def told(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[dict[str, object]]:
    """What the materialisations of an asset say, the oldest first."""
    records = instance.fetch_materializations(key, limit=1000).records
    return [values(record.asset_materialization.metadata) for record in reversed(records)]  # type: ignore[union-attr]


def verdicts(
    instance: dg.DagsterInstance, key: dg.AssetKey, check: str = events.MET
) -> list[tuple[bool, str, object]]:
    """(passed, severity, business date) of each evaluation of a check, the oldest first."""
    records = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(key, check), limit=100
    )
    found = []
    for record in reversed(records):
        assert record.event is not None
        event = record.event.get_dagster_event().asset_check_evaluation_data
        found.append((event.passed, event.severity.value, values(event.metadata).get("business date")))
    return found


def observed(instance: dg.DagsterInstance) -> list[tuple[object, object]]:
    """(business date, outcome) of what was told of the SLO while it was open, the oldest first."""
    records = instance.fetch_observations(CHARGED, limit=100).records
    said = [values(record.asset_observation.metadata) for record in reversed(records)]  # type: ignore[union-attr]
    return [(one["business date"], one["outcome"]) for one in said]


def step(house: House, name: str, content: str, as_of: str) -> None:
    house.land(name, HEADER + content)
    house.tick(as_of)


def test_before_the_first_tick_there_is_nothing_to_tell(house: House, instance: dg.DagsterInstance) -> None:
    assert report(house.settings, instance) == Reported()


def test_an_asset_that_is_new_brings_its_history(house: House, instance: dg.DagsterInstance) -> None:
    step(house, "history.csv", "".join(map(run, range(2, 11))), "2026-03-11T12:00:00Z")
    done = report(house.settings, instance)
    assert (done.jobs, done.slos, done.past) == (1, 1, 16)
    days = [f"2026-03-{day:02}" for day in range(2, 11)]
    for key in (CHARGE, CHARGED):
        assert [one["business date"] for one in told(instance, key)] == days
        # … each at its own time.
        records = instance.fetch_materializations(key, limit=9).records
        ends = [values(record.asset_materialization.metadata)["ended"] for record in records]  # type: ignore[union-attr]
        assert [record.timestamp for record in records] == ends
    newest = told(instance, CHARGE)[-1]
    assert newest["run id"] == "r10"
    assert (newest["duration, minutes"], newest["late by, minutes"]) == (135.0, -15.0)
    assert newest["SLO"] == CHARGED
    assert verdicts(instance, CHARGED) == [(True, "WARN", "2026-03-10")]
    assert verdicts(instance, CHARGE, "on_time") == [(True, "WARN", "2026-03-10")]


def test_what_was_never_due_passes(house: House, instance: dg.DagsterInstance) -> None:
    slo, job = dg.AssetKey(["slos", "month-end-close"]), dg.AssetKey(["jobs", "finance", "close-month"])
    assert verdicts(instance, slo) == verdicts(instance, job, "on_time") == [(True, "WARN", None)]


def test_what_did_not_change_is_not_told_again(house: House, instance: dg.DagsterInstance) -> None:
    assert report(house.settings, instance) == Reported()
    house.tick("2026-03-11T12:00:30Z")
    assert report(house.settings, instance) == Reported()


def test_a_new_completion_is_told_of_its_job_and_slo_alone(
    house: House, instance: dg.DagsterInstance
) -> None:
    step(house, "late.csv", run(11, minutes_late=20), AS_OF)
    done = report(house.settings, instance)
    assert (done.jobs, done.slos, done.waiting) == (1, 1, 0)
    assert [one["run id"] for one in told(instance, CHARGE)][-2:] == ["r10", "r11"]
    newest = told(instance, CHARGED)[-1]
    assert (newest["outcome"], newest["late by, minutes"]) == ("late", 20.0)
    assert verdicts(instance, CHARGED)[-1] == (False, "WARN", "2026-03-11")
    assert verdicts(instance, CHARGE, "on_time")[-1] == (False, "WARN", "2026-03-11")


def test_a_promise_that_time_alone_breaks_fails_its_check(house: House, instance: dg.DagsterInstance) -> None:
    house.tick("2026-03-13T08:00:00Z")
    done = report(house.settings, instance)
    assert (done.jobs, done.slos) == (0, 0)
    assert verdicts(instance, CHARGED)[-1] == (False, "ERROR", "2026-03-12")
    assert verdicts(instance, CHARGE, "on_time")[-1] == (False, "ERROR", "2026-03-12")
    assert observed(instance) == [("2026-03-12", "overdue")]
    # … and it stays one evaluation, however many ticks see it so.
    house.tick("2026-03-13T08:10:00Z")
    assert report(house.settings, instance) == Reported()


def test_a_second_copy_and_a_revision_tell_no_more_than_the_revision(
    house: House, instance: dg.DagsterInstance
) -> None:
    step(house, "twelve.csv", run(12, minutes_late=330), "2026-03-13T13:00:00Z")
    assert report(house.settings, instance).jobs == 1
    step(house, "copy.csv", "\n" + run(12, minutes_late=330), "2026-03-13T13:01:00Z")
    assert report(house.settings, instance).jobs == 0
    step(house, "again.csv", run(12, minutes_late=345, tag="-again"), "2026-03-13T13:02:00Z")
    assert report(house.settings, instance) == Reported(jobs=1)
    newest = told(instance, CHARGE)[-1]
    assert (newest["run id"], newest["attempt"]) == ("r12-again", 2)
    assert "revision" in newest
    assert "late by, minutes" not in newest


def test_an_old_completion_that_comes_late_is_history(house: House, instance: dg.DagsterInstance) -> None:
    before = len(told(instance, CHARGE))
    step(house, "old.csv", run(1), "2026-03-13T13:05:00Z")
    report(house.settings, instance)
    assert len(told(instance, CHARGE)) == before


def test_jobs_of_nobody_have_no_asset(house: House, instance: dg.DagsterInstance) -> None:
    step(house, "nobody.csv", run(12, job="nobodys,sweep"), "2026-03-13T13:10:00Z")
    assert report(house.settings, instance) == Reported()


def test_more_than_a_look_tells_waits_the_newest_first(house: House, instance: dg.DagsterInstance) -> None:
    jobs = ["finance,general-ledger", "deposits,calculate-interest", "markets,fetch-prices"]
    content = "".join(run(day, 60 * place, job) for place, job in enumerate(jobs) for day in (11, 12))
    step(house, "many.csv", content, "2026-03-13T13:15:00Z")
    rounds = []
    for _ in range(20):
        done = report(house.settings, instance, most=2)
        rounds.append(done)
        assert done.events <= 2
        if not done.waiting:
            break
    assert sum(one.jobs for one in rounds) == len(jobs)
    for job in jobs:
        assert [one["run id"] for one in told(instance, dg.AssetKey(["jobs", *job.split(",")]))] == [
            "r11",
            "r12",
        ]


def test_a_reporter_that_dies_tells_the_rest_the_next_time(
    house: House, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    step(house, "thirteen.csv", run(13), "2026-03-14T12:00:00Z")
    before = len(told(instance, CHARGE))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_cross_off", die)
        with pytest.raises(KeyboardInterrupt):
            report(house.settings, instance)
    assert report(house.settings, instance).jobs == 1
    assert before < len(told(instance, CHARGE)) <= before + 2
    assert report(house.settings, instance) == Reported()


def test_a_rebuild_tells_nothing_that_did_not_change(house: House, instance: dg.DagsterInstance) -> None:
    house.tick("2026-03-14T12:00:00Z", rebuild=True)
    assert report(house.settings, instance) == Reported()


def test_a_rebuild_as_of_an_earlier_moment_takes_verdicts_back(
    house: House, instance: dg.DagsterInstance
) -> None:
    before = len(told(instance, CHARGE))
    house.tick("2026-03-12T06:00:00Z", rebuild=True)
    report(house.settings, instance)
    assert verdicts(instance, CHARGED)[-1] == (True, "WARN", "2026-03-10")
    assert len(told(instance, CHARGE)) == before
    house.tick("2026-03-14T12:00:00Z", rebuild=True)
    report(house.settings, instance)
    assert verdicts(instance, CHARGED)[-1] == (True, "WARN", "2026-03-13")


def test_the_journal_forgets_what_can_not_be_told_again(house: House, instance: dg.DagsterInstance) -> None:
    house.tick("2026-03-20T12:00:00Z")
    report(house.settings, instance)
    with connect(house.settings, "operate") as connection:
        row = connection.execute(
            "select count(*), count(distinct asset) from ops.reported_completion"
        ).fetchone()
    assert row is not None
    assert row[0] == row[1]


def test_the_sensor_tells_what_it_did(house: House, instance: dg.DagsterInstance) -> None:
    step(house, "nineteen.csv", run(19), "2026-03-20T13:00:00Z")
    context = dg.build_sensor_context(instance=instance, resources={"settings": house.settings})
    first, second = (report_sensor(context) for _ in range(2))
    assert isinstance(first, dg.SkipReason)
    assert isinstance(second, dg.SkipReason)
    assert "1 completions of jobs" in str(first.skip_message)
    assert second.skip_message == "nothing new"


def test_a_person_can_ask_for_the_check(house: House, instance: dg.DagsterInstance) -> None:
    checks = next(
        one
        for one in house.defs.asset_checks or []
        if dg.AssetCheckKey(CHARGED, events.MET) in one.check_keys
    )
    result = dg.materialize(
        [checks],
        instance=instance,
        resources={"settings": house.settings},
        selection=dg.AssetSelection.checks(checks),
        raise_on_error=True,
    )
    found = {one.asset_key: one for one in result.get_asset_check_evaluations()}
    assert found[CHARGED].passed
    assert any(not one.passed and one.severity.value == "ERROR" for one in found.values())


def test_a_job_that_failed_is_not_green(house: House, instance: dg.DagsterInstance) -> None:
    line = "overdrafts,charge-overdrafts,{},2026-03-21T{}:00Z,2026-03-20,r20{}\n"
    failed = line.format("START", "04:30", "") + line.format("FAIL", "05:00", "")
    step(house, "failed.csv", failed, "2026-03-21T06:00:00Z")
    report(house.settings, instance)
    assert verdicts(instance, CHARGE, "on_time")[-1] == (False, "ERROR", "2026-03-20")
    assert observed(instance)[-1] == ("2026-03-20", "not due")
    (latest,) = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(CHARGE, "on_time"), limit=1
    )
    assert latest.event is not None
    assert latest.event.get_dagster_event().asset_check_evaluation_data.description == (
        "2026-03-20: failed at 2026-03-21 05:00 UTC; due at 2026-03-21 07:00 UTC for overdraft-charges."
    )
    again = line.format("START", "05:30", "b") + line.format("SUCCEED", "06:20", "b")
    step(house, "twenty.csv", again, "2026-03-21T06:30:00Z")
    report(house.settings, instance)
    assert verdicts(instance, CHARGE, "on_time")[-1] == (True, "WARN", "2026-03-20")


def test_what_was_given_up_fails(house: House, instance: dg.DagsterInstance) -> None:
    """A month's close: nothing of the SLO falls due for weeks after it was given up."""
    line = "finance,close-month,{},{}T10:00:00Z,{},c\n"
    days = ("2026-01-30", "2026-02-27")
    step(house, "months.csv", "".join(line.format("START", day, day) for day in days), "2026-03-21T07:00:00Z")
    report(house.settings, instance)
    key = dg.AssetKey(["slos", "month-end-close"])
    assert verdicts(instance, key)[-1] == (False, "ERROR", "2026-02-27")
    job = dg.AssetKey(["jobs", "finance", "close-month"])
    assert verdicts(instance, job, "on_time")[-1] == (False, "ERROR", "2026-02-27")


def test_checks_that_have_not_run_are_asked_for_once(house: House, instance: dg.DagsterInstance) -> None:
    repository = house.defs.get_repository_def()
    context = dg.build_sensor_context(
        instance=instance, resources={"settings": house.settings}, repository_def=repository
    )
    first, second = (report_sensor(context) for _ in range(2))
    assert isinstance(first, dg.RunRequest)
    assert isinstance(second, dg.RunRequest)
    # Dagster launches one run for a key.
    assert first.run_key == second.run_key
    for key in repository.asset_graph.asset_check_keys:
        if key.name not in {"met", "on_time"}:
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(asset_key=key.asset_key, check_name=key.name, passed=True)
            )
    assert isinstance(report_sensor(context), dg.SkipReason)
