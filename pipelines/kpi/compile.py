"""From definitions to SQL: models of states and of values, and the plan that tells the engine what each is for.

A **state** model has one row per base bucket and members: what its source's rows of that bucket add up to. All KPIs
over a source, by the same time column and dimensions, share one; K definitions are one scan. A **values** model belongs
to a group of KPIs that read the same states by the same dimensions in the same zone: it stacks the states of the
periods in `kpi_period`, aggregates them for every subset of the dimensions, and computes each KPI's formula over the
aggregates.
"""
# ruff: noqa: S608 # SQL is what it writes, of names and conditions that were checked when the catalog was read

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import sqlglot
from sqlglot import exp

from pipelines.catalog.names import joined_name
from pipelines.errors import DuemarkError
from pipelines.kpi.project import FENCE, LINEAGE, MODELS, PLAN, model_file
from pipelines.kpi.registry import COMPOSING, GRAINS, WAREHOUSE, Kpi, Registry, Source, Variable, Window

HOUR, QUARTER, DAY = 60, 15, 1440
# Who is asked about generated models: who owns the marts of KPIs.
OWNER = "team:platform"
# How the names of generated models begin.
STATE, VALUES = "kpi_state_", "kpi_values_"
# Zones whose offset had other minutes before are of no interest.
SINCE = 1980
# Zones whose clocks were changed oddly before have no rows from then.
ODD_SINCE = 1900
# A number of this size or more is none: it would end as an infinity, in a chart or in another number.
TOO_LARGE = "1e300"
# By which column a source that is purged is noted: pipelines/metrics/purge.py.
PURGED_BY = {"marts.indicator_record": "indicator_id"}
PERIOD_ALIASES = {
    "grain": "p grain", "period_start": "p start", "period_end": "p end", "start_date": "p first",
    "last_date": "p last", "period": "p period",
}  # fmt: skip


class Column(NamedTuple):
    """A state: an aggregate over the rows that meet a condition ('' for all), and the one by which it adds up."""

    aggregate: str
    condition: str
    adds_up: str


@dataclass
class StateModel:
    """States of a source by base bucket (minutes) and members."""

    name: str
    source: Source
    time_column: str
    until_column: str | None
    is_date: bool
    minutes: int
    dimensions: tuple[str, ...]
    columns: dict[str, Column] = field(default_factory=dict)

    @property
    def clocks(self) -> list[str]:
        return [
            f"{self.source.relation}:{column}"
            for column in (self.time_column, self.until_column)
            if column is not None
        ]


@dataclass(frozen=True)
class Piece:
    """States as a variable takes them: of the period, of a window, or all before the period's end (snapshot)."""

    state: str
    window: Window | None
    is_snapshot: bool


@dataclass(frozen=True)
class Group:
    """What KPIs have in common that one values model computes; `own` is the id of a KPI that shares with no other."""

    timezone: str
    dimensions: tuple[str, ...]
    pieces: tuple[Piece, ...]
    fills_gaps: bool
    retention: tuple[tuple[str, int], ...]
    own: str


def compile_registry(registry: Registry) -> dict[str, str]:
    """Texts by path within the dbt project: models, their yml, their lineage, and the plan. Empty without a KPI.

    Raises DuemarkError where a definition asks for what can't be computed.
    """
    if not registry.kpis:
        return {}
    return _Compiler(registry).files()


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


def hour_start(at: str, timezone: str) -> str:
    """SQL: where the hour around an instant begins."""
    if odd_clocks(timezone)[0]:
        return f"kpi.hour_start({at}, {literal(timezone)})"
    return f"date_trunc('hour', {at}, {literal(timezone)})"


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:8]


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


