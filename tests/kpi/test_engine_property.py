"""Any history of changes and ticks gives the values of one computation, and those are what plain Python says."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, cast
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from pipelines.board.read import read
from pipelines.board.render import render
from pipelines.kpi import deploy as kpi_deploy
from pipelines.kpi.compile import places
from pipelines.kpi.compile.files import compile_kpis
from pipelines.kpi.due import next_instant
from pipelines.kpi.model import Kpi, Kpis, Source, Threshold, Variable, Window
from pipelines.transform.deploy import deploy
from pipelines.transform.publish import publish
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from tests.kpi.kpi_oracle import Formula, earlier, period_of, values, within
from tests.transform.support import Warehouse, examples

Row = dict[str, Any]
Tables = dict[str, list[Row]]

TABLES = {
    "copies.test_order": {
        "id": "integer", "placed_at": "timestamptz", "closed_at": "timestamptz", "region": "text", "product": "text",
        "amount": "numeric", "score": "double precision", "waited": "interval", "customer": "text",
    },
    "copies.test_visit": {"id": "integer", "at": "timestamptz", "region": "text", "hits": "integer"},
    "copies.test_bill": {
        "id": "integer", "day": "date", "until_day": "date", "region": "text", "amount": "numeric",
    },
    "marts.indicator_record": {
        "indicator_id": "integer", "hour_at": "timestamptz", "dimension": "text", "dimension_key": "text",
        "value": "bigint", "provisional": "boolean",
    },
}  # fmt: skip
ORDER, VISIT, BILL, RECORD = (
    Source("shop" if name.startswith("copies") else "warehouse", name, name, tuple(columns.items()))
    for name, columns in TABLES.items()
)
BIG = '"amount" > 5'
GADGETS = "\"product\" = 'gadget'"
CONDITIONS: dict[str, Callable[[Any], bool]] = {
    # NaN is greater than any number, as PostgreSQL has it.
    BIG: lambda row: row["amount"] is not None and (row["amount"].is_nan() or row["amount"] > 5),
    GADGETS: lambda row: row["product"] == "gadget",
    "\"region\" = 'north'": lambda row: row["region"] == "north",
    '"indicator_id" = 1003': lambda row: row["indicator_id"] == 1003,
    '"indicator_id" in (1004, 1005)': lambda row: row["indicator_id"] in {1004, 1005},
}


def order(name: str, aggregation: str = "count", column: str | None = None, **given: Any) -> Variable:
    dimensions = given.pop("dimensions", ("region", "product"))
    return Variable(
        name, ORDER, aggregation, column, "placed_at", is_date=False,
        dimensions=tuple((each, each) for each in dimensions), **given,
    )  # fmt: skip


def visit(name: str, aggregation: str = "sum", **given: Any) -> Variable:
    return Variable(
        name, VISIT, aggregation, "hits", "at", is_date=False, dimensions=(("region", "region"),), **given
    )


def bill(name: str, aggregation: str = "sum", column: str | None = "amount", **given: Any) -> Variable:
    dimensions = given.pop("dimensions", ("region",))
    return Variable(
        name, BILL, aggregation, column, "day", is_date=True,
        dimensions=tuple((each, each) for each in dimensions), **given,
    )  # fmt: skip


def recorded(name: str, condition: str, **given: Any) -> Variable:
    return Variable(name, RECORD, "sum", "value", "hour_at", is_date=False, condition=condition, **given)


def kpi(
    kpi_id: str,
    expression: str,
    *variables: Variable,
    grains: str,
    dimensions: Sequence[str] = (),
    **given: Any,
) -> Kpi:
    return Kpi(
        kpi_id, kpi_id, "custom", "", "", given.pop("formula", "composite"), expression, variables,
        cast("Any", tuple(grains.split())), tuple(dimensions), version=f"{kpi_id}-1",
        value_version=f"{kpi_id}-1", **given,
    )  # fmt: skip


BOTH, NEW_YORK = ("region", "product"), "America/New_York"
KPIS = (
    kpi(
        "sums", '"s" / nullif("n", 0)', order("n"), order("s", "sum", "amount"), order("a", "avg", "amount"),
        order("lo", "min", "score"), order("hi", "max", "waited"), order("big", condition=BIG),
        grains="hour day week month quarter year", dimensions=BOTH, timezone=NEW_YORK, divisors=('"n"',),
        thresholds=Threshold("higher", (Decimal(3),), (Decimal(6),)),
    ),
    kpi(
        "scoped", '"n" - "gadgets"', order("n", condition=BIG, scope=BIG),
        order("gadgets", condition=f"{BIG} and {GADGETS}", scope=BIG), grains="day month", dimensions=BOTH,
        timezone=NEW_YORK,
    ),
    kpi(
        "exact", '"customers" + "middle" + "p"', order("customers", "count_distinct", "customer"),
        order("middle", "median", "score", condition=BIG), order("p", "p90", "waited"), grains="day week",
        dimensions=BOTH, timezone=NEW_YORK,
    ),
    kpi(
        "conversion", '"n" / nullif("hits", 0)', order("n"), visit("hits"),
        visit("seen", "count", default=Decimal(7), condition="\"region\" = 'north'", scope="\"region\" = 'north'"),
        grains="hour day month", dimensions=BOTH, timezone="Asia/Kolkata", divisors=('"hits"',),
    ),
    kpi(
        "standing", '"n" + coalesce("s", 0)',
        *(
            replace(each, kind="snapshot", until_column="closed_at")
            for each in (
                order("n"), order("s", "sum", "amount", condition=BIG), order("hi", "max", "amount"),
                order("who", "count_distinct", "customer"),
            )
        ),
        order("placed"), grains="day week month", dimensions=BOTH, timezone=NEW_YORK,
    ),
    kpi(
        "rolling", '"s" - "n"', bill("s", window=Window(days=7)), bill("n", "count"),
        bill("m", "median", window=Window(days=7)), grains="day month", dimensions=["region"],
    ),
    kpi(
        "to-date", '"s"',
        *(
            order(name, how, column, condition=condition, window=Window(to_date="month"), dimensions=["region"])
            for name, how, column, condition in (
                ("s", "sum", "amount", ""), ("n", "count", None, BIG), ("lo", "min", "amount", ""),
                ("hi", "max", "score", BIG), ("a", "avg", "amount", ""), ("m", "median", "score", ""),
            )
        ),
        grains="hour day", dimensions=["region"], timezone=NEW_YORK,
    ),
    kpi(
        "kept", '"n"', order("n", dimensions=["region"]), grains="hour day month", dimensions=["region"],
        timezone=NEW_YORK, retention=(("day", 3), ("hour", 30)), fills_gaps=True,
    ),
    kpi("newest", '"n"', order("n", dimensions=()), grains="day", timezone=NEW_YORK, retention=(("day", 4),)),
    kpi(
        "filled", '"hits"', visit("hits"), grains="day quarter", dimensions=["region"], fills_gaps=True,
        allow_late=timedelta(days=1), timezone=NEW_YORK,
    ),
    kpi(
        "island", '"n"', order("n", dimensions=()), order("middle", "median", "amount", dimensions=()),
        grains="hour day", fills_gaps=True, timezone="Australia/Lord_Howe", retention=(("hour", 30), ("day", 3)),
    ),
    kpi(
        "apia", '"s"', order("placed", dimensions=()), bill("s", dimensions=()), grains="day week",
        timezone="Pacific/Apia",
    ),
    kpi(
        "picky", '(case when "s" is null then 1 end)', order("s", "sum", "amount", dimensions=()), grains="day",
        timezone=NEW_YORK,
    ),
    kpi(
        "owed", '"s" + "n"',
        *(
            replace(each, kind="snapshot", until_column="until_day")
            for each in (bill("s", dimensions=()), bill("n", "count", None, dimensions=()))
        ),
        grains="day year", fills_gaps=True, timezone=NEW_YORK,
    ),
    kpi("ever", '"n"', replace(bill("n", "count", None), kind="snapshot"), grains="month", dimensions=["region"]),
    kpi("records", '"a"', recorded("a", '"indicator_id" = 1003'), grains="hour day week year", fills_gaps=True),
    kpi(
        "recent", '"a" + coalesce("b", 0)', recorded("a", '"indicator_id" = 1003', window=Window(days=30)),
        recorded("b", '"indicator_id" in (1004, 1005)', window=Window(to_date="month"), default=Decimal(5)),
        grains="day month", timezone=NEW_YORK,
    ),
    kpi(
        "files", "kpi_shared_files", recorded("records", '"indicator_id" = 1003'),
        grains="day week", formula="custom", fills_gaps=True, retention=(("day", 5),),
    ),
)  # fmt: skip


def ratio(above: Any, below: Any) -> Any:
    return None if above is None or not below else above / below


def created(rows: Sequence[Any]) -> dict[str, Any]:
    return {
        name: sum(row["value"] for row in rows if row["dimension"] == dimension)
        for name, dimension in (("created", "FILE_CREATED"), ("deleted", "FILE_DELETED"))
    }


FORMULAS = {
    "sums": lambda v: ratio(v["s"], v["n"]),
    "scoped": lambda v: v["n"] - v["gadgets"],
    "exact": lambda v: (
        None
        if v["middle"] is None or v["p"] is None
        else float(v["customers"]) + float(v["middle"]) + float(v["p"])
    ),
    "conversion": lambda v: ratio(v["n"], v["hits"]),
    "standing": lambda v: None if v["n"] is None else v["n"] + (v["s"] or 0),
    "rolling": lambda v: None if v["s"] is None or v["n"] is None else v["s"] - v["n"],
    "to-date": lambda v: v["s"],
    "kept": lambda v: v["n"],
    "newest": lambda v: v["n"],
    "filled": lambda v: v["hits"],
    "apia": lambda v: v["s"],
    "picky": lambda v: 1 if v["s"] is None else None,
    "island": lambda v: v["n"],
    "owed": lambda v: None if v["s"] is None else v["s"] + v["n"],
    "ever": lambda v: v["n"],
    "records": lambda v: v["a"],
    "recent": lambda v: None if v["a"] is None else v["a"] + (v["b"] or 0),
    "files": lambda v: v["created"] + v["deleted"],
}
BY_ZERO: dict[str, Callable[[Any], bool]] = {
    "conversion": lambda v: v["hits"] == 0 and v["n"] is not None,
}
ALL: dict[str, Callable[[Any], bool]] = CONDITIONS | {
    f"{BIG} and {GADGETS}": lambda row: CONDITIONS[BIG](row) and CONDITIONS[GADGETS](row)
}
LATEST = datetime(2026, 3, 12, 9, 20, tzinfo=UTC)


# What happens


@dataclass(frozen=True)
class History:
    """Steps in order: `("put" | "change" | "take", table, rows)`, `("empty", table)`, `("tick", as_of)`,
    `("define", ids)`."""

    steps: tuple[tuple[Any, ...], ...]
    seed: int


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Of a seed and sizes, so that few examples are as different as many, and those that fail still shrink."""
    seed = draw(st.integers(0, 2**32 - 1))
    chance = Random(f"kpi {seed}")
    tables: Tables = {name: [] for name in TABLES}
    steps: list[tuple[Any, ...]] = []
    as_of = LATEST - timedelta(days=chance.choice([0, 2, 9]))
    for number in range(draw(st.integers(3, 10))):
        kind = chance.choice(["put", "put", "put", "change", "take", "tick", "tick", "rare"])
        table = chance.choice([*TABLES, "copies.test_order"])
        if kind == "put":
            rows = [_row(chance, table, number * 10 + place) for place in range(chance.choice([1, 2, 4]))]
            steps.append(("put", table, rows))
            tables[table] += rows
        elif kind == "tick":
            as_of = min(
                LATEST, as_of + chance.choice([timedelta(0), timedelta(minutes=40), timedelta(days=1.4)])
            )
            steps.append(("tick", as_of))
        elif kind == "rare":
            if chance.random() < 0.3 and not table.startswith("marts"):
                steps.append(("empty", table))
                tables[table].clear()
            else:
                ids = [each.id for each in KPIS]
                steps.append(("define", tuple(chance.sample(ids, len(ids) - chance.randint(0, 3)))))
        elif tables[table]:
            row = chance.choice(tables[table])
            tables[table].remove(row)
            if kind == "take":
                steps.append(("take", table, [row]))
            else:
                column = chance.choice([each for each in TABLES[table] if each not in _key(table)] or [None])
                if column is None:
                    continue
                new = row | {column: _row(chance, table, 0)[column]}
                tables[table].append(new)
                steps.append(("change", table, [new]))
    return History(tuple(steps), seed)


