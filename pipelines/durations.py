"""Durations as people write them: `90s`, `10m`, `2h`, `1d`."""

from __future__ import annotations

import re
from datetime import timedelta

SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""Seconds of each unit, the longest first."""

LONGEST = timedelta(days=366)

_DURATION = re.compile(r"(\d{1,9})([smhd])")


def duration(text: str) -> timedelta | None:
    """The duration; None where the text is none, or longer than 366 days."""
    match = _DURATION.fullmatch(text)
    found = timedelta(seconds=int(match[1]) * SECONDS[match[2]]) if match else None
    return None if found is None or found > LONGEST else found


def spelled(length: timedelta) -> str:
    """A length of time for people, by the same units: `45s`, `1h 5m`, `2d 3h`; the two largest that it has."""
    left = round(abs(length).total_seconds())
    parts = []
    for unit, size in SECONDS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"
