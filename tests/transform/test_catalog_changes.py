"""The catalog changes between ticks: past dates keep the promise of their day, later ones follow.

Versions apply by the moment at which they are stored, noon of a day of the test's own: dates are days from it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.catalog.store import restate
from pipelines.subject import Subject, Subjects, in_use, using
from pipelines.warehouse.settings import Settings
from tests.transform.support import KILL_POINTS, Documents, Status, Warehouse, examples

ZONE = "UTC"
# On the days before and after them dates, years and zones change: New York's clock in March and November.
DAYS = {
    "leap-day": date(2028, 2, 29),
    "new-year": date(2026, 1, 1),
    "spring": date(2026, 3, 8),
    "autumn": date(2025, 11, 2),
}


class _Calendar:
    """Which day it is, for the test that is running."""

    today = date(2026, 6, 17)


def today() -> date:
    return _Calendar.today


@pytest.fixture(autouse=True)
def the_day(
    request: pytest.FixtureRequest, deployed: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Makes it the day that the test is given as `on`, and catalogs be stored on it."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "on" in callspec.params:
        monkeypatch.setattr(_Calendar, "today", callspec.params["on"])
    deployed.stored_at = noon(0)
    yield
    deployed.stored_at = None


def day(number: int) -> str:
    """A date so many days from today."""
    return (today() + timedelta(days=number)).isoformat()


def noon(number: int) -> datetime:
    return datetime.combine(today() + timedelta(days=number), time(12), UTC)


def catalog(
    *slos: dict[str, Any], calendar: dict[str, Any] | None = None, second_after_first: bool = True
) -> Documents:
    """Two jobs; by default the second depends on the first."""
    up, down = ("first", "second") if second_after_first else ("second", "first")
    return {
        "applications": [{"id": "bank", "timezone": ZONE}],
        "calendars": [
            {
                "id": "every_day",
                "weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
                **(calendar or {}),
            }
        ],
        "jobs": [{"id": up, "application": "bank"}, {"id": down, "application": "bank", "depends_on": [up]}],
        "slos": list(slos),
    }


def nightly(end: str = "03:00", **more: Any) -> dict[str, Any]:
    return {
        "id": "nightly",
        "application": "bank",
        "calendar": "every_day",
        "jobs": [{"job": "first", "end": end}, {"job": "second", "end": end}],
        **more,
    }


def promised(warehouse: Warehouse) -> dict[int, str]:
    """Days from today to when the occurrence is due: HH:MM."""
    rows = warehouse.query(
        "select business_date, expected_end_at from marts.slo_performance where slo_id = 'nightly'"
    )
    return {
        (row["business_date"] - today()).days: row["expected_end_at"].astimezone(UTC).strftime("%H:%M")
        for row in rows
    }


def assert_as_rebuilt(warehouse: Warehouse, as_of: datetime) -> None:
    found = warehouse.marts()
    warehouse.tick(as_of, rebuild=True)
    assert warehouse.marts() == found


def test_a_changed_due_time_holds_for_dates_that_had_not_ended(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly("03:00", effective_from=day(-3))))
    warehouse.tick(noon(-1))
    assert promised(warehouse) == dict.fromkeys([-3, -2, -1], "03:00")
    warehouse.store_catalog(catalog(nightly("05:00", effective_from=day(-3))))
    warehouse.tick(noon(2))
    assert promised(warehouse) == {-3: "03:00", -2: "03:00", -1: "03:00", 0: "05:00", 1: "05:00", 2: "05:00"}
    assert_as_rebuilt(warehouse, noon(2))


def test_a_change_back_leaves_no_trace_of_itself_but_in_the_past(warehouse: Warehouse) -> None:
    for end in ("03:00", "05:00", "03:00"):
        warehouse.store_catalog(catalog(nightly(end, effective_from=day(-2))))
        warehouse.tick(noon(1))
    assert promised(warehouse) == dict.fromkeys([-2, -1, 0, 1], "03:00")
    assert_as_rebuilt(warehouse, noon(1))


def test_dates_added_to_and_taken_from_a_calendar(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly(effective_from=day(-3)), calendar={"exclude": [day(-2), day(2)]}))
    warehouse.tick(noon(4))
    assert sorted(promised(warehouse)) == [-3, -1, 0, 1, 3, 4]
    warehouse.store_catalog(
        catalog(nightly(effective_from=day(-3)), calendar={"exclude": [day(-1), day(0), day(3)]})
    )
    warehouse.tick(noon(4))
    # What had ended stays as it was promised, or not promised.
    assert sorted(promised(warehouse)) == [-3, -1, 1, 2, 4]
    assert_as_rebuilt(warehouse, noon(4))


def test_a_retired_slo_keeps_its_past(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly(effective_from=day(-2))))
    warehouse.tick(noon(1))
    warehouse.store_catalog(catalog())
    warehouse.tick(noon(1))
    assert sorted(promised(warehouse)) == [-2, -1]
    warehouse.tick(noon(2))
    assert sorted(promised(warehouse)) == [-2, -1]
    assert_as_rebuilt(warehouse, noon(2))
    # Back again, from today on.
    warehouse.store_catalog(catalog(nightly("04:00", effective_from=day(-2))))
    warehouse.tick(noon(3))
    assert promised(warehouse) == {-2: "03:00", -1: "03:00", 0: "04:00", 1: "04:00", 2: "04:00", 3: "04:00"}
    assert_as_rebuilt(warehouse, noon(3))


def test_a_later_entry_holds_from_its_date_but_not_in_the_past(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly("03:00", effective_from=day(-4))))
    warehouse.tick(noon(3))
    warehouse.store_catalog(
        catalog(
            nightly("03:00", effective_from=day(-4)),
            nightly("05:00", effective_from=day(-2)),
            nightly("07:00", effective_from=day(2)),
        )
    )
    warehouse.tick(noon(3))
    assert promised(warehouse) == {
        **dict.fromkeys([-4, -3, -2, -1], "03:00"), **dict.fromkeys([0, 1], "05:00"), **dict.fromkeys([2, 3], "07:00"),
    }  # fmt: skip
    assert_as_rebuilt(warehouse, noon(3))


def test_an_end_of_an_entry_is_kept(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly(effective_from=day(-2), effective_to=day(1))))
    warehouse.tick(noon(3))
    assert sorted(promised(warehouse)) == [-2, -1, 0, 1]
    warehouse.store_catalog(catalog(nightly(effective_from=day(-2), effective_to=day(2))))
    warehouse.tick(noon(3))
    assert sorted(promised(warehouse)) == [-2, -1, 0, 1, 2]
    assert_as_rebuilt(warehouse, noon(3))


def test_the_past_keeps_the_graph_of_its_day(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly(effective_from=day(-2)), second_after_first=False))
    warehouse.tick(noon(1))
    warehouse.store_catalog(catalog(nightly(effective_from=day(-2)), second_after_first=True))
    warehouse.tick(noon(1))
    # Both are missing and due at once: the most upstream is to blame.
    assert warehouse.rows("slo_performance", "business_date", "blocking_job") == [
        (day(-2), "bank/second"), (day(-1), "bank/second"), (day(0), "bank/first"), (day(1), "bank/first"),
    ]  # fmt: skip
    assert_as_rebuilt(warehouse, noon(1))


def test_asked_for_by_name_the_past_follows_too(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly("03:00", effective_from=day(-3))))
    warehouse.tick(noon(1))
    warehouse.store_catalog(catalog(nightly("05:00", effective_from=day(-3))))
    restate(warehouse.settings, "nightly", today() - timedelta(days=2))
    warehouse.tick(noon(1))
    assert promised(warehouse) == {-3: "03:00", -2: "05:00", -1: "05:00", 0: "05:00", 1: "05:00"}
    assert_as_rebuilt(warehouse, noon(1))


def test_a_restated_effective_from_withdraws_what_was_promised_before_it(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(nightly("03:00")))
    warehouse.ingest([status("first", "SUCCEED", -6), status("first", "SUCCEED", -5)])
    warehouse.tick(noon(1))
    assert sorted(promised(warehouse)) == list(range(-6, 2))
    (before,) = warehouse.query("select max(received_at) as at from raw.load")
    entries = [nightly("05:00", effective_from=day(-3)), nightly("06:00", effective_from=day(-1))]
    warehouse.store_catalog(catalog(*entries))
    # Of a part of the past: what was before stays.
    assert restate(warehouse.settings, "nightly", today() - timedelta(days=2)) is None
    warehouse.tick(noon(1))
    assert promised(warehouse) == {
        **dict.fromkeys(range(-6, -2), "03:00"), -2: "05:00", **dict.fromkeys(range(-1, 2), "06:00"),
    }  # fmt: skip
    assert restate(warehouse.settings, "nightly", today() - timedelta(days=9)) == today() - timedelta(days=3)
    warehouse.tick(noon(1))
    now = {**dict.fromkeys(range(-3, -1), "05:00"), **dict.fromkeys(range(-1, 2), "06:00")}
    assert promised(warehouse) == now
    assert_as_rebuilt(warehouse, noon(1))
    then = warehouse.query(
        "select business_date from marts.slo_performance_at(%s, %s)", noon(1), before["at"]
    )
    assert sorted((row["business_date"] - today()).days for row in then) == list(range(-6, 2))

    # It is no change of the catalog: nothing is stored again, and taken out it is retired once.
    assert store_catalog_again(warehouse, entries) == 0
    warehouse.store_catalog(catalog())
    warehouse.tick(noon(1))
    assert sorted(promised(warehouse)) == [-3, -2, -1]
    warehouse.store_catalog(catalog(*entries))
    warehouse.tick(noon(1))
    assert promised(warehouse) == now


def store_catalog_again(warehouse: Warehouse, slos: list[dict[str, Any]]) -> int:
    """Store the catalog with another file beside it that changes nothing of its SLOs; how many versions are new."""
    count = "select count(*) as n from catalog.slo_version"
    (before,) = warehouse.query(count)
    other_name = [{"id": "bank", "timezone": ZONE, "name": "The bank"}]
    warehouse.store_catalog({**catalog(*slos), "applications": other_name})
    (after,) = warehouse.query(count)
    return int(after["n"] - before["n"])


def test_a_new_slo_looks_back_to_the_first_status_of_its_jobs(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog())
    warehouse.ingest([status("first", "SUCCEED", -3), status("first", "SUCCEED", -2)])
    warehouse.tick(noon(-1))
    # No `effective_from`: from the first business date that has a status of its jobs.
    warehouse.store_catalog(catalog(nightly()))
    warehouse.tick(noon(0))
    assert sorted(promised(warehouse)) == [-3, -2, -1, 0]
    assert_as_rebuilt(warehouse, noon(0))


def test_an_occurrence_opens_early_by_a_status_of_its_own_jobs_only(warehouse: Warehouse) -> None:
    # Tonga is 13 hours ahead of the zone of the SLO: its jobs report for a date that has not begun there.
    documents = catalog(nightly(effective_from=day(-1)))
    ahead = {
        **documents,
        "applications": [*documents["applications"], {"id": "tonga", "timezone": "Pacific/Tongatapu"}],
        "jobs": [*documents["jobs"], {"id": "early", "application": "tonga"}],
    }
    jobs = [{"job": "first", "end": "03:00"}, {"job": "tonga/early", "end": "03:00"}]
    both = nightly(effective_from=day(-1), jobs=jobs)
    warehouse.store_catalog({**ahead, "slos": [both]})
    warehouse.ingest(
        [
            {
                **status("early", "START", 1),
                "application_id": "tonga",
                "status_at": noon(0),
                "business_date": day(1),
            }
        ]
    )
    warehouse.tick(noon(0))
    assert sorted(promised(warehouse)) == [-1, 0, 1]
    # Without the job its early status opens nothing.
    warehouse.store_catalog({**ahead, "slos": [nightly(effective_from=day(-1))]})
    warehouse.tick(noon(0))
    assert sorted(promised(warehouse)) == [-1, 0]
    assert_as_rebuilt(warehouse, noon(0))


def test_what_lands_while_a_tick_prepares_is_left_to_the_next(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.store_catalog(catalog(nightly()))
    warehouse.ingest([status("first", "SUCCEED", -1)])
    warehouse.tick(noon(-1))
    arrivals = [[status("first", "SUCCEED", -3)]]

    def arrive(settings: Settings, as_of: datetime) -> int:
        """A file lands after the promises were made; its status moves the first business date."""
        if arrivals:
            warehouse.ingest(arrivals.pop())
        return sys.maxsize

    with using(Subjects((*in_use(), Subject("late", prepare=arrive)))):
        warehouse.tick(noon(-1))
    warehouse.tick(noon(-1))
    assert sorted(promised(warehouse)) == [-3, -2, -1]
    assert_as_rebuilt(warehouse, noon(-1))


def status(job: str, code: str, number: int, hour: int = 2, run_id: str | None = None) -> Status:
    """A status at an hour of a day, for that day."""
    return {
        "application_id": "bank",
        "job_id": job,
        "status_code": code,
        "status_at": datetime.combine(today() + timedelta(days=number), time(hour), UTC),
        "business_date": day(number),
        "run_id": run_id,
    }


@dataclass(frozen=True)
class Change:
    """One state of the catalog, by what may differ."""

    is_there: bool
    end: str
    exclude: tuple[int, ...]
    since: int | None
    second_after_first: bool
    zone: str
    is_intraday: bool

    def documents(self) -> Documents:
        slo = nightly(self.end, timezone=self.zone)
        if self.is_intraday:
            slo |= {
                "every": {
                    "minutes": 60,
                    "from": "01:00",
                    "to": "03:00",
                    "due_after": "30m",
                    "early_tolerance": "5m",
                },
                "jobs": [{"job": "second"}],
            }
        if self.since is not None:
            slo["effective_from"] = day(self.since)
        return catalog(
            *([slo] if self.is_there else []),
            calendar={"exclude": [day(number) for number in self.exclude]},
            second_after_first=self.second_after_first,
        )


CHANGES = st.builds(
    Change,
    is_there=st.sampled_from([True, True, True, False]),
    end=st.sampled_from(["02:00", "03:00", "26:00"]),
    exclude=st.lists(st.integers(-2, 2), max_size=2, unique=True).map(tuple),
    since=st.sampled_from([None, None, -2, 1]),
    second_after_first=st.booleans(),
    zone=st.sampled_from(["UTC", "America/New_York", "Asia/Singapore"]),
    is_intraday=st.booleans(),
)
# What `status` makes a status of, on the day of the test.
STATUSES: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    job=st.sampled_from(["first", "second"]),
    code=st.sampled_from(["START", "SUCCEED", "FAIL"]),
    number=st.integers(-2, 2),
    hour=st.integers(1, 3),
    run_id=st.sampled_from([None, "r1"]),
)
STEPS = st.one_of(
    st.tuples(st.just("catalog"), CHANGES),
    st.tuples(st.just("load"), st.lists(STATUSES, min_size=1, max_size=4)),
    st.tuples(st.sampled_from(["tick", "tick", "tick", *KILL_POINTS]), st.none()),
)


@pytest.mark.parametrize("on", DAYS.values(), ids=DAYS)
@examples(3)
@given(
    first=CHANGES,
    steps=st.lists(STEPS, min_size=3, max_size=9),
    moments=st.lists(st.integers(-48, 72), min_size=10, max_size=10).map(sorted),
)
def test_any_changes_between_ticks_give_what_a_rebuild_gives(
    deployed: Warehouse, on: date, first: Change, steps: list[tuple[str, Any]], moments: list[int]
) -> None:
    deployed.reset()
    deployed.store_catalog(first.documents())
    as_of = noon(0)
    for (step, value), hours in zip(steps, moments, strict=False):
        as_of = noon(0) + timedelta(hours=hours)
        if step == "catalog":
            deployed.store_catalog(value.documents())
        elif step == "load":
            deployed.ingest(status(**one) for one in value)
        elif step == "tick":
            deployed.tick(as_of)
        else:
            deployed.killed_tick(as_of, step)
    as_of = noon(0) + timedelta(hours=moments[-1])
    deployed.tick(as_of)
    assert_as_rebuilt(deployed, as_of)


@pytest.mark.parametrize("order", ["status first", "catalog first"])
def test_a_first_status_and_a_new_slo_in_one_tick(warehouse: Warehouse, order: str) -> None:
    warehouse.store_catalog(catalog())
    warehouse.tick(noon(-2))
    # A lone date would open nothing.
    statuses = [status("first", "SUCCEED", -3), status("first", "SUCCEED", -2)]
    if order == "status first":
        warehouse.ingest(statuses)
        warehouse.store_catalog(catalog(nightly()))
    else:
        warehouse.store_catalog(catalog(nightly()))
        warehouse.ingest(statuses)
    warehouse.tick(noon(-1))
    assert sorted(promised(warehouse)) == [-3, -2, -1]
    assert_as_rebuilt(warehouse, noon(-1))


@pytest.mark.parametrize("on", [date(2026, 11, 28), date(2028, 2, 29)], ids=["saturday", "leap-day"])
def test_a_calendar_changes_on_a_day_that_it_does_not_have(warehouse: Warehouse, on: date) -> None:
    """By the machine's date, ticks stopped on all days but Mondays once it had changed."""
    weekly = {"weekdays": ["mon"]}
    warehouse.store_catalog(catalog(nightly(effective_from="2026-03-02"), calendar=weekly))
    as_of = datetime(2026, 3, 10, 12, tzinfo=UTC)
    warehouse.tick(as_of)
    before = warehouse.marts()
    warehouse.store_catalog(
        catalog(nightly(effective_from="2026-03-02"), calendar={**weekly, "exclude": ["2026-03-02"]})
    )
    warehouse.tick(as_of)
    # The dates before the change keep their promise, those after it are not known yet.
    assert warehouse.marts() == before
    assert_as_rebuilt(warehouse, as_of)
    warehouse.tick(noon(7))
    assert [number for number in promised(warehouse) if number >= 0] == [
        number for number in range(8) if (on + timedelta(days=number)).weekday() == 0
    ]