def _key(table: str) -> tuple[str, ...]:
    return (
        ("id",)
        if table != "marts.indicator_record"
        else ("indicator_id", "hour_at", "dimension", "dimension_key", "provisional")
    )


def _row(chance: Random, table: str, number: int) -> Row:
    at, until = _instant(chance), chance.choice([None, _instant(chance)])
    amount = chance.choice([None, Decimal("2.50"), Decimal(7), Decimal("9.25"), Decimal(-1)])
    score = chance.choice([None, 0.5, 2.0, 8.25])
    if chance.random() < 0.1:
        amount = chance.choice([Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity")])
        score = chance.choice([math.nan, math.inf, -math.inf])
    region = chance.choice(["north", "north", "south", None])
    if table == "copies.test_order":
        return {
            "id": number, "placed_at": chance.choice([at] * 8 + [None]), "closed_at": until, "region": region,
            "product": chance.choice(["gadget", "gadget", 'a "b"', None]), "amount": amount,
            "score": score, "customer": chance.choice([None, "ann", "bob", "cy"]),
            "waited": chance.choice([None, timedelta(minutes=3), timedelta(hours=30)]),
        }  # fmt: skip
    if table == "copies.test_visit":
        return {"id": number, "at": at, "region": region, "hits": chance.choice([None, 0, 3, 10])}
    if table == "copies.test_bill":
        day, end = at.date(), until.date() if until else None
        return {"id": number, "day": day, "until_day": end, "region": region, "amount": amount}
    hour = at.replace(minute=0, second=0, microsecond=0)
    dimension = chance.choice(["FILE_CREATED", "FILE_DELETED"])
    return {
        "indicator_id": chance.choice([1003, 1003, 1004]), "hour_at": hour, "dimension": dimension,
        "dimension_key": dimension + str(number), "value": chance.choice([1, 4]), "provisional": False,
    }  # fmt: skip


def _instant(chance: Random) -> datetime:
    """Around the clock change of New York (8 March 2026, 07:00 UTC), on edges of hours and days; some far back."""
    day = chance.choice([datetime(2026, 3, 8, tzinfo=UTC)] * 3 + [datetime(2026, 3, 5, tzinfo=UTC), LATEST])
    day -= timedelta(days=chance.choice([0, 0, 0, 0, 1, 7, 60]))
    minutes = chance.choice([0, 4 * 60, 5 * 60, 6 * 60 + 30, 6 * 60 + 59, 7 * 60, 7 * 60 + 44, 18 * 60 + 30])
    shift = chance.choice([timedelta(0)] * 3 + [timedelta(microseconds=-1), timedelta(microseconds=1)])
    return day.replace(hour=0, minute=0) + timedelta(minutes=minutes) + shift


# What the engine makes of it


@dataclass
class Engine:
    """The deployed KPIs over tables that are emptied between examples; a tick here is its publication alone."""

    warehouse: Warehouse
    plan: dict[str, Any]

    @property
    def settings(self) -> Settings:
        return self.warehouse.settings

    def reset(self) -> None:
        with connect(self.settings) as connection:
            emptied = (
                "kpi.touched",
                "kpi.period_value",
                "kpi.definition",
                "kpi.restatement",
                "control.purged_hour",
            )
            for table in (*TABLES, *emptied):
                connection.execute(sql.SQL("delete from {}").format(sql.Identifier(*table.split("."))))
            connection.execute("delete from kpi.touched")
            for (name,) in connection.execute("select name from kpi.model where kind = 'state'").fetchall():
                connection.execute(sql.SQL("delete from {}").format(sql.Identifier("kpi", str(name))))
            connection.execute("update kpi.engine set as_of = '-infinity'")
            connection.execute("update kpi.kpi set needs_full = true")
            connection.execute("update kpi.model set needs_full = kind = 'state'")
            connection.execute("update control.tick set published_as_of = '-infinity'")
        self.define([each.id for each in KPIS])

    def apply(self, step: tuple[Any, ...]) -> None:
        kind, *given = step
        if kind == "tick":
            self.tick(given[0])
        elif kind == "define":
            self.define(given[0])
        elif kind == "empty":
            self._execute(given[0], sql.SQL("truncate {0}"), [{}])
        elif kind == "put":
            self.put(given[0], given[1])
        else:
            names = [name for name in TABLES[given[0]] if name not in _key(given[0])]
            where = sql.SQL(" and ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
                for name in _key(given[0])
            )
            changes = sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in names
            )
            what = (
                sql.SQL("delete from {{0}} where {}").format(where)
                if kind == "take"
                else sql.SQL("update {{0}} set {} where {}").format(changes, where)
            )
            self._execute(given[0], what, given[1])

    def put(self, table: str, rows: Sequence[Row]) -> None:
        names = list(TABLES[table])
        self._execute(
            table,
            sql.SQL("insert into {{0}} ({}) values ({})").format(
                sql.SQL(", ").join(map(sql.Identifier, names)),
                sql.SQL(", ").join(map(sql.Placeholder, names)),
            ),
            rows,
        )

    def _execute(self, table: str, statement: sql.SQL | sql.Composed, rows: Sequence[Row]) -> None:
        with connect(self.settings, "ingest" if table.startswith("copies") else "transform") as connection:
            text = sql.SQL(cast("Any", statement.as_string(connection))).format(
                sql.Identifier(*table.split("."))
            )
            for row in rows:
                connection.execute(text, row)

    def define(self, ids: Sequence[str]) -> None:
        chosen = {"kpis": {kpi_id: self.plan["kpis"][kpi_id] for kpi_id in ids}}
        with connect(self.settings, "transform") as connection:
            kpi_deploy._kpis(connection, chosen, is_made_anew=False)

    def tick(self, as_of: datetime, *, rebuild: bool = False) -> None:
        with connect(self.settings, "transform", autocommit=True) as connection:
            connection.execute("update control.tick set as_of = %s, high = high + 1", [as_of])
            publish(connection, [], is_rebuild=rebuild)

    def cells(self) -> list[dict[str, Any]]:
        """All values, as the mart shows them; nothing of when they were computed."""
        rows = self.warehouse.query(
            "select *, period_start::text || period_end as span from marts.kpi_value"
            " order by kpi_id, grain, period_start, dimension_key"
        )
        return [{key: cell for key, cell in row.items() if key != "computed_load_id"} for row in rows]

    def problems(self) -> list[Any]:
        return self.warehouse.query(
            "select name, problem, needs_full from kpi.model where needs_full or problem is not null"
        )


@pytest.fixture(scope="module")
def engine(deployed: Warehouse) -> Iterator[Engine]:
    deployed.reset()
    settings = deployed.settings
    with connect(settings, "ingest") as connection:
        for table, columns in TABLES.items():
            if table.startswith("copies"):
                names = sql.SQL(", ").join(
                    sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(cast("Any", kind)))
                    for name, kind in columns.items()
                )
                connection.execute(
                    sql.SQL("create table {} ({}, primary key (id))").format(
                        sql.Identifier(*table.split(".")), names
                    )
                )
    patch = pytest.MonkeyPatch()
    patch.setattr("pipelines.kpi.definitions.check.resolved", defined)
    folder = settings.catalog / "kpis"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "property.yml").write_text("kpis: []\n", "utf-8")
    deploy(deployed.project)
    yield Engine(deployed, orjson.loads(compile_kpis(defined(settings))[places.PLAN]))
    (folder / "property.yml").unlink()
    patch.undo()
    deploy(deployed.project)
    with connect(settings, "ingest") as connection:
        for table in TABLES:
            if table.startswith("copies"):
                connection.execute(sql.SQL("drop table {}").format(sql.Identifier(*table.split("."))))


