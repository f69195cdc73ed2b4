"""The generated part of the dbt project: a file for each model, what is said of them, and the plan."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.kpi.compile.columns import states_of
from pipelines.kpi.compile.models import (
    DAY,
    HOUR,
    QUARTER,
    Group,
    Piece,
    StateModel,
    state_name,
    values_name,
)
from pipelines.kpi.compile.places import LINEAGE, MODELS, PLAN, model_file
from pipelines.kpi.compile.plan import clocks_of, kpi_plan, state_plan, values_plan
from pipelines.kpi.compile.states import state_spec
from pipelines.kpi.compile.values import ValuesSpec, custom_spec
from pipelines.kpi.compile.zones import part_hours
from pipelines.kpi.model import Kpi, Kpis, Variable

# Who is asked about generated models: who owns the marts of KPIs.
OWNER = "team:platform"
# So many characters of a specification stand in one line.
LONG = 100


def compile_kpis(found: Kpis) -> dict[str, str]:
    """Texts by path within the dbt project: models, their yml, their lineage, and the plan. Empty without a KPI.

    Raises DuemarkError where a definition asks for what can't be computed.
    """
    if not found.kpis:
        return {}
    return _Compiler(found).files()


class _Compiler:
    def __init__(self, found: Kpis) -> None:
        self.kpis = [found.kpis[key] for key in sorted(found.kpis)]
        self.states: dict[str, StateModel] = {}
        part = {zone: part_hours(zone) for zone in {kpi.timezone for kpi in self.kpis}}
        self.fine = {
            (variable.source.relation, variable.time_column)
            for kpi in self.kpis
            for variable in kpi.variables
            if part[kpi.timezone] and not variable.is_date
        }
        self.pieces = {
            (kpi.id, variable.name): self._piece(kpi, variable)
            for kpi in self.kpis
            for variable in kpi.variables
        }

    def files(self) -> dict[str, str]:
        groups: dict[Group, list[Kpi]] = {}
        for kpi in self.kpis:
            groups.setdefault(self._group(kpi), []).append(kpi)
        plan: dict[str, Any] = {"models": {}, "kpis": {}, "clocks": {}}
        files: dict[str, str] = {}
        for group, kpis in groups.items():
            name = values_name(group, kpis, self.states)
            files[model_file(name)], rows = self._values(group, kpis)
            plan["models"][name] = values_plan(group, kpis, self.states, rows)
            for kpi in kpis:
                plan["kpis"][kpi.id] = kpi_plan(kpi, name)
        names = list(plan["models"])
        for state in self.states.values():
            files[model_file(state.name)] = _model("kpi_state", f"kpi_state({_literal(state_spec(state))})")
            plan["models"][state.name] = state_plan(state)
            plan["clocks"] |= clocks_of(state)
        files[f"{MODELS}/kpis_generated.yml"] = _yml(plan)
        files[LINEAGE] = _lineage(names)
        files[PLAN] = json.dumps(plan, indent=1, sort_keys=True, default=str)
        return files

    def _values(self, group: Group, kpis: Sequence[Kpi]) -> tuple[str, list[Mapping[str, Any]]]:
        """Text of the model, and the parts of it that are taken from rows."""
        if group.own:
            spec = custom_spec(group, kpis[0], self.states)
            macro = f"{kpis[0].expression}({_literal(spec.pop('given'))})"
            return _model("kpi_values", f"kpi_custom({_literal(spec)}, {macro})"), []
        spec = ValuesSpec(group, kpis, self.states, self.pieces).spec()
        rows = [part for part in spec["parts"] if part["kind"] == "rows"]
        return _model("kpi_values", f"kpi_values({_literal(spec)})"), rows

    def _group(self, kpi: Kpi) -> Group:
        pieces = sorted(
            {self.pieces[kpi.id, variable.name] for variable in kpi.variables},
            key=lambda piece: (piece.state, str(piece.window), piece.is_snapshot),
        )
        return Group(
            kpi.timezone, kpi.dimensions, tuple(pieces), kpi.fills_gaps, tuple(sorted(kpi.retention)),
            kpi.id if kpi.formula == "custom" else "",
        )  # fmt: skip

    def _piece(self, kpi: Kpi, variable: Variable) -> Piece:
        """The piece of a variable; its states are added to their model."""
        state = self._state(kpi, variable)
        for name, definition in states_of(variable).items():
            state.columns.setdefault(name, definition)
        return Piece(state.name, variable.window, variable.kind == "snapshot")

    def _state(self, kpi: Kpi, variable: Variable) -> StateModel:
        source, column = variable.source, variable.time_column
        columns = dict(variable.dimensions)
        members = tuple(sorted({columns[name] for name in kpi.dimensions if name in columns}))
        is_standing = variable.kind == "snapshot"
        until = variable.until_column if is_standing else None
        minutes = DAY if variable.is_date else QUARTER if (source.relation, column) in self.fine else HOUR
        name = state_name(source, column, until, minutes, members, is_snapshot=is_standing)
        return self.states.setdefault(
            name,
            StateModel(name, source, column, until, variable.is_date, is_standing, minutes, members),
        )


def _model(form: str, call: str) -> str:
    return f'{{{{ config(materialized="{form}", schema="kpi") }}}}\n\n{{{{ {call} }}}}\n'


def _literal(value: object, indent: str = "") -> str:
    """A literal of Jinja, which has those of JSON but `null`; what is long has a line for each part."""
    if isinstance(value, dict):
        edges = "{}"
        parts = [f"{json.dumps(key)}: {_literal(each, indent + '  ')}" for key, each in value.items()]
    elif isinstance(value, list):
        edges, parts = "[]", [_literal(each, indent + "  ") for each in value]
    else:
        return "none" if value is None else json.dumps(value, ensure_ascii=False)
    text = edges[0] + ", ".join(parts) + edges[1]
    if len(text) <= LONG and "\n" not in text:
        return text
    inner = f",\n{indent}  ".join(parts)
    return f"{edges[0]}\n{indent}  {inner}\n{indent}{edges[1]}"


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
