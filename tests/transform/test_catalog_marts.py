"""Marts of the catalog: what is promised now and was by version, what waits for what, and which dates count."""

from __future__ import annotations

from datetime import UTC, date, datetime
from importlib import metadata
from typing import Any

import pytest

from pipelines.catalog.store import restate
from tests.transform.support import Documents, Warehouse

TODAY = date(2026, 12, 16)


def noon(day: int) -> datetime:
    return datetime(2026, 12, day, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _stored_at(deployed: Warehouse) -> Any:
    deployed.stored_at = noon(TODAY.day)
    yield
    deployed.stored_at = None


def nightly(end: str = "03:00", **more: Any) -> dict[str, Any]:
    jobs = [{"job": "load", "end": end, "day_offset": 1}]
    return {"id": "nightly", "application": "bank", "calendar": "days", "jobs": jobs, **more}


def catalog(*slos: dict[str, Any], **more: Any) -> Documents:
    workdays = ["mon", "tue", "wed", "thu", "fri"]
    return {
        "applications": [{"id": "bank", "timezone": "America/New_York", "owner": "team:bank"}],
        "calendars": [{"id": "days", "weekdays": workdays, "holidays": {"country": "US"}}],
        "jobs": [
            {"id": "post", "application": "bank"},
            {"id": "load", "application": "bank", "depends_on": ["post"], "owner": "team:load"},
            {"id": "report", "application": "bank", "depends_on": ["load"], "restartable": False},
        ],
        "slos": list(slos),
        **more,
    }


def slos(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return warehouse.rows(
        "slo", "slo_id", "due_time / 60", "first_date", "last_date", "is_retired", "version"
    )


def versions(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return warehouse.rows("slo_version", "version", "first_date", "last_date", "is_current", "due_time::text")


def test_a_promise_by_version(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly("03:00", effective_from="2026-12-01")))
    warehouse.tick(noon(16))
    assert versions(warehouse) == [(1, "2026-12-01", None, True, "1 day 03:00:00")]

    later = nightly("06:00", effective_from="2027-02-01", name="Later")
    warehouse.store_catalog(catalog(nightly("05:00", effective_from="2026-12-01"), later))
    warehouse.tick(noon(16))
    edited = [
        (1, "2026-12-01", "2026-12-15", False, "1 day 03:00:00"),
        (2, "2026-12-16", "2027-01-31", True, "1 day 05:00:00"),
        (3, "2027-02-01", None, False, "1 day 06:00:00"),
    ]
    assert versions(warehouse) == edited
    (slo,) = warehouse.query("select * from marts.slo")
    assert (slo["version"], slo["first_date"], slo["last_date"], slo["is_retired"]) == (
        2,
        date(2026, 12, 1),
        None,
        False,
    )
    assert slo["promise"] == "complete by 05:00 on the next day (America/New_York), for every date of days"
    assert (slo["owner"], slo["calendar_id"], slo["slo_name"]) == ("team:bank", "days", "Later")

    # A day of New York ends five hours after that of UTC; what is judged then is as of then.
    warehouse.tick("2027-02-01 04:00")
    assert [
        row["is_current"] for row in warehouse.query("select * from marts.slo_version order by version")
    ] == [False, True, False]
    warehouse.tick("2027-02-01 06:00")
    assert [
        row["is_current"] for row in warehouse.query("select * from marts.slo_version order by version")
    ] == [False, False, True]

    restate(warehouse.settings, "nightly", date(2026, 12, 10))
    warehouse.tick("2027-02-01 06:00")
    assert [row[:3] for row in versions(warehouse)] == [
        (1, "2026-12-01", "2026-12-09"), (2, "2026-12-10", "2027-01-31"), (3, "2027-02-01", None),
    ]  # fmt: skip


def test_every_occurrence_is_of_one_version_and_due_when_that_says(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly("03:00", effective_from="2026-12-01")))
    warehouse.tick(noon(16))
    warehouse.store_catalog(catalog(nightly("26:30", effective_from="2026-12-01")))
    warehouse.tick(noon(28))
    found = warehouse.query(
        """
        select business_date, expected_end_at = (business_date + due_time) at time zone timezone as is_due_then,
            is_business_date
        from marts.slo_performance
        left join marts.slo_version
            on slo_version.slo_id = slo_performance.slo_id
            and business_date between first_date and coalesce(last_date, 'infinity')
        left join marts.calendar_date using (calendar_id, business_date)
        """
    )
    # Three weeks and a half without weekends and Christmas, each once.
    assert len({row["business_date"] for row in found}) == len(found) == 19
    assert all(row["is_due_then"] and row["is_business_date"] for row in found)


def test_what_was_taken_out_stays_and_says_so(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly(effective_from="2026-12-01")))
    warehouse.tick(noon(16))
    gone = catalog(
        jobs=[{"id": "post", "application": "bank"}], calendars=[{"id": "other", "weekdays": ["mon"]}]
    )
    warehouse.store_catalog(gone)
    warehouse.tick(noon(17))
    assert slos(warehouse)[0][2:] == ("2026-12-01", "2026-12-15", True, 1)
    assert warehouse.rows("slo_job", "slo_id", "job_id", "start_time", "end_time", "day_offset") == [
        ("nightly", "load", None, "03:00", 1)
    ]
    assert warehouse.rows("job", "job_id", "owner", "is_restartable", "is_retired") == [
        ("load", "team:load", True, True), ("post", "team:bank", True, False), ("report", "team:bank", False, True),
    ]  # fmt: skip
    assert warehouse.query("select * from marts.job_dependency") == []
    assert warehouse.query("select distinct calendar_id from marts.calendar_date") == [
        {"calendar_id": "other"}
    ]
    warehouse.store_catalog({**gone, "applications": [{"id": "new", "timezone": "UTC"}], "jobs": []})
    warehouse.tick(noon(17))
    assert warehouse.rows("application", "application_id", "owner", "is_retired") == [
        ("bank", "team:bank", True), ("new", None, False),
    ]  # fmt: skip