def defined(settings: Settings) -> Kpis:
    """What stands for the files of catalog/kpis here."""
    assert settings.catalog.exists()
    return Kpis({each.id: each for each in KPIS})


# The tests


@examples(4)
@given(history=histories())
def test_any_history_gives_the_values_of_one_computation(engine: Engine, history: History) -> None:
    engine.reset()
    tables: Tables = {name: [] for name in TABLES}
    wanted = {each.id for each in KPIS}
    for step in history.steps:
        engine.apply(step)
        _note(tables, step)
        wanted = set(step[1]) if step[0] == "define" else wanted
    engine.tick(LATEST)
    assert engine.problems() == []
    grown = engine.cells()
    assert_as_said(grown, wanted, tables)
    assert_current(grown, engine.warehouse.query("select * from marts.kpi_current"))

    engine.tick(LATEST, rebuild=True)
    assert_same(grown, engine.cells(), "a rebuild differs")

    engine.reset()
    engine.define(sorted(wanted))
    chance = Random(f"again {history.seed}")
    for table in chance.sample(list(TABLES), len(TABLES)):
        engine.put(table, chance.sample(tables[table], len(tables[table])))
    engine.tick(LATEST)
    assert_same(grown, engine.cells(), "one computation of everything differs")


def _note(tables: Tables, step: tuple[Any, ...]) -> None:
    kind, *given = step
    if kind == "empty":
        tables[given[0]].clear()
    elif kind in {"put", "change", "take"}:
        table, rows = given
        keys = {tuple(row[name] for name in _key(table)) for row in rows}
        tables[table] = [row for row in tables[table] if tuple(row[name] for name in _key(table)) not in keys]
        tables[table] += [] if kind == "take" else rows


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]], message: str) -> None:
    def by_key(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
        return {(row["kpi_id"], row["grain"], row["period"], row["dimension_key"]): row for row in rows}

    mine, theirs = by_key(found), by_key(expected)
    differ = {
        key: (mine.get(key), theirs.get(key))
        for key in mine.keys() | theirs.keys()
        if mine.get(key) != theirs.get(key)
    }
    assert not differ, (message, len(differ), sorted(differ)[:8], next(iter(differ.values())))


def formula_of(each: Kpi) -> Formula:
    custom = created if each.formula == "custom" else None
    return Formula(FORMULAS[each.id], ALL, custom, BY_ZERO.get(each.id, lambda _: False))


def assert_as_said(cells: list[dict[str, Any]], wanted: set[str], tables: Tables) -> None:
    found = {
        (row["kpi_id"], row["grain"], row["period"], tuple(sorted(row["dimensions"].items()))): row
        for row in cells
    }
    said: dict[Any, tuple[dict[str, Any], Any, str | None]] = {}
    for each in KPIS:
        if each.id in wanted:
            formula = formula_of(each)
            for key, components, value, reason in values(each, formula, tables, LATEST):
                said[key] = (components, value, reason)
    missing, extra = (
        sorted(map(str, said.keys() - found.keys())),
        sorted(map(str, found.keys() - said.keys())),
    )
    assert (missing[:5], extra[:5]) == ([], []), (len(missing), len(extra))
    for key, (components, value, reason) in said.items():
        row = found[key]
        shown = {name: _number(part) for name, part in row["components"].items()}
        assert shown.keys() == components.keys(), key
        for name, part in components.items():
            assert _close(shown[name], part), (key, name, shown[name], part)
        assert _close(row["value"], value), (key, row["value"], value)
        assert row["reason"] == reason, (key, components)


def assert_current(cells: list[dict[str, Any]], current: list[dict[str, Any]]) -> None:
    """Of each member the newest closed and the newest provisional value, at the finest grain."""
    finest = {each.id: each.grains[0] for each in KPIS}
    newest: dict[tuple[str, str], dict[bool, Any]] = {}
    for row in sorted(cells, key=lambda row: cast("datetime", row["period_start"])):
        if row["grain"] == finest[row["kpi_id"]]:
            newest.setdefault((row["kpi_id"], row["dimension_key"]), {})[row["provisional"]] = row
    shown = {
        (row["kpi_id"], row["dimension_key"]): (
            row["closed_period"], row["closed_value"], row["provisional_period"], row["provisional_value"]
        )
        for row in current
    }  # fmt: skip
    assert shown == {
        key: tuple(
            rows.get(is_provisional, {}).get(name)
            for is_provisional in (False, True)
            for name in ("period", "value")
        )
        for key, rows in newest.items()
    }


def _number(part: Any) -> Any:
    return None if part is None else Decimal(json.dumps(part))


def _close(found: Any, said: Any) -> bool:
    if found is None or said is None:
        return found is None and said is None
    return math.isclose(found, said, rel_tol=1e-12, abs_tol=1e-12)


# Single cases


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def placed(number: int, when: str, amount: int = 1, region: str | None = "north") -> Row:
    row = dict.fromkeys(TABLES["copies.test_order"])
    return {**row, "id": number, "placed_at": at(when), "amount": Decimal(amount), "region": region}


def record(number: int, when: str) -> Row:
    return {
        "indicator_id": 1003, "hour_at": at(when), "dimension": "FILE_CREATED", "dimension_key": str(number),
        "value": 4, "provisional": False,
    }  # fmt: skip


def totals(engine: Engine, kpi_id: str, grain: str, *columns: str) -> list[tuple[Any, ...]]:
    names = ", ".join(("period", *columns))
    rows = engine.warehouse.query(
        f"select {names} from marts.kpi_value where kpi_id = %s and grain = %s and dimension_key = ''"
        " order by period_start",
        kpi_id,
        grain,
    )
    return [tuple(row.values()) for row in rows]


def restated(engine: Engine) -> list[tuple[Any, ...]]:
    rows = engine.warehouse.query(
        "select kpi_id, grain, period, dimension_key, reported_value, restated_value from marts.kpi_restatement"
        " where kpi_id in ('newest', 'filled', 'files') order by 1, 2, 3, 4, restated_at"
    )
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize(
    ("day", "hours", "told"),
    [
        ("2026-03-08", 23, {"2026-03-08T01-05:00", "2026-03-08T03-04:00"}),
        ("2025-11-02", 25, {"2025-11-02T01-04:00", "2025-11-02T01-05:00"}),
    ],
)
def test_an_hour_is_an_hour_on_both_nights_of_a_clock_change(
    engine: Engine, day: str, hours: int, told: set[str]
) -> None:
    engine.reset()
    start = at(f"{day} 00:10")
    engine.put(
        "copies.test_order",
        [
            {**placed(number, day), "placed_at": start + timedelta(minutes=30 * number)}
            for number in range(2 * 36)
        ],
    )
    engine.tick(LATEST)
    found = [row for row in totals(engine, "sums", "hour", "components") if row[0].startswith(day)]
    assert len(found) == hours
    assert {components["n"] for _, components in found} == {2}
    assert told <= {label for label, _ in found}
    assert "2026-03-08T02-05:00" not in {label for label, _ in found}
    days = dict(totals(engine, "sums", "day", "components"))
    assert days[day]["n"] == 2 * hours


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ("2025-04-06 03:00", {"2025-04-06T01+11:00": ("14:00", "15:00"), "2025-04-06T01+10:30": ("15:00", "15:30")}),
        ("2025-10-05 03:00", {"2025-10-05T01+10:30": ("14:30", "15:30"), "2025-10-05T02+11:00": ("15:30", "16:00")}),
    ],
)  # fmt: skip
def test_hours_of_clocks_that_change_by_half_an_hour(
    engine: Engine, now: str, told: dict[str, tuple[str, str]]
) -> None:
    """The same whether they are filled or have rows, and whether they began with a tick or all at once."""
    engine.reset()
    end = at(now)
    engine.put("copies.test_order", [{**placed(0, now), "placed_at": end - timedelta(hours=40)}])
    for hours in (20, 13, 12, 11, 0):
        engine.tick(end - timedelta(hours=hours))
    names = ("period_start", "period_end", "value", "previous_value")
    filled = totals(engine, "island", "hour", *names)
    engine.put(
        "copies.test_order",
        [
            {**placed(number, now), "placed_at": end - timedelta(minutes=10 * number)}
            for number in range(1, 6 * 20)
        ],
    )
    engine.tick(end)
    counted = totals(engine, "island", "hour", *names)
    engine.tick(end, rebuild=True)
    assert totals(engine, "island", "hour", *names) == counted
    assert [row[:3] for row in filled] == [row[:3] for row in counted]
    assert len({row[0] for row in counted}) == len(counted)
    for (_, _, ends, before, _), (label, begins, after, value, previous) in itertools.pairwise(counted):
        assert ends == begins
        assert previous == before
        count = len([n for n in range(1, 6 * 20) if begins <= end - timedelta(minutes=10 * n) < after])
        assert value == count, label
    shown = {row[0]: (f"{row[1]:%H:%M}", f"{row[2]:%H:%M}") for row in counted}
    assert told.items() <= shown.items()
    assert engine.problems() == []


