"""Periods part time without a gap or an overlap, in every zone, where its clocks were changed oddly."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest

from pipelines.kpi.compile.readable import rendered
from pipelines.kpi.compile.zones import odd_clocks
from tests.transform.support import Warehouse

HOUR = timedelta(hours=1)
# Before what is searched: days that a zone skipped and lived twice, and a clock put back over midnight.
LONG_AGO = (
    ("Asia/Manila", datetime(1844, 12, 30, 16, tzinfo=UTC)),
    ("America/Juneau", datetime(1867, 10, 18, 8, 58, tzinfo=UTC)),
    ("America/New_York", datetime(1883, 11, 18, 17, tzinfo=UTC)),
)
KNOWN = {
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC)),
    ("Asia/Singapore", datetime(1981, 12, 31, 16, tzinfo=UTC)),
}


def changes(name: str, since: int) -> Iterator[tuple[datetime, timedelta, timedelta]]:
    """When the clocks of a zone were changed, from which offset to which."""
    zone = ZoneInfo(name)

    def offset(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta()

    low, end = datetime(since, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    while low < end:
        high = low + timedelta(days=20)
        before, after = offset(low), offset(high)
        while before != after and high - low > timedelta(seconds=1):
            middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
            low, high = (middle, high) if offset(middle) == before else (low, middle)
        if before != after:
            yield high, before, after
        low = high


def odd_changes() -> set[tuple[str, datetime]]:
    """One zone for each change that is no whole hour, not at a full hour, or over a day."""
    found: dict[tuple[datetime, timedelta, timedelta], str] = {}
    for name in sorted(available_timezones() - {"localtime", "Factory"}):
        if "/" in name and not name.startswith(("posix/", "right/", "Etc/", "SystemV/")):
            for at, before, after in changes(name, 1900):
                local = at.replace(tzinfo=None) + before
                is_odd = (
                    (after - before) % HOUR or local.minute or local.second or abs(after - before) > 3 * HOUR
                )
                if is_odd or (local.hour in {0, 23} and at.year > 2000):
                    found.setdefault((at, before, after), name)
    return {(name, at) for (at, *_), name in found.items()}


@pytest.fixture(scope="module")
def spots(deployed: Warehouse) -> list[tuple[str, datetime]]:
    known = {str(row["name"]) for row in deployed.query("select name from pg_timezone_names")}
    found = odd_changes()
    assert {at for _, at in KNOWN} <= {at for _, at in found}
    return sorted((name, at) for name, at in {*found, *LONG_AGO} if name in known)


SPOT = "from unnest(%s::text[], %s::timestamptz[]) as spot (zone, at)"
AROUND = {
    "hour": "select kpi.hours(kpi.hour_start(at - interval '27 hours', zone), at + interval '27 hours', zone) as s",
    "day": "select generate_series(date_trunc('day', kpi.local_time(at, zone)) - interval '4 days',"
    " date_trunc('day', kpi.local_time(at, zone)) + interval '4 days', interval '1 day') as s",
    "week": "select generate_series(date_trunc('week', kpi.local_time(at, zone)) - interval '14 days',"
    " date_trunc('week', kpi.local_time(at, zone)) + interval '14 days', interval '7 days') as s",
    "month": "select generate_series(date_trunc('month', kpi.local_time(at, zone)) - interval '2 months',"
    " date_trunc('month', kpi.local_time(at, zone)) + interval '2 months', interval '1 month') as s",
}


@pytest.mark.parametrize("grain", AROUND)
def test_periods_part_time(deployed: Warehouse, spots: list[tuple[str, datetime]], grain: str) -> None:
    starts = AROUND[grain]
    if grain != "hour":
        starts = (
            f"select '{grain}' as grain, s, {{{{ kpi_step('{grain}') }}}} as step from ({starts}) as around"
        )
    macro = "kpi_hours" if grain == "hour" else "kpi_dates"
    text = f"{{% set starts %}}{starts}{{% endset %}}{{{{ {macro}('spot.zone', starts) }}}}"
    periods = rendered(deployed.settings.dbt_project, {grain: text})[grain]
    arguments = [[name for name, _ in spots], [at for _, at in spots]]
    rows = deployed.query(
        f"""
        select zone, at, count(*) as periods, count(distinct period) as labels,
            count(*) filter (where next <> ends) as apart, count(*) filter (where begins >= ends) as empty,
            max(ends - begins) as longest, min(begins) <= at and max(ends) > at as is_within
        from (
            select spot.zone, spot.at, period.*, lead(begins) over (partition by zone, at order by begins, ends) as next
            {SPOT}
            cross join lateral ({periods})
                as period (grain, begins, ends, first, last, period)
        ) as period
        group by zone, at
        """,
        *arguments,
    )
    assert len(rows) == len(spots) > 300
    for row in rows:
        assert (row["apart"], row["empty"], row["is_within"]) == (0, 0, True), row
        assert row["labels"] == row["periods"], row
        assert grain != "hour" or row["longest"] <= HOUR, row


def test_every_instant_lies_in_the_period_that_is_found_for_it(
    deployed: Warehouse, spots: list[tuple[str, datetime]]
) -> None:
    wrong = deployed.query(
        f"""
        select zone, at, moment, kpi.local_time(moment, zone) as local {SPOT}
        cross join generate_series(
            at - interval '26 hours', at + interval '26 hours', interval '2111 seconds'
        ) as moment
        where not (
            kpi.day_start(kpi.local_time(moment, zone)::date, zone) <= moment
            and moment < kpi.day_start(kpi.local_time(moment, zone)::date + 1, zone)
            and kpi.hour_start(moment, zone) <= moment and moment < kpi.hour_end(moment, zone)
            and kpi.hour_start(kpi.hour_start(moment, zone), zone) = kpi.hour_start(moment, zone)
            and kpi.hour_end(kpi.hour_start(moment, zone), zone) = kpi.hour_end(moment, zone)
        )
        """,
        [name for name, _ in spots], [at for _, at in spots],
    )  # fmt: skip
    assert wrong[:5] == []


def test_zones_whose_clocks_were_never_odd_need_no_search(deployed: Warehouse) -> None:
    """For these the generated SQL truncates, which has to say the same."""
    assert odd_clocks("America/New_York") == odd_clocks("UTC") == (False, False)
    assert odd_clocks("Australia/Lord_Howe") == (True, False)
    assert odd_clocks("America/St_Johns") == (True, True)
    wrong = deployed.query(
        """
        select zone, moment
        from unnest(%s::text[]) as zone
        cross join generate_series(timestamptz '1995-01-01', '2029-12-31', interval '7 hours 31 minutes') as moment
        where kpi.hour_start(moment, zone) <> date_trunc('hour', moment, zone)
            or kpi.local_time(moment, zone) <> moment at time zone zone
        """,
        ["America/New_York", "Europe/Berlin", "UTC", "Asia/Tokyo"],
    )
    assert wrong == []


def test_a_day_begins_once_also_where_midnight_comes_twice_or_never(deployed: Warehouse) -> None:
    def start(day: str, zone: str) -> str:
        (row,) = deployed.query("select to_char(kpi.day_start(%s, %s), 'MM-DD HH24:MI') as at", day, zone)
        return str(row["at"])

    assert start("2026-03-08", "America/Havana") == "03-08 05:00"  # there is no 00:00, it begins at 01:00
    assert start("2026-11-01", "America/Havana") == "11-01 04:00"  # the first of two
    assert (
        start("2010-11-07", "America/St_Johns") == "11-07 02:30"
    )  # a minute of it, before an hour of the day before
    assert start("2010-11-08", "America/St_Johns") == "11-08 03:30"
    assert start("2011-12-30", "Pacific/Apia") == start("2011-12-31", "Pacific/Apia") == "12-30 10:00"
    assert start("2026-04-05", "Australia/Lord_Howe") == "04-04 13:00"
