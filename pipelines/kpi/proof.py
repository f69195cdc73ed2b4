"""Self-proof: values of a random sample of periods, computed from the sources' rows alone, against those that stand.

No stored state is used: the states that the sample needs are computed anew beside, by the queries of the deployed
models. What was logged as touched since the last tick is left out, since that is known to be behind.
"""
# ruff: noqa: S608 # SQL is put together of what the compiler wrote, and of literals that are quoted here

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import IsolationLevel, sql
from psycopg.types.json import Jsonb

from pipelines.kpi.engine.periods import PERIODS, fill_periods
from pipelines.kpi.engine.sealed import note_sealed, unsealed
from pipelines.kpi.engine.spans import within_periods
from pipelines.kpi.engine.states import of_rows
from pipelines.kpi.engine.touched import BUCKETS
from pipelines.kpi.engine.work import TickWindow, ValuesQuery
from pipelines.kpi.text import literal
from pipelines.logs import get_logger
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]

log = get_logger(__name__)

PERIODS_EACH = 8
"""Periods of each grain that are drawn for a model; half of them where there are states, half anywhere between."""
MOST_WRONG = 20
"""Cells that are named; all of them are counted."""


@dataclass(frozen=True)
class Wrong:
    """A cell that is not what its sources say; a value is None too where there is no such cell."""

    kpi_id: str
    grain: str
    period: str
    dimension_key: str
    stands: str | None
    proved: str | None


@dataclass
class Proof:
    """One proof as of the tick of `as_of` (None: there was none): cells that were compared, by KPI, and what differed.

    `skipped`: models that could not be proved, and why.
    """

    as_of: datetime | None = None
    cells: dict[str, int] = field(default_factory=dict)
    wrong: list[Wrong] = field(default_factory=list)
    wrong_by_kpi: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def wrong_count(self) -> int:
        """All that are wrong; `wrong` names the first of them."""
        return sum(self.wrong_by_kpi.values())


def prove(settings: Settings, *, periods: int | None = PERIODS_EACH) -> Proof:
    """Prove a sample of so many periods of each grain and model (None: all), and note the result in `kpi.proof`."""
    proof = Proof()
    with connect(settings, "transform") as connection:
        # All of it sees the sources as of one moment, and the values of one tick.
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        row: Any = connection.execute(
            "select nullif(published_as_of, '-infinity') from control.tick"
        ).fetchone()
        if row is None or row[0] is None:
            return proof
        proof.as_of = row[0]
        connection.execute("set local jit = off")
        connection.execute(PERIODS)
        connection.execute(BUCKETS)
        # Nothing is begun, nothing touched: the periods are those that are drawn.
        as_of = proof.as_of.isoformat()
        window = TickWindow(as_of, as_of, 0, is_rebuild=False)
        models: list[tuple[Any, ...]] = connection.execute(
            "select name, kind, spec, query, needs_full, problem from kpi.model order by name"
        ).fetchall()
        states = {
            str(name): _State(spec, str(query)) for name, kind, spec, query, *_ in models if kind == "state"
        }
        behind = {
            str(name): str(problem or "to be computed")
            for name, *_, full, problem in models
            if full or problem
        }
        for name, kind, spec, query, *_ in models:
            if kind != "values":
                continue
            reason = next((behind[each] for each in (name, *_states(spec)) if each in behind), None)
            if reason is None:
                try:
                    with connection.transaction():
                        _prove(
                            connection,
                            _Values(str(name), spec, ValuesQuery(str(query), window)),
                            states,
                            periods,
                            proof,
                        )
                except psycopg.Error as error:
                    reason = str(error).strip()
            if reason is not None:
                proof.skipped[str(name)] = reason
        _note(connection, proof)
    if proof.wrong_count:
        log.error(
            "KPI values are not what their sources say",
            cells=sum(proof.cells.values()),
            wrong=proof.wrong_count,
        )
    return proof


def _states(spec: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(piece["state"] for piece in spec["pieces"]))