class _Compiler:
    def __init__(self, registry: Registry) -> None:
        self.kpis = [registry.kpis[key] for key in sorted(registry.kpis)]
        self.states: dict[str, StateModel] = {}
        part = {zone: part_hours(zone) for zone in {kpi.timezone for kpi in self.kpis}}
        self.fine = {
            (variable.source.relation, variable.time_column)
            for kpi in self.kpis
            for variable in kpi.variables
            if part[kpi.timezone] and not variable.is_date
        }

    def files(self) -> dict[str, str]:
        groups: dict[Group, list[Kpi]] = {}
        for kpi in self.kpis:
            groups.setdefault(self._group(kpi), []).append(kpi)
        values: dict[str, tuple[Group, list[Kpi], str]] = {}
        for group, kpis in groups.items():
            name = _values_name(group, kpis, self.states)
            text = _custom(group, kpis[0], self.states) if group.own else _Values(group, kpis, self).text()
            values[name] = (group, kpis, text)
        plan: dict[str, Any] = {"models": {}, "kpis": {}, "clocks": {}}
        files: dict[str, str] = {}
        for state in self.states.values():
            files[model_file(state.name)] = _state_text(state)
            plan["models"][state.name] = {
                "kind": "state", "clocks": state.clocks, "minutes": state.minutes, "is_date": state.is_date,
                "columns": ["bucket_at", *map(_member, state.dimensions), *sorted(state.columns)],
            }  # fmt: skip
            for column in (state.time_column, state.until_column):
                if column is not None:
                    plan["clocks"][f"{state.source.relation}:{column}"] = {
                        "relation": state.source.relation, "time_column": column, "is_date": state.is_date,
                    }  # fmt: skip
        for name, (group, kpis, text) in values.items():
            files[model_file(name)] = text
            plan["models"][name] = {
                "kind": "values",
                "timezone": group.timezone,
                "grains": [grain for grain in GRAINS if any(grain in kpi.grains for kpi in kpis)],
                "retention": dict(group.retention),
                "fills_gaps": group.fills_gaps,
                "pieces": [
                    {
                        "state": piece.state, "clocks": self.states[piece.state].clocks,
                        "is_date": self.states[piece.state].is_date, "is_snapshot": piece.is_snapshot,
                        "days": piece.window.days if piece.window else None,
                        "to_date": piece.window.to_date if piece.window else None,
                    }
                    for piece in group.pieces
                ],
            }  # fmt: skip
            for kpi in kpis:
                plan["kpis"][kpi.id] = _kpi_plan(kpi, name)
        files[f"{MODELS}/kpis_generated.yml"] = _yml(plan)
        files[LINEAGE] = _lineage(values)
        files[PLAN] = json.dumps(plan, indent=1, sort_keys=True, default=str)
        return files

    def _group(self, kpi: Kpi) -> Group:
        pieces = sorted(
            {self.piece(kpi, variable) for variable in kpi.variables},
            key=lambda piece: (piece.state, str(piece.window), piece.is_snapshot),
        )
        return Group(
            kpi.timezone, kpi.dimensions, tuple(pieces), kpi.fills_gaps, tuple(sorted(kpi.retention)),
            kpi.id if kpi.formula == "custom" else "",
        )  # fmt: skip

    def piece(self, kpi: Kpi, variable: Variable) -> Piece:
        """The piece of a variable; its states are added to their model."""
        state = self.state(kpi, variable)
        is_snapshot = variable.kind == "snapshot"
        for name, definition in states_of(variable):
            state.columns.setdefault(name, definition)
        return Piece(state.name, variable.window, is_snapshot)

    def state(self, kpi: Kpi, variable: Variable) -> StateModel:
        source, column = variable.source, variable.time_column
        columns = dict(variable.dimensions)
        members = tuple(sorted({columns[name] for name in kpi.dimensions if name in columns}))
        until = variable.until_column if variable.kind == "snapshot" else None
        minutes = DAY if variable.is_date else QUARTER if (source.relation, column) in self.fine else HOUR
        snapshot = variable.kind == "snapshot"
        name = _state_name(source, column, until, minutes, members, is_snapshot=snapshot)
        if name not in self.states:
            self.states[name] = StateModel(
                name, source, column, until if snapshot else None, variable.is_date, minutes, members
            )
        return self.states[name]


def _state_name(
    source: Source,
    time_column: str,
    until_column: str | None,
    minutes: int,
    members: Sequence[str],
    *,
    is_snapshot: bool,
) -> str:
    """`marts__slo_performance__business_date__application_id`: the source, by which time, and the members."""
    kind = ["quarters"] if minutes == QUARTER else []
    kind += ["standing"] if is_snapshot else []
    parts = [*source.relation.split("."), *kind, time_column, *members]
    return STATE + joined_name(parts, (kind, until_column) if kind else None, longest=63 - len(STATE))


def _values_name(group: Group, kpis: Sequence[Kpi], states: Mapping[str, StateModel]) -> str:
    """Of one KPI its id; what several share has the name of their sources and dimensions, and a hash of all it is."""
    if len(kpis) == 1:
        kpi_id = kpis[0].id
        # `a-b` and `a_b` are two.
        whole = kpi_id if "_" in kpi_id else None
        return VALUES + joined_name([kpi_id.replace("-", "_")], whole, longest=63 - len(VALUES))
    relations = sorted({states[piece.state].source.relation for piece in group.pieces})
    parts = [part for relation in relations for part in relation.split(".")]
    return VALUES + joined_name([*parts, "by", *group.dimensions], group, longest=63 - len(VALUES))


def _member(column: str) -> str:
    # PostgreSQL cuts names at 63 bytes, and then two long ones could be one.
    return f"d_{column}" if len(column) <= 61 else f"d_{column[:50]}_{_hash(column)}"


def scope_of(variable: Variable) -> str:
    """The definition's own filters: which rows make a cell of the KPI."""
    return str(getattr(variable, "scope", ""))


def row_state(variable: Variable) -> str:
    """Name of the state that counts the rows in the variable's scope."""
    return f"rows_{_hash(scope_of(variable))}"


def _kind(column: str | None, source: Source) -> str:
    return dict(source.columns).get(str(column), "numeric").lower()


def _is_double(kind: str) -> bool:
    return kind.startswith(("double", "real", "float"))


def number(column: str, source: Source) -> str:
    """A column as what adds up exactly: integers and numeric as they are, floats as numeric, time as seconds."""
    kind = _kind(column, source)
    name = quoted(column)
    if kind.startswith(("interval", "timestamp", "date", "time")):
        return f"extract(epoch from {name})"
    if _is_double(kind):
        return f"{name}::numeric"
    if kind.startswith("bool"):
        return f"{name}::integer"
    return name


def may_be_odd(variable: Variable) -> bool:
    """Whether what it aggregates may be no number (NaN, an infinity): counts and whole numbers never are."""
    if variable.column is None or variable.aggregation in {"count", "count_distinct"}:
        return False
    kind = _kind(variable.column, variable.source)
    return not kind.startswith(("smallint", "integer", "bigint", "int", "bool", "money")) or kind.startswith(
        "interval"
    )


def is_odd(variable: Variable, *, negated: bool = False) -> str:
    """SQL condition: a row's value is no number, or (`negated`) is one; neither where it is null.

    Judged as it is stored: to make a numeric of a double, or seconds of an interval, takes longer than to add it up.
    """
    column = quoted(str(variable.column))
    kind = _kind(variable.column, variable.source)
    if kind.startswith(("interval", "timestamp", "date")):
        return f"isfinite({column})" if negated else f"not isfinite({column})"
    if _is_double(kind):
        # NaN is the greatest of all.
        return (
            f"({column} > '-Infinity' and {column} < 'Infinity')"
            if negated
            else f"({column} >= 'Infinity' or {column} = '-Infinity')"
        )
    return f"abs({number(str(variable.column), variable.source)}) {'<' if negated else '>='} 'Infinity'"