def test_a_date_that_a_zone_skipped_is_no_day_and_stops_nothing(engine: Engine) -> None:
    engine.reset()
    engine.put("copies.test_order", [placed(n, f"2011-12-{n} 05:00") for n in (28, 29, 30, 31)])
    engine.put(
        "copies.test_bill",
        [
            {"id": n, "day": date(2011, 12, n), "until_day": None, "region": None, "amount": 1}
            for n in (29, 30, 31)
        ],
    )
    engine.tick(LATEST)
    assert engine.problems() == []
    days = {row[0]: row[1:] for row in totals(engine, "apia", "day", "value", "components", "previous_value")}
    # 31 December there began at 10:00 UTC of the 30th.
    assert {day: components["placed"] for day, (_, components, _) in days.items()} == {
        "2011-12-27": 1, "2011-12-28": 1, "2011-12-29": 1, "2011-12-31": 1
    }  # fmt: skip
    assert days["2011-12-31"][2] == days["2011-12-29"][0]
    assert ("2011-W52", 3) in totals(engine, "apia", "week", "value")


ODD_ORDERS: dict[int, Row] = {
    1: {"amount": Decimal("NaN"), "score": 1.0},
    2: {"amount": Decimal(7), "score": math.inf},
    3: {"amount": Decimal("-Infinity"), "score": 1.0},
    4: {"amount": Decimal("1e120000"), "score": 1.7e308},
    5: {"amount": Decimal("1e-16000"), "score": 5e-324},
    6: {"amount": Decimal(3), "score": math.nan, "region": "south"},
}