@dataclass(frozen=True)
class _State:
    spec: Mapping[str, Any]
    query: str


@dataclass(frozen=True)
class _Values:
    name: str
    spec: Mapping[str, Any]
    query: ValuesQuery


def _prove(
    connection: Connection, model: _Values, states: Mapping[str, _State], periods: int | None, proof: Proof
) -> None:
    kpis = [
        str(row[0])
        for row in connection.execute(
            "select kpi_id from kpi.kpi where model = %s and not is_gone and not needs_full", [model.name]
        )
    ]
    connection.execute("truncate kpi_bucket")
    for grain in model.spec["grains"]:
        _draw(connection, model, kpis, grain, periods)
    fill_periods(connection, model.query, (), is_full=False)
    note_sealed(connection, model.query, kpis)
    needs = _leave_out_touched(connection, model)
    if not needs:
        return
    for state in _states(model.spec):
        ranges = [each for piece, *each in needs if model.spec["pieces"][piece]["state"] == state]
        connection.execute(f'drop table if exists pg_temp."{state}"'.encode())
        connection.execute(
            sql.SQL("create temp table {} on commit drop as {}").format(
                sql.Identifier("pg_temp", state), sql.SQL(_of_ranges(states[state], ranges))
            )
        )
        connection.execute(sql.SQL("analyze {}").format(sql.Identifier("pg_temp", state)))
    connection.execute("analyze kpi_period")
    query = within_periods(connection, model.query, model.spec, states="pg_temp")
    rows = connection.execute(
        sql.SQL(COMPARE).format(
            query=sql.SQL(query),
            kpis=sql.Literal(kpis),
            most=sql.Literal(MOST_WRONG),
            unsealed_cell=sql.SQL(unsealed(connection, "cell")),
            unsealed_value=sql.SQL(unsealed(connection, "value")),
        )
    ).fetchall()
    for kpi_id, cells, wrong, examples in rows:
        proof.cells[str(kpi_id)] = int(cells)
        if wrong:
            proof.wrong_by_kpi[str(kpi_id)] = int(wrong)
        for example in examples or []:
            if len(proof.wrong) < MOST_WRONG:
                proof.wrong.append(Wrong(str(kpi_id), **example))


COMPARE = """
with
    proved as (
        select kpi_id, grain, period_start,
            case when dimensions = '{{}}' then '' else dimensions::text end collate "C" as dimension_key, value,
            value_json, components
        from ({query}) as cell
        where kpi_id = any({kpis}) and {unsealed_cell}
    ),
    stands as (
        select value.* from kpi.period_value as value inner join kpi_period using (grain, period_start)
        where kpi_id = any({kpis}) and {unsealed_value}
    ),
    compared as (
        select coalesce(proved.kpi_id, stands.kpi_id) as kpi_id, coalesce(proved.grain, stands.grain) as grain,
            coalesce(proved.period_start, stands.period_start) as period_start,
            coalesce(proved.dimension_key, stands.dimension_key) as dimension_key,
            proved.kpi_id is null or stands.kpi_id is null or proved.value is distinct from stands.value
                or proved.value_json is distinct from stands.value_json
                or proved.components is distinct from stands.components as is_wrong,
            coalesce(stands.value::text, stands.value_json::text) as stands,
            coalesce(proved.value::text, proved.value_json::text) as proved
        from proved
        full join stands on proved.kpi_id = stands.kpi_id and proved.grain = stands.grain
            and proved.period_start = stands.period_start and proved.dimension_key = stands.dimension_key
    )
select kpi_id, count(*), count(*) filter (where is_wrong), (
        array_agg(
            jsonb_build_object('grain', grain, 'period', period, 'dimension_key', dimension_key, 'stands', stands,
                'proved', proved)
            order by period_start, grain, dimension_key
        ) filter (where is_wrong)
    )[:{most}]
from compared inner join kpi_period using (grain, period_start)
group by kpi_id
order by kpi_id
"""


