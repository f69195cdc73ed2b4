"""Time zones from the pinned `tzdata` package, never from the machine.

The zone database changes several times a year. A promise made on one machine must be the same on every
other, so importing this module takes the system's own copy out of the search path of `zoneinfo` for the
whole process. Every module that needs a zone gets it from here.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC
from functools import cache
from importlib import metadata

zoneinfo.reset_tzpath(to=())
# Zones that somebody loaded before us may have come from the system's copy.
zoneinfo.ZoneInfo.clear_cache()

__all__ = ["UTC", "is_zone", "known_zones", "tzdata_version", "zone"]


@cache
def known_zones() -> frozenset[str]:
    """Names of all IANA zones in the pinned database, spelled exactly."""
    return frozenset(zoneinfo.available_timezones())


def is_zone(name: str) -> bool:
    """Whether `name` is an IANA zone, letter by letter (some file systems would take any case)."""
    return name in known_zones()


@cache
def zone(name: str) -> zoneinfo.ZoneInfo:
    """The zone called `name`.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: the pinned database has no such zone.
    """
    if not is_zone(name):
        raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {name}")
    return zoneinfo.ZoneInfo(name)


def tzdata_version() -> str:
    """Version of the pinned database, such as `2026.1`."""
    return metadata.version("tzdata")