def extreme(part: str, variable: Variable) -> str:
    """`min` or `max` of a variable's column, no number where any of it is none."""
    column = number(str(variable.column), variable.source)
    if not may_be_odd(variable):
        return f"{part}({column})"
    odd, beyond = is_odd(variable), "-Infinity" if part == "min" else "Infinity"
    if _is_double(_kind(variable.column, variable.source)):
        # The greatest double is the greatest numeric too; only one value is made a numeric then. What is odd at the
        # end that is looked for is the result anyway.
        column = quoted(str(variable.column))
        odd = f"{column} >= 'Infinity'" if part == "min" else f"{column} = '-Infinity'"
    return f"{part}(case when {odd} then '{beyond}' else {column} end)"


def states_of(variable: Variable) -> list[tuple[str, Column]]:
    """The states that a variable needs, by their names, the count of its rows first."""
    found = [(row_state(variable), Column(*_aggregate("count", "", scope_of(variable), variable), "sum"))]
    if variable.aggregation not in COMPOSING or (
        variable.kind == "snapshot" and variable.aggregation in {"min", "max"}
    ):
        return found
    column = number(variable.column, variable.source) if variable.column else ""
    parts = {"avg": ["sum", "count"], "sum": ["sum", "count"] if variable.kind == "snapshot" else ["sum"]}
    found_parts = parts.get(variable.aggregation, [variable.aggregation])
    if variable.kind == "snapshot" and may_be_odd(variable):
        # What came as no number is none until it goes: less itself it would be no number for ever.
        found_parts = [*found_parts, "odd"]
    for part in found_parts:
        parts_of = _aggregate(part, column, variable.condition, variable)
        adds_up = part if part in {"min", "max"} else "sum"
        found.append((state_name(variable, part), Column(*parts_of, adds_up)))
    return found


def state_name(variable: Variable, part: str) -> str:
    """`sum_amount_1a2b3c4d`: readable, and the same for the same aggregate."""
    column = variable.column or "rows"
    return f"{part}_{column}"[:40] + "_" + _hash(part, column, variable.condition)


def _aggregate(part: str, column: str, condition: str, variable: Variable) -> tuple[str, str]:
    conditions = [f"({condition})"] if condition else []
    if variable.kind == "snapshot":
        if part == "count":
            conditions += [f"{column} is not null"] if column else []
            text = "sum(moved)"
        elif part == "odd":
            conditions.append(is_odd(variable))
            text = "sum(moved)"
        else:
            conditions += [is_odd(variable, negated=True)] if may_be_odd(variable) else []
            text = f"sum(moved * {column})"
    elif part in {"min", "max"}:
        text = extreme(part, variable)
    else:
        text = f"{part}({column or '*'})"
    return text, " and ".join(conditions)


def relation_ref(source: Source) -> str:
    """The source's table as dbt knows it, so that it's in the graph."""
    schema, _, table = source.relation.partition(".")
    if source.database == WAREHOUSE and schema == "marts":
        return f'{{{{ ref("{table}") }}}}'
    if schema in {"raw", "copies"}:
        return f'{{{{ source("{schema}", "{table}") }}}}'
    return f"{quoted(schema)}.{quoted(table)}"


def _bucket(column: str, minutes: int, *, is_date: bool) -> str:
    if is_date:
        return f"({quoted(column)}::timestamp at time zone 'UTC')"
    return f"date_bin('{minutes} minutes', {quoted(column)}, timestamptz '2000-01-01T00:00Z')"


def _touched(column: str, *, is_date: bool) -> str:
    kind = "date" if is_date else "instant"
    return f"(true /* touched {kind} {column} */)"


def _state_text(state: StateModel) -> str:
    members = "".join(
        f"    {quoted(column)}::text as {quoted(_member(column))},\n" for column in state.dimensions
    )
    is_stream = state.until_column is not None or _is_snapshot(state)
    conditions = sorted({each.condition for each in state.columns.values() if each.condition})
    told = {
        # What many of the aggregates ask for is judged once a row.
        condition: condition if is_stream else quoted(f"= {number_}")
        for number_, condition in enumerate(conditions)
    }
    columns = ",\n".join(
        f"    ({each.aggregate}{f' filter (where {told[each.condition]})' if each.condition else ''})::numeric"
        f" as {quoted(name)}"
        for name, each in sorted(state.columns.items())
    )
    relation, head = relation_ref(state.source), '{{ config(materialized="kpi_state", schema="kpi") }}\n\n'
    keys = ", ".join(str(place) for place in range(1, len(state.dimensions) + 2))
    if not is_stream:
        bucket = _bucket(state.time_column, state.minutes, is_date=state.is_date)
        judged = "".join(f",\n        {condition} as {name}" for condition, name in told.items())
        touched = _touched(state.time_column, is_date=state.is_date)
        return (
            f'{head}select\n    "= bucket" as bucket_at,\n{members}{columns}\nfrom (\n'
            f'    select *,\n        {bucket} as "= bucket"{judged}\n    from {relation}\n'
            f"    where isfinite({quoted(state.time_column)}) and {touched}{FENCE}\n"
            f") as judged\ngroup by {keys}\n"
        )
    # A row comes at its time and goes at its end; one that ends before it begins never stands.
    streams = []
    for column, sign in ((state.time_column, 1), (state.until_column, -1)):
        if column is None:
            continue
        stands = ""
        if state.until_column is not None:
            until, begin = quoted(state.until_column), quoted(state.time_column)
            stands = f" and isfinite({begin}) and ({until} is null or {until} > {begin})"
        streams.append(
            f"    select {_bucket(column, state.minutes, is_date=state.is_date)} as bucket_at, {sign} as moved,"
            " moves.*\n"
            f"    from {relation} as moves\n"
            f"    where isfinite({quoted(column)}){stands} and {_touched(column, is_date=state.is_date)}"
        )
    return (
        f"{head}select\n    bucket_at,\n{members}{columns}\nfrom (\n"
        + "\n    union all\n".join(streams)
        + f"\n) as moves\ngroup by {keys}\n"
    )


