"""SLOs and jobs with their past, as `read_tracked` finds them: what their own pages are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

JobKey = tuple[str, str]
"""Application and job."""


class Day(NamedTuple):
    """A business date of an SLO: its occurrences by outcome, and how late the latest end was (seconds, early is < 0).

    `not_due` are open or waived; all of them waived: `is_waived`.
    """

    business_date: date
    on_time: int = 0
    late: int = 0
    overdue: int = 0
    missed: int = 0
    not_due: int = 0
    is_waived: bool = False
    worst: int | None = None

    @property
    def due(self) -> int:
        """How many were due."""
        return self.on_time + self.late + self.overdue + self.missed

    @property
    def outcome(self) -> str:
        """The worst of its occurrences."""
        if self.overdue:
            return "overdue"
        if self.missed:
            return "missed"
        if self.late:
            return "late"
        if self.on_time:
            return "on_time"
        return "waived" if self.is_waived else "not_due"


class JobDay(NamedTuple):
    """A business date of a job. `outcome` is a word of a page; `duration` in seconds, of windows the median.

    `late_by`: seconds after the earliest due time that an SLO promises for it, of windows the latest; early is < 0.
    """

    business_date: date
    outcome: str
    run_count: int = 0
    fail_count: int = 0
    duration: int | None = None
    late_by: int | None = None


@dataclass(frozen=True)
class Expected:
    """An open occurrence, or the next one, and when it will be there."""

    business_date: date
    slot: str
    due_at: datetime
    is_open: bool
    p10: datetime
    p50: datetime
    p90: datetime
    miss_probability: float
    is_at_risk: bool
    rule: str


@dataclass(frozen=True)
class Ended:
    """The newest occurrence that is complete."""

    business_date: date
    slot: str
    outcome: str
    ended_at: datetime
    late_by: timedelta


@dataclass(frozen=True)
class Miss:
    """An occurrence that was late, is overdue or was missed. `culprit`: the job that it is put down to."""

    business_date: date
    slot: str
    outcome: str
    due_at: datetime
    late_by: timedelta | None
    culprit: str
    explanation: str


@dataclass(frozen=True)
class Promise:
    """What a version of an SLO promises, and on which business dates (None: from the first, or until it is changed)."""

    applies_from: date | None
    applies_to: date | None
    is_retired: bool
    timezone: str
    objective: float | None
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Budget:
    """Misses of the newest dates, and what the objective allows."""

    window_dates: int
    date_count: int
    occurrence_count: int
    allowed: int
    spent: int
    left: int
    recent: int
    late_by_total: timedelta


@dataclass(frozen=True)
class Punctuality:
    """Whether it is routinely early or late; shares from 0 to 1."""

    occurrence_count: int
    share: float
    low: float
    high: float
    median: timedelta | None
    p90: timedelta | None
    verdict: str
    proposed_due_time: str | None
    proposed_shift: timedelta | None
    expected_miss_rate: float | None


@dataclass(frozen=True)
class Told:
    """An incident."""

    incident_id: int
    kind: str
    severity: str
    title: str
    opened_at: datetime
    acknowledged_by: str | None
    resolved_at: datetime | None
    resolution: str | None


@dataclass(frozen=True)
class Waiver:
    """Business dates on which nothing is due, or something later (`due_minutes` after midnight of the due date)."""

    from_date: date
    to_date: date
    slot: str | None
    due_minutes: int | None
    reason: str
    by: str | None


@dataclass(frozen=True)
class JobOfSlo:
    """How a job stands in the newest occurrence of an SLO that promises it."""

    slo_id: str
    key: JobKey
    business_date: date | None = None
    slot: str = ""
    expected_start_at: datetime | None = None
    expected_end_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: str = "pending"


@dataclass(frozen=True)
class TrackedSlo:
    """An SLO, its past and what is expected of it. `days`: the newest business dates, in order; `year`: their outcomes.

    `year` has a sign for each date by how many days it lies before the date of as_of; see `heat`.
    """

    id: str
    name: str
    application_id: str
    timezone: str
    objective: float | None = None
    owner: str | None = None
    description: str | None = None
    runbook: str | None = None
    is_retired: bool = False
    days: tuple[Day, ...] = ()
    year: Mapping[int, str] = field(default_factory=dict)
    expected: tuple[Expected, ...] = ()
    ended: Ended | None = None
    misses: tuple[Miss, ...] = ()
    miss_count: int = 0
    promises: tuple[Promise, ...] = ()
    budgets: tuple[Budget, ...] = ()
    punctuality: Punctuality | None = None
    incidents: tuple[Told, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    jobs: tuple[JobOfSlo, ...] = ()

    @property
    def due(self) -> int:
        """How many of `days` were due."""
        return sum(day.due for day in self.days)

    @property
    def on_time(self) -> int:
        """How many of `days` were on time."""
        return sum(day.on_time for day in self.days)


@dataclass(frozen=True)
class Try:
    """A run of a job."""

    business_date: date
    attempt: int
    run_id: str | None
    started_at: datetime | None
    ended_at: datetime | None
    duration: timedelta | None
    final_status: str
    host_id: str | None


@dataclass(frozen=True)
class Deadline:
    """By when a job that is not complete has to be, so that every SLO that waits for it holds."""

    business_date: date
    progress: str
    typical_duration: timedelta | None
    p50: datetime | None
    p80: datetime | None
    latest_start_at: datetime | None
    latest_end_at: datetime | None
    slo_id: str | None


@dataclass(frozen=True)
class Trend:
    """Whether a job gets slower. `slope`: seconds a date; `level`: seconds, what the line says of `first_date`."""

    basis: str
    date_count: int
    level: float
    slope: float
    is_slowing: bool
    changed_on: date | None
    days_until_due: int | None
    evidence: str


@dataclass(frozen=True)
class TrackedJob:
    """A job, its past and what waits for it. `days`: its newest business dates, in order; `tries`: the newest first."""

    key: JobKey
    name: str
    timezone: str
    owner: str | None = None
    description: str | None = None
    runbook: str | None = None
    restartable: bool = True
    upstream: tuple[JobKey, ...] = ()
    days: tuple[JobDay, ...] = ()
    tries: tuple[Try, ...] = ()
    deadlines: tuple[Deadline, ...] = ()
    trend: Trend | None = None
    slos: tuple[JobOfSlo, ...] = ()

    @property
    def application_id(self) -> str:
        """Its application."""
        return self.key[0]
