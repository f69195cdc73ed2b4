"""What `kpis/*.yml` and `databases.yml` may hold. What a formula means is checked in `pipelines.kpi.definitions`.

Numbers are kept as `Decimal`, as they are spelled in the file: money and thresholds are no floats.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    WrapSerializer,
    field_validator,
    model_validator,
)

from pipelines.catalog.models import (
    Duration,
    Entry,
    Fault,
    Id,
    Zone,
    duration_text,
    refuse,
    refuse_all,
    shown,
)

Grain = Literal["hour", "day", "week", "month", "quarter", "year"]
Category = Literal["business", "user", "performance", "custom"]
Frequency = Literal["realtime", "minute", "hour", "day", "week", "month"]
Operator = Literal["=", "<>", "!=", "<", "<=", ">", ">=", "in", "not in", "is null", "is not null"]

NUMBERS = range(2001, 3000)
MOST_DIMENSIONS = 4
"""Every set of dimensions has values of its own, so each one more doubles them."""
AGGREGATIONS = ("sum", "count", "count_distinct", "avg", "min", "max", "median")
WAREHOUSE = "warehouse"

_PERCENTILE = re.compile(r"p([1-9]\d?)")
_RANGE = re.compile(r"last_([1-9]\d{0,3})_days|(week|month|quarter|year)_to_date")
_LONGEST_RANGE = 3660
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
# Postgres cuts longer names, and copies, models and windows add to them.
_LONGEST_WORD = 40


def _check_slug(value: str) -> str:
    if not _SLUG.fullmatch(value) or len(value) > 60:
        raise refuse(
            f"{shown(value)} is no id of this kind",
            "small letters, digits, `-` and `_`, at most 60: it is part of file names and addresses",
        )
    return value


def _check_word(value: str) -> str:
    if not _WORD.fullmatch(value) or len(value) > _LONGEST_WORD:
        raise refuse(
            f"{shown(value)} cannot be a name in SQL",
            f"small letters, digits and `_`, beginning with a letter, at most {_LONGEST_WORD}",
        )
    return value


def _check_column(value: str) -> str:
    if value != "*" and (not _NAME.fullmatch(value) or len(value.encode()) > 63):
        raise refuse(f"{shown(value)} is no name of a column", "write one column's name, no expression")
    return value


def _check_table(value: str) -> str:
    parts = value.split(".")
    if len(parts) > 2 or not all(_NAME.fullmatch(part) and len(part.encode()) <= 63 for part in parts):
        raise refuse(f"{shown(value)} is no name of a table", "write `table` or `schema.table`")
    return value


def _parse_number(value: object) -> Decimal:
    if isinstance(value, Decimal):
        return value
    number = Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if number is None or not number.is_finite() or abs(number) >= Decimal(10) ** 30:
        raise refuse(f"{shown(value)} is no number", "write a plain number, without quotes or a unit")
    return number


def _number_json(value: Decimal) -> float | int:
    return int(value) if value == value.to_integral_value() else float(value)


def _parse_bounds(value: object) -> tuple[Decimal, ...]:
    if isinstance(value, list | tuple):
        if len(value) != 2:
            raise refuse(
                f"{len(value)} bounds", "write one number, or for a band the lower and the upper one"
            )
        return tuple(_parse_number(one) for one in value)
    return (_parse_number(value),)


def _parse_aggregation(value: object) -> object:
    name = value.strip().lower() if isinstance(value, str) else value
    if isinstance(name, str):
        name = {"mean": "avg", "p100": "max"}.get(name, name)
        if name in AGGREGATIONS or _PERCENTILE.fullmatch(name):
            return name
    known = ", ".join(AGGREGATIONS)
    raise refuse(f"unknown aggregation {shown(value)}", f"expected one of: {known}, or p1 to p99")


def _parse_range(value: object) -> object:
    match = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1] or 1) > _LONGEST_RANGE:
        raise refuse(
            f"{shown(value)} is no time range",
            f"expected last_30_days (1 to {_LONGEST_RANGE} days), or week_to_date, month_to_date, quarter_to_date,"
            " year_to_date",
        )
    return value


Slug = Annotated[str, AfterValidator(_check_slug)]
Word = Annotated[str, AfterValidator(_check_word)]
Column = Annotated[str, AfterValidator(_check_column)]
Table = Annotated[str, AfterValidator(_check_table)]
Number = Annotated[Decimal, BeforeValidator(_parse_number), PlainSerializer(_number_json, when_used="json")]
Bounds = Annotated[
    tuple[Decimal, ...],
    BeforeValidator(_parse_bounds),
    PlainSerializer(lambda bounds: [_number_json(one) for one in bounds], when_used="json"),
]
Aggregation = Annotated[str, BeforeValidator(_parse_aggregation)]
TimeRange = Annotated[str, BeforeValidator(_parse_range)]
Text = Annotated[str, Field(min_length=1, max_length=4000)]
Count = Annotated[int, Field(strict=True, ge=1, le=100_000)]


class KpiFilter(Entry):
    """A condition on rows: SQL text over the source's columns, or a column, an operator and a value."""

    sql: Text | None = Field(default=None, description="a condition over the source's columns")
    column: Column | None = Field(default=None, description="a column of the source")
    op: Operator | None = Field(
        default=None, description="=, <>, <, <=, >, >=, in, not in, is null or is not null"
    )
    value: Any = Field(default=None, description="what it is compared with; a list for in and not in")

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if self.sql is not None:
            if self.column is not None or self.op is not None or self.value is not None:
                faults.append(((), "both `sql` and a column", "keep one of them"))
        elif self.column is None or self.op is None:
            hint = 'write a condition as text, "status = \'open\'", or {column: status, op: "=", value: open}'
            faults.append(((), "a filter without a column or an operator", hint))
        elif self.op.startswith("is"):
            if self.value is not None:
                faults.append((("value",), f"`{self.op}` takes no value", "remove `value`"))
        elif self.op.endswith("in"):
            if not isinstance(self.value, list) or not self.value:
                faults.append((("value",), f"`{self.op}` takes a list", "write `value: [a, b]`"))
        elif self.value is None:
            faults.append((("value",), "`value` is missing", "for empty cells write `op: is null`"))
        values = self.value if isinstance(self.value, list) else [self.value]
        if not faults and any(isinstance(one, dict | list) for one in values):
            faults.append((("value",), "expected texts or numbers", "write plain values"))
        refuse_all(faults)
        return self


