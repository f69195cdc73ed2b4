"""Dates for which nothing is promised are planned like any other: the tick goes on, and comes to them once."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.slo import plan
from tests.transform.support import Documents, Warehouse
from tests.transform.test_golden import HEADER

STATUS = "bank,post,{},{},{},,\n"
DAYS = ["mon", "tue", "wed", "thu", "fri"]


def catalog(calendar: dict[str, Any], *more: dict[str, Any], **slo: Any) -> Documents:
    """One job, one SLO due at 20:00 on the dates of the calendar, and more SLOs of other jobs."""
    daily = {"calendar": "days", "application": "bank"}
    return {
        "applications": [{"id": "bank", "timezone": "Europe/Berlin"}],
        "calendars": [{"id": "days", **calendar}],
        "jobs": [{"id": job, "application": "bank"} for job in ("post", "load", "send")],
        "slos": [{"id": "posted", "jobs": [{"job": "post", "end": "20:00"}], **daily, **slo}, *more],
    }


def verdicts(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return warehouse.rows("slo_performance", "slo_id", "business_date", "outcome")


def test_a_first_status_on_a_date_that_is_no_business_date(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog({"weekdays": DAYS}))
    # Two dates: one alone, received so long after it, would open nothing.
    warehouse.ingest(
        HEADER
        + STATUS.format("SUCCEED", "2026-03-02T18:00:00", "2026-03-02")
        + STATUS.format("START", "2026-03-03T10:00:00", "2026-03-03")
    )
    warehouse.tick("2026-03-03 11:00")
    before = warehouse.marts()["slo_performance"]
    assert verdicts(warehouse) == [("posted", "2026-03-02", "on_time"), ("posted", "2026-03-03", "not_due")]
    # A Sunday: all that is missing of the plan is a date without a promise.
    warehouse.ingest(HEADER + STATUS.format("SUCCEED", "2026-03-01T18:00:00", "2026-03-01"))
    warehouse.tick("2026-03-03 11:05")
    assert warehouse.marts()["slo_performance"] == before
    # It is planned now, and not looked at again.
    loads = warehouse.query("select count(*) from raw.load where feed = 'promises'")
    warehouse.tick("2026-03-03 11:10")
    assert warehouse.query("select count(*) from raw.load where feed = 'promises'") == loads


def test_a_calendar_with_a_date_a_quarter(warehouse: Warehouse) -> None:
    quarters = {"weekdays": [], "include": ["2026-03-31", "2026-06-30"]}
    warehouse.store_catalog(catalog(quarters, effective_from="2026-01-01"))
    for moment in ("2026-01-05", "2026-03-20", "2026-04-05", "2026-04-25", "2026-05-09", "2026-07-02"):
        warehouse.tick(f"{moment} 12:00")
    grown = warehouse.marts()
    assert verdicts(warehouse) == [("posted", "2026-03-31", "missed"), ("posted", "2026-06-30", "overdue")]
    warehouse.tick("2026-07-02 12:00", rebuild=True)
    assert warehouse.marts() == grown


@pytest.mark.parametrize("first", ["2026-03-05 12:00", "2026-04-20 12:00", "2027-01-09 12:00"])
def test_a_catalog_whose_calendars_have_all_ended(warehouse: Warehouse, first: str) -> None:
    ended = {"weekdays": DAYS, "until": "2026-03-06"}
    warehouse.store_catalog(catalog(ended, effective_from="2026-03-05"))
    warehouse.ingest(HEADER + STATUS.format("SUCCEED", "2026-03-05T18:00:00", "2026-03-05"))
    for moment in (first, "2027-02-28 23:30", "2028-02-29 06:00"):
        warehouse.tick(moment)
    grown = warehouse.marts()
    assert verdicts(warehouse) == [("posted", "2026-03-05", "on_time"), ("posted", "2026-03-06", "missed")]
    warehouse.tick("2028-02-29 06:00", rebuild=True)
    assert warehouse.marts() == grown


@pytest.mark.parametrize("batch", [1, 8, 9])
def test_wherever_a_batch_of_promises_is_full(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(plan, "BATCH", batch)
    windows = {"minutes": 60, "from": "08:00", "to": "10:00", "due_after": "5m"}
    dates = {"weekdays": [], "include": ["2026-03-02", "2026-03-03"]}
    more: list[dict[str, Any]] = [
        {"id": "loaded", "application": "bank", "calendar": "days", "effective_from": "2026-03-02",
         "every": windows, "jobs": [{"job": "load"}]},
        # Nothing is promised of it yet.
        {"id": "sent", "application": "bank", "calendar": "days", "effective_from": "2026-03-04",
         "jobs": [{"job": "send", "end": "09:00"}]},
    ]  # fmt: skip
    warehouse.store_catalog(catalog(dates, *more, effective_from="2026-03-02"))
    warehouse.tick("2026-03-03 08:00")
    claims = warehouse.query(
        "select business_date::text, slot, claims_from::text, claims_before::text from catalog.promise"
        " where slo_id = 'loaded' order by business_date, slot"
    )
    assert [tuple(row.values()) for row in claims] == [
        (f"2026-03-0{day}", slot, begin if begin == "-infinity" else f"2026-03-0{day} {begin}:00+00",
         end if end == "infinity" else f"2026-03-0{day} {end}:00+00")
        for day in (2, 3)
        for slot, begin, end in (("08:00", "-infinity", "08:00"), ("09:00", "08:00", "09:00"),
                                 ("10:00", "09:00", "infinity"))
    ]  # fmt: skip
    assert warehouse.rows("slo_performance", "slo_id", "business_date", where="slo_id = 'posted'") == [
        ("posted", "2026-03-02"), ("posted", "2026-03-03"),
    ]  # fmt: skip
