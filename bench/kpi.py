"""200 KPIs over ten million rows: all of it, late rows, a deleted hour, a changed file; against SQL by hand."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import orjson

from bench.build import DifferentError
from bench.measure import Cost
from bench.scale import Scale
from bench.table import Row
from bench.warehouse import Bank, Workshop
from pipelines.catalog.store import store_catalog
from pipelines.transform.project import Project
from pipelines.transform.tick import TickReport, tick
from pipelines.warehouse.connect import connect

OF_A_BLOCK = 20
ZONE = "America/New_York"
# The rows end here; each tick is a minute after the one before, and nothing in it is due by time alone.
END = datetime(2026, 6, 1, tzinfo=UTC)
AS_OF = datetime(2026, 6, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LATE_FROM, LATE_HOURS = datetime(2026, 5, 12, 5, tzinfo=UTC), 27
DELETED = datetime(2026, 5, 20, 13, tzinfo=UTC)
LATE_ID = 1_000_000_000

CONDITIONS = (
    "", "status = 'paid'", "status = 'refunded'", "status = 'failed'", "quantity >= 5", "amount >= 100",
    "waited >= 600", "product_id < 100",
)  # fmt: skip
SELDOM = ("status = 'refunded'", "status = 'failed'", "waited >= 2700", "product_id < 100", "amount >= 190")
NUMBERS = ("amount", "cost", "quantity")
COARSE = ("day", "week", "month")
DIMENSIONS = ((), ("region",), ("region", "channel"))
# Which of them each of ten blocks of twenty KPIs has.
OF_BLOCK = (0, 0, 0, 1, 1, 1, 1, 1, 2, 2)

Aggregate = tuple[str, str, str]
"""What is made of which column of the rows that meet a condition."""


@dataclass(frozen=True)
class Definition:
    """A KPI, for its file and for the SQL by hand."""

    kpi_id: str
    expression: str
    variables: dict[str, Aggregate]
    dimensions: tuple[str, ...]
    grains: tuple[str, ...]

    @property
    def is_composing(self) -> bool:
        return all(
            aggregation in {"sum", "count", "avg", "min", "max"}
            for aggregation, *_ in self.variables.values()
        )

    def entry(self) -> dict[str, object]:
        """As it stands in a file."""
        return {
            "id": self.kpi_id, "category": "business", "description": f"{self.expression} of {self.variables}",
            "formula": {
                "type": "composite" if len(self.variables) > 1 else "simple",
                "expression": self.expression,
                "variables": {
                    name: {
                        "source": {
                            "database": "shop", "table": "orders", "column": column or "*",
                            "aggregation": aggregation,
                        },
                        "time_column": "ordered_at",
                        **({"filters": [condition]} if condition else {}),
                    }
                    for name, (aggregation, column, condition) in self.variables.items()
                },
            },
            "aggregations": list(self.grains), "dimensions": list(self.dimensions), "schedule": {"timezone": ZONE},
        }  # fmt: skip


def definitions(blocks: Sequence[int]) -> list[Definition]:
    """Sums, counts, ratios, averages, extremes, one in twenty a distinct count and one in twenty a percentile."""
    return [_definition(block * OF_A_BLOCK + kind) for block in blocks for kind in range(OF_A_BLOCK)]


def _definition(number: int) -> Definition:
    block, kind = divmod(number, OF_A_BLOCK)
    condition = CONDITIONS[(number + block) % len(CONDITIONS)]
    column = NUMBERS[(number + block) % len(NUMBERS)]
    variables: dict[str, Aggregate]
    expression = "a"
    if kind < 6:
        variables = {"a": ("sum", column, condition)}
    elif kind < 9:
        variables = {"a": ("count", "", condition)}
    elif kind < 13:
        expression = "a / b"
        variables = {"a": ("count", "", condition or CONDITIONS[1]), "b": ("count", "", "")}
    elif kind == 13:
        expression = "(a - b) / a"
        variables = {"a": ("sum", "amount", condition), "b": ("sum", "cost", condition)}
    elif kind < 17:
        variables = {"a": ("avg", column, condition)}
    elif kind == 17:
        variables = {"a": (("min", "max")[block % 2], column, condition)}
    elif kind == 18:
        variables = {"a": ("count_distinct", "customer_id", SELDOM[block % len(SELDOM)])}
    else:
        share = ("median", "p90", "p99")[block % 3]
        variables = {"a": (share, "waited", SELDOM[(block + 1) % len(SELDOM)])}
    grains = ("hour", *COARSE) if kind == block else COARSE
    return Definition(f"kpi-{number:03}", expression, variables, DIMENSIONS[OF_BLOCK[block]], grains)


SOURCE = """
create table public.orders (
    id bigint primary key, ordered_at timestamptz not null, region text not null, channel text not null,
    status text not null, amount numeric(10, 2) not null, cost numeric(10, 2) not null, quantity bigint not null,
    waited bigint not null, customer_id bigint not null, product_id bigint not null, updated_at timestamptz not null
);
"""
# hashint8extended gives the same rows on every machine, in any order.
ROWS = """
insert into copies.shop_orders
select id, {at},
    (array['north', 'south', 'east', 'west'])[1 + (r1 & 3)], (array['web', 'shop', 'phone'])[1 + (r1 >> 2 & 255) % 3],
    case (r1 >> 12 & 1023) % 10 when 0 then 'refunded' when 1 then 'failed' else 'paid' end,
    (100 + (r2 & 1023) * 20)::numeric / 100, (50 + (r2 >> 10 & 1023) * 9)::numeric / 100, 1 + (r2 >> 20 & 7),
    (r1 >> 22 & 1023) * (r2 >> 24 & 3), 1 + (r2 >> 30 & 1048575) % 50000, 1 + (r1 >> 33 & 1048575) % 2000, {at}