@pytest.mark.parametrize("number", ODD_ORDERS)
def test_what_is_no_number_says_so_and_stops_nothing_and_comes_back(engine: Engine, number: int) -> None:
    engine.reset()
    right = [placed(10, "2026-03-09 12:00"), placed(11, "2026-03-10 12:00"), placed(12, "2026-03-11 12:00")]
    engine.put("copies.test_order", right)
    engine.tick(at("2026-03-12 06:00"))
    before = engine.cells()
    odd = {**placed(1, "2026-03-10 13:00"), "closed_at": at("2026-03-11 12:00"), **ODD_ORDERS[number]}
    engine.put("copies.test_order", [odd])
    engine.tick(at("2026-03-12 06:01"))
    assert engine.problems() == []
    cells = engine.cells()
    assert all(row["reason"] is None or row["value"] is None for row in cells)
    assert all(row["value"] is None or abs(row["value"]) < Decimal("1e300") for row in cells)
    json.dumps([row["components"] for row in cells], allow_nan=False)
    days = {row["period"]: row for row in cells if row["kpi_id"] == "sums" and row["grain"] == "day"
            and row["dimension_key"] == ""}  # fmt: skip
    expected = None if number == 5 else "not a number"
    assert {day: row["reason"] for day, row in days.items()} == {
        "2026-03-09": None, "2026-03-10": expected, "2026-03-11": None
    }  # fmt: skip
    if expected:
        row = days["2026-03-10"]
        assert (row["value"], row["change_percent"], row["direction"], row["status"]) == (
            None,
            None,
            None,
            "no_data",
        )
        assert days["2026-03-11"]["direction"] is None
        assert days["2026-03-10"]["components"]["n"] == 2
    # What stood for a while only is no trouble of the balances after it.
    balances = dict(totals(engine, "standing", "day", "reason"))
    if number in {1, 3}:
        assert (balances["2026-03-10"], balances["2026-03-11"]) == ("not a number", None)
    assert render(read(engine.settings))
    engine.apply(("take", "copies.test_order", [odd]))
    engine.tick(at("2026-03-12 06:02"))
    assert_same(engine.cells(), before, "it did not come back")


