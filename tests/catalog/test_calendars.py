"""Business dates, against lists that were written down from the exchange's and the government's own pages."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.catalog.calendars import business_dates, calendar_days, last_date
from pipelines.catalog.models import WEEKDAYS, Calendar
from pipelines.errors import DuemarkError

WORKDAYS = ["mon", "tue", "wed", "thu", "fri"]

# 9 January 2025: the exchange closed for the funeral of President Carter.
NYSE_CLOSED = """
    2025-01-01 2025-01-09 2025-01-20 2025-02-17 2025-04-18 2025-05-26 2025-06-19 2025-07-04 2025-09-01 2025-11-27
    2025-12-25
    2026-01-01 2026-01-19 2026-02-16 2026-04-03 2026-05-25 2026-06-19 2026-07-03 2026-09-07 2026-11-26 2026-12-25
"""
# Independence Day of 2026 is a Saturday, observed on Friday; New Year's Day of 2028 on the last day of 2027.
FEDERAL = """
    2026-01-01 2026-01-19 2026-02-16 2026-05-25 2026-06-19 2026-07-03 2026-07-04 2026-09-07 2026-10-12 2026-11-11
    2026-11-26 2026-12-25
    2027-01-01 2027-01-18 2027-02-15 2027-05-31 2027-06-18 2027-06-19 2027-07-04 2027-07-05 2027-09-06 2027-10-11
    2027-11-11 2027-11-25 2027-12-24 2027-12-25 2027-12-31
