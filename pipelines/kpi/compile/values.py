"""What a model of values is made of, for the macro `kpi_values`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from pipelines.errors import DuemarkError
from pipelines.kpi.compile.columns import (
    adds_up,
    column_spec,
    is_decimal,
    may_be_odd,
    row_state,
    states_of,
)
from pipelines.kpi.compile.models import Group, Piece, StateModel, member
from pipelines.kpi.compile.periods import bounds_spec, periods_spec
from pipelines.kpi.compile.states import source_spec
from pipelines.kpi.compile.zones import odd_clocks
from pipelines.kpi.grains import GRAINS
from pipelines.kpi.model import Kpi, Variable

# A number of this size or more is none: it would end as an infinity, in a chart or in another number.
TOO_LARGE = "1e300"


class ValuesSpec:
    """Of one group: cells of states, rows of what does not add up, and the KPIs' formulas over both.

    `pieces` gives the piece of a variable by KPI and variable name.
    """

    def __init__(
        self,
        group: Group,
        kpis: Sequence[Kpi],
        states: Mapping[str, StateModel],
        pieces: Mapping[tuple[str, str], Piece],
    ) -> None:
        self.group, self.kpis, self.states, self.pieces = group, kpis, states, pieces
        # Names of aggregates: of what adds up by piece and state column, of rows by what is computed of them.
        self.names: dict[tuple[Piece, str], str] = {}
        self.direct: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
        self.grains: dict[str, set[str]] = {}

    def spec(self) -> dict[str, Any]:
        """The argument of `kpi_values`. Raises DuemarkError where no source has all dimensions."""
        kpis = [self._kpi(kpi) for kpi in self.kpis]
        parts: list[dict[str, Any]] = []
        for present, pieces in groupby(sorted(self.group.pieces, key=self._present), key=self._present):
            parts.append(self._cells(f"cells_{len(parts)}", present, list(pieces)))
        cells = [str(part["name"]) for part in parts]
        if not any(set(part["present"]) == set(self.group.dimensions) for part in parts):
            raise DuemarkError(
                f"{', '.join(kpi.id for kpi in self.kpis)}: no source has all of the dimensions"
                f" {', '.join(self.group.dimensions)}.",
                "One variable has to have every dimension; others may share theirs.",
            )
        parts += [
            self._rows(f"rows_{number}", key, aggregates)
            for number, (key, aggregates) in enumerate(self.direct.items())
        ]
        odd_hours, odd_days = odd_clocks(self.group.timezone)
        is_alone = len(cells) == 1 and not self.group.fills_gaps
        return {
            **periods_spec(self.group, self.kpis, self.states),
            "has_odd_hours": odd_hours,
            "has_odd_days": odd_days,
            "too_large": TOO_LARGE,
            "base": cells[0] if is_alone else "universe",
            "cells": cells,
            "parts": parts,
            "kpis": kpis,
        }

    def _present(self, piece: Piece) -> tuple[str, ...]:
        """The group's dimensions that the piece's source has."""
        columns = self._columns(piece)
        return tuple(name for name in self.group.dimensions if name in columns)

    def _columns(self, piece: Piece) -> dict[str, str]:
        for kpi in self.kpis:
            for variable in kpi.variables:
                if self.pieces[kpi.id, variable.name] == piece:
                    return dict(variable.dimensions)
        raise AssertionError(piece)

    def _name(self, kpi: Kpi, piece: Piece, column: str) -> str:
        name = self.names.setdefault((piece, column), f"a{len(self.names)}")
        self.grains.setdefault(name, set()).update(kpi.grains)
        return name

    def _grains(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """At which grains these are needed, and which of them at each."""
        listed = list(names)
        found = [
            {"grain": grain, "used": [name for name in listed if grain in self.grains[name]]}
            for grain in GRAINS
        ]
        return [each for each in found if each["used"]]

    def _piece(self, piece: Piece) -> dict[str, Any]:
        state = self.states[piece.state]
        return {
            "state": piece.state,
            "source": source_spec(state.source),
            **bounds_spec(piece, is_date=state.is_date),
            "is_own": piece.window is None and not piece.is_snapshot,
            "is_running": piece.is_snapshot
            or (piece.window is not None and piece.window.to_date is not None),
        }

    def _cells(self, name: str, present: Sequence[str], pieces: Sequence[Piece]) -> dict[str, Any]:
        own = {key: one for key, one in self.names.items() if key[0] in pieces}
        return {
            "name": name,
            "kind": "cells",
            "present": list(present),
            "missing": self._missing(present),
            "grains": self._grains(own.values()),
            "pieces": [
                self._piece(piece)
                | {
                    "members": [
                        {"dimension": one, "column": member(self._columns(piece)[one])} for one in present
                    ],
                    "columns": {one: column for (of, column), one in own.items() if of == piece},
                }
                for piece in pieces
            ],
            "columns": [
                {"name": one, "way": self.states[piece.state].columns[column].way}
                for (piece, column), one in own.items()
            ],
        }

    def _rows(
        self, name: str, key: tuple[Any, ...], aggregates: Mapping[str, dict[str, Any]]
    ) -> dict[str, Any]:
        piece, (time_column, until_column), columns, present = key
        grains = self._grains(aggregates)
        for at in grains:
            conditions = {aggregates[one]["condition"] for one in at["used"]}
            # Rows that count for nothing are not even sorted.
            at["conditions"] = [] if "" in conditions else sorted(conditions)
        return {
            "name": name,
            "kind": "rows",
            "present": list(present),
            "missing": self._missing(present),
            "grains": grains,
            "piece": self._piece(piece),
            "time_column": time_column,
            "until_column": until_column,
            "members": [{"dimension": one, "column": dict(columns)[one]} for one in present],
            "aggregates": [{"name": one, **each} for one, each in aggregates.items()],
        }

    def _missing(self, present: Sequence[str]) -> list[str]:
        return [one for one in self.group.dimensions if one not in present]

    def _kpi(self, kpi: Kpi) -> dict[str, Any]:
        sides: dict[str, dict[str, Any]] = {}
        for variable in kpi.variables:
            side = sides.setdefault(variable.source.relation, {"rows": {}, "has": set()})
            side["rows"][self._name(kpi, self._piece_of(kpi, variable), row_state(variable))] = True
            side["has"].update(name for name, _ in variable.dimensions)
        relations = list(sides)
        is_variable = [kpi.expression] == ['"' + each.name + '"' for each in kpi.variables]
        default = kpi.variables[0].default
        may_be = any(may_be_odd(each) for each in kpi.variables)
        return {
            "id": kpi.id,
            "grains": list(kpi.grains),
            "fills_gaps": kpi.fills_gaps,
            "sides": [
                {
                    "rows": list(side["rows"]),
                    "lacks": [one for one in self.group.dimensions if one not in side["has"]],
                }
                for side in sides.values()
            ],
            "variables": [
                self._variable(kpi, each, relations.index(each.source.relation)) for each in kpi.variables
            ],
            "expression": kpi.expression,
            "is_variable": is_variable,
            "may_be_odd": may_be,
            "is_plain": is_variable and not may_be and (default is None or abs(default) < float(TOO_LARGE)),
            "undivided": _undivided(kpi) if kpi.divisors else None,
        }

    def _piece_of(self, kpi: Kpi, variable: Variable) -> Piece:
        return self.pieces[kpi.id, variable.name]

    def _variable(self, kpi: Kpi, variable: Variable, side: int) -> dict[str, Any]:
        piece = self._piece_of(kpi, variable)
        default = None if variable.default is None else str(variable.default)
        if default is None and kpi.fills_gaps and variable.aggregation in {"count", "sum", "count_distinct"}:
            default = "0"
        spec: dict[str, Any] = {
            "name": variable.name,
            "side": side,
            "may_be_odd": may_be_odd(variable),
            "is_snapshot": piece.is_snapshot,
            "default": default,
            "has_default": variable.default is not None,
        }
        if adds_up(variable):
            parts = {
                part: self._name(kpi, piece, column)
                for column, part in (
                    (column, each.part)
                    for column, each in states_of(variable).items()
                    if column != row_state(variable)
                )
            }
            return spec | {"how": variable.aggregation, "states": parts}
        how = "count_distinct" if variable.aggregation == "count_distinct" else "value"
        return spec | {"how": how, "states": {"value": self._direct(kpi, variable, piece)}}

    def _direct(self, kpi: Kpi, variable: Variable, piece: Piece) -> str:
        key = (
            piece, (variable.time_column, variable.until_column), tuple(sorted(variable.dimensions)),
            self._present(piece),
        )  # fmt: skip
        how, share = variable.aggregation, None
        if how not in {"count_distinct", "min", "max"}:
            share = "0.5" if how == "median" else f"{int(how[1:]) / 100:.2f}"
            how = "percentile"
        spec = {
            "how": how,
            "share": share,
            "column": column_spec(str(variable.column), variable.source),
            "may_be_odd": may_be_odd(variable),
            "is_decimal": is_decimal(variable),
            "condition": variable.condition,
        }
        known = self.direct.setdefault(key, {})
        name = next((name for name, each in known.items() if each == spec), "")
        name = name or f"r{sum(map(len, self.direct.values()))}"
        known[name] = spec
        self.grains.setdefault(name, set()).update(kpi.grains)
        return name


def _undivided(kpi: Kpi) -> str:
    """The expression with one in place of each divisor that is zero."""
    text = kpi.expression
    for divisor in reversed(kpi.divisors):
        text = text.replace(f"nullif({divisor}, 0)", f"(case when {divisor} = 0 then 1 else {divisor} end)")
    return text


def custom_spec(group: Group, kpi: Kpi, states: Mapping[str, StateModel]) -> dict[str, Any]:
    """The argument of `kpi_custom`; `given` is what the author's macro is told of the KPI."""
    sources = {variable.source.relation: source_spec(variable.source) for variable in kpi.variables}
    return {
        "id": kpi.id,
        "too_large": TOO_LARGE,
        **periods_spec(group, [kpi], states),
        "sources": [sources[relation] for relation in sorted(sources)],
        "given": {
            "id": kpi.id,
            "number": kpi.number,
            "timezone": kpi.timezone,
            "dimensions": list(kpi.dimensions),
            "states": sorted({piece.state for piece in group.pieces if piece.state in states}),
        },
    }
