"""What a model of states is made of, for the macro `kpi_state`."""

from __future__ import annotations

from typing import Any

from pipelines.kpi.compile.columns import column_spec
from pipelines.kpi.compile.models import Aggregate, StateModel, member
from pipelines.kpi.model import WAREHOUSE, Source


def state_spec(state: StateModel) -> dict[str, Any]:
    """The argument of `kpi_state`."""
    conditions = sorted({each.condition for each in state.columns.values() if each.condition})
    return {
        "source": source_spec(state.source),
        "time_column": state.time_column,
        "until_column": state.until_column,
        "is_date": state.is_date,
        "is_standing": state.is_standing,
        "minutes": state.minutes,
        "members": [{"column": column, "name": member(column)} for column in state.dimensions],
        "conditions": conditions,
        "aggregates": [
            _aggregate_spec(name, each, state.source, conditions)
            for name, each in sorted(state.columns.items())
        ],
    }


def _aggregate_spec(name: str, each: Aggregate, source: Source, conditions: list[str]) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": name, "part": each.part, "may_be_odd": each.may_be_odd}
    if each.column is not None:
        spec["column"] = column_spec(each.column, source)
    if each.condition:
        spec["condition"] = conditions.index(each.condition)
    return spec


def source_spec(source: Source) -> dict[str, str]:
    """The source's table as dbt knows it, so that it is in the graph: a model, a source, or neither."""
    schema, _, table = source.relation.partition(".")
    kind = "table"
    if source.database == WAREHOUSE and schema == "marts":
        kind = "model"
    elif schema in {"raw", "copies"}:
        kind = "source"
    return {"kind": kind, "schema": schema, "table": table}