from (
    select id, hashint8extended(id, 1) & 9007199254740991 as r1, hashint8extended(id, 2) & 9007199254740991 as r2
    from generate_series({first}, {last}) as id
) as random
"""


@dataclass
class Shop:
    """A bank's warehouse with so many rows, and its clock."""

    bank: Bank
    project: Project
    rows: int
    days: int
    as_of: datetime = AS_OF

    def tick(self, *, rebuild: bool = False) -> TickReport:
        self.as_of += MINUTE
        return tick(self.project, self.as_of, rebuild=rebuild)

    def write(self, kpis: Sequence[Definition]) -> None:
        folder = self.bank.settings.catalog / "kpis"
        folder.mkdir(exist_ok=True)
        (folder / "all.yml").write_bytes(orjson.dumps({"kpis": [kpi.entry() for kpi in kpis]}))

    def execute(self, *statements: str) -> None:
        """As who writes copies, each in a transaction of its own."""
        with connect(self.bank.settings, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


def _shop(shop: Workshop, name: str, kpis: Sequence[Definition], count: int, days: int) -> Shop:
    """A bank whose copy of `orders` has the rows and whose KPIs are made, but not computed."""
    bank = shop.bank(name, 40, 5)
    shutil.rmtree(bank.folder / "landing")
    database = {
        "id": "shop", "url_env": "BENCH_SHOP_URL", "database": name, "every": "366d",
        "tables": {"orders": {"key": ["id"], "cursor": "updated_at", "compare_every": "366d"}},
    }  # fmt: skip
    (bank.settings.catalog / "databases.yml").write_bytes(orjson.dumps({"databases": [database]}))
    store_catalog(bank.settings)
    made = Shop(bank, Project(bank.settings), count, days)
    made.execute(SOURCE)
    # Read once while it is empty; how rows are copied is another matter.
    made.tick()
    at = f"timestamptz '{END:%Y-%m-%dT%H:%MZ}' - ({count} - id + 1) * interval '{days * 86_400 / count} seconds'"
    made.execute(ROWS.format(at=at, first=1, last=count))
    made.write(kpis)
    made.tick()
    made.execute("vacuum (analyze)", "checkpoint")
    return made


def _full(shop: Workshop, scale: Scale, many: Shop, kpis: Sequence[Definition]) -> Iterator[Row]:
    ours, by_hand = [], []
    for _ in range(scale.repeats):
        with connect(many.bank.settings, "transform") as connection:
            states = connection.execute("select name from kpi.model where kind = 'state'").fetchall()
            # A rebuild takes rows out first; a first computation has none.
            for table in ("period_value", *(str(row[0]) for row in states)):
                connection.execute(f"truncate kpi.{table}".encode())
        many.execute("checkpoint")
        ours.append(many.tick(rebuild=True).seconds["publish"])
        by_hand.append(_by_hand(shop, many, kpis).wall)
    cells = _refuse_different(many)
    yield Row(
        f"{len(kpis)} KPIs over {many.rows / 1e6:.2g} M rows, {cells:,} values from nothing, wall",
        min(ours),
        yardstick=min(by_hand),
        yardstick_is="SQL by hand making the same values, one scan for all that adds up",
        goal=2,
    )


def _by_hand(shop: Workshop, made: Shop, kpis: Sequence[Definition]) -> Cost:
    made.execute(TABLE, "checkpoint")
    statements = by_hand(kpis)
    return shop.meter.measure(partial(_run, made, statements))


def _run(made: Shop, statements: Sequence[str]) -> None:
    with connect(made.bank.settings) as connection:
        for statement in statements:
            connection.execute(statement.encode())


TABLE = """
drop schema if exists by_hand cascade;
create schema by_hand;
create table by_hand.value (
    kpi_id text collate "C" not null, grain text collate "C" not null, period_start timestamptz not null,
    region text not null, channel text not null, value numeric,
    primary key (kpi_id, grain, period_start, region, channel)
);
"""


def by_hand(
    kpis: Sequence[Definition], first: datetime | None = None, last: datetime | None = None
) -> list[str]:
    """Statements that make the values of all periods, or those of the periods that lie around [first, last)."""
    states: dict[Aggregate, str] = {}
    for kpi in kpis:
        for aggregate in kpi.variables.values():
            for part in _parts(aggregate):
                states.setdefault(part, f"s{len(states)}")
    adding = {part: name for part, name in states.items() if part[0] in {"sum", "count", "min", "max"}}
    others = {part: name for part, name in states.items() if part not in adding}
    # The biggest periods around them are read whole, and the hours before and after them are not put in.
    around = ""
    if first is not None and last is not None:
        starts, ends = zip(*(_bounds(grain, first, last) for grain in COARSE), strict=True)
        around = (
            f"where ordered_at >= least({', '.join(starts)}) and ordered_at < greatest({', '.join(ends)})"
        )
    statements = [
        "create temp table hourly on commit drop as"
        f" select date_trunc('hour', ordered_at, '{ZONE}') as at, region, channel, "
        + ", ".join(f"{_sql(part)} as {name}" for part, name in adding.items())
        + f" from copies.shop_orders {around} group by 1, 2, 3",
        "analyze hourly",
    ]
    for grain in ("hour", *COARSE):
        within = ""
        if first is not None and last is not None:
            start, end = _bounds(grain, first, last)
            within = f"where at >= {start} and at < {end}"
            statements.append(
                f"delete from by_hand.value where grain = '{grain}' and period_start >= {start}"
                f" and period_start < {end}"
            )
        mine = [kpi for kpi in kpis if grain in kpi.grains]
        period = f"date_trunc('{grain}', at, '{ZONE}')"
        needed = {part for kpi in mine for one in kpi.variables.values() for part in _parts(one)}
        columns = ", ".join(
            f"{'sum' if part[0] == 'count' else part[0]}({name}) as {name}"
            for part, name in adding.items()
            if part in needed
        )
        members = ", ".join(f"coalesce({name}, '') as {name}" for name in DIMENSIONS[-1])
        statements.append(
            f"create temp table cell on commit drop as select {period} as period_start, {members}, {columns}"
            f" from hourly {within} group by 1, cube (hourly.region, hourly.channel)"
        )
        for dimensions in DIMENSIONS:
            statements.append(
                _values(
                    [kpi for kpi in mine if kpi.is_composing and kpi.dimensions == dimensions],
                    states,
                    grain,
                    "cell",
                )
            )
            rest = [kpi for kpi in mine if not kpi.is_composing and kpi.dimensions == dimensions]
            if not rest:
                continue
            parts = sorted({part for kpi in rest for one in kpi.variables.values() for part in _parts(one)})
            columns = ", ".join(f"{_sql(part)} as {others[part]}" for part in parts)
            members = ", ".join(
                f"coalesce({name}, '') as {name}" if name in dimensions else f"'' as {name}"
                for name in DIMENSIONS[-1]
            )
            cube = f", cube ({', '.join(f'shop_orders.{name}' for name in dimensions)})" if dimensions else ""
            at = within.replace("at >=", "ordered_at >=").replace("at <", "ordered_at <") or "where true"
            # Rows that count for nothing need not be sorted; then a member without others has no row here.
            some = " or ".join(sorted({condition for *_, condition in parts}))
            statements.append(
                f"create temp table rest on commit drop as"
                f" select date_trunc('{grain}', ordered_at, '{ZONE}') as period_start, {members}, {columns}"
                f" from copies.shop_orders {at} and ({some}) group by 1{cube}"
            )
            statements.append(
                _values(rest, states, grain, "cell left join rest using (period_start, region, channel)")
            )
            statements.append("drop table rest")
        statements.append("drop table cell")
    return statements


def _bounds(grain: str, first: datetime, last: datetime) -> tuple[str, str]:
    """SQL of where the periods around [first, last) begin and end."""
    start = f"date_trunc('{grain}', timestamptz '{first:%Y-%m-%dT%H:%MZ}', '{ZONE}')"
    end = (
        f"date_trunc('{grain}', timestamptz '{last - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}' at time zone '{ZONE}'"
        f" + interval '1 {grain}') at time zone '{ZONE}'"
    )
    return start, end


def _parts(aggregate: Aggregate) -> list[Aggregate]:
    aggregation, column, condition = aggregate
    return [
        (part, column, condition) for part in (("sum", "count") if aggregation == "avg" else (aggregation,))
    ]


def _sql(part: Aggregate) -> str:
    aggregation, column, condition = part
    if aggregation == "count_distinct":
        text = f"count(distinct {column})"
    elif aggregation in {"sum", "count", "min", "max"}:
        text = f"{aggregation}({column or '*'})"
    else:
        share = 0.5 if aggregation == "median" else int(aggregation[1:]) / 100
        text = f"percentile_cont({share}) within group (order by {column}::double precision)"
    return text + (f" filter (where {condition})" if condition else "")


def _values(kpis: Sequence[Definition], states: dict[Aggregate, str], grain: str, cells: str) -> str:
    """Of each cell that has their dimensions the values of KPIs, which have these in common."""
    listed = ", ".join(f"('{kpi.kpi_id}', ({_formula(kpi, states)})::numeric)" for kpi in kpis)
    totals = "".join(f" and {name} = ''" for name in DIMENSIONS[-1] if name not in kpis[0].dimensions)
    return (
        f"insert into by_hand.value select kpi_id, '{grain}', period_start, region, channel, value"
        f" from {cells} cross join lateral (values {listed}) as kpi (kpi_id, value) where true{totals}"
    )


def _formula(kpi: Definition, states: dict[Aggregate, str]) -> str:
    text = kpi.expression.replace("/ a", "/ nullif(a, 0)").replace("/ b", "/ nullif(b, 0)")
    for name, aggregate in kpi.variables.items():
        columns = [
            f"coalesce({states[part]}, 0)" if part[0] == "count_distinct" else f"{states[part]}::numeric"
            for part in _parts(aggregate)
        ]
        text = re.sub(
            rf"\b{name}\b",
            columns[0] if len(columns) == 1 else f"({columns[0]} / nullif({columns[1]}, 0))",
            text,
        )
    return text


COMPARE = """
select
    count(*) filter (
        where ours.value is distinct from by_hand.value or ours.kpi_id is null or by_hand.kpi_id is null
    ),
    count(*)
from (
    select kpi_id, grain, period_start, coalesce(dimensions ->> 'region', '') as region,
        coalesce(dimensions ->> 'channel', '') as channel, value
    from kpi.period_value where kpi_id like 'kpi-%'
) as ours
full join by_hand.value as by_hand using (kpi_id, grain, period_start, region, channel)
"""


def _compare(made: Shop) -> tuple[int, int]:
    """Cells that differ or that one of the two lacks, and all cells."""
    with connect(made.bank.settings) as connection:
        row = connection.execute(COMPARE.encode()).fetchone()
    assert row is not None
    wrong, cells = row
    return int(str(wrong)), int(str(cells))


def _refuse_different(made: Shop) -> int:
    """All cells, where none differs."""
    wrong, cells = _compare(made)
    if wrong:
        raise DifferentError(f"{wrong} of {cells} values are not those of the SQL by hand")
    return cells


def _late(
    shop: Workshop, scale: Scale, made: Shop, kpis: Sequence[Definition], count: int
) -> tuple[float, float, float, float]:
    """Least seconds of an idle tick, of one with late rows beyond that, of its engine, and of the SQL by hand."""
    last = LATE_FROM + timedelta(hours=LATE_HOURS)
    statements = by_hand(kpis, LATE_FROM, last)
    at = f"timestamptz '{LATE_FROM:%Y-%m-%dT%H:%MZ}' + (r1 % {LATE_HOURS * 3600}) * interval '1 second'"
    idle, whole, engine, hand = [], [], [], []
    for number in range(scale.repeats + 1):
        idle.append(shop.meter.measure(made.tick).wall)
        made.execute(ROWS.format(at=at, first=LATE_ID, last=LATE_ID + count - 1))
        made.execute("analyze copies.shop_orders", "checkpoint")
        reports: list[TickReport] = []
        cost = shop.meter.measure(lambda: reports.append(made.tick()))  # noqa: B023 # called at once
        by_hand_cost = shop.meter.measure(partial(_run, made, statements))
        _refuse_different(made)
        if number:
            # The first one fills caches on both sides.
            whole.append(cost.wall)
            engine.append(reports[0].seconds["publish"])
            hand.append(by_hand_cost.wall)
        made.execute(f"delete from copies.shop_orders where id >= {LATE_ID}", "vacuum copies.shop_orders")
        made.tick()
        _run(made, statements)
    return min(idle), min(whole) - min(idle), min(engine), min(hand)


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """Ours is what the engine does within a tick, from the log of what was touched to values, journal and all."""
    count = 10_000_000 if scale.is_full else 4_000
    late = 100_000 if scale.is_full else 500
    kpis = definitions(scale.kpi_blocks)
    many = _shop(shop, "kpi_many", kpis, count, 400 if scale.is_full else 40)
    yield from _full(shop, scale, many, kpis)
    idle, more, engine, hand = _late(shop, scale, many, kpis, late)
    what = f"{late:,} late rows in {LATE_HOURS} hours"
    yield Row(
        f"{what}, engine, wall",
        engine,
        yardstick=hand,
        yardstick_is="SQL by hand for the same periods",
        goal=2,
    )
    # In small it may be less than nothing.
    yield Row(f"{what}, tick beyond an idle one, wall", max(more, 0.001), goal=2, limits="value")
    few = _shop(shop, "kpi_few", kpis, count // 10, 40 if scale.is_full else 20)
    _by_hand(shop, few, kpis)
    idle_few, _, engine_few, _ = _late(shop, scale, few, kpis, late)
    yield Row(f"{what}, engine", engine, yardstick=engine_few, yardstick_is="in 0.1 of the history", goal=1.3)
    yield Row(
        "a tick with nothing new, wall",
        idle,
        yardstick=idle_few,
        yardstick_is="in 0.1 of the history",
        goal=1.3,
    )
    yield from _deleted(shop, many, kpis)
    yield from _changed(shop, many, kpis)


def _deleted(shop: Workshop, made: Shop, kpis: Sequence[Definition]) -> Iterator[Row]:
    end = DELETED + timedelta(hours=1)
    made.execute(
        f"delete from copies.shop_orders where ordered_at >= '{DELETED:%Y-%m-%dT%H:%MZ}'"
        f" and ordered_at < '{end:%Y-%m-%dT%H:%MZ}'"
    )
    engine = made.tick().seconds["publish"]
    _by_hand(shop, made, kpis)
    wrong, cells = _compare(made)
    yield Row(f"an hour deleted: wrong of {cells:,} values", wrong, "cells", goal=0, limits="value")
    yield Row("an hour deleted, engine, wall", engine)


def _changed(shop: Workshop, made: Shop, kpis: Sequence[Definition]) -> Iterator[Row]:
    changed = [kpis[0], replace(kpis[1], variables={"a": ("sum", "quantity", "waited >= 900")}), *kpis[2:]]
    made.write(changed)
    reports: list[TickReport] = []
    cost = shop.meter.measure(lambda: reports.append(made.tick()))
    _by_hand(shop, made, changed)
    _refuse_different(made)
    yield Row("a changed KPI file to its values, wall", cost.wall)
    yield Row("a changed KPI file: of it the computing", reports[0].seconds["publish"])
