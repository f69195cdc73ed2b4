"""What the clocks of a zone have shown: which buckets it needs, and whether its hours and days are plain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

# Zones whose offset had other minutes before are of no interest.
SINCE = 1980
# Zones whose clocks were changed oddly before have no rows from then.
ODD_SINCE = 1900


def part_hours(timezone: str) -> bool:
    """Whether a zone was ever, since 1980, a part of an hour off UTC."""
    zone = ZoneInfo(timezone)
    moments = (datetime(year, month, 1, tzinfo=UTC) for year in range(SINCE, 2041) for month in range(1, 13))
    offsets = {moment.astimezone(zone).utcoffset() or timedelta() for moment in moments}
    return any(offset % timedelta(hours=1) for offset in offsets)


@cache
def odd_clocks(timezone: str) -> tuple[bool, bool]:
    """Whether clocks of a zone were ever changed within an hour that they show, and back over midnight."""
    zone = ZoneInfo(timezone)

    def offset(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta()

    odd_hours = odd_days = False
    low, end, step = (
        datetime(ODD_SINCE, 1, 1, tzinfo=UTC),
        datetime(2041, 1, 1, tzinfo=UTC),
        timedelta(days=10),
    )
    while low < end:
        high = low + step
        before, after = offset(low), offset(high)
        if before != after:
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // timedelta(seconds=2) * timedelta(seconds=1)
                low, high = (middle, high) if offset(middle) == before else (low, middle)
            local = (high + before).replace(tzinfo=None)
            odd_hours |= bool((after - before) % timedelta(hours=1) or local.minute or local.second)
            odd_days |= (local - timedelta(seconds=1)).date() > (local + (after - before)).date()
        low = high
    return odd_hours, odd_days