def _parse_filter(value: object) -> object:
    return {"sql": value} if isinstance(value, str) else value


Filter = Annotated[
    KpiFilter,
    BeforeValidator(_parse_filter),
    WrapSerializer(lambda one, dump: one.sql if one.sql is not None else dump(one), when_used="json"),
]


class KpiSource(Entry):
    """Where a variable's rows are, and what is made of them."""

    database: Slug = Field(default=WAREHOUSE, description="warehouse, or an id of databases.yml")
    table: Table = Field(description="such as marts.slo_performance; without a schema: marts")
    column: Column | None = Field(default=None, description="a column; only `count` needs none")
    aggregation: Aggregation | None = Field(
        default=None, description="sum, count, count_distinct, avg, min, max, median, or p1 to p99"
    )


class KpiVariable(Entry):
    """One number of a formula: an aggregate over a source's rows, or another KPI."""

    source: KpiSource | None = Field(default=None, description="{database, table, column, aggregation}")
    kpi: Slug | None = Field(default=None, description="the id of a KPI to take in place of a source")
    time_column: Column | None = Field(
        default=None, description="the column that says when, a date or an instant"
    )
    kind: Literal["flow", "snapshot"] = Field(default="flow", description="flow or snapshot")
    until_column: Column | None = Field(default=None, description="of a snapshot: when the row ended")
    filters: tuple[Filter, ...] = Field(default=(), description="conditions that all hold")
    time_range: TimeRange | None = Field(default=None, description="such as last_30_days or month_to_date")
    default: Number | None = Field(default=None, description="a number in place of no rows")
    dimensions: Mapping[Word, Column] = Field(
        default={}, description="column of the source for each dimension"
    )

    @model_validator(mode="before")
    @classmethod
    def _take_field_of_time_range(cls, data: object) -> object:
        """`time_range: {field: spent_on, period: last_30_days}` says the time column too."""
        if isinstance(data, dict) and isinstance(data.get("time_range"), dict):
            given = data["time_range"]
            unknown = [key for key in given if key not in ("field", "period")]
            if unknown:
                refuse_all(
                    [
                        (("time_range", key), f"unknown key `{key}`", "known keys: field, period")
                        for key in unknown
                    ]
                )
            data = {**data, "time_range": given.get("period")}
            data.setdefault("time_column", given.get("field"))
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if (self.source is None) == (self.kpi is None):
            message = "neither a source nor a KPI" if self.kpi is None else "both a source and a KPI"
            faults.append(
                ((), message, "a variable has `source: {table, column, aggregation}`, or `kpi: ID`")
            )
        elif self.kpi is not None:
            faults += [
                ((key,), f"`{key}` beside `kpi`", "the other KPI says it for itself: remove it here")
                for key in (
                    "time_column",
                    "kind",
                    "until_column",
                    "filters",
                    "time_range",
                    "default",
                    "dimensions",
                )
                if key in self.model_fields_set
            ]
        elif self.time_column is None:
            hint = "add `time_column`: the column that says when, a date or an instant"
            faults.append(((), "`time_column` is missing", hint))
        if self.kind == "snapshot" and self.time_range is not None:
            hint = "a snapshot is what stands at the period's end: remove `time_range`, or make it a flow"
            faults.append((("time_range",), "a snapshot with a time range", hint))
        if self.kind == "flow" and self.until_column is not None:
            hint = "`until_column` is when a row of a snapshot ended: add `kind: snapshot`"
            faults.append((("until_column",), "a flow with `until_column`", hint))
        faults += [
            ((key,), "`*` stands for rows, not for a column", "name a column")
            for key in ("time_column", "until_column")
            if getattr(self, key) == "*"
        ]
        faults += [
            (("dimensions", name), "`*` stands for rows, not for a column", "name a column")
            for name, column in self.dimensions.items()
            if column == "*"
        ]
        refuse_all(faults)
        return self


