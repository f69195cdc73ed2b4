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


def verdicts(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[tuple[bool, str, object]]:
    """(passed, severity, business date) of each evaluation of the check `met`, the oldest first."""
    records = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(key, "met"), limit=100
    )
    found = []
    for record in reversed(records):
        assert record.event is not None
        event = record.event.get_dagster_event().asset_check_evaluation_data
        found.append((event.passed, event.severity.value, values(event.metadata)["business date"]))
    return found


def step(house: House, name: str, content: str, as_of: str) -> None:
    house.land(name, HEADER + content)
    house.tick(as_of)


def test_before_the_first_tick_there_is_nothing_to_tell(house: House, instance: dg.DagsterInstance) -> None:
    assert report(house.settings, instance) == Reported()


def test_of_history_the_newest_completion_is_told(house: House, instance: dg.DagsterInstance) -> None:
    step(house, "history.csv", "".join(map(run, range(2, 11))), "2026-03-11T12:00:00Z")
    done = report(house.settings, instance)
    assert (done.jobs, done.slos) == (1, 1)
    (only,) = told(instance, CHARGE)
    assert (only["business date"], only["run id"]) == ("2026-03-10", "r10")
    assert (only["duration, minutes"], only["late by, minutes"]) == (135.0, -15.0)
    assert only["SLO"] == CHARGED
    assert verdicts(instance, CHARGED) == [(True, "WARN", "2026-03-10")]


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
    assert [one["run id"] for one in told(instance, CHARGE)] == ["r10", "r11"]
    newest = told(instance, CHARGED)[-1]
    assert (newest["outcome"], newest["late by, minutes"]) == ("late", 20.0)
    assert verdicts(instance, CHARGED)[-1] == (False, "WARN", "2026-03-11")


def test_a_promise_that_time_alone_breaks_fails_its_check(house: House, instance: dg.DagsterInstance) -> None:
    house.tick("2026-03-13T08:00:00Z")
    done = report(house.settings, instance)
    assert (done.jobs, done.slos) == (0, 0)
    assert verdicts(instance, CHARGED)[-1] == (False, "ERROR", "2026-03-12")
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
        assert [one["run id"] for one in told(instance, dg.AssetKey(["jobs", *job.split(",")]))] == ["r12"]


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
