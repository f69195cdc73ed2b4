"""What the engine is told of the models and of the KPIs, beside their SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlglot
from sqlglot import exp

from pipelines.kpi.compile.models import Group, StateModel, member
from pipelines.kpi.grains import GRAINS
from pipelines.kpi.model import Kpi, Variable

# By which column a source that is purged is noted: pipelines/metrics/purge.py.
PURGED_BY = {"marts.indicator_record": "indicator_id"}


def state_plan(state: StateModel) -> dict[str, Any]:
    """What the engine has to know of a model of states."""
    return {
        "kind": "state",
        "clocks": state.clocks,
        "time_columns": state.time_columns,
        "minutes": state.minutes,
        "is_date": state.is_date,
        "columns": ["bucket_at", *map(member, state.dimensions), *sorted(state.columns)],
    }


def clocks_of(state: StateModel) -> dict[str, dict[str, Any]]:
    """The clocks of a source, by which it is logged what was touched."""
    return {
        clock: {"relation": state.source.relation, "time_column": column, "is_date": state.is_date}
        for clock, column in zip(state.clocks, state.time_columns, strict=True)
    }


def values_plan(
    group: Group, kpis: Sequence[Kpi], states: Mapping[str, StateModel], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the engine has to know of a model of values; `rows`: the parts of its spec that are taken from rows."""
    return {
        "kind": "values",
        "timezone": group.timezone,
        "grains": [grain for grain in GRAINS if any(grain in kpi.grains for kpi in kpis)],
        "retention": dict(group.retention),
        "fills_gaps": group.fills_gaps,
        "pieces": [
            {
                "state": piece.state,
                "clocks": states[piece.state].clocks,
                "is_date": states[piece.state].is_date,
                "is_snapshot": piece.is_snapshot,
                "days": piece.window.days if piece.window else None,
                "to_date": piece.window.to_date if piece.window else None,
            }
            for piece in group.pieces
        ],
        "rows": [
            {"name": part["name"], "time_column": part["time_column"], "is_date": part["piece"]["is_date"]}
            for part in rows
        ],
    }


def kpi_plan(kpi: Kpi, model: str) -> dict[str, Any]:
    """What the engine and the marts have to know of a KPI; `model`: its values model."""
    thresholds = None
    if kpi.thresholds is not None:
        thresholds = {"direction": kpi.thresholds.direction}
        for name in ("warning", "critical"):
            bounds = [float(bound) for bound in getattr(kpi.thresholds, name)]
            if bounds:
                thresholds[name] = bounds if kpi.thresholds.direction == "band" else bounds[0]  # type: ignore[assignment]
    return {
        "model": model, "version": kpi.version, "value_version": kpi.value_version or kpi.version,
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
    condition = variable.condition if kpi.formula == "custom" else variable.scope
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