def test_a_reason_never_lies(engine: Engine) -> None:
    engine.reset()
    engine.put(
        "copies.test_order",
        [{**placed(1, "2026-03-09 12:00"), "amount": None}, placed(2, "2026-03-10 12:00")],
    )
    engine.put(
        "copies.test_visit", [{"id": 1, "at": at("2026-03-10 12:00"), "region": "north", "hits": None}]
    )
    engine.put("copies.test_visit", [{"id": 2, "at": at("2026-03-11 12:00"), "region": "north", "hits": 0}])
    engine.put("copies.test_order", [placed(3, "2026-03-11 12:00")])
    engine.tick(at("2026-03-12 12:00"))
    assert totals(engine, "sums", "day", "value", "reason") == [
        ("2026-03-09", None, "no values"), ("2026-03-10", 1, None), ("2026-03-11", 1, None)
    ]  # fmt: skip
    # `seen` has a default of 7, which stands in for no rows and for nothing else.
    assert totals(engine, "conversion", "day", "value", "reason", "components") == [
        ("2026-03-09", None, "no rows", {"n": 1, "hits": None, "seen": 7}),
        ("2026-03-10", None, "no values", {"n": 1, "hits": None, "seen": 0}),
        ("2026-03-11", None, "division by zero", {"n": 1, "hits": 0, "seen": 1}),
    ]
    assert totals(engine, "picky", "day", "value", "reason") == [
        ("2026-03-09", 1, None), ("2026-03-10", None, "by formula"), ("2026-03-11", None, "by formula")
    ]  # fmt: skip


def test_a_closed_period_that_changes_is_journalled(engine: Engine) -> None:
    engine.reset()
    visits = [{"id": number, "at": at("2026-03-10 12:00"), "region": None, "hits": 3} for number in (1, 2, 3)]
    engine.put("copies.test_order", [placed(1, "2026-03-09 12:00")])
    engine.put("copies.test_visit", visits[:1])
    engine.tick(at("2026-03-11 12:00"))
    assert restated(engine) == [], "what is new was not reported"
    # 10 March is open for a day longer here, and 9 March has no visits
    engine.put("copies.test_order", [placed(2, "2026-03-09 13:00")])
    engine.put("copies.test_visit", visits[1:2])
    engine.tick(at("2026-03-12 03:00"))
    late = ("newest", "day", "2026-03-09", "", 1, 2)
    assert restated(engine) == [late]
    engine.tick(at("2026-03-12 05:00"))
    engine.put("copies.test_visit", visits[2:])
    engine.apply(
        ("take", "copies.test_order", [placed(1, "2026-03-09 12:00"), placed(2, "2026-03-09 13:00")])
    )
    engine.tick(at("2026-03-12 06:00"))
    null = '{"region": null}'
    assert restated(engine) == [
        ("filled", "day", "2026-03-10", "", 6, 9), ("filled", "day", "2026-03-10", null, 6, 9),
        late, ("newest", "day", "2026-03-09", "", 2, None),
    ]  # fmt: skip
    # A definition computed anew to the same values restates nothing, and neither does going back.
    engine.define([each.id for each in KPIS if each.id != "filled"])
    engine.define([each.id for each in KPIS])
    engine.tick(at("2026-03-12 07:00"))
    engine.tick(at("2026-03-11 00:00"), rebuild=True)
    assert len(restated(engine)) == 4


