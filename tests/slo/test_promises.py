"""Promises: instants worked out by hand, and rules that hold for any zone."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.catalog.models import STORED, Application, Calendar, Job, Slo
from pipelines.catalog.read import Catalog
from pipelines.catalog.resolve import PromiseSpec, resolve
from pipelines.catalog.zones import zone
from pipelines.slo.promises import Promise, expand, next_dues


def catalog(slo: Slo, zone_name: str = "America/New_York", **calendar: Any) -> Catalog:
    """A catalog around one SLO: application `bank`, jobs `a` and `b`, where `b` waits for `a`."""
    rules = {"id": "days", "weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], **calendar}
    return Catalog(
        applications={"bank": Application.model_validate({"id": "bank", "timezone": zone_name})},
        calendars={"days": Calendar.model_validate(rules)},
        jobs={("bank", job): Job.model_validate({"id": job, "application": "bank"}) for job in "ab"},
        slos={slo.id: (slo,)},
        packages=(),
        upstream={("bank", "a"): (), ("bank", "b"): (("bank", "a"),)},
        upstream_rank={("bank", "a"): 0, ("bank", "b"): 1},
    )


def spec(
    zone_name: str = "America/New_York", calendar: dict[str, Any] | None = None, **keys: Any
) -> PromiseSpec:
    slo = Slo.model_validate({"id": "slo", "application": "bank", "calendar": "days", **keys})
    return resolve(catalog(slo, zone_name, **(calendar or {})), slo)


def on(promise: PromiseSpec, day: date) -> list[Promise]:
    return list(expand(promise, day, day))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ends(zone_name: str, day: date, **job: Any) -> datetime:
    (promise,) = on(spec(zone_name, jobs=[{"job": "a", **job}]), day)
    return promise.expected_end_at


def windows(day: date, zone_name: str = "America/New_York", **every: Any) -> list[Promise]:
    return on(spec(zone_name, every={"due_after": "10m", **every}, jobs=[{"job": "a"}]), day)


# What is due next


def test_the_next_one_is_the_first_of_a_later_date_that_is_due_after_it() -> None:
    daily = list(expand(spec(jobs=[{"job": "a", "end": "03:00"}]), date(2026, 3, 2), date(2026, 3, 4)))
    assert next_dues(daily) == [utc("2026-03-03 08:00"), utc("2026-03-04 08:00"), None]
    every = {"minutes": 60, "from": "06:00", "to": "08:00", "due_after": "10m"}
    windows_ = list(expand(spec(every=every, jobs=[{"job": "a"}]), date(2026, 3, 2), date(2026, 3, 3)))
    assert next_dues(windows_) == [utc("2026-03-03 11:10")] * 3 + [None] * 3
    # All of a week are due on its Friday: what comes after that is due on the next one.
    friday = [{"job": "a", "end": "18:00", "due_weekday": "fri"}]
    week = list(expand(spec(jobs=friday), date(2026, 2, 27), date(2026, 3, 6)))
    assert next_dues(week) == [utc("2026-03-13 22:00")] * 7 + [None]
    # Windows that go on into the next date, whose own begin meanwhile.
    long = {**every, "to": "40:00", "minutes": 1020}
    over = list(expand(spec(every=long, jobs=[{"job": "a"}]), date(2026, 3, 2), date(2026, 3, 4)))
    assert [(one.business_date.day, one.slot) for one in over][:3] == [
        (2, "06:00"),
        (2, "23:00"),
        (2, "40:00"),
    ]
    assert next_dues(over)[:3] == [utc("2026-03-03 11:10"), utc("2026-03-03 11:10"), utc("2026-03-04 11:10")]


# Days


def test_a_daily_occurrence() -> None:
    two = spec(jobs=[{"job": "b", "end": "25:30"}, {"job": "a", "start": "22:00", "end": "24:15"}])
    (promise,) = on(two, date(2026, 1, 5))
    assert (promise.business_date, promise.slot) == (date(2026, 1, 5), "00:00")
    assert promise.opens_at == utc("2026-01-05 05:00")
    assert promise.claims_from is None
    assert promise.expected_start_at == utc("2026-01-06 03:00")
    assert promise.expected_end_at == utc("2026-01-06 06:30")
    assert [(job.application, job.job, job.upstream_rank) for job in promise.jobs] == [
        ("bank", "a", 0),
        ("bank", "b", 1),
    ]
    assert promise.jobs[0].expected_start_at == utc("2026-01-06 03:00")
    assert promise.jobs[0].expected_end_at == utc("2026-01-06 05:15")
    assert promise.jobs[1].expected_start_at is None
    assert all(at.tzinfo is UTC for at in (promise.opens_at, promise.expected_end_at))


def test_no_start_at_all() -> None:
    (promise,) = on(spec(jobs=[{"job": "a", "end": "03:00"}]), date(2026, 1, 5))
    assert promise.expected_start_at is None


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"end": "03:00"}, "2026-01-05 08:00"),
        ({"end": "03:00", "day_offset": 1}, "2026-01-06 08:00"),
        ({"end": "27:00"}, "2026-01-06 08:00"),
        ({"end": "27:00", "day_offset": 1}, "2026-01-07 08:00"),
        ({"end": "47:59", "day_offset": 2}, "2026-01-09 04:59"),
        ({"end": "24:00"}, "2026-01-06 05:00"),
    ],
)
def test_offsets_and_hours_past_24(job: dict[str, Any], expected: str) -> None:
    assert ends("America/New_York", date(2026, 1, 5), **job) == utc(expected)


@pytest.mark.parametrize(
    ("business_date", "weekday", "due"),
    [
        (date(2026, 1, 9), "mon", date(2026, 1, 12)),  # a Friday
        (date(2026, 1, 9), "sat", date(2026, 1, 10)),
        (date(2026, 1, 9), "thu", date(2026, 1, 15)),
        (date(2026, 1, 9), "fri", date(2026, 1, 16)),  # strictly after
        (date(2026, 1, 11), "fri", date(2026, 1, 16)),  # a Sunday
    ],
)
def test_due_weekday(business_date: date, weekday: str, due: date) -> None:
    end = ends("UTC", business_date, start="08:00", end="09:00", due_weekday=weekday)
    assert end == datetime(due.year, due.month, due.day, 9, tzinfo=UTC)
    assert ends("UTC", business_date, end="33:00", due_weekday=weekday) == end + timedelta(days=1)


# Clocks that are changed


@pytest.mark.parametrize(
    ("zone_name", "business_date", "end", "expected"),
    [
        # New York, 8 March 2026: 02:00 EST becomes 03:00 EDT. 02:30 is read as EST.
        ("America/New_York", date(2026, 3, 8), "01:59", "2026-03-08 06:59"),
        ("America/New_York", date(2026, 3, 8), "02:30", "2026-03-08 07:30"),
        ("America/New_York", date(2026, 3, 8), "03:00", "2026-03-08 07:00"),
        ("America/New_York", date(2026, 3, 7), "26:30", "2026-03-08 07:30"),
        ("America/New_York", date(2026, 3, 7), "27:00", "2026-03-08 07:00"),
        # 1 November 2026: 02:00 EDT becomes 01:00 EST. 01:30 is the first, EDT.
        ("America/New_York", date(2026, 11, 1), "01:30", "2026-11-01 05:30"),
        ("America/New_York", date(2026, 11, 1), "02:00", "2026-11-01 07:00"),
        # London, 29 March 2026: 01:00 GMT becomes 02:00 BST.
        ("Europe/London", date(2026, 3, 29), "01:30", "2026-03-29 01:30"),
        ("Europe/London", date(2026, 3, 29), "02:00", "2026-03-29 01:00"),
        # 25 October 2026: 02:00 BST becomes 01:00 GMT.
        ("Europe/London", date(2026, 10, 25), "01:30", "2026-10-25 00:30"),
        ("Europe/London", date(2026, 10, 25), "02:00", "2026-10-25 02:00"),
        # Lord Howe, 4 October 2026: 02:00 +10:30 becomes 02:30 +11.
        ("Australia/Lord_Howe", date(2026, 10, 4), "02:15", "2026-10-03 15:45"),
        ("Australia/Lord_Howe", date(2026, 10, 4), "02:30", "2026-10-03 15:30"),
        # 5 April 2026: 02:00 +11 becomes 01:30 +10:30.
        ("Australia/Lord_Howe", date(2026, 4, 5), "01:45", "2026-04-04 14:45"),
        ("Australia/Lord_Howe", date(2026, 4, 5), "02:00", "2026-04-04 15:30"),
    ],
)
def test_gaps_and_overlaps(zone_name: str, business_date: date, end: str, expected: str) -> None:
    assert ends(zone_name, business_date, end=end) == utc(expected)


def test_a_midnight_that_is_skipped() -> None:
    # São Paulo, 4 November 2018: 00:00 -03 became 01:00 -02.
    (promise,) = on(spec("America/Sao_Paulo", jobs=[{"job": "a", "end": "06:00"}]), date(2018, 11, 4))
    assert promise.opens_at == utc("2018-11-04 03:00")
    assert promise.expected_end_at == utc("2018-11-04 08:00")


def test_no_start_after_its_end_over_a_gap() -> None:
    # 02:45 is read before the gap (07:45Z), 03:15 after it (07:15Z).
    (promise,) = on(spec(jobs=[{"job": "a", "start": "02:45", "end": "03:15"}]), date(2026, 3, 8))
    assert promise.expected_start_at == promise.expected_end_at == utc("2026-03-08 07:15")


# Windows


def test_half_hours() -> None:
    slots = windows(date(2026, 1, 5), minutes=30, early_tolerance="5m", **{"from": "06:00", "to": "18:00"})
    assert len(slots) == 25
    assert [one.slot for one in slots[:3]] == ["06:00", "06:30", "07:00"]
    assert slots[-1].slot == "18:00"
    first, second = slots[:2]
    assert (first.claims_from, second.claims_from) == (None, utc("2026-01-05 11:25"))
    assert (first.expected_start_at, first.expected_end_at) == (
        utc("2026-01-05 11:00"),
        utc("2026-01-05 11:10"),
    )
    assert first.jobs[0].expected_start_at == first.expected_start_at
    assert first.jobs[0].expected_end_at == first.expected_end_at
    assert {one.opens_at for one in slots} == {utc("2026-01-05 05:00")}


def test_last_window_is_not_after_to() -> None:
    slots = windows(date(2026, 1, 5), minutes=45, **{"from": "06:00", "to": "08:00"})
    assert [one.slot for one in slots] == ["06:00", "06:45", "07:30"]
    assert len(windows(date(2026, 1, 5), minutes=45, **{"from": "06:00", "to": "06:00"})) == 1


def test_windows_past_midnight_and_on_another_day() -> None:
    slots = windows(date(2026, 1, 5), minutes=60, **{"from": "23:00", "to": "25:00"})
    assert [one.slot for one in slots] == ["23:00", "24:00", "25:00"]
    assert slots[-1].expected_start_at == utc("2026-01-06 06:00")
    later = windows(date(2026, 1, 5), minutes=60, day_offset=1, **{"from": "23:00", "to": "25:00"})
    assert [one.slot for one in later] == ["23:00", "24:00", "25:00"]
    assert later[-1].expected_start_at == utc("2026-01-07 06:00")
    assert later[-1].opens_at == slots[-1].opens_at
    every = {"minutes": 60, "from": "23:00", "to": "25:00", "due_after": "10m"}
    by_job = spec(every=every, jobs=[{"job": "a", "day_offset": 1}, {"job": "b", "day_offset": 1}])
    assert [one.expected_start_at for one in on(by_job, date(2026, 1, 5))] == [
        one.expected_start_at for one in later
    ]


def test_windows_in_a_spring_gap_are_one() -> None:
    slots = windows(date(2026, 3, 8), minutes=30, **{"from": "01:30", "to": "04:00"})
    assert [(one.slot, one.expected_start_at) for one in slots] == [
        ("01:30", utc("2026-03-08 06:30")),
        ("02:00", utc("2026-03-08 07:00")),
        ("02:30", utc("2026-03-08 07:30")),
        ("04:00", utc("2026-03-08 08:00")),
    ]


def test_windows_that_change_places_over_a_gap() -> None:
    # 02:15 is read as EST and comes after 03:00 EDT: the first window is the one that begins first.
    slots = windows(date(2026, 3, 8), minutes=45, **{"from": "02:15", "to": "03:45"})
    assert [(one.slot, one.claims_from) for one in slots] == [
        ("03:00", None),
        ("02:15", utc("2026-03-08 07:15")),
        ("03:45", utc("2026-03-08 07:45")),
    ]


def test_windows_over_an_autumn_overlap() -> None:
    slots = windows(date(2026, 11, 1), minutes=30, **{"from": "00:30", "to": "02:30"})
    assert [one.expected_start_at for one in slots] == [
        utc("2026-11-01 04:30"),
        utc("2026-11-01 05:00"),
        utc("2026-11-01 05:30"),
        utc("2026-11-01 07:00"),
        utc("2026-11-01 07:30"),
    ]


# Which dates


def test_only_the_dates_of_the_calendar_and_of_the_entry() -> None:
    one = spec(
        calendar={"weekdays": ["mon", "wed"], "exclude": ["2026-03-11"]},
        jobs=[{"job": "a", "end": "03:00"}],
        effective_from="2026-03-04",
        effective_to="2026-03-16",
    )
    dates = [promise.business_date.day for promise in expand(one, date(2026, 3, 1), date(2026, 3, 31))]
    assert dates == [4, 9, 16]
    assert list(expand(one, date(2026, 4, 1), date(2026, 4, 30))) == []


# Specs


def test_spec_holds_everything_by_value() -> None:
    one = spec(
        calendar={"financial": {"market": "NYSE"}, "include": ["2026-07-04"], "name": "Trading days"},
        name="A name",
        objective=0.9,
        jobs=[
            {"job": "b", "end": "05:00", "due_weekday": "mon"},
            {"job": "bank/a", "start": "01:00", "end": "03:00"},
        ],
    )
    assert one.canonical() == (
        '{"application":"bank","calendar":{"exclude":[],"holidays":{"market":"NYSE"},"id":"days",'
        '"include":["2026-07-04"],"weekdays":["mon","tue","wed","thu","fri","sat","sun"]},'
        '"jobs":[{"application":"bank","day_offset":0,"end":"03:00","job":"a","start":"01:00","upstream_rank":0},'
        '{"application":"bank","day_offset":0,"due_weekday":"mon","end":"05:00","job":"b","upstream_rank":1}],'
        f'"libraries":{{"holidays":"{one.libraries["holidays"]}","tzdata":"{one.libraries["tzdata"]}"}},'
        '"objective":0.9,"slo_id":"slo","timezone":"America/New_York","warn_before":"30m"}'
    )
    assert PromiseSpec.model_validate_json(one.canonical()) == one


def test_what_was_promised_by_the_rules_of_its_day_is_still_read() -> None:
    old = spec(jobs=[{"job": "a", "end": "03:00"}]).canonical().replace('"job":"a"', '"job":"a\u200b"')
    with pytest.raises(ValidationError):
        PromiseSpec.model_validate_json(old)
    assert PromiseSpec.model_validate_json(old, context=STORED).jobs[0].job == "a\u200b"


def test_holidays_version_only_where_a_list_is_used() -> None:
    job = [{"job": "a", "end": "03:00"}]
    assert set(spec(jobs=job).libraries) == {"tzdata"}
    assert set(spec(jobs=job, calendar={"holidays": {"country": "US"}}).libraries) == {"holidays", "tzdata"}


def test_warning_within_the_window() -> None:
    every = {"minutes": 30, "from": "06:00", "to": "18:00", "due_after": "10m"}
    assert spec(every=every, jobs=[{"job": "a"}]).warn_before == timedelta(minutes=10)
    assert spec(every={**every, "due_after": "2h"}, jobs=[{"job": "a"}]).warn_before == timedelta(minutes=30)
    assert spec(every=every, jobs=[{"job": "a"}], warn_before="1h").warn_before == timedelta(hours=1)


def test_what_has_no_bearing_on_a_promise_leaves_no_trace() -> None:
    jobs = [{"job": "a", "end": "03:00"}, {"job": "bank/b", "end": "04:00", "day_offset": 0}]
    rules = {
        "weekdays": ["mon", "tue", "wed"],
        "holidays": {"country": "US", "categories": ["public", "half_day"], "market": "NYSE"},
        "include": ["2026-07-04", "2026-07-05"],
        "exclude": ["2026-01-01", "2026-01-02"],
    }
    other = {
        "name": "Other",
        "description": "words",
        "weekdays": ["wed", "mon", "tue", "mon"],
        "holidays": {"country": "US", "categories": ["half_day", "public"], "financial": {"market": "NYSE"}},
        "include": ["2026-07-05", "2026-07-04", "2026-07-04"],
        "exclude": ["2026-01-02", "2026-01-01"],
    }
    one = spec(calendar=rules, jobs=jobs)
    two = spec(
        calendar=other, jobs=jobs[::-1], name="Other", warn_before="1800s", timezone="America/New_York"
    )
    assert one.canonical() == two.canonical()


# Rules for any zone

ZONES = [
    *("America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Singapore", "America/St_Johns"),
    *("Africa/Casablanca", "Pacific/Chatham", "Asia/Kathmandu", "America/Sao_Paulo", "Africa/Cairo", "UTC"),
]
DATES = st.dates(date(2015, 1, 1), date(2030, 12, 31))


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@given(
    zone_name=st.sampled_from(ZONES),
    day=DATES,
    times=st.tuples(st.integers(0, 2879), st.integers(0, 2879)).map(sorted),
    day_offset=st.integers(0, 40),
)
def test_any_due_time(zone_name: str, day: date, times: list[int], day_offset: int) -> None:
    start, end = times
    job = {"job": "a", "start": clock(start), "end": clock(end), "day_offset": day_offset}
    (promise,) = on(spec(zone_name, jobs=[job]), day)
    assert promise.expected_start_at is not None
    assert promise.expected_start_at <= promise.expected_end_at
    wall = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=day_offset, minutes=end)
    shown = promise.expected_end_at.astimezone(zone(zone_name))
    if shown.replace(tzinfo=UTC) == wall:
        assert shown.fold == 0
    else:
        # A gap: the clock shows as much more as was skipped, because the time is read with the offset before it.
        skipped = shown.replace(tzinfo=UTC) - wall
        before = (promise.expected_end_at - timedelta(hours=3)).astimezone(zone(zone_name)).utcoffset()
        assert before is not None
        assert timedelta() < skipped <= timedelta(hours=1)
        assert promise.expected_end_at == wall - before


@given(
    zone_name=st.sampled_from(ZONES),
    day=DATES,
    minutes=st.integers(5, 240),
    begin=st.integers(0, 1439),
    length=st.integers(0, 1440),
)
def test_any_windows(zone_name: str, day: date, minutes: int, begin: int, length: int) -> None:
    every = {"minutes": minutes, "from": clock(begin), "to": clock(begin + length), "early_tolerance": "1m"}
    slots = windows(day, zone_name, **every)
    assert len({one.slot for one in slots}) == len(slots) <= length // minutes + 1
    assert slots[0].claims_from is None
    for one, following in pairwise(slots):
        assert one.expected_start_at is not None
        assert following.expected_start_at is not None
        assert one.expected_start_at < following.expected_start_at
        assert following.claims_from == following.expected_start_at - timedelta(minutes=1)


@given(zone_name=st.sampled_from(ZONES), bounds=st.tuples(DATES, st.integers(0, 30), st.integers(0, 30)))
def test_any_split_of_a_range(zone_name: str, bounds: tuple[date, int, int]) -> None:
    start, first, second = bounds
    middle = start + timedelta(days=first)
    end = middle + timedelta(days=second)
    rules = {"weekdays": ["mon", "wed", "sat"]}
    one = spec(zone_name, rules, jobs=[{"job": "a", "end": "03:00"}, {"job": "b", "end": "26:10"}])
    halves = [*expand(one, start, middle), *expand(one, middle + timedelta(days=1), end)]
    assert list(expand(one, start, end)) == halves
    assert len({promise.business_date for promise in halves}) == len(halves)


@given(seed=st.integers(0, 2**32))
def test_any_order_of_jobs(seed: int) -> None:
    jobs = [{"job": "a", "end": "03:00"}, {"job": "b", "end": "04:00"}]
    shuffled = random.Random(seed).sample(jobs, len(jobs))
    assert spec(jobs=shuffled).canonical() == spec(jobs=jobs).canonical()
