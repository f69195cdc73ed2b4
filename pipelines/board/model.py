"""What the pages are made of: values without behaviour, as `read` finds them in the marts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from pipelines.kpi.grains import GRAINS
from pipelines.kpi.standing import Threshold


@dataclass(frozen=True)
class Point:
    """A KPI's value in one period, of the total or of a member. `change_percent` is in percent, not a share."""

    period: str
    start: datetime
    end: datetime
    value: Decimal | None = None
    json: Any = None
    previous: Decimal | None = None
    change: Decimal | None = None
    change_percent: Decimal | None = None
    direction: str | None = None
    last_year: Decimal | None = None
    status: str | None = None
    is_provisional: bool = False
    reason: str | None = None
    version: str = ""
    components: Mapping[str, Decimal | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """One version of a KPI's definition."""

    version: str
    name: str
    valid_from: datetime
    valid_to: datetime | None = None
    category: str = "custom"
    description: str = ""
    owner: str = ""
    unit: str = ""
    timezone: str = "UTC"
    expression: str = ""
    variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    grains: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ()
    threshold: Threshold | None = None


@dataclass(frozen=True)
class Member:
    """A member of one dimension in a period. `effect`: how much of the total's change is its own (None: not known).

    The total less what it had been, had this member stayed as it was in the previous period.
    """

    name: str | None
    point: Point
    effect: Decimal | None = None


@dataclass(frozen=True)
class Members:
    """Members of one dimension in a period, those that moved the total most first. `count`: of all there are."""

    dimension: str
    grain: str
    period: str
    members: tuple[Member, ...]
    count: int


@dataclass(frozen=True)
class Restatement:
    """A value that was reported and is another one now."""

    grain: str
    period: str
    dimensions: str
    reported: Decimal | None
    restated: Decimal | None
    reported_json: Any
    restated_json: Any
    reported_at: datetime
    restated_at: datetime
    load_id: int | None
    version: str


@dataclass(frozen=True)
class Trouble:
    """A total or a member whose newest closed period has a bad status; `since`: start of the first such period.

    `is_older`: the trouble is older than what was read.
    """

    dimensions: str
    status: str
    since: datetime
    since_period: str
    is_older: bool = False


@dataclass(frozen=True)
class ShownKpi:
    """A KPI with its newest values. `series`: by grain, the total's periods in order, provisional ones at the end."""

    id: str
    definition: Definition
    number: int | None = None
    series: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    members: tuple[Members, ...] = ()
    history: tuple[Definition, ...] = ()
    restatements: tuple[Restatement, ...] = ()
    restated_count: int = 0
    trouble: tuple[Trouble, ...] = ()
    complete_to: datetime | None = None

    @property
    def grain(self) -> str | None:
        """The finest grain that has values: that of the card."""
        return next((grain for grain in GRAINS if self.series.get(grain)), None)

    @property
    def closed(self) -> Point | None:
        """The newest closed period of the finest grain."""
        return next(
            (p for p in reversed(self.series.get(self.grain or "", ())) if not p.is_provisional), None
        )

    @property
    def provisional(self) -> Point | None:
        """The newest provisional period of the finest grain."""
        return next((p for p in reversed(self.series.get(self.grain or "", ())) if p.is_provisional), None)


@dataclass(frozen=True)
class Late:
    """An occurrence that is overdue, or came late and is the newest of its SLO.

    `is_current`: it fell due in the last three days, or it is its SLO's newest; older ones are history that nobody
    waits for any more.
    """

    slo_id: str
    name: str
    business_date: date
    slot: str
    outcome: str
    due_at: datetime
    late_by: timedelta
    blocking_job: str
    waits_for: str | None
    affected: tuple[str, ...]
    owner: str | None
    explanation: str
    is_current: bool = True


@dataclass(frozen=True)
class Occurrence:
    """An occurrence that falls due today."""

    slo_id: str
    business_date: date
    slot: str
    due_at: datetime
    ended_at: datetime | None
    outcome: str
    progress: str
    explanation: str


@dataclass(frozen=True)
class SloDay:
    """The occurrences of one business date that were due by as_of, by outcome."""

    business_date: date
    on_time: int = 0
    late: int = 0
    overdue: int = 0
    missed: int = 0


@dataclass(frozen=True)
class Slo:
    """An SLO and its newest business dates, in order."""

    id: str
    name: str
    days: tuple[SloDay, ...] = ()
    objective: float | None = None

    @property
    def due(self) -> int:
        return sum(day.on_time + day.late + day.overdue + day.missed for day in self.days)

    @property
    def on_time(self) -> int:
        return sum(day.on_time for day in self.days)


@dataclass(frozen=True)
class Board:
    """Everything, as of `as_of` (None: there was no tick yet). `today` is the date of as_of in `timezone`."""

    as_of: datetime | None
    timezone: str = "UTC"
    kpis: tuple[ShownKpi, ...] = ()
    has_kpis: bool = True
    """The marts of the KPIs are there."""
    late: tuple[Late, ...] = ()
    today: tuple[Occurrence, ...] = ()
    slos: tuple[Slo, ...] = ()