def test_nothing_shows_before_the_tick_that_takes_it(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly(effective_from="2026-12-01")))
    warehouse.tick(noon(16))
    before = [warehouse.query(f"select * from marts.{name}") for name in ("slo", "job", "job_dependency")]
    renamed = catalog(
        nightly(effective_from="2026-12-01", name="Another"), jobs=[{"id": "load", "application": "bank"}]
    )
    warehouse.store_catalog(renamed)
    assert before == [
        warehouse.query(f"select * from marts.{name}") for name in ("slo", "job", "job_dependency")
    ]
    warehouse.tick(noon(16))
    assert warehouse.rows("slo", "slo_name") == [("Another",)]


def days(warehouse: Warehouse, first: str, last: str) -> list[tuple[Any, ...]]:
    return warehouse.rows(
        "calendar_date", "business_date", "weekday", "is_business_date", "reason", "holiday",
        where=f"business_date between '{first}' and '{last}'",
    )  # fmt: skip


def test_dates_of_a_calendar_and_why(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly(effective_from="2026-12-01")))
    warehouse.tick(noon(16))
    assert days(warehouse, "2026-12-24", "2026-12-27") == [
        ("2026-12-24", "thu", True, "weekday", None), ("2026-12-25", "fri", False, "holiday", "Christmas Day"),
        ("2026-12-26", "sat", False, "rest_day", None), ("2026-12-27", "sun", False, "rest_day", None),
    ]  # fmt: skip
    # From the year of the first promise to the end of next year.
    whole = "select min(business_date) as first, max(business_date) as last, count(*) as n from marts.calendar_date"
    assert warehouse.query(whole) == [{"first": date(2026, 1, 1), "last": date(2027, 12, 31), "n": 730}]
    loads = "select count(*) as n from raw.load"
    before = warehouse.query(loads)
    warehouse.tick(noon(17))
    assert warehouse.query(loads) == before, "worked out once"

    (calendar,) = catalog()["calendars"]
    changed = {**calendar, "include": ["2026-12-25"], "exclude": ["2026-12-24"], "until": "2026-12-26"}
    warehouse.store_catalog(catalog(nightly(effective_from="2025-12-01"), calendars=[changed]))
    warehouse.tick("2027-01-02 00:00")
    assert days(warehouse, "2026-12-24", "2026-12-27") == [
        ("2026-12-24", "thu", False, "excluded", None), ("2026-12-25", "fri", True, "included", "Christmas Day"),
        ("2026-12-26", "sat", False, "rest_day", None), ("2026-12-27", "sun", False, "ended", None),
    ]  # fmt: skip
    # The next year too, now that this one has come.
    assert warehouse.query(whole)[0]["last"] == date(2028, 12, 31)


def test_another_version_of_the_holidays_library_is_asked_anew(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.store_catalog(catalog(nightly(effective_from="2026-12-01")))
    warehouse.tick(noon(16))
    monkeypatch.setattr("pipelines.catalog.calendar_years.version", lambda _: "999")
    warehouse.tick(noon(16))
    assert {row["library"] for row in warehouse.query("select library from catalog.calendar_year")} == {
        metadata.version("holidays"), "999",
    }  # fmt: skip
    assert len(days(warehouse, "2026-12-01", "2026-12-31")) == 31


def test_what_waits_for_what(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog())
    warehouse.tick(noon(16))
    assert warehouse.rows("job_dependency", "job_id", "upstream_job_id", "distance") == [
        ("load", "post", 1), ("report", "load", 1), ("report", "post", 2),
    ]  # fmt: skip