def _is_snapshot(state: StateModel) -> bool:
    return any("moved" in each.aggregate for each in state.columns.values())


def _kpi_plan(kpi: Kpi, model: str) -> dict[str, Any]:
    thresholds = None
    if kpi.thresholds is not None:
        thresholds = {"direction": kpi.thresholds.direction}
        for name in ("warning", "critical"):
            bounds = [float(bound) for bound in getattr(kpi.thresholds, name)]
            if bounds:
                thresholds[name] = bounds if kpi.thresholds.direction == "band" else bounds[0]  # type: ignore[assignment]
    return {
        "model": model, "version": kpi.version, "value_version": str(getattr(kpi, "value_version", "") or kpi.version),
        "number": kpi.number, "name": kpi.name, "category": kpi.category, "description": kpi.description,
        "owner": kpi.owner, "unit": kpi.unit, "timezone": kpi.timezone,
        "expression": kpi.formula_text or kpi.expression, "formula": kpi.formula,
        "grains": [grain for grain in GRAINS if grain in kpi.grains], "dimensions": list(kpi.dimensions),
        "thresholds": thresholds, "tolerance": str(kpi.tolerance),
        "allow_late": int(kpi.allow_late.total_seconds()), "slos": list(kpi.slos), "metadata": dict(kpi.metadata),
        "retention": dict(kpi.retention), "fills_gaps": kpi.fills_gaps, "frequency": kpi.frequency,
        "clocks": sorted({f"{each.source.relation}:{each.time_column}" for each in kpi.variables}),
        "reads": [_read(kpi, each) for each in kpi.variables if each.source.relation in PURGED_BY],
        "variables": {
            each.name: {
                "aggregation": each.aggregation, "table": each.source.table, "database": each.source.database,
                "column": each.column, "time_column": each.time_column, "kind": each.kind,
                "condition": each.condition, "until_column": each.until_column,
                "window": None if each.window is None else {"days": each.window.days, "to_date": each.window.to_date},
                "default": None if each.default is None else str(each.default), "dimensions": dict(each.dimensions),
            }
            for each in kpi.variables
        },
    }  # fmt: skip


def _read(kpi: Kpi, variable: Variable) -> dict[str, Any]:
    """What a variable reads of a source that is purged: which parts (None: any), over which window."""
    column = PURGED_BY[variable.source.relation]
    # Whether there is a cell at all is up to the rows that the definition's own filters let pass.
    condition = variable.condition if kpi.formula == "custom" else scope_of(variable)
    return {
        "relation": variable.source.relation, "parts": _parts(condition, column),
        "days": variable.window.days if variable.window else None,
        "to_date": variable.window.to_date if variable.window else None,
        "is_snapshot": variable.kind == "snapshot", "is_date": variable.is_date,
    }  # fmt: skip


def _parts(condition: str, column: str) -> list[str] | None:
    """The values that a condition allows a column, where it says so outright."""
    return _allowed(sqlglot.parse_one(condition, dialect="postgres"), column) if condition else None


def _allowed(node: exp.Expr, column: str) -> list[str] | None:
    node = node.unnest()
    if isinstance(node, exp.And):
        return _allowed(node.this, column) or _allowed(node.expression, column)
    values = node.expressions if isinstance(node, exp.In) else [node.args.get("expression")]
    is_said = (
        isinstance(node, exp.EQ | exp.In) and isinstance(node.this, exp.Column) and node.this.name == column
    )
    return [each.name for each in values] if is_said and values and all(map(_is_whole, values)) else None


def _is_whole(node: exp.Expr | None) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit()


def _yml(plan: dict[str, Any]) -> str:
    entries = []
    for name, model in sorted(plan["models"].items()):
        if model["kind"] == "state":
            text = f"States of {model['clocks'][0]} by buckets of {model['minutes']} minutes."
        else:
            ids = [kpi_id for kpi_id, kpi in sorted(plan["kpis"].items()) if kpi["model"] == name]
            text = f"Values of {', '.join(ids)}."
        entries.append({"name": name, "description": text, "config": {"meta": {"owner": OWNER}}})
    relations = {str(clock["relation"]) for clock in plan["clocks"].values()}
    copies = sorted(name.partition(".")[2] for name in relations if name.startswith("copies."))
    tables = [
        {"name": name, "description": "A table of another database, as it was last read."} for name in copies
    ]
    sources = [{"name": "copies", "tables": tables}] if tables else []
    return json.dumps({"version": 2, "models": entries, "sources": sources}, indent=1)


def _lineage(models: Iterable[str]) -> str:
    """The macro of the core project that names no model, with those that there are."""
    names = ", ".join(f'"{name}"' for name in sorted(models))
    return f"{{% macro kpi_models() %}} {{{{ return([{names}]) }}}} {{% endmacro %}}\n"


