"""Duemark's own ticks as statuses of its job: once a half-hour, failures at once, and never in circles."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from pipelines.errors import DuemarkError
from pipelines.orchestration.instance import load_instance
from pipelines.transform.waiting import waiting
from pipelines.warehouse.connect import connect
from sensors.ticks.advance import advance, look_at_catalog
from sensors.ticks.own import tell, tracked
from tests.dagster.conftest import House


@pytest.fixture(scope="module")
def midnight() -> datetime:
    """The midnight with which yesterday began, for all tests of a module the same."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)


@pytest.fixture(scope="module")
def instance(house: House) -> Iterator[dg.DagsterInstance]:
    with load_instance(house.settings) as found:
        yield found


def statuses(house: House) -> list[tuple[Any, ...]]:
    with connect(house.settings, "transform") as connection:
        return connection.execute(
            "select status_code, status_at, run_id from raw.job_status"
            " where application_id = 'duemark' and job_id = 'tick' order by load_id, seq"
        ).fetchall()


def good(house: House, instance: dg.DagsterInstance, at: datetime) -> int:
    return tell(house.settings, instance, at, at + timedelta(seconds=1), is_good=True)


def test_nothing_is_told_where_the_catalog_does_not_have_the_job(
    house: House, instance: dg.DagsterInstance, midnight: datetime
) -> None:
    assert good(house, instance, midnight) == 0
    look_at_catalog(house.settings)


def test_a_first_day_is_one_that_it_saw_begin(
    house: House, instance: dg.DagsterInstance, midnight: datetime
) -> None:
    assert good(house, instance, midnight - timedelta(hours=3)) == 0
    assert good(house, instance, midnight + timedelta(minutes=1)) == 2
    assert [code for code, _, _ in statuses(house)] == ["START", "SUCCEED"]


def test_a_success_is_told_once_in_a_half_hour(
    house: House, instance: dg.DagsterInstance, midnight: datetime
) -> None:
    counts = [good(house, instance, midnight + timedelta(minutes=minute)) for minute in range(2, 61)]
    assert sum(counts) == 4
    assert [at - midnight for code, at, _ in statuses(house) if code == "START"] == [
        timedelta(minutes=minute) for minute in (1, 30, 60)
    ]


def test_a_look_that_fails_is_told_and_raised(
    house: House, instance: dg.DagsterInstance, midnight: datetime
) -> None:
    moment = midnight + timedelta(minutes=65)

    def look() -> dg.SkipReason:
        raise DuemarkError("The model broke.")

    with pytest.raises(DuemarkError, match="The model broke"):
        tracked(house.settings, instance, look, lambda: moment)
    assert [code for code, _, _ in statuses(house)][-2:] == ["START", "FAIL"]
    # The first success after it is told too.
    assert good(house, instance, moment + timedelta(minutes=1)) == 2
    assert good(house, instance, moment + timedelta(minutes=2)) == 0


def test_a_look_that_asks_for_a_run_is_no_tick(house: House, instance: dg.DagsterInstance) -> None:
    before = len(statuses(house))
    moment = datetime.now(UTC)
    assert isinstance(
        tracked(house.settings, instance, dg.RunRequest, lambda: moment),
        dg.RunRequest,
    )
    # Nor is one that leaves something waiting: its own statuses wait.
    tracked(house.settings, instance, lambda: dg.SkipReason("a run is under way"), lambda: moment)
    assert len(statuses(house)) == before


def test_its_own_statuses_cause_one_tick_and_no_more(house: House, instance: dg.DagsterInstance) -> None:
    def look() -> dg.SkipReason | dg.RunRequest:
        found = waiting(house.settings)
        if found.since is None:
            return dg.SkipReason("nothing to do")
        return advance(house.settings, instance, [], found)

    house.tick()
    moment = datetime.now(UTC)
    told = []
    for _ in range(4):
        before = len(statuses(house))
        tracked(house.settings, instance, look, lambda: moment)
        told.append((waiting(house.settings).loads, len(statuses(house)) - before))
    # The first tells of itself and of the run before, the second takes that in, and then there is nothing.
    assert told == [(1, 4), (0, 0), (0, 0), (0, 0)]


def test_a_run_of_dagster_is_told_once(house: House, instance: dg.DagsterInstance) -> None:
    run = house.tick()
    counts = [tell(house.settings, instance, now, now, is_good=None) for now in [datetime.now(UTC)] * 2]
    assert counts == [2, 0]
    assert [code for code, _, run_id in statuses(house) if run_id == run.run_id] == ["START", "SUCCEED"]


def test_the_verdict_is_in_the_marts(house: House, midnight: datetime) -> None:
    house.tick()
    with connect(house.settings, "analyst") as connection:
        found = connection.execute(
            "select slot, outcome from marts.slo_performance"
            " where slo_id = 'duemark-tick' and business_date = %s and slot <= '02:00'",
            [midnight.date()],
        ).fetchall()
    # Given up once the first of today has fallen due, ten minutes after midnight.
    rows = {str(slot): str(outcome).replace("missed", "overdue") for slot, outcome in found}
    assert rows == {
        "00:00": "on_time", "00:30": "on_time", "01:00": "on_time", "01:30": "overdue",
        "02:00": "overdue",
    }  # fmt: skip
