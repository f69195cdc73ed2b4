"""A definition's formula, with the formulas of other KPIs put in where they stand: a definition becomes a KPI."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass, field

from pipelines.catalog import kpis as entries
from pipelines.errors import nearest
from pipelines.kpi.definitions.telling import At
from pipelines.kpi.definitions.variables import WithVariables
from pipelines.kpi.definitions.versions import value_version, version
from pipelines.kpi.expressions import (
    ExpressionError,
    aggregate,
    formula,
    quoted,
)
from pipelines.kpi.grains import GRAINS
from pipelines.kpi.model import Kpi, Threshold, Variable

# Of what Postgres calls something.
LONGEST_NAME = 63
_MACRO = re.compile(r"{%-?\s*macro\s+(\w+)\s*\(")


@dataclass
class WithFormula(WithVariables):
    """A definition whose formula can be resolved: `kpi` gives the KPI, or None after telling why not."""

    inner_names: set[str] = field(default_factory=set)

    def kpi(self) -> Kpi | None:
        entry = self.entry
        given = entry.formula
        divisors: tuple[str, ...] = ()
        if given.type == "custom":
            variables = [v for name in given.variables for v in self._variable(name, given.variables[name])]
            self._macro(given.expression)
            expression = given.expression
        else:
            expression, variables, divisors = self.resolved()
        if not self.is_sound or not self.is_complete:
            return None
        thresholds = entry.thresholds
        kpi = Kpi(
            id=entry.id,
            name=entry.title,
            category=entry.category,
            description=" ".join(entry.description.split()),
            owner=entry.owner or "",
            formula=given.type,
            expression=expression,
            variables=tuple(variables),
            grains=tuple(grain for grain in GRAINS if grain in entry.aggregations),
            dimensions=entry.dimensions,
            number=entry.number,
            unit=entry.unit or "",
            timezone=entry.schedule.timezone,
            frequency=entry.schedule.frequency,
            thresholds=None
            if thresholds is None
            else Threshold(thresholds.direction, thresholds.warning or (), thresholds.critical or ()),
            tolerance=entry.tolerance,
            retention=tuple((grain, entry.retention[grain]) for grain in GRAINS if grain in entry.retention),
            allow_late=entry.allow_late,
            fills_gaps=entry.fills_gaps,
            slos=entry.slos,
            metadata=entry.metadata,
            divisors=divisors,
            formula_text=" ".join(given.expression.split()),
            file=self.item.document.file,
            line=self.item.document.line(self.item.at),
        )
        return dataclasses.replace(kpi, version=version(kpi), value_version=value_version(kpi))

    def resolved(self) -> tuple[str, list[Variable], tuple[str, ...]]:
        """Expression, variables and divisors; the formulas of other KPIs are put in where they stand."""
        given = self.entry.formula
        at: At = ("formula", "expression")
        names = {name: quoted(name) for name in (*given.variables, *self.unread)}
        variables: list[Variable] = []
        divisors: list[str] = []
        written_out = aggregate(given.expression) if given.type == "simple" else None
        for name, variable in given.variables.items():
            if variable.kpi is not None:
                inner = self._inner(name, variable.kpi)
                if inner is not None:
                    names[name] = f"({inner.expression})"
                    variables += inner.variables
                    divisors += inner.divisors
                continue
            if written_out is not None and written_out[1] in (name, "*"):
                variables += self._variable(name, self._with_aggregation(name, variable, written_out[0]))
            else:
                variables += self._variable(name, variable)
        if written_out is not None and written_out[1] in (*given.variables, "*"):
            # A simple formula has one variable, and is that aggregate.
            return quoted(next(iter(given.variables))), variables, ()
        try:
            parsed = formula(given.expression, names, name=lambda name: names[name])
        except ExpressionError as error:
            self._problems_within(at, error)
            return "", variables, ()
        for name in given.variables:
            if name not in parsed.used:
                hint = "take it into the expression, or remove it"
                self._problem(("formula", "variables", name), f"the variable `{name}` is not used", hint)
        return parsed.sql, variables, (*divisors, *parsed.divisors)

    def _with_aggregation(self, name: str, variable: entries.KpiVariable, said: str) -> entries.KpiVariable:
        """The variable with the aggregation that the formula spells out, if both agree."""
        source = variable.source
        at: At = ("formula", "variables", name, "source")
        if source is None:
            return variable
        try:
            wanted = entries.KpiSource.model_validate(
                {"table": source.table, "aggregation": said}
            ).aggregation
        except ValueError:
            known = ", ".join(entries.AGGREGATIONS)
            self._problem(
                ("formula", "expression"),
                f"unknown aggregation `{said}`",
                f"expected one of: {known}, or p1 to p99",
            )
            return variable
        if source.aggregation is not None and source.aggregation != wanted:
            message = f"the formula says {wanted}, and its variable {source.aggregation}"
            self._problem((*at, "aggregation"), message, "say it once, or the same in both places")
        return variable.model_copy(update={"source": source.model_copy(update={"aggregation": wanted})})

    def _inner(self, name: str, kpi_id: str) -> Inner | None:
        """The formula of another KPI, its variables named after this one's."""
        at: At = ("formula", "variables", name, "kpi")
        other = self.known.by_id.get(kpi_id)
        if other is None or other.model is None:
            self.is_sound = False
            if kpi_id not in self.known.declared_ids:
                hint = nearest(kpi_id, self.known.by_id, "known KPIs") or "declare it in kpis/"
                self._problem(at, f"there is no KPI `{kpi_id}`", hint)
            return None
        if other.model.formula.type != "custom" and self.known.resolved(kpi_id) is None:
            # Why, was told there.
            self.is_complete = False
            for one in [one for one in self.known.unseen if one.kpi == kpi_id]:
                self._unseen(at, one.database, one.reason, one.hint)
            return None
        if other.model.formula.type == "custom":
            self._problem(
                at, f"`{kpi_id}` has a custom formula", "only formulas over variables can be used in others"
            )
            return None
        # Looked at by this KPI's dimensions and grains: what is wrong with the other itself is told there.
        outer = self.entry
        model = other.model.model_copy(
            update={
                "dimensions": outer.dimensions,
                "shared_dimensions": outer.shared_dimensions,
                "aggregations": outer.aggregations,
                "schedule": outer.schedule,
            }
        )
        inner = Inside(self.known, other, model, user=self, at=at)
        expression, variables, divisors = inner.resolved()
        self.is_sound &= inner.is_sound
        self.is_complete &= inner.is_complete
        renamed = {variable.name: self._inner_name(name, variable.name) for variable in variables}

        def rename(sql: str) -> str:
            return re.sub(
                r"'(?:[^']|'')*'|\"([^\"]+)\"",
                lambda match: quoted(renamed[match[1]]) if match[1] in renamed else match[0],
                sql,
            )

        return Inner(
            rename(expression),
            [dataclasses.replace(one, name=renamed[one.name]) for one in variables],
            tuple(rename(one) for one in divisors),
        )

    def _inner_name(self, name: str, inner: str) -> str:
        """A name for a variable of another KPI that no other variable has, and that Postgres does not cut."""
        found = f"{name}__{inner}"
        if len(found) > LONGEST_NAME or found in self.inner_names or found in self.entry.formula.variables:
            found = (
                f"{found[: LONGEST_NAME - 9]}_{hashlib.sha256(f'{name} {inner}'.encode()).hexdigest()[:8]}"
            )
        self.inner_names.add(found)
        return found

    def _macro(self, name: str) -> None:
        folder = self.known.settings.dbt_project / "macros" / "kpis"
        known = [
            found
            for path in sorted(folder.rglob("*.sql"))
            for found in _MACRO.findall(path.read_text("utf-8"))
        ]
        if name not in known:
            hint = nearest(name, known, "known models") or "write it in dbt_project/macros/kpis/"
            self._problem(("formula", "expression"), f"there is no macro `{name}`", hint)


@dataclass(frozen=True)
class Inner:
    """The formula of another KPI, as it is put into this one."""

    expression: str
    variables: list[Variable]
    divisors: tuple[str, ...]


@dataclass
class Inside(WithFormula):
    """A KPI within another: what does not fit is the other's problem, told where the other names it."""

    user: WithFormula | None = None
    at: At = ()

    def _problem(self, at: At, message: str, hint: str = "") -> None:  # noqa: ARG002 # of the other's file
        self.is_sound = False
        if self.user is not None:
            self.user._problem(self.at, f"`{self.entry.id}` does not fit here: {message}", hint)

    def _problems_within(self, at: At, error: ExpressionError) -> None:
        for _, message, hint in error.faults:
            self._problem(at, message, hint)

    def _unseen(self, at: At, database: str, reason: str, hint: str) -> None:  # noqa: ARG002 # of the other's file
        self.is_complete = False