def _draw(connection: Connection, model: _Values, kpis: list[str], grain: str, periods: int | None) -> None:
    """Ask for a sample of a grain's periods, between the first and the last that stand, by an instant within each."""
    row: Any = connection.execute(
        "select min(first)::text, max(last)::text from unnest(%s::text[]) as kpi_id cross join lateral ("
        "select min(period_start) as first, max(period_end) as last from kpi.period_value"
        " where period_value.kpi_id = kpi_id.kpi_id and grain = %s) as stands",
        [kpis, grain],
    ).fetchone()
    if row is None or row[0] is None:
        return
    first, last = (f"timestamptz '{each}'" for each in row)
    half = "" if periods is None else f" order by random() limit {-(-periods // 2)}"
    # The midnight in UTC at which a date is, is in the period in which that date is by the clocks of the zone.
    own_day = f"kpi.day_start((bucket_at at time zone 'UTC')::date, {literal(model.spec['timezone'])})"
    buckets = " union all ".join(
        f'(select {own_day if piece["is_date"] else "bucket_at"} as at from kpi."{piece["state"]}"{half})'
        for piece in model.spec["pieces"]
    )
    anywhere = (
        f"select {first} + random() * ({last} - {first}) from generate_series(1, {periods // 2})"
        if periods is not None
        else f"select generate_series({first}, {last}, interval '1 hour')"
    )
    connection.execute(
        f"insert into kpi_bucket select '{grain}', at from ({buckets} union {anywhere}) as drawn (at)"
        f" where at >= {first} and at < {last}".encode()
    )


def _leave_out_touched(connection: Connection, model: _Values) -> list[tuple[int, str, str]]:
    """Take out periods whose buckets were touched; what the others need: piece, from and before which instant."""
    connection.execute("drop table if exists kpi_need")
    needs = model.query.statement("needs")
    connection.execute(f"create temp table kpi_need on commit drop as {needs}".encode())
    clocks = list(_clocks(model.spec["pieces"]))
    connection.execute(
        "delete from kpi_period using kpi_need as need where need.period_start = kpi_period.period_start"
        " and need.period_end = kpi_period.period_end and exists ("
        "select from kpi.touched, unnest(%s::integer[], %s::text[]) as own (piece, clock)"
        " where own.piece = need.piece and touched.clock = own.clock"
        " and (bucket_at = '-infinity' or bucket_at >= needs_from and bucket_at < needs_before))",
        [[piece for piece, _ in clocks], [clock for _, clock in clocks]],
    )
    return [
        (int(piece), str(start), str(end))
        for piece, start, end in connection.execute(
            "select piece, lower(span)::text, upper(span)::text from ("
            "select piece, unnest(range_agg(tstzrange(needs_from, needs_before))) as span from kpi_need"
            " where exists (select from kpi_period where kpi_period.period_start = kpi_need.period_start"
            " and kpi_period.period_end = kpi_need.period_end) group by piece) as needed order by 1, 2"
        )
    ]


def _clocks(pieces: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    for number, piece in enumerate(pieces):
        for clock in piece["clocks"]:
            yield number, clock


def _of_ranges(state: _State, ranges: Sequence[Sequence[str]]) -> str:
    """A state's query for the rows of these ranges of instants."""

    def condition(column: str) -> str:
        at = f"{column}::timestamp at time zone 'UTC'" if state.spec["is_date"] else column
        return "(" + " or ".join(f"({at} >= '{start}' and {at} < '{end}')" for start, end in ranges) + ")"

    return of_rows(state.query, state.spec, condition)


def _note(connection: Connection, proof: Proof) -> None:
    detail = {
        "cells": proof.cells,
        "wrong": proof.wrong_by_kpi,
        "examples": [vars(each) for each in proof.wrong],
        "skipped": proof.skipped,
    }
    connection.execute(
        "insert into kpi.proof (proved_at, as_of, cells, wrong, detail) values (clock_timestamp(), %s, %s, %s, %s)",
        [proof.as_of, sum(proof.cells.values()), proof.wrong_count, Jsonb(detail)],
    )
