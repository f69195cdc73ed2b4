"""What the pages are made of: values without behaviour, as `read` finds them in the marts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from pipelines.board.tracked import TrackedJob, TrackedSlo
from pipelines.kpi.grains import GRAINS
from pipelines.kpi.standing import TROUBLE, Threshold


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
    def trouble_status(self) -> str:
        """The worst status of its members that are in trouble; empty where none is."""
        return min(
            (one.status for one in self.trouble if one.dimensions), key=TROUBLE.__getitem__, default=""
        )

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
    """An occurrence that needs attention.

    `outcome`: `overdue`; `late` and `missed` where it is the newest of its SLO; `at_risk`, `failed` before it is due.
    `since`: when that began, the due time unless it failed before; of one at risk the due time, which is yet to come.
    `late_by` is None before it is due and once it was missed; `p50`, as likely as not it is there by then, is of one at
    risk. `is_current`: it fell due in the last three days, or it is its SLO's newest; older ones are history that
    nobody waits for any more.
    """

    slo_id: str
    name: str
    business_date: date
    slot: str
    outcome: str
    due_at: datetime
    late_by: timedelta | None
    blocking_job: str
    waits_for: str | None
    affected: tuple[str, ...]
    owner: str | None
    explanation: str
    since: datetime
    application_id: str = ""
    p50: datetime | None = None
    is_current: bool = True


@dataclass(frozen=True)
class Occurrence:
    """An occurrence of today: due today, begun today, or overdue since before.

    `p10`, `p50` and `p90` are of its forecast, None where it has none: complete, waived, missed.
    """

    slo_id: str
    name: str
    application_id: str
    business_date: date
    slot: str
    due_at: datetime
    outcome: str
    progress: str
    starts_at: datetime | None = None
    """When it is expected to start."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    p10: datetime | None = None
    p50: datetime | None = None
    p90: datetime | None = None
    is_at_risk: bool = False

    @property
    def is_open(self) -> bool:
        """Whether somebody waits for it."""
        return self.progress != "complete" and self.outcome in {"not_due", "overdue"}

    @property
    def state(self) -> str:
        """How it stands, as a word of `WORDS`."""
        if self.outcome != "not_due":
            return self.outcome
        if self.is_at_risk:
            return "at_risk"
        return self.progress if self.progress in {"failed", "running"} else "not_due"


@dataclass(frozen=True)
class Application:
    """An application of the catalog."""

    id: str
    name: str
    timezone: str = "UTC"
    owner: str = ""
    description: str = ""


@dataclass(frozen=True)
class Silence:
    """A sender that is silent, and when it was last heard of."""

    application_id: str
    since: datetime


@dataclass(frozen=True)
class Board:
    """Everything, as of `as_of` (None: there was no tick yet).

    `timezone`: of all instants but those on the pages of KPIs, SLOs and jobs, which have their own. `upstream`: of each
    SLO those that its jobs wait for. `warnings`: why what is shown may not be as it stands. `tracked` and `jobs`: SLOs
    and jobs with their past, for a page each.
    """

    as_of: datetime | None
    timezone: str = "UTC"
    kpis: tuple[ShownKpi, ...] = ()
    has_kpis: bool = True
    """The marts of the KPIs are there."""
    late: tuple[Late, ...] = ()
    silent: tuple[Silence, ...] = ()
    today: tuple[Occurrence, ...] = ()
    upstream: Mapping[str, frozenset[str]] = field(default_factory=dict)
    applications: tuple[Application, ...] = ()
    tracked: tuple[TrackedSlo, ...] = ()
    jobs: tuple[TrackedJob, ...] = ()
    warnings: tuple[str, ...] = ()