def bounds(piece: Piece, state: StateModel, timezone: str) -> tuple[str | None, str]:
    """From and before which instants a piece's buckets (or rows, by instants) lie, for the period `p`."""
    if state.is_date:
        end = "((p.last_date + 1)::timestamp at time zone 'UTC')"
        start = "(p.start_date::timestamp at time zone 'UTC')"
    else:
        end, start = "p.period_end", "p.period_start"
    if piece.is_snapshot:
        return None, end
    if piece.window is not None:
        day = (
            f"(p.last_date - {piece.window.days - 1})"
            if piece.window.days is not None
            else f"date_trunc('{piece.window.to_date}', p.last_date::timestamp)::date"
        )
        start = (
            f"({day}::timestamp at time zone 'UTC')"
            if state.is_date
            else f"kpi.day_start({day}, {literal(timezone)})"
        )
    return start, end


class _Values:
    """The SQL of one group."""

    def __init__(self, group: Group, kpis: Sequence[Kpi], compiler: _Compiler) -> None:
        self.group, self.kpis, self.compiler = group, kpis, compiler
        self.names: dict[tuple[Piece, str], str] = {}
        self.direct: dict[tuple[Any, ...], dict[str, str]] = {}
        # Of each aggregate's name: the grains it is needed at, and of rows its condition.
        self.grains: dict[str, set[str]] = {}
        self.conditions: dict[str, str] = {}

    def text(self) -> str:
        selects = [self._kpi(kpi) for kpi in self.kpis]
        parts: list[tuple[str, tuple[str, ...], str, list[str]]] = []
        by_dimensions = sorted(self.group.pieces, key=self._present)
        for present, pieces in groupby(by_dimensions, key=self._present):
            listed = list(pieces)
            columns = [name for (piece, _), name in self.names.items() if piece in listed]
            parts.append((f"cells_{len(parts)}", present, self._stacked(listed, present), columns))
        for number_, (key, aggregates) in enumerate(self.direct.items()):
            parts.append((f"rows_{number_}", key[3], self._rows(key, aggregates), list(aggregates)))
        return self._assemble(parts, selects)

    def _present(self, piece: Piece) -> tuple[str, ...]:
        """The group's dimensions that the piece's source has."""
        columns = self._columns(piece)
        return tuple(name for name in self.group.dimensions if name in columns)

    def _columns(self, piece: Piece) -> dict[str, str]:
        for kpi in self.kpis:
            for variable in kpi.variables:
                if self.compiler.piece(kpi, variable) == piece:
                    return dict(variable.dimensions)
        raise AssertionError(piece)

    def _name(self, kpi: Kpi, piece: Piece, column: str) -> str:
        name = self.names.setdefault((piece, column), f"a{len(self.names)}")
        self.grains.setdefault(name, set()).update(kpi.grains)
        return name

    def _grains(self, names: Iterable[str]) -> list[str]:
        needed = {grain for name in names for grain in self.grains[name]}
        return [grain for grain in GRAINS if grain in needed]

    def _meets(self, piece: Piece, grain: str) -> str:
        """Condition: a bucket `s` is of the period `p`, so that the planner can hash it.

        Windows and snapshots have more than a period's own, and are joined by their bounds.
        """
        zone = literal(self.group.timezone)
        is_date = self.compiler.states[piece.state].is_date
        kind = "midnight" if is_date else "instant"
        if grain == "hour":
            same = f"p.period_start = {hour_start('s.bucket_at', self.group.timezone)}"
        else:
            local = f"s.bucket_at at time zone {literal('UTC') if is_date else zone}"
            if not is_date and odd_clocks(self.group.timezone)[1]:
                local = f"kpi.local_time(s.bucket_at, {zone})"
            same = f"p.start_date = date_trunc({literal(grain)}, {local})::date"
        return f"p.grain = {literal(grain)} and {same} and (true /* within {kind} {grain} s.bucket_at */)"

    def _is_own(self, piece: Piece, grain: str) -> bool:
        """Whether the piece is the rows of the period itself, each of one period only."""
        is_within_day = grain == "hour" and self.compiler.states[piece.state].is_date
        return piece.window is None and not piece.is_snapshot and not is_within_day

    def _stacked(self, pieces: Sequence[Piece], present: tuple[str, ...]) -> str:
        """Of the states: what adds up, grain by grain, as each needs it."""
        every = [(piece, column, name) for (piece, column), name in self.names.items() if piece in pieces]
        return "\nunion all\n".join(
            self._stacked_at(grain, pieces, present, every)
            for grain in self._grains(name for *_, name in every)
        )

    def _stacked_at(
        self,
        grain: str,
        pieces: Sequence[Piece],
        present: tuple[str, ...],
        every: Sequence[tuple[Piece, str, str]],
    ) -> str:
        used = [each for each in every if grain in self.grains[each[2]]]
        stacked = []
        for piece in pieces:
            if piece.is_snapshot or (piece.window is not None and piece.window.to_date is not None):
                stacked.append(self._running(grain, piece, present, used))
                continue
            state, columns = self.compiler.states[piece.state], self._columns(piece)
            members = _members(present, columns)
            values = "".join(
                f", {f's.{quoted(column)}' if each == piece else 'null::numeric'} as {name}"
                for each, column, name in used
            )
            if self._is_own(piece, grain):
                meets = self._meets(piece, grain)
            else:
                start, end = bounds(piece, state, self.group.timezone)
                meets = f"p.grain = {literal(grain)} and s.bucket_at >= {start} and s.bucket_at < {end}"
            stacked.append(
                f"select p.period_start{members}{values}\n"
                f'from kpi_period as p inner join {{{{ ref("{state.name}") }}}} as s on {meets}'
            )
        ways = {
            name: self.compiler.states[piece.state].columns[column].adds_up for piece, column, name in used
        }
        aggregates = "".join(
            f", {ways[name]}({name}) as {name}" if name in ways else f", null::numeric as {name}"
            for _, _, name in every
        )
        return (
            f"select {literal(grain)} as grain, period_start, {_dimensions_json(present, 'd ')} as dimensions"
            f"{aggregates}\nfrom (\n"
            + "\nunion all\n".join(stacked)
            + f"\n) as stacked\ngroup by period_start{_cube([f'd {name}' for name in present])}"
        )

    def _running(
        self, grain: str, piece: Piece, present: tuple[str, ...], used: Sequence[tuple[Piece, str, str]]
    ) -> str:
        """What stands at the end of each period, or came to date.

        Of a snapshot: all that came before, less what went; to date: since the week, month or the like around it began.
        A state is placed in the first period that ends after it, and added up from period to period: history is read
        once, and not again for each of them.
        """
        state, columns = self.compiler.states[piece.state], self._columns(piece)
        start, end = bounds(piece, state, self.group.timezone)
        start = start or "timestamptz '-infinity'"
        mine = {name: column for each, column, name in used if each == piece}
        names = [quoted(f"d {name}") for name in present]
        listed = "".join(f", {name}" for name in (*names, *mine))
        ref = f'{{{{ ref("{state.name}") }}}}'
        values = "".join(f", s.{quoted(column)} as {name}" for name, column in mine.items())
        nothing = ", null::numeric" * len(mine)
        sums = "".join(
            f", {state.columns[column].adds_up}({name}) as {name}" for name, column in mine.items()
        )
        running = "".join(
            f", {state.columns[mine[name]].adds_up}({name}) over cell as {name}"
            if name in mine
            else f", null::numeric as {name}"
            for *_, name in used
        )
        cell = ", ".join(['"p begin"', *names])
        members = "".join(f", {name}" for name in names)
        return f"""select period_start{members}{running}
from (
    select p.period_start, moved."p end", {start} as "p begin"{members}{sums}
    from (
        select ends.ends[width_bucket(s.bucket_at, ends.ends) + 1] as "p end"{_members(present, columns)}{values}
        from (
            select array_agg({end} order by p.period_end) as ends, array_agg({start} order by p.period_end) as begins
            from kpi_period as p where p.grain = {literal(grain)}
        ) as ends
        inner join {ref} as s
            on s.bucket_at >= ends.begins[1] and s.bucket_at < ends.ends[cardinality(ends.ends)]
            and s.bucket_at >= ends.begins[width_bucket(s.bucket_at, ends.ends) + 1]
        union all
        select {end} as "p end"{members}{nothing}
        from kpi_period as p
        cross join (select distinct 1 as "p one"{_members(present, columns)} from {ref} as s) as member
        where p.grain = {literal(grain)}
    ) as moved ("p end"{listed})
    inner join kpi_period as p on p.grain = {literal(grain)} and {end} = moved."p end"
    group by p.period_start, moved."p end", 3{members}
) as moved
window cell as (partition by {cell} order by "p end")"""

    def _rows(self, key: tuple[Any, ...], aggregates: dict[str, str]) -> str:
        """Of the source's rows: what does not add up, for each period and subset of the dimensions by itself."""
        return "\nunion all\n".join(
            self._rows_at(grain, key, aggregates) for grain in self._grains(aggregates)
        )

    def _rows_at(self, grain: str, key: tuple[Any, ...], aggregates: dict[str, str]) -> str:
        piece, variable, columns, present = key
        state = self.compiler.states[piece.state]
        own = f"r.{quoted(variable[0])}"
        used = {name for name in aggregates if grain in self.grains[name]}
        conditions = {self.conditions[name] for name in used}
        # Rows that count for nothing are not even sorted.
        where = (
            "" if "" in conditions else f" and ({' or '.join(f'({each})' for each in sorted(conditions))})"
        )
        members = "".join(
            f", r.{quoted(dict(columns)[name])}::text as {quoted('d ' + name)}" for name in present
        )
        if self._is_own(piece, grain):
            kind = "date" if state.is_date else "instant"
            place = (
                hour_start(own, self.group.timezone)
                if grain == "hour"
                else f"({own} /* start of {kind} {grain} */)"
            )
            rows = (
                f'select r.*, {place} as "p start"{members} from {relation_ref(state.source)} as r'
                f" where (true /* within {kind} {grain} {own} */){where}"
            )
        else:
            start, end = bounds(piece, state, self.group.timezone)
            at = f"({own}::timestamp at time zone 'UTC')" if state.is_date else own
            meets = (
                f"p.grain = {literal(grain)}"
                + (f" and {at} >= {start}" if start else "")
                + f" and {at} < {end} and isfinite({own})"
            )
            if piece.is_snapshot and variable[1]:
                until = f"r.{quoted(variable[1])}"
                ends = f"({until}::timestamp at time zone 'UTC')" if state.is_date else until
                meets += f" and ({until} is null or {ends} >= {end})"
            # A column of the source may be called like one of the periods.
            for name, alias in PERIOD_ALIASES.items():
                meets = meets.replace(f"p.{name}", f'p."{alias}"')
            aliases = ", ".join(map(quoted, PERIOD_ALIASES.values()))
            rows = (
                f'select r.*, p."p start"{members} from kpi_period as p ({aliases})'
                f" inner join {relation_ref(state.source)} as r on {meets}{where}"
            )
        texts = "".join(
            f", ({text})::numeric as {name}" if name in used else f", null::numeric as {name}"
            for name, text in aggregates.items()
        )
        names = tuple(f"d {name}" for name in present)
        return (
            f'select {literal(grain)} as grain, "p start" as period_start, {_dimensions_json(present, "d ")}'
            f' as dimensions{texts}\nfrom ({rows}) as r\ngroup by "p start"{_cube(names)}'
        )

    def _kpi(self, kpi: Kpi) -> str:
        sides: dict[str, list[str]] = {}
        for variable in kpi.variables:
            piece = self.compiler.piece(kpi, variable)
            sides.setdefault(variable.source.relation, []).append(
                f"coalesce({self._name(kpi, piece, row_state(variable))}, 0)"
            )
        rows = {relation: f"({' + '.join(dict.fromkeys(names))}) > 0" for relation, names in sides.items()}
        exists = self._exists(kpi, rows)
        columns = ", ".join(
            f"({self._variable(kpi, each, rows[each.source.relation])})::numeric as {quoted(each.name)}"
            for each in kpi.variables
        )
        odd = [f"abs(v.{quoted(each.name)}) >= {TOO_LARGE}" for each in kpi.variables if may_be_odd(each)]
        components = ", ".join(
            f"{literal(each.name)}, "
            + (f"case when abs({name}) < {TOO_LARGE} then {name} end" if may_be_odd(each) else name)
            for each in kpi.variables
            for name in [f"v.{quoted(each.name)}"]
        )
        reason = self._reason(kpi, rows)
        columns = f"(select {columns} offset 0) as v"
        if [kpi.expression] == [quoted(each.name) for each in kpi.variables]:
            # The value is the one variable, and a subquery for it, in every cell, would cost as much as the rest.
            value = f"v.{kpi.expression}"
            default = kpi.variables[0].default
            is_plain = not odd and (default is None or abs(default) < float(TOO_LARGE))
        else:
            value, is_plain = 'v."= value"', False
            formula = f"({kpi.expression})::numeric"
            if odd:
                formula = f"case when {' or '.join(odd)} then 'NaN' else {formula} end"
            columns = f'(select v.*, {formula} as "= value" from {columns} offset 0) as v'
        shown, too_large = value, ""
        if not is_plain:
            shown = f"case when abs({value}) < {TOO_LARGE} then {value} end"
            too_large = f" when abs({value}) >= {TOO_LARGE} then 'not a number'"
        grains = ", ".join(literal(grain) for grain in kpi.grains)
        where = f"u.grain in ({grains})"
        where += f" and ({exists} or u.dimensions = '{{}}')" if kpi.fills_gaps else f" and ({exists})"
        return (
            f"select {literal(kpi.id)}::text as kpi_id, jsonb_build_object({components}) as components,"
            f' {shown} as "= value", case when {value} is null then {reason}{too_large} end as reason\n'
            f"from {columns}\nwhere {where}"
        )

    def _reason(self, kpi: Kpi, rows: Mapping[str, str]) -> str:
        """Why a value is null: what would not be one without it."""
        divided = kpi.expression
        for divisor in reversed(kpi.divisors):
            divided = divided.replace(
                f"nullif({divisor}, 0)", f"(case when {divisor} = 0 then 1 else {divisor} end)"
            )
        found = [f"when ({divided}) is not null then 'division by zero'"] if kpi.divisors else []
        # A default stands where a source has no rows, and nowhere else.
        lacking = [
            f"(v.{quoted(each.name)} is null and not ({rows[each.source.relation]}))"
            for each in kpi.variables
            if each.default is None
        ]
        found += [f"when {' or '.join(lacking)} then 'no rows'"] if lacking else []
        nothing = " or ".join(f"v.{quoted(each.name)} is null" for each in kpi.variables)
        return f"case {' '.join(found)} when {nothing} then 'no values' else 'by formula' end"

    def _exists(self, kpi: Kpi, rows: dict[str, str]) -> str:
        """A cell is there where a source that has all of its dimensions has rows."""
        found = []
        for relation, has_rows in rows.items():
            columns = {
                name
                for variable in kpi.variables
                if variable.source.relation == relation
                for name, _ in variable.dimensions
            }
            lacks = [literal(name) for name in self.group.dimensions if name not in columns]
            found.append(
                f"({has_rows} and not u.dimensions ?| array[{', '.join(lacks)}])" if lacks else has_rows
            )
        return " or ".join(found)

    def _variable(self, kpi: Kpi, variable: Variable, is_there: str) -> str:
        piece = self.compiler.piece(kpi, variable)
        snapshot = variable.kind == "snapshot"

        def state(part: str) -> str:
            return self._name(kpi, piece, state_name(variable, part))

        if variable.aggregation not in COMPOSING or (snapshot and variable.aggregation in {"min", "max"}):
            text = self._direct(kpi, variable, piece)
            if variable.aggregation == "count_distinct":
                text = f"coalesce({text}, 0)"
        elif variable.aggregation == "avg":
            text = f"{state('sum')} / nullif({state('count')}, 0)"
            if snapshot and may_be_odd(variable):
                text = f"case when {state('odd')} > 0 then 'NaN' else {text} end"
        elif variable.aggregation == "sum" and snapshot:
            odd = f"when {state('odd')} > 0 then 'NaN' " if may_be_odd(variable) else ""
            text = f"case {odd}when {state('count')} > 0 then {state('sum')} end"
        elif variable.aggregation == "count":
            text = f"coalesce({state('count')}, 0)"
        else:
            text = state(variable.aggregation)
        default = "null" if variable.default is None else str(variable.default)
        if (
            kpi.fills_gaps
            and variable.default is None
            and variable.aggregation in {"count", "sum", "count_distinct"}
        ):
            default = "0"
        return f"case when {is_there} then {text} else {default} end"

    def _direct(self, kpi: Kpi, variable: Variable, piece: Piece) -> str:
        present = self._present(piece)
        key = (
            piece, (variable.time_column, variable.until_column), tuple(sorted(variable.dimensions)), present,
        )  # fmt: skip
        column = number(str(variable.column), variable.source)
        if variable.aggregation == "count_distinct":
            text = f"count(distinct {quoted(str(variable.column))})"
        elif variable.aggregation in {"min", "max"}:
            text = extreme(variable.aggregation, variable)
        else:
            share = (
                "0.5" if variable.aggregation == "median" else f"{int(variable.aggregation[1:]) / 100:.2f}"
            )
            text = _exact_percentile(column, share, variable)
        if variable.condition and "filter" not in text:
            text += f" filter (where {variable.condition})"
        known = {known: name for name, known in self.direct.setdefault(key, {}).items()}
        name = known.get(text) or f"r{sum(map(len, self.direct.values()))}"
        self.direct[key][name] = text
        self.grains.setdefault(name, set()).update(kpi.grains)
        self.conditions[name] = variable.condition
        return name

    def _assemble(
        self, parts: Sequence[tuple[str, tuple[str, ...], str, list[str]]], selects: Iterable[str]
    ) -> str:
        every = tuple(self.group.dimensions)
        cells = [part for part in parts if part[0].startswith("cells_")]
        if not any(set(present) == set(every) for _, present, _, _ in cells):
            raise DuemarkError(
                f"{', '.join(kpi.id for kpi in self.kpis)}: no source has all of the dimensions {', '.join(every)}.",
                "One variable has to have every dimension; others may share theirs.",
            )
        withs = ",\n".join(f"{name} as (\n{text}\n)" for name, _, text, _ in parts)
        universe = "\nunion\n".join(
            f"select grain, period_start, dimensions from {name}" for name, *_ in cells
        )
        if self.group.fills_gaps:
            universe += "\nunion\nselect grain, period_start, '{}'::jsonb from kpi_period"
        is_alone = len(cells) == 1 and not self.group.fills_gaps
        base = cells[0][0] if is_alone else "universe"
        withs += "" if is_alone else f",\nuniverse as (\n{universe}\n)"
        joins = []
        for name, present, _, _ in parts:
            if name == base:
                continue
            missing = [each for each in every if each not in present]
            members = (
                f"(u.dimensions - array[{', '.join(map(literal, missing))}])" if missing else "u.dimensions"
            )
            joins.append(
                f"left join {name} on {name}.grain = u.grain and {name}.period_start = u.period_start"
                f" and {name}.dimensions = {members}"
            )
        body = "\nunion all\n".join(selects)
        head = '{{ config(materialized="kpi_values", schema="kpi") }}\n\n'
        return (
            f"{head}with {withs}\n"
            'select k.kpi_id, u.grain, u.period_start, u.dimensions, k.components, k."= value" as value,'
            f" null::jsonb as value_json, k.reason\nfrom {base} as u\n"
            + "\n".join(joins)
            + f"\ncross join lateral (\n{body}\n) as k\n"
        )


