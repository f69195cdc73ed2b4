"""What the engine is told of the models and of the KPIs, beside their SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.kpi.compile.models import Group, StateModel, member
from pipelines.kpi.compile.periods import grains_of, opened_by_time
from pipelines.kpi.grains import GRAINS
from pipelines.kpi.model import Kpi


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
        "grains": grains_of(kpis),
        "opened_by_time": opened_by_time(group, kpis),
        "pieces": [
            {
                "state": piece.state,
                "clocks": states[piece.state].clocks,
                "is_date": states[piece.state].is_date,
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