def test_a_purge_changes_no_value_and_restates_nothing(engine: Engine) -> None:
    engine.reset()
    engine.put("marts.indicator_record", [record(n, f"2025-03-{n:02} 03:00") for n in range(4, 20)])
    engine.tick(at("2025-03-20 12:00"))
    before = {name: totals(engine, name, "day", "value") for name in ("records", "recent")}
    assert ("2025-03-19", 16 * 4) in before["recent"]
    for moment in ("2026-03-07 02:00", "2026-03-10 12:00", "2026-03-12 03:30"):
        engine.tick(at(moment))
        for name, rows in before.items():
            assert totals(engine, name, "day", "value")[: len(rows)] == rows
    assert engine.warehouse.query("select * from marts.kpi_restatement") == []
    assert [row["hour_at"] for row in engine.warehouse.query("select * from marts.indicator_record order by 2")] == [
        at(f"2025-03-{day} 03:00") for day in range(13, 20)
    ]  # fmt: skip
    assert engine.warehouse.query("select * from kpi.touched") == []


def test_a_period_is_sealed_by_what_was_purged_and_never_by_a_date(engine: Engine) -> None:
    """Lines of the last hours of a year, and logs that are first read in the next one, or many years later."""
    engine.reset()
    engine.put("marts.indicator_record", [record(1, "2025-02-03 10:00"), record(2, "2025-12-31 10:00")])
    engine.tick(at("2025-12-31 12:00"))
    late = [record(3, "2025-12-31 22:00"), record(4, "2025-01-20 10:00"), record(5, "2022-11-03 10:00")]
    engine.put("marts.indicator_record", late)
    engine.tick(at("2026-01-21 12:00"))
    years = {"2025": 16, "2022": 4}
    for is_rebuild in (False, True):
        engine.tick(at("2026-01-21 12:01"), rebuild=is_rebuild)
        assert {
            period: value for period, value in totals(engine, "records", "year", "value") if value
        } == years
    # The hour of 20 January, first read a year later, was purged with the tick that counted it.
    assert engine.warehouse.query("select part, hour_at from control.purged_hour order by 2") == [
        {"part": "1003", "hour_at": at("2022-11-03 10:00")}, {"part": "1003", "hour_at": at("2025-01-20 10:00")}
    ]  # fmt: skip
    engine.put("marts.indicator_record", [record(6, "2025-12-31 23:00"), record(7, "2024-12-31 23:00")])
    for is_rebuild in (False, True):
        engine.tick(at("2026-01-21 12:02"), rebuild=is_rebuild)
        assert {period: value for period, value in totals(engine, "records", "year", "value") if value} == {
            **years, "2024": 4
        }  # fmt: skip
        # What reads no purged hour takes it.
        assert ("2025-12-31", 12) in totals(engine, "records", "day", "value")
    assert engine.problems() == []


@st.composite
def purged_histories(draw: st.DrawFn) -> tuple[list[tuple[str, Any]], int]:
    """Records of any age, and ticks; of a seed, as above."""
    chance = Random(f"purge {draw(st.integers(0, 2**32 - 1))}")
    as_of, steps = at("2025-12-20 12:00"), list[tuple[str, Any]]()
    for number in range(draw(st.integers(4, 9))):
        if chance.random() < 0.5:
            hours = [as_of - timedelta(hours=chance.choice([1, 20, 24 * 15, 24 * 19, 24 * 20, 24 * 21, 24 * 70]))
                     for _ in range(chance.choice([1, 3]))]  # fmt: skip
            steps.append(("put", [
                record(number * 10 + place, f"{hour:%Y-%m-%d %H}:00")
                | {"indicator_id": chance.choice([1003, 1003, 1004])}
                for place, hour in enumerate(hours)
            ]))  # fmt: skip
        else:
            as_of += chance.choice(
                [timedelta(minutes=1), timedelta(hours=9), timedelta(days=3), timedelta(days=15)]
            )
            steps.append((chance.choice(["tick", "tick", "rebuild"]), as_of))
    return [*steps, ("tick", as_of), ("rebuild", as_of)], 20


