"""The variables of a definition: source, time column, filters and dimensions, checked against what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.catalog import kpis as entries
from pipelines.errors import nearest
from pipelines.kpi.definitions.telling import At, Definition
from pipelines.kpi.definitions.words import Columns, article, exact, value_text, window_of
from pipelines.kpi.expressions import (
    ExpressionError,
    class_of,
    condition,
    quoted,
)
from pipelines.kpi.model import WAREHOUSE, Source, Variable

SCHEMAS = ("marts", "raw")
OWN_MARTS = ("kpi_value", "kpi_current", "kpi_definition", "kpi_restatement")
# Grains whose periods lie within one period of the range.
NESTED = {
    "week": ("hour", "day", "week"),
    "month": ("hour", "day", "month"),
    "quarter": ("hour", "day", "month", "quarter"),
    "year": ("hour", "day", "month", "quarter", "year"),
}
NUMBERS = ("number", "interval")
# What each aggregation can be made of; the others take anything that can be told apart.
TAKES = {
    "sum": (*NUMBERS, "boolean"),
    "avg": NUMBERS,
    "median": NUMBERS,
    "min": (*NUMBERS, "date", "instant"),
    "max": (*NUMBERS, "date", "instant"),
}


@dataclass
class WithVariables(Definition):
    """A definition whose variables can be read."""

    def _variable(self, name: str, given: entries.KpiVariable) -> Iterator[Variable]:
        at: At = ("formula", "variables", name)
        if given.source is None or given.time_column is None:
            self._problem(
                at, "a custom formula is made of sources", "write `source: {table, column, aggregation}`"
            )
            return
        source = self._source(at, given.source)
        if source is None:
            return
        columns = dict(source.columns)
        time_kind = self._time(at, "time_column", given.time_column, columns)
        until = given.until_column
        if until is not None:
            until_kind = self._time(at, "until_column", until, columns)
            if {time_kind, until_kind} == {"date", "instant"}:
                message = (
                    f"`{until}` is {article(until_kind)}, and `{given.time_column}` {article(time_kind)}"
                )
                self._problem((*at, "until_column"), message, "take two dates or two instants")
        aggregation = given.source.aggregation
        if aggregation is None and self.entry.formula.type != "custom":
            self._problem((*at, "source"), "`aggregation` is missing", "such as sum, count, avg or median")
        aggregation = aggregation or "count"
        column = self._column((*at, "source"), given.source.column, aggregation, columns)
        self._range(at, given, is_date=time_kind == "date")
        scope = self._conditions(("filters",), self.entry.filters, columns, given.source.table)
        own = self._conditions((*at, "filters"), given.filters, columns, given.source.table)
        dimensions = self._dimensions(at, given, columns)
        if not self.is_sound:
            return
        yield Variable(
            name=name,
            source=source,
            aggregation=aggregation,
            column=column,
            time_column=exact(given.time_column, columns),
            is_date=time_kind == "date",
            condition=" and ".join((*scope, *own)),
            scope=" and ".join(scope),
            kind=given.kind,
            until_column=None if until is None else exact(until, columns),
            window=window_of(given.time_range),
            default=given.default,
            dimensions=dimensions,
        )

    def _source(self, at: At, given: entries.KpiSource) -> Source | None:
        database, table = given.database, given.table
        if database == WAREHOUSE:
            table = table if "." in table else f"marts.{table}"
            schema, _, plain = table.partition(".")
            if schema not in SCHEMAS:
                hint = "KPIs read marts.… and raw.…; name the database of any other table"
                self._problem((*at, "source", "table"), f"no KPI reads the schema `{schema}`", hint)
                return None
            if schema == "marts" and plain in OWN_MARTS:
                hint = "name the KPI instead: `kpi: ID` in place of `source`"
                self._problem(
                    (*at, "source", "table"), f"`{table}` is made of the KPIs, so this would be a cycle", hint
                )
                return None
            relation = table
        else:
            known = self.known.databases.get(database)
            if known is None:
                self.is_sound = False
                if database not in self.known.declared_databases:
                    hint = nearest(database, (*self.known.databases, WAREHOUSE), "known databases")
                    self._problem((*at, "source", "database"), f"there is no database `{database}`", hint)
                return None
            if table not in known.tables:
                hint = (
                    nearest(table, known.tables, "its tables in databases.yml") or "name it in databases.yml"
                )
                self._problem((*at, "source", "table"), f"`{table}` is not copied from `{database}`", hint)
                return None
            relation = f"copies.{known.relation(table)}"
        found = self.known.relation(database, table)
        if found is None:
            names = [name for name in self.known.contracts if name.split(".")[0] in SCHEMAS]
            hint = nearest(table, names, "known tables")
            self._problem((*at, "source", "table"), f"there is no table `{table}`", hint)
            return None
        if not found.is_table:
            hint = "a view does not report what changed: take the table that it is made of"
            self._problem((*at, "source", "table"), f"`{table}` is a view", hint)
            return None
        if found.columns is None:
            given_by = self.known.databases.get(database)
            hint = f"set {given_by.url_env} to its URL" if given_by else "declare them beside the table"
            reason = found.reason or f"the columns of `{table}` are declared nowhere"
            self._unseen((*at, "source", "table"), database, reason, hint)
            return None
        return Source(database, table, relation, tuple(found.columns.items()))

    def _known(self, at: At, name: str, columns: Columns, table: str = "") -> str | None:
        """The class of a column, None after telling that there is none."""
        spelling = exact(name, columns)
        if spelling not in columns:
            where = f" in `{table}`" if table else ""
            hint = nearest(name, columns, "known columns")
            self._problem(at, f"there is no column `{name}`{where}", hint)
            return None
        return class_of(columns[spelling])

    def _time(self, at: At, key: str, name: str, columns: Columns) -> str | None:
        kind = self._known((*at, key), name, columns)
        if kind not in ("date", "instant", None):
            message = f"`{name}` is {article(kind)}, not a date or an instant"
            self._problem((*at, key), message, "take a column of type date or timestamp with time zone")
            return None
        return kind

    def _column(self, at: At, name: str | None, aggregation: str, columns: Columns) -> str | None:
        if name is None or name == "*":
            if aggregation != "count":
                hint = "only `count` counts rows without one"
                self._problem(at, f"`column` is missing for {aggregation}", hint)
            return None
        kind = self._known((*at, "column"), name, columns)
        takes = NUMBERS if re.fullmatch(r"p\d+", aggregation) else TAKES.get(aggregation)
        if kind is None:
            return None
        if takes is not None and kind not in takes:
            hint = "take a column that is a number" + (", or count them" if kind in ("text", "other") else "")
            self._problem((*at, "column"), f"{aggregation} of `{name}`, which is {article(kind)}", hint)
        elif aggregation == "count_distinct" and kind == "JSON":
            self._problem((*at, "column"), f"`{name}` is JSON, which has no equality", "take another column")
        return exact(name, columns)

    def _range(self, at: At, given: entries.KpiVariable, *, is_date: bool) -> None:
        if is_date and "hour" in self.entry.aggregations:
            index = self.entry.aggregations.index("hour")
            hint = "take a column that is an instant, or remove `hour`"
            self._problem(
                ("aggregations", index), f"`{given.time_column}` is a date, which has no hours", hint
            )
        window = window_of(given.time_range)
        if window is None:
            return
        for grain in self.entry.aggregations:
            if window.days is not None and grain == "hour":
                hint = "days end with a day: remove `hour`, or the time range"
                self._problem((*at, "time_range"), f"{given.time_range} of an hour", hint)
            elif window.to_date is not None and grain not in NESTED[window.to_date]:
                hint = f"{given.time_range} has a meaning for: {', '.join(NESTED[window.to_date])}"
                message = f"a {grain} does not lie within one {window.to_date}"
                self._problem((*at, "time_range"), message, hint)

    def _conditions(
        self, at: At, filters: Sequence[entries.KpiFilter], columns: Columns, table: str
    ) -> list[str]:
        written = []
        for index, one in enumerate(filters):
            where: At = (*at, index)
            try:
                if one.sql is not None:
                    written.append(condition(one.sql, columns).sql)
                else:
                    written.append(self._comparison(where, one, columns, table))
            except ExpressionError as error:
                if one.sql is not None:
                    self._problems_within(where, error)
                else:
                    for _, message, hint in error.faults:
                        self._problem((*where, "value"), message, hint)
        return written

    def _comparison(self, at: At, given: entries.KpiFilter, columns: Columns, table: str) -> str:
        """`{column, op, value}`: written as text first, so that one checker judges both spellings."""
        name = given.column or ""
        if self._known((*at, "column"), name, columns, table) is None:
            return ""
        text = f"{quoted(exact(name, columns))} {given.op}"
        if isinstance(given.value, list):
            text += f" ({', '.join(value_text(one) for one in given.value)})"
        elif given.value is not None:
            text += f" {value_text(given.value)}"
        return condition(text, columns).sql

    def _dimensions(
        self, at: At, given: entries.KpiVariable, columns: Columns
    ) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        for dimension in self.entry.dimensions:
            named = given.dimensions.get(dimension)
            column = exact(named or dimension, columns)
            if column in columns:
                if class_of(columns[column]) == "JSON":
                    where: At = (*at, "dimensions", dimension) if named else at
                    self._problem(where, f"the dimension `{dimension}` is JSON", "take another column")
                found.append((dimension, column))
            elif named is not None:
                hint = nearest(named, columns, "known columns")
                self._problem((*at, "dimensions", dimension), f"there is no column `{named}`", hint)
            elif dimension not in self.entry.shared_dimensions:
                table = given.source.table if given.source else ""
                hint = (
                    f"name its column: `dimensions: {{{dimension}: …}}`, or declare it in `shared_dimensions`"
                )
                self._problem(at, f"`{table}` has no dimension `{dimension}`", hint)
        return tuple(found)