def _members(present: Sequence[str], columns: dict[str, str]) -> str:
    """The columns of a state `s` that are members, under the names of their dimensions, apart from our own names."""
    return "".join(f", s.{quoted(_member(columns[name]))} as {quoted(f'd {name}')}" for name in present)


def _exact_percentile(column: str, share: str, variable: Variable) -> str:
    """percentile_cont as numeric: of doubles it would depend on the last bit, of intervals it is seconds already.

    Where any of it is no number, the result is none either: that is the least or the greatest of all, in one sort.
    """
    where = f" filter (where {variable.condition})" if variable.condition else ""
    if not may_be_odd(variable):
        return (
            f"(percentile_cont({share}) within group (order by ({column})::double precision){where})::numeric"
        )
    if _kind(variable.column, variable.source) in {"numeric", "decimal"}:
        # What no double can hold.
        column = (
            f"case when abs({column}) >= {TOO_LARGE} then 'Infinity' when abs({column}) < 1e-300 then 0"
            f" else {column} end"
        )
    return (
        f"kpi.middle_one(percentile_cont(array[0, {share}, 1]) within group"
        f" (order by ({column})::double precision){where})"
    )


def _dimensions_json(present: Sequence[str], prefix: str = "") -> str:
    """The members of a cell that are not totals."""
    if not present:
        return "'{}'::jsonb"
    return "(" + " || ".join(
        f"case when grouping({quoted(prefix + name)}) = 1 then '{{}}'::jsonb"
        f" else jsonb_build_object({literal(name)}, {quoted(prefix + name)}) end"
        for name in present
    ) + ")"  # fmt: skip