def _named(value: object) -> object:
    """`- name: spend …`, the other spelling of `spend: …`."""
    if not isinstance(value, list):
        return value
    variables: dict[str, object] = {}
    for index, one in enumerate(value):
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str):
            refuse_all(
                [((index,), "a variable without a name", "write `name:` and its name, or `name: {…}`")]
            )
        elif name in variables:
            refuse_all([((index, "name"), f"the variable `{name}` stands twice", "give it another name")])
        else:
            variables[name] = {key: what for key, what in one.items() if key != "name"}
    return variables


class KpiFormula(Entry):
    """What a KPI is made of, and how."""

    type: Literal["simple", "composite", "custom"] = Field(description="simple, composite or custom")
    expression: Text = Field(description="SQL over the variables; of a custom one the name of its model")
    variables: Annotated[Mapping[Word, KpiVariable], BeforeValidator(_named)] = Field(
        description="each variable by its name"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if not self.variables:
            faults.append((("variables",), "a formula without variables", "name what it is made of"))
        if self.type == "simple" and len(self.variables) > 1:
            hint = "with several it is composite: write `type: composite`"
            faults.append((("type",), f"a simple formula with {len(self.variables)} variables", hint))
        if self.type == "custom" and not _WORD.fullmatch(self.expression):
            hint = "of a custom formula `expression` is the name of a macro in dbt_project/macros/kpis/"
            faults.append((("expression",), f"{shown(self.expression)} is no name of a model", hint))
        refuse_all(faults)
        return self


class KpiSchedule(Entry):
    """How often a KPI is looked at, and whose days it counts."""

    frequency: Frequency = Field(default="minute", description="realtime, minute, hour, day, week or month")
    timezone: Zone = Field(default="UTC", description="an IANA zone, such as America/New_York")


class KpiThresholds(Entry):
    """Inclusive bounds of what is not well."""

    warning: Bounds | None = Field(
        default=None, description="a number; of a band the lower and the upper one"
    )
    critical: Bounds | None = Field(
        default=None, description="a number; of a band the lower and the upper one"
    )
    direction: Literal["higher", "lower", "band"] = Field(
        default="higher", description="what is worse: higher, lower, or outside of a band"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        wanted = 2 if self.direction == "band" else 1
        for key in ("warning", "critical"):
            bounds = getattr(self, key)
            if bounds is not None and len(bounds) != wanted:
                hint = (
                    "a band has two: [lower, upper]"
                    if wanted == 2
                    else "write one number, or `direction: band`"
                )
                faults.append(((key,), f"{len(bounds)} bound{'s' * (len(bounds) > 1)}", hint))
            elif bounds is not None and wanted == 2 and bounds[0] >= bounds[1]:
                faults.append(((key,), f"{bounds[0]} is not below {bounds[1]}", "write [lower, upper]"))
        if self.warning is None and self.critical is None:
            faults.append(((), "no bound", "add `warning` or `critical`, or remove `thresholds`"))
        if not faults and self.warning is not None and self.critical is not None:
            faults += self._order(self.warning, self.critical)
        refuse_all(faults)
        return self

    def _order(self, warning: tuple[Decimal, ...], critical: tuple[Decimal, ...]) -> list[Fault]:
        at, other = ("critical",), {"higher": "lower", "lower": "higher"}.get(self.direction, "")
        if self.direction == "band":
            if critical[0] > warning[0] or critical[1] < warning[1]:
                hint = "the band of `critical` lies around that of `warning`"
                return [(at, "critical before it is a warning", hint)]
            return []
        worse = critical[0] < warning[0] if self.direction == "higher" else critical[0] > warning[0]
        if worse:
            hint = f"is {other} worse? then write `direction: {other}`; else exchange them"
            return [(at, f"critical at {critical[0]} comes before the warning at {warning[0]}", hint)]
        return []


class KpiEntry(Entry):
    """One KPI: a formula over aggregated variables."""

    id: Slug = Field(description="the id of the KPI")
    number: int | None = Field(default=None, strict=True, description="2001 to 2999, for those known by one")
    name: str | None = Field(default=None, description="what people call it; default: the id")
    category: Category = Field(description="business, user, performance or custom")
    description: Text = Field(description="what it says, in a sentence")
    owner: str | None = Field(default=None, description="who answers for it, such as team:deposits")
    unit: str | None = Field(default=None, description="such as %, USD or min")
    formula: KpiFormula = Field(description="{type, expression, variables}")
    aggregations: tuple[Grain, ...] = Field(description="a list of hour, day, week, month, quarter, year")
    dimensions: tuple[Word, ...] = Field(default=(), description="what it is split by")
    shared_dimensions: tuple[Word, ...] = Field(
        default=(), description="dimensions that not every source has; there all members share the value"
    )
    filters: tuple[Filter, ...] = Field(default=(), description="conditions for every variable")
    schedule: KpiSchedule = Field(default=KpiSchedule(), description="{frequency, timezone}")
    thresholds: KpiThresholds | None = Field(default=None, description="{warning, critical, direction}")
    tolerance: Number = Field(default=Decimal("0.01"), description="share of change that counts as stable")
    retention: Mapping[Grain, Count] = Field(default={}, description="newest periods kept, by grain")
    allow_late: Duration = Field(
        default=timedelta(), description="how long after its end a period stays open"
    )
    fills_gaps: bool = Field(default=False, strict=True, description="periods without rows have a value too")
    slos: tuple[Id, ...] = Field(default=(), description="SLOs that its data wait for")
    metadata: Mapping[str, Any] = Field(default={}, description="anything else worth keeping")

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.id

    @field_validator("number")
    @classmethod
    def _check_number(cls, value: int | None) -> int | None:
        if value is not None and value not in NUMBERS:
            raise refuse(f"the number {value} is out of range", "KPIs have the numbers 2001 to 2999")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if not self.aggregations:
            faults.append((("aggregations",), "no grain", "name at least one, such as day"))
        for key in ("aggregations", "dimensions", "shared_dimensions", "slos"):
            values = getattr(self, key)
            faults += [
                ((key, index), f"`{one}` stands twice", "remove one of them")
                for index, one in enumerate(values)
                if one in values[:index]
            ]
        if len(self.dimensions) > MOST_DIMENSIONS:
            hint = f"at most {MOST_DIMENSIONS}, for each one more doubles the values: make two KPIs"
            faults.append((("dimensions",), f"{len(self.dimensions)} dimensions", hint))
        for index, one in enumerate(self.shared_dimensions):
            if one not in self.dimensions:
                hint = "shared are those of `dimensions` that not every source has"
                faults.append((("shared_dimensions", index), f"`{one}` is no dimension of this KPI", hint))
        for name, variable in self.formula.variables.items():
            for dimension in variable.dimensions:
                if dimension not in self.dimensions:
                    at = ("formula", "variables", name, "dimensions", dimension)
                    faults.append(
                        (at, f"`{dimension}` is no dimension of this KPI", "add it to `dimensions`")
                    )
        for grain in self.retention:
            if grain not in self.aggregations:
                hint = "add it to `aggregations`, or remove it here"
                faults.append((("retention", grain), f"no values are kept by {grain}", hint))
        if not 0 <= self.tolerance <= 1:
            faults.append((("tolerance",), f"{self.tolerance} is no share", "write 0.01 for 1 %"))
        refuse_all(faults)
        return self


class DatabaseTable(Entry):
    """A table that is copied: how its rows are told apart, and how new ones are found."""

    key: tuple[Column, ...] = Field(description="the columns that tell its rows apart")
    cursor: Column | None = Field(
        default=None, description="a column that grows whenever a row changes; without one all is read"
    )
    overlap: Duration = Field(
        default=timedelta(minutes=10), description="how far back is read again, for late commits"
    )
    columns: tuple[Column, ...] | None = Field(
        default=None, description="the only columns that are copied; default: all"
    )
    compare_every: Duration = Field(
        default=timedelta(days=1), description="how often all rows are compared, which finds deleted ones"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if not self.key or "*" in self.key:
            faults.append((("key",), "no key", "name the columns that tell its rows apart, such as [id]"))
        if self.columns is not None:
            faults += [
                (
                    ("columns",),
                    f"`{column}` is not among them",
                    "the key and the cursor are copied in any case: add it",
                )
                for column in (*self.key, *((self.cursor,) if self.cursor else ()))
                if column not in self.columns
            ]
        if self.cursor == "*":
            faults.append((("cursor",), "`*` is no column", "name a column, such as updated_at"))
        if self.compare_every <= timedelta():
            faults.append((("compare_every",), "compared without end", "such as 1d"))
        refuse_all(faults)
        return self


class Database(Entry):
    """Another database whose tables KPIs read."""

    id: Slug = Field(description="what sources of KPIs name it by")
    description: str | None = None
    url_env: str = Field(description="the environment variable that holds its URL")
    database: str | None = Field(
        default=None, description="where the variable is not set: a database on the warehouse's own server"
    )
    timeout: Duration = Field(
        default=timedelta(seconds=10), description="for connecting, and for each statement, such as 10s"
    )
    every: Duration = Field(default=timedelta(minutes=5), description="how often it is read at most")
    timezone: Zone = Field(default="UTC", description="the zone of times without an offset")
    tables: Mapping[Table, DatabaseTable] = Field(description="each table that is copied, by its name")

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if self.id == WAREHOUSE:
            faults.append((("id",), "`warehouse` is the warehouse itself", "give it another id"))
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.url_env):
            hint = "the name of an environment variable, such as PAYMENTS_DB_URL; never the URL itself"
            # It may hold a password.
            what = "a URL" if "://" in self.url_env else shown(self.url_env)
            faults.append((("url_env",), f"{what} is no name of a variable", hint))
        if not self.tables:
            faults.append((("tables",), "no tables", "name those that KPIs read, each with its key"))
        if not timedelta(seconds=1) <= self.timeout <= timedelta(hours=1):
            hint = "1s to 1h"
            faults.append((("timeout",), f"a timeout of {duration_text(self.timeout)}", hint))
        faults += [
            (("tables", table), "its copy would have too long a name", "give the database a shorter id")
            for table in self.tables
            if len(self.relation(table)) > 63
        ]
        refuse_all(faults)
        return self

    def relation(self, table: str) -> str:
        """Name of the copy of `table` in the warehouse, in the schema `copies`."""
        return re.sub(r"[^a-z0-9]+", "_", f"{self.id}_{table}".lower())
