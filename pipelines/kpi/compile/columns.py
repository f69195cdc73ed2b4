"""What variables read: which states each needs, and of what kind a column is for those who add it up."""

from __future__ import annotations

from typing import Any

from pipelines.kpi.compile.models import Aggregate, hashed
from pipelines.kpi.model import COMPOSING, Source, Variable


def adds_up(variable: Variable) -> bool:
    """Whether its states add up over buckets; else it is taken from the rows of each period."""
    is_least = variable.kind == "snapshot" and variable.aggregation in {"min", "max"}
    return variable.aggregation in COMPOSING and not is_least


def row_state(variable: Variable) -> str:
    """Name of the state that counts the rows in the variable's scope."""
    return f"rows_{hashed(variable.scope)}"


def part_state(variable: Variable, part: str) -> str:
    """`sum_amount_1a2b3c4d`: readable, and the same for the same aggregate."""
    column = variable.column or "rows"
    return f"{part}_{column}"[:40] + "_" + hashed(part, column, variable.condition)


def states_of(variable: Variable) -> dict[str, Aggregate]:
    """The states that a variable needs, by their names, the count of its rows first."""
    found = {row_state(variable): Aggregate("count", None, variable.scope, may_be_odd=False)}
    if not adds_up(variable):
        return found
    is_snapshot, is_uncertain = variable.kind == "snapshot", may_be_odd(variable)
    parts = {"avg": ["sum", "count"], "sum": ["sum", "count"] if is_snapshot else ["sum"]}
    needed = parts.get(variable.aggregation, [variable.aggregation])
    if is_snapshot and is_uncertain:
        # What came as no number is none until it goes: less itself it would be no number for ever.
        needed = [*needed, "odd"]
    for part in needed:
        found[part_state(variable, part)] = Aggregate(
            part, variable.column, variable.condition, may_be_odd=is_uncertain
        )
    return found


def column_spec(column: str, source: Source) -> dict[str, Any]:
    """A column for the macro `kpi_number`: its name and kind."""
    return {"name": column, "kind": _number_kind(_type(column, source))}


def may_be_odd(variable: Variable) -> bool:
    """Whether what it aggregates may be no number (NaN, an infinity): counts and whole numbers never are."""
    if variable.column is None or variable.aggregation in {"count", "count_distinct"}:
        return False
    kind = _type(variable.column, variable.source)
    return not kind.startswith(("smallint", "integer", "bigint", "int", "bool", "money")) or kind.startswith(
        "interval"
    )


def is_decimal(variable: Variable) -> bool:
    """Whether its column may hold numbers that no double can."""
    return _type(str(variable.column), variable.source) in {"numeric", "decimal"}


def _type(column: str, source: Source) -> str:
    return dict(source.columns).get(column, "numeric").lower()


def _number_kind(kind: str) -> str:
    if kind.startswith(("interval", "timestamp", "date")):
        return "time"
    if kind.startswith("time"):
        return "clock"
    if kind.startswith(("double", "real", "float")):
        return "double"
    return "boolean" if kind.startswith("bool") else "number"
