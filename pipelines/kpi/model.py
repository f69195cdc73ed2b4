"""The KPIs, checked and resolved: what the files of `catalog/kpis/` mean, and all that the engine reads.

Everything here is by value; SQL texts are Postgres', written anew from what was parsed, never a user's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal

from pipelines.kpi.grains import Grain

WAREHOUSE = "warehouse"
"""The database of a source that stands in the warehouse itself; every other one is an id of `databases.yml`."""

COMPOSING = frozenset({"sum", "count", "min", "max", "avg"})
"""Aggregations whose states add up over buckets (avg as sum and count); all others are computed from the rows."""


@dataclass(frozen=True)
class Source:
    """A table that variables read: of the warehouse, or the warehouse's copy of one of another database."""

    database: str
    table: str
    """`schema.table`, as the definition names it."""
    relation: str
    """`schema.table` in the warehouse, where the rows are read."""
    columns: tuple[tuple[str, str], ...] = field(repr=False, compare=False, default=())
    """Name and Postgres type of each column, as they were when the definition was checked."""

    @property
    def id(self) -> str:
        """A name for tables and models made for it: `marts_slo_performance`."""
        return self.relation.replace(".", "_")


@dataclass(frozen=True)
class Window:
    """Buckets that a variable is taken over, if not those of the period.

    The `days` local dates that end with the period, or from the start of the period of grain `to_date` around it to
    its end.
    """

    days: int | None = None
    to_date: Grain | None = None


@dataclass(frozen=True)
class Variable:
    """An aggregate over a source's rows: one of the numbers that a formula is made of."""

    name: str
    source: Source
    aggregation: str
    """sum, count, count_distinct, avg, min, max, median, or p1 to p99 (percentile_cont)."""
    column: str | None
    """None: `count` counts rows."""
    time_column: str
    is_date: bool
    """The time column is a business date, which belongs to its day in any zone; else it is an instant."""
    condition: str = ""
    """SQL condition over the source's columns (definition's and variable's filters together); empty: all rows."""
    scope: str = ""
    """The definition's own filters alone: which rows make a cell of the KPI."""
    kind: Literal["flow", "snapshot"] = "flow"
    """flow: rows whose time lies in the period. snapshot: rows that stand at the period's end: time < end, and
    `until_column` null or >= end (less than the end of the period: it has ended by then)."""
    until_column: str | None = None
    window: Window | None = None
    default: Decimal | None = None
    """For a period or member that the source has no row for; None: null."""
    dimensions: tuple[tuple[str, str], ...] = ()
    """Each dimension of the KPI that this source has: dimension and column. One that is missing is shared: the
    variable's value is the same for all its members."""
    type: str = "numeric"
    """Postgres type of the aggregate; intervals are taken as seconds, numeric."""


@dataclass(frozen=True)
class Threshold:
    """Inclusive bounds of what is not well.

    `higher` is worse: value >= bound; `lower` is worse: value <= bound; `band`: at or outside of (low, high) is worse,
    and `warning` and `critical` are pairs.
    """

    direction: Literal["higher", "lower", "band"]
    warning: tuple[Decimal, ...] = ()
    critical: tuple[Decimal, ...] = ()


@dataclass(frozen=True)
class Kpi:
    """One definition. `version` is the hash of all that changes a value or what is said of it."""

    id: str
    name: str
    category: Literal["business", "user", "performance", "custom"]
    description: str
    owner: str
    formula: Literal["simple", "composite", "custom"]
    expression: str
    """SQL over the variables by name, each a quoted column; a division by zero is null (`nullif`). Of a custom
    formula: the name of the macro in `dbt_project/macros/kpis/` that returns value or value_json."""
    variables: tuple[Variable, ...]
    grains: tuple[Grain, ...]
    dimensions: tuple[str, ...] = ()
    number: int | None = None
    unit: str = ""
    timezone: str = "UTC"
    frequency: str = "minute"
    thresholds: Threshold | None = None
    tolerance: Decimal = Decimal("0.01")
    """Share of the previous value within which a value is stable."""
    retention: tuple[tuple[Grain, int], ...] = ()
    """Newest periods of a grain that are kept, the one of as_of included; a grain that is not named keeps all."""
    allow_late: timedelta = timedelta(0)
    fills_gaps: bool = False
    """Periods without a row have a value too (zeros); so the numbered ones."""
    slos: tuple[str, ...] = ()
    """SLOs that its data wait for: an alert is held while one of them is late, and says so."""
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    divisors: tuple[str, ...] = ()
    """SQL of everything that the expression divides by: where one is zero, that is why the value is null."""
    formula_text: str = ""
    """The expression as its author wrote it."""
    version: str = ""
    value_version: str = ""
    """Hash of what its values are made of, without names, thresholds and the like."""
    file: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Kpis:
    """All KPIs by id."""

    kpis: Mapping[str, Kpi]
