"""Zone arithmetic on whole columns of microseconds, equal to `zoneinfo` value by value.

pandas and Arrow bring zone databases of their own; promises and dates must come from the one that the rest uses.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from pipelines.catalog.zones import zone as zone_of

Instants = npt.NDArray[np.int64]

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 86_400 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The instants that datetime, and so zoneinfo, can name.
FIRST = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


def offsets(instants: Instants, zone: str) -> Instants:
    """Offset from UTC, in microseconds, at each UTC instant (microseconds since 1970)."""
    result = np.empty(len(instants), dtype=np.int64)
    for year, where in _years(instants):
        at, before, last = _transitions(zone, year)
        result[where] = np.append(before, last)[np.searchsorted(at, instants[where], side="right")]
    return result


def to_utc(walls: Instants, zone: str) -> tuple[Instants, npt.NDArray[np.bool_]]:
    """UTC instants of wall-clock times (microseconds since 1970, as if UTC), and which of these times occur twice.

    As RFC 5545 and PEP 495 (fold=0) say: in a gap the offset before it, of two the first.
    """
    result = np.empty(len(walls), dtype=np.int64)
    twice = np.zeros(len(walls), dtype=bool)
    for year, where in _years(walls):
        at, before, last = _transitions(zone, year)
        both = np.append(before, last)
        after = both[1:]
        wall = walls[where]
        # The old offset holds to the end of the gap or of the first pass.
        result[where] = wall - both[np.searchsorted(at + np.maximum(before, after), wall, side="right")]
        doubled = np.zeros(len(wall), dtype=bool)
        for moment, old, new in zip(at, before, after, strict=True):
            doubled |= (wall >= moment + new) & (wall < moment + old)
        twice[where] = doubled
    return result, twice


def _years(instants: Instants) -> list[tuple[int, npt.NDArray[np.bool_]]]:
    years = instants.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64) + 1970
    return [(int(year), years == year) for year in np.unique(years)]


def _offset(zone: ZoneInfo, second: int) -> int:
    second = min(max(second * SECOND, FIRST + 2 * DAY), LAST - 2 * DAY)
    offset = (EPOCH + timedelta(microseconds=second)).astimezone(zone).utcoffset()
    return 0 if offset is None else offset // timedelta(microseconds=1)


@lru_cache(maxsize=4096)
def _transitions(key: str, year: int) -> tuple[Instants, Instants, int]:
    """Changes of offset within two days of a year: UTC instants, the offset before each, and the last offset."""
    zone = zone_of(key)
    first = int(np.datetime64(f"{year:04d}-01-01", "s").astype(np.int64)) - 2 * 86_400
    at: list[int] = []
    before: list[int] = []
    old = _offset(zone, first)
    for day in range(370):
        low, high = first + day * 86_400, first + (day + 1) * 86_400
        new = _offset(zone, high)
        if new == old:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset(zone, middle) == old else (low, middle)
        at.append(high * SECOND)
        before.append(old)
        old = new
    return np.array(at, dtype=np.int64), np.array(before, dtype=np.int64), old
