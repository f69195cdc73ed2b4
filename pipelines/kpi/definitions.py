"""Definitions checked and resolved: `catalog/kpis/` to a `Registry`, or all that is wrong with them, by file and line.

What a source has is read where it is declared: of marts and raw tables in the dbt project, of tables of other databases
in their copies or, where asked for, in those databases themselves. A check that cannot be made is a warning, and the
KPI is left out until it can; everything else goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipelines.catalog import kpis as entries
from pipelines.catalog.load import (
    CatalogError,
    Declared,
    Problem,
    kept_folder,
    read_kpis,
    read_slo_ids,
    unknown_slos,
    yaml_files,
)
from pipelines.catalog.models import nearest
from pipelines.kpi.expressions import (
    ExpressionError,
    aggregate,
    class_of,
    condition,
    formula,
    quoted,
)
from pipelines.kpi.registry import GRAINS, WAREHOUSE, Kpi, Registry, Source, Threshold, Variable, Window
from pipelines.logs import get_logger
from pipelines.warehouse.settings import Settings

log = get_logger(__name__)

# What was logged by this process: KPIs that wait for a database wait for longer than until the next tick.
_told: set[tuple[Path, str, tuple[str, ...]]] = set()

At = tuple[str | int, ...]
Columns = Mapping[str, str]
"""Postgres types by name."""

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
# Of what Postgres calls something.
LONGEST_NAME = 63
# What each aggregation can be made of; the others take anything that can be told apart.
TAKES = {
    "sum": (*NUMBERS, "boolean"),
    "avg": NUMBERS,
    "median": NUMBERS,
    "min": (*NUMBERS, "date", "instant"),
    "max": (*NUMBERS, "date", "instant"),
}
_MACRO = re.compile(r"{%-?\s*macro\s+(\w+)\s*\(")
_MADE_AS = re.compile(r"""materialized\s*=\s*["'](\w+)["']""")


@dataclass(frozen=True)
class Relation:
    """What is known of a table; `columns` None: it is there, but not what it has, for a reason."""

    columns: Columns | None
    is_table: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Unseen:
    """A KPI that cannot be checked now, for nobody can tell what its source has."""

    file: str
    line: int
    kpi: str
    database: str
    reason: str
    hint: str


def told(unseen: Sequence[Unseen]) -> list[str]:
    """What could not be checked, a text for each database."""
    texts = []
    for name in dict.fromkeys(one.database for one in unseen):
        of_it = [one for one in unseen if one.database == name]
        ids = ", ".join(dict.fromkeys(one.kpi for one in of_it))
        first = of_it[0]
        texts.append(
            f"{first.file}:{first.line}: {ids} of the database `{name}`: {first.reason}\n"
            f"    left out until it can be read; {first.hint}"
        )
    return texts


@dataclass
class Checked:
    """The outcome: what is sound, what is wrong, and what could not be looked at."""

    kpis: dict[str, Kpi]
    problems: list[Problem]
    unseen: list[Unseen]
    declared: dict[str, entries.Kpi]

    @property
    def warnings(self) -> list[str]:
        """What could not be looked at, for people."""
        return told(self.unseen)


def registry(settings: Settings) -> Registry:
    """All KPIs of the catalog. Raises CatalogError with every problem.

    Asks no other database; KPIs that wait for one are logged, once.
    """
    checked = check(settings, ask=False)
    if checked.problems:
        raise CatalogError(checked.problems)
    for name in dict.fromkeys(one.database for one in checked.unseen):
        of_it = [one for one in checked.unseen if one.database == name]
        ids = tuple(dict.fromkeys(one.kpi for one in of_it))
        if (settings.home, name, ids) not in _told:
            _told.add((settings.home, name, ids))
            hint = "they are computed once it can be read; duemark check says what is wrong with it"
            log.warning("KPIs wait for a database", database=name, kpis=list(ids), hint=hint)
    return Registry(checked.kpis)


def check(
    settings: Settings, folder: Path | None = None, *, file: Path | None = None, ask: bool = True
) -> Checked:
    """Read and check the definitions of `folder` (default: the catalog's); neither raises nor logs.

    `file`: one more file of KPIs, from wherever it lies. `ask`: databases whose tables were not copied yet are asked
    for their columns.
    """
    kept = kept_folder(settings) if folder is None else None
    kpis, databases, problems = read_kpis(folder or settings.catalog, file, kept)
    if any(item.model is not None and item.model.slos for item in kpis):
        known = read_slo_ids(folder or settings.catalog, kept)
        problems = [*problems, *(unknown_slos(kpis, known) if known is not None else ())]
    return _Checker(settings, kpis, databases, list(problems), ask).check()


@functools.lru_cache(maxsize=4)
def _contracts(project: Path, stamp: tuple[tuple[str, int], ...]) -> dict[str, Relation]:  # noqa: ARG001
    """Marts and raw tables by `schema.table`, from the files of the dbt project."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    found: dict[str, Relation] = {}
    for path in yaml_files(project / "models" / "marts"):
        for model in (yaml.load(path.read_text("utf-8")) or {}).get("models", []):
            query = path.with_name(f"{model['name']}.sql")
            made = _MADE_AS.search(query.read_text("utf-8")) if query.is_file() else None
            columns = {str(one["name"]): str(one.get("data_type", "")) for one in model.get("columns", [])}
            is_table = made is None or made[1] not in ("view", "table_function")
            found[f"marts.{model['name']}"] = Relation(columns, is_table)
    for path in sorted((project / "models").glob("sources*.yml")):
        for source in (yaml.load(path.read_text("utf-8")) or {}).get("sources", []):
            if source["name"] != "raw":
                continue
            for table in source.get("tables", []):
                columns = {str(one["name"]): str(one["data_type"]) for one in table.get("columns", [])}
                found[f"raw.{table['name']}"] = Relation(columns or None)
    return found


def contracts(project: Path) -> dict[str, Relation]:
    """Marts and raw tables by `schema.table`, as the dbt project declares them."""
    files = [*yaml_files(project / "models" / "marts"), *sorted((project / "models").glob("sources*.yml"))]
    return _contracts(project, tuple((str(path), path.stat().st_mtime_ns) for path in files))


@dataclass
class _Checker:
    settings: Settings
    items: Sequence[Declared[entries.Kpi]]
    database_items: Sequence[Declared[entries.Database]]
    problems: list[Problem]
    ask: bool
    unseen: list[Unseen] = field(default_factory=list)
    _resolved: dict[str, Kpi | None] = field(default_factory=dict)
    _relations: dict[tuple[str, str], Relation | None] = field(default_factory=dict)

    def check(self) -> Checked:
        self.by_id: dict[str, Declared[entries.Kpi]] = {}
        for item in self.items:
            if item.model is not None:
                self.by_id.setdefault(item.model.id, item)
        self.declared_ids = {item.text("id") for item in self.items}
        self.databases = {item.model.id: item.model for item in self.database_items if item.model is not None}
        self.declared_databases = {item.text("id") for item in self.database_items}
        cyclic = self._cycles()
        kpis = {
            kpi_id: kpi
            for kpi_id in sorted(set(self.by_id) - cyclic)
            if (kpi := self.resolved(kpi_id)) is not None
        }
        for item in self.items:
            if item.model is None:
                _Remains.look_at(self, item)
        declared = {kpi_id: item.model for kpi_id, item in self.by_id.items() if item.model is not None}
        return Checked(kpis, sorted(set(self.problems)), list(dict.fromkeys(self.unseen)), declared)

    def resolved(self, kpi_id: str) -> Kpi | None:
        """A KPI that is in no cycle; None after telling, once, why not."""
        if kpi_id not in self._resolved:
            item = self.by_id[kpi_id]
            self._resolved[kpi_id] = None if item.model is None else _Definition(self, item, item.model).kpi()
        return self._resolved[kpi_id]

    def _cycles(self) -> set[str]:
        """KPIs that use themselves, by way of others or not; a problem for each cycle."""
        uses: dict[str, dict[str, str]] = {
            kpi_id: {
                variable.kpi: name
                for name, variable in (item.model.formula.variables.items() if item.model else ())
                if variable.kpi is not None
            }
            for kpi_id, item in self.by_id.items()
        }
        bad: set[str] = set()
        for start in sorted(uses):
            path = _way_back(uses, start)
            if path is None:
                continue
            if not set(path) & bad or start == min(path):
                name = uses[start][path[1 % len(path)]]
                message = f"KPIs that are made of each other: {' → '.join((*path, start))}"
                hint = "an arrow points to what the KPI is made of; take one of them from a source"
                if start == min(path):
                    at = ("formula", "variables", name, "kpi")
                    self.problems.append(self.by_id[start].problem(at, message, hint))
            bad.update(path)
        # What is made of them cannot be resolved either, and is not to blame.
        grew = True
        while grew:
            more = {kpi_id for kpi_id, used in uses.items() if set(used) & bad} - bad
            bad |= more
            grew = bool(more)
        return bad

    def relation(self, database: str, table: str) -> Relation | None:
        """What `table` has; None where there is no such table. Warnings are told by whoever misses the columns."""
        key = (database, table)
        if key not in self._relations:
            if database == WAREHOUSE:
                self._relations[key] = self.contracts.get(table)
            else:
                self._relations[key] = self._foreign(self.databases[database], table)
        return self._relations[key]

    @functools.cached_property
    def contracts(self) -> dict[str, Relation]:
        return contracts(self.settings.dbt_project)

    def _foreign(self, database: entries.Database, table: str) -> Relation:
        from pipelines.copies.known import known_columns

        found = known_columns(self.settings, database, table, ask=self.ask)
        return Relation(None, reason=found) if isinstance(found, str) else Relation(found)


def _way_back(uses: Mapping[str, Mapping[str, str]], start: str) -> list[str] | None:
    """The shortest way from `start` along what is used back to it, without its end; None where there is none."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for following in sorted(uses.get(way[-1], ())):
            if following == start:
                return way
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return None


@dataclass
class _Definition:
    """One definition: `kpi` gives it resolved, or None after telling why not."""

    checker: _Checker
    item: Declared[entries.Kpi]
    entry: entries.Kpi
    is_sound: bool = True
    is_complete: bool = True
    inner_names: set[str] = field(default_factory=set)
    unread: tuple[str, ...] = ()
    """Variables that stand in the file and are told to be wrong already."""

    def kpi(self) -> Kpi | None:
        entry = self.entry
        given = entry.formula
        divisors: tuple[str, ...] = ()
        if given.type == "custom":
            variables = [v for name in given.variables for v in self._variable(name, given.variables[name])]
            self._macro(given.expression)
            expression = given.expression
        else:
            expression, variables, divisors = self._resolved()
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
        return dataclasses.replace(kpi, version=_version(kpi), value_version=_value_version(kpi))

    # Problems

    def _problem(self, at: At, message: str, hint: str = "") -> None:
        self.is_sound = False
        self.checker.problems.append(self.item.problem(at, message, hint))

    def _problems_within(self, at: At, error: ExpressionError) -> None:
        self.is_sound = False
        for offset, message, hint in error.faults:
            self.checker.problems.append(self.item.problem_within(at, offset, message, hint))

    def _unseen(self, at: At, database: str, reason: str, hint: str) -> None:
        self.is_complete = False
        line = self.item.document.line((*self.item.at, *at))
        self.checker.unseen.append(
            Unseen(self.item.document.file, line, self.entry.id, database, reason, hint)
        )

    # Formula

    def _resolved(self) -> tuple[str, list[Variable], tuple[str, ...]]:
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

    def _inner(self, name: str, kpi_id: str) -> _Inner | None:
        """The formula of another KPI, its variables named after this one's."""
        at: At = ("formula", "variables", name, "kpi")
        other = self.checker.by_id.get(kpi_id)
        if other is None or other.model is None:
            self.is_sound = False
            if kpi_id not in self.checker.declared_ids:
                hint = nearest(kpi_id, self.checker.by_id, "known KPIs") or "declare it in kpis/"
                self._problem(at, f"there is no KPI `{kpi_id}`", hint)
            return None
        if other.model.formula.type != "custom" and self.checker.resolved(kpi_id) is None:
            # Why, was told there.
            self.is_complete = False
            for one in [one for one in self.checker.unseen if one.kpi == kpi_id]:
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
        inner = _Inside(self.checker, other, model, user=self, at=at)
        expression, variables, divisors = inner._resolved()
        self.is_sound &= inner.is_sound
        self.is_complete &= inner.is_complete
        renamed = {variable.name: self._inner_name(name, variable.name) for variable in variables}

        def rename(sql: str) -> str:
            return re.sub(
                r"'(?:[^']|'')*'|\"([^\"]+)\"",
                lambda match: quoted(renamed[match[1]]) if match[1] in renamed else match[0],
                sql,
            )

        return _Inner(
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
        folder = self.checker.settings.dbt_project / "macros" / "kpis"
        known = [
            found
            for path in sorted(folder.rglob("*.sql"))
            for found in _MACRO.findall(path.read_text("utf-8"))
        ]
        if name not in known:
            hint = nearest(name, known, "known models") or "write it in dbt_project/macros/kpis/"
            self._problem(("formula", "expression"), f"there is no macro `{name}`", hint)

    # Variables

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
                message = f"`{until}` is {_a(until_kind)}, and `{given.time_column}` {_a(time_kind)}"
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
            time_column=_exact(given.time_column, columns),
            is_date=time_kind == "date",
            condition=" and ".join((*scope, *own)),
            scope=" and ".join(scope),
            kind=given.kind,
            until_column=None if until is None else _exact(until, columns),
            window=_window(given.time_range),
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
            known = self.checker.databases.get(database)
            if known is None:
                self.is_sound = False
                if database not in self.checker.declared_databases:
                    hint = nearest(database, (*self.checker.databases, WAREHOUSE), "known databases")
                    self._problem((*at, "source", "database"), f"there is no database `{database}`", hint)
                return None
            if table not in known.tables:
                hint = (
                    nearest(table, known.tables, "its tables in databases.yml") or "name it in databases.yml"
                )
                self._problem((*at, "source", "table"), f"`{table}` is not copied from `{database}`", hint)
                return None
            relation = f"copies.{known.relation(table)}"
        found = self.checker.relation(database, table)
        if found is None:
            names = [name for name in self.checker.contracts if name.split(".")[0] in SCHEMAS]
            hint = nearest(table, names, "known tables")
            self._problem((*at, "source", "table"), f"there is no table `{table}`", hint)
            return None
        if not found.is_table:
            hint = "a view tells nobody what changed: take the table that it is made of"
            self._problem((*at, "source", "table"), f"`{table}` is a view", hint)
            return None
        if found.columns is None:
            given_by = self.checker.databases.get(database)
            hint = f"set {given_by.url_env} to its URL" if given_by else "declare them beside the table"
            reason = found.reason or f"the columns of `{table}` are declared nowhere"
            self._unseen((*at, "source", "table"), database, reason, hint)
            return None
        return Source(database, table, relation, tuple(found.columns.items()))

    def _known(self, at: At, name: str, columns: Columns, table: str = "") -> str | None:
        """The class of a column, None after telling that there is none."""
        exact = _exact(name, columns)
        if exact not in columns:
            where = f" in `{table}`" if table else ""
            hint = nearest(name, columns, "known columns")
            self._problem(at, f"there is no column `{name}`{where}", hint)
            return None
        return class_of(columns[exact])

    def _time(self, at: At, key: str, name: str, columns: Columns) -> str | None:
        kind = self._known((*at, key), name, columns)
        if kind not in ("date", "instant", None):
            message = f"`{name}` is {_a(kind)}, not a date or an instant"
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
            self._problem((*at, "column"), f"{aggregation} of `{name}`, which is {_a(kind)}", hint)
        elif aggregation == "count_distinct" and kind == "JSON":
            self._problem((*at, "column"), f"`{name}` is JSON, which has no equality", "take another column")
        return _exact(name, columns)

    def _range(self, at: At, given: entries.KpiVariable, *, is_date: bool) -> None:
        if is_date and "hour" in self.entry.aggregations:
            index = self.entry.aggregations.index("hour")
            hint = "take a column that is an instant, or remove `hour`"
            self._problem(
                ("aggregations", index), f"`{given.time_column}` is a date, which has no hours", hint
            )
        window = _window(given.time_range)
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
        text = f"{quoted(_exact(name, columns))} {given.op}"
        if isinstance(given.value, list):
            text += f" ({', '.join(_value(one) for one in given.value)})"
        elif given.value is not None:
            text += f" {_value(given.value)}"
        return condition(text, columns).sql

    def _dimensions(
        self, at: At, given: entries.KpiVariable, columns: Columns
    ) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        for dimension in self.entry.dimensions:
            named = given.dimensions.get(dimension)
            column = _exact(named or dimension, columns)
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


@dataclass(frozen=True)
class _Inner:
    expression: str
    variables: list[Variable]
    divisors: tuple[str, ...]


@dataclass
class _Inside(_Definition):
    """A KPI within another: what does not fit is the other's problem, told where the other names it."""

    user: _Definition | None = None
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


@dataclass
class _Remains(_Definition):
    """What is sound of a definition that is not: looked at too, so that all that is wrong is told at once."""

    @classmethod
    def look_at(cls, checker: _Checker, item: Declared[entries.Kpi]) -> None:
        """Tell what is wrong with the formula, beyond what kept it from being read."""
        raw = item.raw.get("formula")
        if not isinstance(raw, dict) or raw.get("type") not in ("simple", "composite"):
            return
        text, given = raw.get("expression"), raw.get("variables")
        if isinstance(given, list):
            given = {
                one["name"]: {k: v for k, v in one.items() if k != "name"} for one in given if _is_named(one)
            }
        if not isinstance(text, str) or not text or not isinstance(given, dict):
            return
        variables = {str(name): dict(one) for name, one in given.items() if _reads(entries.KpiVariable, one)}
        sound = {
            key: item.raw[key]
            for key in ("id", "dimensions", "shared_dimensions", "filters", "aggregations")
            if key in item.raw and _reads(entries.Kpi, _bare({key: item.raw[key]}), key)
        }
        # Dimensions of a variable that are none of the KPI's are told already.
        known = sound.get("dimensions")
        for one in variables.values():
            named = one.get("dimensions") or {}
            one["dimensions"] = {k: v for k, v in named.items() if isinstance(known, list) and k in known}
        kind = "simple" if raw["type"] == "simple" and len(given) == 1 else "composite"
        content = _bare(sound) | {"formula": {"type": kind, "expression": text, "variables": variables}}
        try:
            model = entries.Kpi.model_validate(content)
        except ValueError:
            return
        unread = tuple(str(name) for name in given if str(name) not in variables)
        cls(checker, item, model, unread=unread)._resolved()


def _is_named(one: object) -> bool:
    return isinstance(one, dict) and isinstance(one.get("name"), str)


def _bare(keys: Mapping[str, Any]) -> dict[str, Any]:
    """A definition that is sound but for these keys, and the formula's."""
    return {
        "id": "x", "category": "custom", "description": "x", "aggregations": ["day"],
        "formula": {"type": "simple", "expression": "x", "variables": {"x": {"kpi": "x"}}},
    } | dict(keys)  # fmt: skip


def _reads(model: type[BaseModel], content: object, key: str = "") -> bool:
    """Whether it is sound, or at least what stands under `key`."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        return bool(key) and not any(key in fault["loc"] for fault in error.errors())
    return True


def _exact(name: str, columns: Columns) -> str:
    """The column's own spelling, where only the case differs."""
    if name in columns:
        return name
    same = [one for one in columns if one.lower() == name.lower()]
    return same[0] if len(same) == 1 else name


def _window(time_range: str | None) -> Window | None:
    if time_range is None:
        return None
    days = re.fullmatch(r"last_(\d+)_days", time_range)
    if days:
        return Window(days=int(days[1]))
    grain = time_range.removesuffix("_to_date")
    return Window(to_date=next(one for one in GRAINS if one == grain))


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


def _a(kind: str | None) -> str:
    if kind in (None, "text", "JSON"):
        return str(kind)
    if kind == "other":
        return "of another type"
    return f"an {kind}" if str(kind)[0] in "aeiou" else f"a {kind}"


def _version(kpi: Kpi) -> str:
    """Hash of all that is said of the KPI."""
    content = dataclasses.asdict(kpi)
    for key in ("file", "line", "version", "value_version"):
        content.pop(key)
    return _hash(content)


def _value_version(kpi: Kpi) -> str:
    """Hash of what its values are made of: where only a name or a threshold changed, they are the same."""
    keys = (
        "formula",
        "expression",
        "variables",
        "grains",
        "dimensions",
        "timezone",
        "fills_gaps",
        "retention",
    )
    content = dataclasses.asdict(kpi)
    return _hash({key: content[key] for key in keys})


def _hash(content: dict[str, Any]) -> str:
    for variable in content["variables"]:
        # Another column of the table is no other KPI.
        variable["source"].pop("columns")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
