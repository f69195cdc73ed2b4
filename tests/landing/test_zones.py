"""Zone arithmetic on columns equals zoneinfo, value by value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.catalog.zones import zone
from pipelines.landing.zones import EPOCH, offsets, to_utc

MICROSECOND = timedelta(microseconds=1)
ZONES = st.sampled_from(
    [
        "America/New_York",
        "America/Sao_Paulo",
        "Africa/Casablanca",  # changes around Ramadan
        "Africa/Monrovia",  # 44 minutes 30 seconds until 1972
        "Asia/Kathmandu",
        "Asia/Singapore",
        "Australia/Lord_Howe",  # half an hour of summer time
        "Europe/Dublin",  # winter time is the negative one
        "Pacific/Apia",  # no 30 December 2011
        "UTC",
    ]
)
MOMENTS = st.lists(
    st.datetimes(datetime(1, 1, 4), datetime(9999, 12, 28))  # noqa: DTZ001
    | st.datetimes(datetime(1960, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001
    min_size=1,
    max_size=20,
)


def micros(moment: datetime) -> int:
    return (moment.replace(tzinfo=UTC) - EPOCH) // MICROSECOND


@given(MOMENTS, ZONES)
@example([datetime(2011, 12, 30, 10, 0, 0)], "Pacific/Apia")  # noqa: DTZ001
@example([datetime(1972, 1, 7, 0, 44, 29, 999999), datetime(1972, 1, 7, 0, 44, 30)], "Africa/Monrovia")  # noqa: DTZ001
@example([datetime(2026, 4, 4, 15, 0), datetime(2026, 10, 3, 15, 30)], "Australia/Lord_Howe")  # noqa: DTZ001
def test_offsets(moments: list[datetime], key: str) -> None:
    expected = [moment.replace(tzinfo=UTC).astimezone(zone(key)).utcoffset() for moment in moments]
    found = offsets(np.array([micros(moment) for moment in moments]), key)
    assert [timedelta(microseconds=int(offset)) for offset in found] == expected


@given(MOMENTS, ZONES)
@example([datetime(2011, 12, 30, 10, 0, 0), datetime(2011, 12, 31)], "Pacific/Apia")  # noqa: DTZ001
@example([datetime(1972, 1, 7, 0, 30), datetime(1972, 1, 7, 0, 44, 30)], "Africa/Monrovia")  # noqa: DTZ001
@example([datetime(2026, 4, 5, 1, 30), datetime(2026, 4, 5, 1, 59, 59, 999999)], "Australia/Lord_Howe")  # noqa: DTZ001
@example([datetime(2026, 11, 1, 1), datetime(2026, 11, 1, 2), datetime(2026, 3, 8, 2)], "America/New_York")  # noqa: DTZ001
def test_to_utc(moments: list[datetime], key: str) -> None:
    first = [moment.replace(tzinfo=zone(key), fold=0).astimezone(UTC) for moment in moments]
    second = [moment.replace(tzinfo=zone(key), fold=1).astimezone(UTC) for moment in moments]
    found, twice = to_utc(np.array([micros(moment) for moment in moments]), key)
    assert [EPOCH + int(value) * MICROSECOND for value in found] == first
    assert twice.tolist() == [early < late for early, late in zip(first, second, strict=True)]
