"""What a model's periods are made of, for the macros of `periods.sql`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlglot
from sqlglot import exp

from pipelines.kpi.compile.models import Group, Piece, StateModel
from pipelines.kpi.grains import GRAINS
from pipelines.kpi.model import Kpi, Variable

# By which column a source that is purged is noted: pipelines/metrics/purge.py.
PURGED_BY = {"marts.indicator_record": "indicator_id"}


def periods_spec(group: Group, kpis: Sequence[Kpi], states: Mapping[str, StateModel]) -> dict[str, Any]:
    """Which grains there are, how many periods are kept, what they read, and what of it may be purged."""
    return {
        "timezone": group.timezone,
        "grains": grains_of(kpis),
        "retention": dict(group.retention),
        "fills_gaps": group.fills_gaps,
        "is_bounded": is_bounded(group),
        "reads": [_read(piece, states[piece.state]) for piece in group.pieces],
        "sealed": _sealed(kpis),
    }


def grains_of(kpis: Sequence[Kpi]) -> list[str]:
    """Those of any of the KPIs, from the finest to the coarsest."""
    return [grain for grain in GRAINS if any(grain in kpi.grains for kpi in kpis)]


def is_bounded(group: Group) -> bool:
    """Whether its periods go up to as_of's and no further, and open by time alone."""
    return group.fills_gaps or any(piece.window is not None or piece.is_snapshot for piece in group.pieces)


def opened_by_time(group: Group, kpis: Sequence[Kpi]) -> list[str]:
    """The grains of which time alone opens a period, or ends what is kept."""
    kept = dict(group.retention)
    return [grain for grain in grains_of(kpis) if is_bounded(group) or grain in kept]


def bounds_spec(piece: Piece, *, is_date: bool) -> dict[str, Any]:
    """What decides from and before which instant a period reads: see the macro `kpi_begins`."""
    return {
        "is_date": is_date,
        "is_snapshot": piece.is_snapshot,
        "days": piece.window.days if piece.window else None,
        "to_date": piece.window.to_date if piece.window else None,
    }


def _read(piece: Piece, state: StateModel) -> dict[str, Any]:
    return {
        "state": piece.state,
        "clocks": state.clocks,
        "relation": state.source.relation,
        **bounds_spec(piece, is_date=state.is_date),
    }


def _sealed(kpis: Sequence[Kpi]) -> list[dict[str, Any]]:
    """By the same bounds: which KPIs read which parts (None: any) of sources that are purged."""
    found: list[dict[str, Any]] = []
    for kpi in kpis:
        for variable in kpi.variables:
            if variable.source.relation not in PURGED_BY:
                continue
            piece = Piece("", variable.window, variable.kind == "snapshot")
            bounds = bounds_spec(piece, is_date=variable.is_date)
            entry = next((each for each in found if bounds.items() <= each.items()), None)
            if entry is None:
                found.append(entry := bounds | {"of": []})
            read = {"kpi_id": kpi.id, "relation": variable.source.relation, "parts": _parts(kpi, variable)}
            if read not in entry["of"]:
                entry["of"].append(read)
    return found


def _parts(kpi: Kpi, variable: Variable) -> list[str] | None:
    """The values that a condition allows the column by which a source is purged, where it says so outright."""
    # Whether there is a cell at all is up to the rows that the definition's own filters let pass.
    condition = variable.condition if kpi.formula == "custom" else variable.scope
    if not condition:
        return None
    return _allowed(sqlglot.parse_one(condition, dialect="postgres"), PURGED_BY[variable.source.relation])


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
