"""What the simulation is told: who reports, what runs after what, and what was promised for a date.

Instants are whole milliseconds since 1970-01-01 UTC, which keep half a million runs cheap. The wall clock is turned
into instants here, apart from the product's own expansion, so that the truth written beside can contradict it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

Code = Literal["START", "FAIL", "SUCCEED"]
Role = Literal["", "slowing", "early", "late", "silent", "succeed_only"]
Stamp = Literal["offset", "utc", "local"]

NEVER = 1 << 60
SECOND = 1_000
MINUTE = 60 * SECOND


def instant(day: date, minute: int, zone: ZoneInfo) -> int:
    """Milliseconds of `minute` minutes of wall clock after midnight of `day`; 1440 and more are later dates.

    A time in a spring gap takes the offset before it, a time that occurs twice is the first of the two (RFC 5545).
    """
    shifted = day + timedelta(days=minute // 1440)
    hour, rest = divmod(minute % 1440, 60)
    wall = datetime(shifted.year, shifted.month, shifted.day, hour, rest, tzinfo=zone)
    return int(wall.timestamp()) * SECOND


def iso(at: int | None) -> str:
    """ISO 8601 in UTC, or the empty text for nothing."""
    if at is None:
        return ""
    seconds, rest = divmod(at, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).isoformat()
    return text if not rest else f"{text[:19]}.{rest:03d}{text[19:]}"


@dataclass(frozen=True, slots=True)
class Sender:
    """How one application reports: the shape of its files and the habits of its scheduler."""

    application: str
    zone: ZoneInfo
    format: str
    stamp: Stamp
    has_run_ids: bool = True
    has_hosts: bool = True
    is_precise: bool = False
    is_camel_case: bool = False
    is_lower_case: bool = False


@dataclass(slots=True)
class SimulatedJob:
    """A job: when it runs is in the promises, here is how."""

    application: str
    job: str
    upstreams: tuple[int, ...]
    median: float
    """Seconds that a usual run takes."""
    sigma: float = 0.18
    role: Role = ""


@dataclass(frozen=True, slots=True)
class DueJob:
    """One job of a promise, by its number, with its planned start and its due end."""

    job: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Due:
    """One promise: an occurrence to be."""

    slot: str
    opens: int
    claims: int | None
    expected_start: int | None
    expected_end: int
    jobs: tuple[DueJob, ...]
    gives_up_after: int | None = None
    """After the due time; without it, it is given up when the next date falls due."""


class SloPlan(Protocol):
    """An SLO, as far as a simulation needs it."""

    @property
    def slo_id(self) -> str: ...
    @property
    def is_intraday(self) -> bool: ...
    @property
    def is_open_start(self) -> bool: ...
    @property
    def jobs(self) -> Sequence[int]: ...
    def on(self, day: date) -> Sequence[Due]:
        """The promises of a business date, by window; none when its calendar has no such date."""


@dataclass(slots=True)
class World:
    """Everything that is simulated. Jobs stand after their upstreams."""

    senders: dict[str, Sender]
    jobs: list[SimulatedJob]
    slos: Sequence[SloPlan]
    first: date
    last: date
    as_of: int
    begin: date
    """The first date that is promised anything; before `first` nobody reports."""
    unpromised: frozenset[int] = frozenset()
    """Jobs that no SLO names; they run on weekdays all the same."""