def _cube(names: Sequence[str]) -> str:
    return f", cube ({', '.join(map(quoted, names))})" if names else ""


def _custom(group: Group, kpi: Kpi, states: dict[str, StateModel]) -> str:
    """A macro that gives (grain, period_start, components, value, value_json) for each row of kpi_period."""
    given = json.dumps(
        {
            "id": kpi.id, "number": kpi.number, "timezone": kpi.timezone, "dimensions": list(kpi.dimensions),
            "states": sorted({piece.state for piece in group.pieces if piece.state in states}),
        }
    )  # fmt: skip
    reads = "".join(f'-- depends_on: {{{{ ref("{piece.state}") }}}}\n' for piece in group.pieces)
    rows = sorted({relation_ref(variable.source) for variable in kpi.variables})
    reads += "".join(f"-- depends_on: {relation}\n" for relation in rows if relation.startswith("{{"))
    return (
        '{{ config(materialized="kpi_values", schema="kpi") }}\n\n'
        f"{reads}\nselect {literal(kpi.id)}::text as kpi_id, v.grain, v.period_start, '{{}}'::jsonb as dimensions,"
        f" v.components, case when abs(v.value) < {TOO_LARGE} then v.value::numeric end as value, v.value_json,"
        f" case when abs(v.value) >= {TOO_LARGE} then 'not a number' end as reason\n"
        f"from (\n{{{{ {kpi.expression}({given}) }}}}\n) as v\n"
    )
