"""What opens an SLO without `effective_from`, whenever it is received: dates here are days from today."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest

from pipelines.slo.lone import warnings
from tests.transform.support import Status, Warehouse

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
CATALOG: dict[str, list[dict[str, Any]]] = {
    "applications": [{"id": "bank", "timezone": "UTC"}],
    "calendars": [{"id": "every_day", "weekdays": DAYS}],
    "jobs": [{"id": "load", "application": "bank"}, {"id": "report", "application": "bank"}],
    "slos": [
        {
            "id": "nightly",
            "application": "bank",
            "calendar": "every_day",
            "jobs": [{"job": "load", "end": "20:00"}, {"job": "report", "end": "20:00"}],
        }
    ],
}
# What was received long after it, alone, opens nothing: each of these lies far from the next one.
AGES_AGO = -7300


def day(number: int) -> date:
    return datetime.now(UTC).date() + timedelta(days=number)


def noon(number: int = 0) -> datetime:
    return datetime.combine(day(number), time(12), UTC)


def done(number: int, job: str = "load", **more: Any) -> Status:
    """A job succeeded in the morning of a date."""
    return {
        "application_id": "bank",
        "job_id": job,
        "status_code": "SUCCEED",
        "status_at": datetime.combine(day(number), time(6), UTC),
        "business_date": day(number),
        **more,
    }


def first_and_count(warehouse: Warehouse) -> tuple[int | None, int]:
    """Days from today to the first business date that is promised, and how many dates are."""
    (row,) = warehouse.query("select min(business_date) as first, count(*) as n from marts.slo_performance")
    return (row["first"] - day(0)).days if row["first"] else None, row["n"]


def lone(warehouse: Warehouse) -> list[int]:
    rows = warehouse.query("select unnest(lone_dates) as lone_date from marts.slo_start order by 1")
    return [(row["lone_date"] - day(0)).days for row in rows]


@pytest.fixture
def bank(warehouse: Warehouse) -> Warehouse:
    warehouse.store_catalog(CATALOG)
    return warehouse


def assert_as_rebuilt(bank: Warehouse, as_of: datetime) -> None:
    grown, starts = bank.marts(), bank.query("select * from marts.slo_start")
    bank.tick(as_of, rebuild=True)
    assert (bank.marts(), bank.query("select * from marts.slo_start")) == (grown, starts)
    function = bank.query("select count(*) as n from marts.slo_performance_at(%s)", as_of)
    assert function == [{"n": len(grown["slo_performance"])}]


def test_a_mistyped_year_opens_nothing_and_is_told(bank: Warehouse) -> None:
    bank.ingest(done(number) for number in (-3, -2, -1))
    bank.tick(noon())
    assert first_and_count(bank) == (-3, 4)
    assert warnings(bank.settings) == []
    bank.ingest([done(-1, "report", business_date=day(AGES_AGO))])
    bank.tick(noon())
    assert first_and_count(bank) == (-3, 4)
    assert lone(bank) == [AGES_AGO]
    (warning,) = warnings(bank.settings)
    assert f"nightly has a status for the business date {day(AGES_AGO)}" in warning
    assert f"it starts on {day(-3)}" in warning
    assert "duemark unload PATH" in warning
    # Nor was it promised: what nobody asks for costs nothing.
    assert bank.query("select count(*) as n from catalog.promise")[0]["n"] < 100
    assert_as_rebuilt(bank, noon())


@pytest.mark.parametrize(
    ("distance", "job", "comes_first", "is_open"),
    [(45, "load", "far", True), (45, "report", "near", True), (46, "load", "near", False)],
)
def test_a_date_within_45_days_opens_it_whenever_it_comes(
    bank: Warehouse, distance: int, job: str, comes_first: str, is_open: bool
) -> None:
    statuses = [done(-200), done(-200 + distance, job)]
    bank.ingest(statuses[:1] if comes_first == "far" else statuses[1:])
    bank.tick(noon())
    assert first_and_count(bank) == (None, 0)
    bank.ingest(statuses)
    bank.tick(noon())
    assert first_and_count(bank) == ((-200, 201) if is_open else (None, 0))
    assert lone(bank) == ([] if is_open else [-200, -200 + distance])
    assert_as_rebuilt(bank, noon())


@pytest.mark.parametrize(("number", "is_open"), [(-43, True), (-47, False)])
def test_what_is_received_in_time_opens_it_alone(bank: Warehouse, number: int, is_open: bool) -> None:
    bank.ingest([done(number)])
    bank.tick(noon())
    assert first_and_count(bank) == ((number, 1 - number) if is_open else (None, 0))
    assert_as_rebuilt(bank, noon())


def test_the_first_receipt_of_a_date_counts(bank: Warehouse) -> None:
    # The copy that came in time, and a later load: whichever order the tick sees them in.
    bank.ingest([done(-20)])
    bank.ingest([done(-20), done(-20, "report")])
    bank.tick(noon())
    assert first_and_count(bank) == (-20, 21)


@pytest.mark.parametrize("order", [(-300, -120, -80), (-80, -300, -120), (-80, -120, -300)])
def test_the_order_of_arrival_makes_no_difference(bank: Warehouse, order: tuple[int, ...]) -> None:
    for number in order:
        bank.ingest([done(number)])
        bank.tick(noon())
    assert first_and_count(bank) == (-120, 121)
    assert lone(bank) == [-300]
    assert_as_rebuilt(bank, noon())


def test_a_year_in_the_far_future_makes_no_decades_of_promises(bank: Warehouse) -> None:
    far = 36 * 365
    bank.ingest([done(far)])
    bank.tick(noon())
    assert first_and_count(bank) == (None, 0)
    bank.ingest([done(-1)])
    bank.tick(noon())
    assert first_and_count(bank) == (-1, 2)
    (promised,) = bank.query("select count(*) as n, max(business_date) as last from catalog.promise")
    assert promised["n"] < 100
    assert promised["last"] < day(60)
    bank.tick(noon(30))
    assert first_and_count(bank) == (-1, 32)