@examples(3)
@given(history=purged_histories())
def test_sealed_periods_stay_and_the_others_are_what_was_counted(
    engine: Engine, history: tuple[list[tuple[str, Any]], int]
) -> None:
    engine.reset()
    steps, days = history
    kpis = [each for each in KPIS if each.id in {"records", "recent", "files"}]
    counted: list[Row] = []
    purged: set[tuple[int, datetime]] = set()
    stands: dict[Any, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUEMARK_INDICATOR_RETENTION", f"{days} days")
        for kind, given_ in steps:
            if kind == "put":
                # As the mart has it, a purged hour does not come back.
                rows = [row for row in given_ if (row["indicator_id"], row["hour_at"]) not in purged]
                engine.put("marts.indicator_record", rows)
                counted += rows
                continue
            journal = engine.warehouse.query("select count(*) as n from kpi.restatement")
            has_news = bool(set(map(str, counted)) - stands.get("seen", set()))
            engine.tick(given_, rebuild=kind == "rebuild")
            for each in kpis:
                _judge(stands, each, counted, purged, given_)
            stands["seen"] = set(map(str, counted))
            old = given_ - timedelta(days=days)
            purged |= {(row["indicator_id"], row["hour_at"]) for row in counted if row["hour_at"] < old}
            found = {
                (row["kpi_id"], row["grain"], row["period"]): row["value"]
                for row in engine.cells()
                if row["kpi_id"] in {each.id for each in kpis}
            }
            said = {key: value for key, value in stands.items() if key != "seen"}
            differ = {
                key: (found.get(key, "none"), said.get(key, "none"))
                for key in found.keys() | said.keys()
                if found.get(key, "none") != said.get(key, "none")
            }
            assert not differ, (kind, given_, len(differ), sorted(differ.items())[:5])
            if not has_news:
                assert engine.warehouse.query("select count(*) as n from kpi.restatement") == journal


def _judge(
    stands: dict[Any, Any], each: Kpi, counted: list[Row], purged: set[tuple[int, datetime]], as_of: datetime
) -> None:
    """What stands of a KPI after a tick: what it reads, but for the periods over what had been purged before it."""
    zone = ZoneInfo(each.timezone)
    formula = formula_of(each)
    tables: Tables = {"marts.indicator_record": counted}
    now = {(key[0], key[1], key[2]): value for key, _, value, _ in values(each, formula, tables, as_of)}
    kept = dict(each.retention)
    for grain in each.grains:
        period = period_of(grain, as_of, zone)
        number = 0
        while period.start > as_of - timedelta(days=500):
            key = (each.id, grain, period.label)
            is_sealed = any(
                within(variable, {"hour_at": hour}, period, zone)
                # whether there is a cell is up to all rows, but for a custom formula
                and (each.formula != "custom" or ALL[variable.condition]({"indicator_id": indicator}))
                for variable in each.variables
                for indicator, hour in purged
            )
            if (grain in kept and number >= kept[grain]) or (not is_sealed and key not in now):
                stands.pop(key, None)
            elif not is_sealed:
                stands[key] = now[key]
            number += 1
            period = earlier(grain, period, 1, zone)


def test_what_fails_stops_nothing_else_and_recovers_by_itself(engine: Engine) -> None:
    engine.reset()
    engine.put("copies.test_order", [placed(1, "2026-03-10 12:00")])
    engine.put("copies.test_visit", [{"id": 1, "at": at("2026-03-10 12:00"), "region": "north", "hits": 3}])
    engine.tick(at("2026-03-11 12:00"))
    before = totals(engine, "filled", "day", "value")
    with connect(engine.settings, "ingest") as connection:
        connection.execute("alter table copies.test_visit rename hits to clicks")
    try:
        engine.put("copies.test_order", [placed(2, "2026-03-10 13:00")])
        with connect(engine.settings, "ingest") as connection:
            connection.execute(
                "insert into copies.test_visit (id, at, clicks) values (2, '2026-03-10 13:00Z', 4)"
            )
        engine.tick(at("2026-03-11 13:00"))
        engine.tick(at("2026-03-11 13:01"))
        assert totals(engine, "newest", "day", "value") == [("2026-03-10", 2)]
        assert totals(engine, "filled", "day", "value") == before
        problems = {row["name"]: row["problem"] for row in engine.problems()}
        affected = {engine.plan["kpis"][each]["model"] for each in ("filled", "conversion")}
        assert affected < problems.keys()
        assert all('column "hits" does not exist' in problem for problem in problems.values())
    finally:
        with connect(engine.settings, "ingest") as connection:
            connection.execute("alter table copies.test_visit rename clicks to hits")
    engine.tick(at("2026-03-11 13:02"))
    assert engine.problems() == []
    assert ("2026-03-10", 7) in totals(engine, "filled", "day", "value")


def test_a_tick_is_due_when_a_period_begins_or_closes(engine: Engine) -> None:
    engine.reset()

    def due(published: str) -> datetime | None:
        with connect(engine.settings, "transform") as connection:
            return next_instant(connection, at(published))

    engine.define(["newest"])
    engine.put("copies.test_order", [placed(1, "2026-03-10 12:00")])
    engine.tick(at("2026-03-10 12:01"))
    assert due("2026-03-10 12:01") == at("2026-03-11 04:00")
    engine.define(["filled"])
    engine.put("copies.test_visit", [{"id": 1, "at": at("2026-03-10 12:00"), "region": "north", "hits": 3}])
    engine.tick(at("2026-03-10 12:02"))
    assert due("2026-03-10 12:02") == at("2026-03-11 04:00"), "11 March begins"
    assert due("2026-03-11 04:00") == at("2026-03-12 04:00"), "10 March closes, and 12 March begins"
    engine.define(["sums"])
    engine.tick(at("2026-03-10 12:03"))
    assert due("2026-03-10 12:03") == at("2026-03-10 13:00")
    # The hour has ended, and waits for its source.
    with connect(engine.settings, "ingest") as connection:
        connection.execute(
            "insert into raw.feed_read values ('copies.test_order', '2026-03-10 12:59Z')"
            " on conflict (feed) do update set began_at = excluded.began_at"
        )
    engine.tick(at("2026-03-10 13:00"))
    assert totals(engine, "sums", "hour", "provisional") == [("2026-03-10T08-04:00", True)]
    assert due("2026-03-10 13:00") == at("2026-03-11 04:00")
    with connect(engine.settings, "ingest") as connection:
        connection.execute("update raw.feed_read set began_at = '2026-03-10 13:01Z'")
    now = due("2026-03-10 13:00")
    assert now is not None
    assert now < at("2026-03-10 13:01")
    engine.tick(at("2026-03-10 13:02"))
    assert totals(engine, "sums", "hour", "provisional") == [("2026-03-10T08-04:00", False)]
    assert due("2026-03-10 13:02") == at("2026-03-11 04:00")
    with connect(engine.settings, "ingest") as connection:
        connection.execute("delete from raw.feed_read where feed = 'copies.test_order'")
    # Before the first tick of a version that asks by a function of its own.
    with connect(engine.settings, "transform") as connection:
        connection.execute("drop function work.int_kpi_period_at")
        assert next_instant(connection, at("2026-03-10 13:00")) == at("2026-03-10 13:00")
        connection.rollback()