"""


def calendar(**keys: Any) -> Calendar:
    return Calendar.model_validate({"id": "one", "weekdays": list(WEEKDAYS), **keys})


def days(start: date, end: date) -> list[date]:
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


def listed(text: str) -> set[date]:
    return {date.fromisoformat(word) for word in text.split()}


@pytest.mark.parametrize(
    ("keys", "closed", "start", "end"),
    [
        ({"holidays": {"market": "NYSE"}}, NYSE_CLOSED, date(2025, 1, 1), date(2026, 12, 31)),
        ({"holidays": {"financial": {"market": "NYSE"}}}, NYSE_CLOSED, date(2025, 1, 1), date(2026, 12, 31)),
        ({"financial": {"market": "XNYS"}}, NYSE_CLOSED, date(2025, 1, 1), date(2026, 12, 31)),
        ({"holidays": {"country": "US"}}, FEDERAL, date(2026, 1, 1), date(2027, 12, 31)),
        (
            {"holidays": {"country": "US", "categories": ["public"], "market": "NYSE"}},
            FEDERAL + NYSE_CLOSED,
            date(2026, 1, 1),
            date(2026, 12, 31),
        ),
    ],
)
def test_date_by_date(keys: dict[str, Any], closed: str, start: date, end: date) -> None:
    expected = [day for day in days(start, end) if day.weekday() < 5 and day not in listed(closed)]
    assert business_dates(calendar(weekdays=WORKDAYS, **keys), start, end) == expected


def test_subdivisions() -> None:
    easter_monday, saint_andrew = date(2026, 4, 6), date(2026, 11, 30)
    england = calendar(holidays={"country": "GB", "subdivision": "ENG"})
    scotland = calendar(holidays={"country": "GB", "subdivision": "SCT"})
    for one, open_on, closed_on in (
        (england, saint_andrew, easter_monday),
        (scotland, easter_monday, saint_andrew),
    ):
        assert business_dates(one, open_on, open_on) == [open_on]
        assert business_dates(one, closed_on, closed_on) == []


def test_what_beats_what() -> None:
    # A Saturday and a holiday at once.
    independence = date(2026, 7, 4)
    rules: dict[str, Any] = {"weekdays": WORKDAYS, "holidays": {"country": "US"}}
    assert business_dates(calendar(**rules), independence, independence) == []
    rules["include"] = [independence]
    assert business_dates(calendar(**rules), independence, independence) == [independence]
    rules["exclude"] = [independence]
    assert business_dates(calendar(**rules), independence, independence) == []


def test_nothing_after_until() -> None:
    one = calendar(weekdays=["mon"], until=date(2026, 3, 12), include=[date(2026, 3, 20)])
    assert business_dates(one, date(2026, 3, 1), date(2026, 4, 30)) == [date(2026, 3, 2), date(2026, 3, 9)]
    assert last_date(one) == date(2026, 3, 9)


def test_empty_range() -> None:
    assert business_dates(calendar(), date(2026, 3, 2), date(2026, 3, 1)) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, None),
        (
            {"until": date(2026, 12, 25), "weekdays": WORKDAYS, "holidays": {"country": "US"}},
            date(2026, 12, 24),
        ),
        ({"weekdays": [], "include": [date(2026, 5, 29), date(2026, 1, 30)]}, date(2026, 5, 29)),
        (
            {
                "weekdays": [],
                "include": [date(2026, 5, 29), date(2026, 1, 30)],
                "exclude": [date(2026, 5, 29)],
            },
            date(2026, 1, 30),
        ),
        ({"weekdays": [], "include": [date(2026, 5, 29)], "until": date(2026, 5, 1)}, None),
        # The library's list ends there, and the calendar with it.
        ({"holidays": {"market": "NYSE"}}, date(2100, 12, 31)),
    ],
)
def test_last_date(keys: dict[str, Any], expected: date | None) -> None:
    assert last_date(calendar(**keys)) == expected


def test_a_list_that_the_library_lost() -> None:
    # As a version that was stored under another release of the library may name one.
    with pytest.raises(DuemarkError, match="cannot make the list: Country XX not available"):
        business_dates(calendar(holidays={"country": "XX"}), date(2026, 1, 1), date(2026, 1, 2))


DATES = st.dates(date(2020, 1, 1), date(2030, 12, 31))


@given(
    weekdays=st.sets(st.sampled_from(WEEKDAYS), min_size=1),
    include=st.sets(DATES, max_size=20),
    exclude=st.sets(DATES, max_size=20),
    until=st.none() | DATES,
    bounds=st.tuples(DATES, DATES, DATES).map(sorted),
)
def test_any_calendar(
    weekdays: set[Any], include: set[date], exclude: set[date], until: date | None, bounds: list[date]
) -> None:
    one = calendar(weekdays=list(weekdays), include=list(include), exclude=list(exclude), until=until)
    start, middle, end = bounds
    found = business_dates(one, start, end)
    assert found == sorted(set(found))
    assert found == [
        day
        for day in days(start, end)
        if day not in exclude
        and (day in include or WEEKDAYS[day.weekday()] in weekdays)
        and (until is None or day <= until)
    ]
    assert found == business_dates(one, start, middle) + business_dates(one, middle + timedelta(days=1), end)
    if until is not None:
        last = last_date(one)
        known = business_dates(one, until - timedelta(days=40), until)
        assert not known or last == known[-1]


def test_why_a_date_counts_or_does_not() -> None:
    branches = calendar(
        weekdays=WORKDAYS, holidays={"country": "US"}, include=["2026-07-03", "2026-07-05"], exclude=["2026-07-03"],
        until="2026-07-06",
    )  # fmt: skip
    found = {one.day.day: one for one in calendar_days(branches, date(2026, 7, 1), date(2026, 7, 7))}
    assert {day: (one.is_business_date, one.reason) for day, one in found.items()} == {
        1: (True, "weekday"), 2: (True, "weekday"), 3: (False, "excluded"), 4: (False, "holiday"),
        5: (True, "included"), 6: (True, "weekday"), 7: (False, "ended"),
    }  # fmt: skip
    assert (found[2].holiday, found[4].holiday) == (None, "Independence Day")
    # Of a date that was excluded as well.
    assert found[3].holiday == "Independence Day (observed)"


def test_the_days_that_count_are_the_business_dates() -> None:
    exchange = calendar(weekdays=WORKDAYS, holidays={"market": "NYSE"}, exclude=["2026-12-24"])
    start, end = date(2025, 12, 1), date(2027, 1, 31)
    counted = [one.day for one in calendar_days(exchange, start, end) if one.is_business_date]
    assert counted == business_dates(exchange, start, end)
