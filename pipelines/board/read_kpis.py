"""What the pages of KPIs show, asked of the marts: a few questions, however many KPIs there are."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pipelines.board import ask
from pipelines.board.effects import ADDITIVE, effect
from pipelines.board.model import Definition, Member, Members, Point, Restatement, ShownKpi, Trouble
from pipelines.kpi.grains import GRAINS, LENGTHS
from pipelines.kpi.standing import TOTAL, TROUBLE, Threshold, dimensions_said, is_recent

if TYPE_CHECKING:
    from pipelines.board.ask import Connection

KPI_MARTS = ("kpi_value", "kpi_current", "kpi_definition", "kpi_restatement")
# How far back a page goes: so many periods of each grain.
PERIODS = {"hour": 72, "day": 90, "week": 53, "month": 36, "quarter": 16, "year": 10}
# A page lists so many members of a dimension and so many restatements; it says how many more there are.
MOST_MEMBERS = 20
MOST_RESTATEMENTS = 20


def read_kpis(connection: Connection, as_of: datetime) -> Iterable[ShownKpi]:
    """Every KPI that is defined now, by id."""
    versions: dict[str, list[Any]] = defaultdict(list)
    for row in ask.rows(
        connection, "select * from marts.kpi_definition order by kpi_id, valid_to nulls last, valid_from"
    ):
        versions[row.kpi_id].append(row)
    now = {kpi_id: rows for kpi_id, rows in versions.items() if rows[-1].valid_to is None}
    current: dict[str, list[Any]] = defaultdict(list)
    for row in ask.rows(
        connection,
        "select kpi_id, dimension_key, dimensions, complete_to, closed_status, closed_period_end from marts.kpi_current"
        " order by kpi_id, dimension_key",
    ):
        current[row.kpi_id].append(row)
    values = _totals(connection, as_of)
    restated = _restatements(connection)
    newest = {
        (kpi_id, grain): [point.period for point in points if not point.is_provisional][-2:]
        for (kpi_id, grain), points in values.items()
    }
    members, components = _members(connection, newest), _components(connection, newest)
    finest = {kpi_id: next(grain for grain in GRAINS if (kpi_id, grain) in values) for kpi_id, _ in values}
    runs = _bad_runs(connection, as_of, [
        (kpi_id, finest[kpi_id], row.dimension_key)
        for kpi_id, rows in current.items()
        for row in rows
        if row.closed_status in TROUBLE and kpi_id in finest
    ])  # fmt: skip
    for kpi_id, rows in sorted(now.items()):
        history = tuple(_definition(row) for row in rows)
        totals: dict[str, tuple[Point, ...]] = {
            grain: values[kpi_id, grain] for grain in GRAINS if (kpi_id, grain) in values
        }
        total = next((row for row in current[kpi_id] if row.dimension_key == TOTAL), None)
        restatements = restated.get(kpi_id, _Restated())
        yield ShownKpi(
            id=kpi_id,
            number=rows[-1].number,
            definition=history[-1],
            series=totals,
            members=tuple(_members_of(history[-1], kpi_id, totals, newest, members, components)),
            history=history,
            restatements=restatements.rows,
            restated_count=restatements.count,
            trouble=tuple(_trouble(kpi_id, finest.get(kpi_id), current[kpi_id], runs, as_of)),
            complete_to=total.complete_to if total else None,
        )


def _since(as_of: datetime, grain: str) -> datetime:
    """From when on a page shows periods of a grain."""
    return as_of - LENGTHS[grain] * (PERIODS[grain] + 1)


def _totals(connection: Connection, as_of: datetime) -> dict[tuple[str, str], tuple[Point, ...]]:
    """Values of totals, by (KPI, grain), in order; without their components."""
    rows = ask.rows(
        connection,
        """
        select
            kpi_id, grain, period, period_start, period_end, value, value_json, previous_value, change_absolute,
            change_percent, direction, same_period_last_year, status, provisional, reason, definition_version,
            null::jsonb as components
        from marts.kpi_value as value
        inner join unnest(%(grains)s::text[], %(since)s::timestamptz[]) as reach (grain, since) using (grain)
        where value.dimension_key = '' and value.period_start >= reach.since
        order by kpi_id, grain, period_start
        """,
        {"grains": list(PERIODS), "since": [_since(as_of, grain) for grain in PERIODS]},
    )
    return {
        key: tuple(map(_point, group))[-PERIODS[key[1]] :]
        for key, group in groupby(rows, key=lambda row: (row.kpi_id, row.grain))
    }


def _components(
    connection: Connection, newest: Mapping[tuple[str, str], Sequence[str]]
) -> dict[tuple[str, str], dict[str, Decimal | None]]:
    """Of each total, by (KPI, grain), what its newest closed value is made of."""
    rows = ask.rows(
        connection,
        """
        select kpi_id, grain, components
        from marts.kpi_value
        inner join unnest(%s::text[], %s::text[], %s::text[]) as wanted (kpi_id, grain, period)
            using (kpi_id, grain, period)
        where dimension_key = ''
        """,
        [
            [kpi_id for (kpi_id, _), periods in newest.items() if periods],
            [grain for (_, grain), periods in newest.items() if periods],
            [periods[-1] for periods in newest.values() if periods],
        ],
    )
    return {(row.kpi_id, row.grain): _numbers(row.components) for row in rows}


def _bad_runs(
    connection: Connection, as_of: datetime, wanted: Sequence[tuple[str, str, str]]
) -> dict[tuple[str, str], Any]:
    """Of each wanted (KPI, grain, dimension key) the first of its newest closed periods that are bad without a break.

    By (KPI, dimension key); `length` says how many they are. Only so many periods are looked at as a page shows.
    """
    rows = ask.rows(
        connection,
        """
        with
            wanted as (
                select *
                from
                    unnest(
                        %(kpis)s::text[],
                        %(grains)s::text[],
                        %(keys)s::text[],
                        %(since)s::timestamptz[],
                        %(most)s::integer[]
                    ) as wanted (kpi_id, grain, dimension_key, since, most)
            ),
            shown as (
                select
                    kpi_id,
                    dimension_key,
                    value.period,
                    value.period_start,
                    value.provisional,
                    coalesce(value.status = any(%(bad)s), false) as is_bad,
                    most,
                    row_number() over (partition by kpi_id, dimension_key order by period_start desc) as place
                from marts.kpi_value as value
                inner join wanted using (kpi_id, grain, dimension_key)
                where value.period_start >= wanted.since
            ),
            closed as (
                select *, row_number() over (partition by kpi_id, dimension_key order by place) as length
                from shown
                where place <= most and not provisional
            ),
            run as (
                select *, min(length) filter (where not is_bad) over (partition by kpi_id, dimension_key) as first_well
                from closed
            )
        select distinct on (kpi_id, dimension_key) kpi_id, dimension_key, period, period_start, length
        from run
        where length < coalesce(first_well, length + 1)
        order by kpi_id, dimension_key, length desc
        """,
        {
            "kpis": [kpi_id for kpi_id, _, _ in wanted],
            "grains": [grain for _, grain, _ in wanted],
            "keys": [key for _, _, key in wanted],
            "since": [_since(as_of, grain) for _, grain, _ in wanted],
            "most": [PERIODS[grain] for _, grain, _ in wanted],
            "bad": list(TROUBLE),
        },
    )
    return {(row.kpi_id, row.dimension_key): row for row in rows}


def _point(row: Any) -> Point:
    return Point(
        period=row.period,
        start=row.period_start,
        end=row.period_end,
        value=row.value,
        json=row.value_json,
        previous=row.previous_value,
        change=row.change_absolute,
        change_percent=row.change_percent,
        direction=row.direction,
        last_year=row.same_period_last_year,
        status=row.status,
        is_provisional=row.provisional,
        reason=row.reason,
        version=row.definition_version or "",
        components=_numbers(row.components),
    )


def _numbers(components: Any) -> dict[str, Decimal | None]:
    return {name: _decimal(value) for name, value in (components or {}).items()}


def _decimal(value: Any) -> Decimal | None:
    """A JSON number; None for null and for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return Decimal(str(value))


def _definition(row: Any) -> Definition:
    return Definition(
        version=row.version,
        name=row.name or row.kpi_id,
        valid_from=row.valid_from,
        valid_to=row.valid_to,
        category=row.category or "custom",
        description=row.description or "",
        owner=row.owner or "",
        unit=row.unit or "",
        timezone=row.timezone or "UTC",
        expression=row.expression or "",
        variables=row.variables if isinstance(row.variables, dict) else {},
        grains=tuple(row.grains or ()),
        dimensions=tuple(row.dimensions or ()),
        threshold=Threshold.from_json(row.thresholds),
    )


def _trouble(
    kpi_id: str,
    grain: str | None,
    current: Sequence[Any],
    runs: Mapping[tuple[str, str], Any],
    as_of: datetime,
) -> Iterable[Trouble]:
    """The total and members whose newest closed period is bad, and since when without a break."""
    if grain is None:
        return
    for row in current:
        if row.closed_status not in TROUBLE or not is_recent(grain, row.closed_period_end, as_of):
            continue
        if run := runs.get((kpi_id, row.dimension_key)):
            yield Trouble(
                dimensions_said(row.dimensions),
                row.closed_status,
                run.period_start,
                run.period,
                is_older=run.length >= PERIODS[grain] - 1,
            )


def _members(
    connection: Connection, newest: Mapping[tuple[str, str], Sequence[str]]
) -> dict[tuple[str, str, str, str], tuple[list[Any], int]]:
    """Rows of the members of single dimensions in the newest two closed periods: (KPI, grain, dimension, period).

    Of each dimension the members that changed most in both periods, and how many there are in either.
    """
    wanted = [
        (kpi_id, grain, period, number == len(periods) - 1)
        for (kpi_id, grain), periods in newest.items()
        for number, period in enumerate(periods)
    ]
    rows = ask.rows(
        connection,
        """
        with
            members as (
                select value.*, wanted.is_newest, dimension.name as dimension_name
                from marts.kpi_value as value
                inner join
                    unnest(%s::text[], %s::text[], %s::text[], %s::boolean[])
                        as wanted (kpi_id, grain, period, is_newest)
                    using (kpi_id, grain, period)
                cross join lateral(
                    select min(name) as name from jsonb_object_keys(value.dimensions) as name having count(*) = 1
                ) as dimension
                where value.dimension_key <> ''
            ),
            -- as it is in the newest period, else as it was in the one before: then it is gone
            latest as (
                select distinct on (kpi_id, grain, dimension_name, dimension_key) *
                from members
                order by kpi_id, grain, dimension_name, dimension_key, is_newest desc
            ),
            ranked as (
                select
                    kpi_id,
                    grain,
                    dimension_name,
                    dimension_key,
                    count(*) over (partition by kpi_id, grain, dimension_name) as member_count,
                    row_number() over (
                        partition by kpi_id, grain, dimension_name
                        order by
                            abs(case when is_newest then change_absolute else value end) desc nulls last,
                            dimension_key
                    ) as place
                from latest
            )
        select members.*, ranked.member_count
        from members
        inner join ranked using (kpi_id, grain, dimension_name, dimension_key)
        where ranked.place <= %s
        order by kpi_id, grain, dimension_name, period, dimension_key
        """,
        [
            [kpi_id for kpi_id, _, _, _ in wanted],
            [grain for _, grain, _, _ in wanted],
            [period for _, _, period, _ in wanted],
            [is_newest for _, _, _, is_newest in wanted],
            MOST_MEMBERS,
        ],
    )
    found: dict[tuple[str, str, str, str], tuple[list[Any], int]] = {}
    for key, group in groupby(rows, key=lambda row: (row.kpi_id, row.grain, row.dimension_name, row.period)):
        members = list(group)
        found[key] = members, members[0].member_count
    return found


def _members_of(
    definition: Definition,
    kpi_id: str,
    totals: Mapping[str, tuple[Point, ...]],
    newest: Mapping[tuple[str, str], Sequence[str]],
    found: Mapping[tuple[str, str, str, str], tuple[list[Any], int]],
    components: Mapping[tuple[str, str], Mapping[str, Decimal | None]],
) -> Iterable[Members]:
    for grain, points in totals.items():
        periods = newest.get((kpi_id, grain), ())
        if not periods:
            continue
        total = next(point for point in points if point.period == periods[-1])
        for dimension in definition.dimensions:
            rows, count = found.get((kpi_id, grain, dimension, periods[-1]), ((), 0))
            older, older_count = (
                found.get((kpi_id, grain, dimension, periods[0]), ((), 0)) if len(periods) > 1 else ((), 0)
            )
            if not rows and not older:
                continue
            before = {row.dimension_key: row for row in older}
            additive = {name: _adds_up(one, dimension) for name, one in definition.variables.items()}
            has_effects = any(additive.values()) and len(periods) > 1
            now: dict[str, Any] = {row.dimension_key: row for row in rows}
            members = []
            for key in sorted({*now, *before}):
                point = _point(now[key]) if key in now else _gone(before[key], total)
                was = _numbers(before[key].components) if key in before else {}
                moved = (
                    effect(definition.expression, additive, components[kpi_id, grain], point.components, was)
                    if has_effects
                    else None
                )
                members.append(Member((now.get(key) or before[key]).dimensions[dimension], point, moved))
            count = max(count, older_count)
            members.sort(key=_rank)
            yield Members(dimension, grain, periods[-1], tuple(members), count)


def _gone(row: Any, total: Point) -> Point:
    """A member that has nothing in the newest period, as it had in the one before."""
    return Point(total.period, total.start, total.end, previous=row.value, reason="no rows")


def _rank(member: Member) -> tuple[Decimal, str]:
    moved = member.effect if member.effect is not None else member.point.change
    return (-abs(moved) if moved is not None else Decimal(1), member.name or "")


def _adds_up(variable: Any, dimension: str) -> bool:
    """Whether the total of a variable is the sum over the members of a dimension."""
    if not isinstance(variable, Mapping) or variable.get("aggregation") not in ADDITIVE:
        return False
    dimensions = variable.get("dimensions")
    return dimensions is None or dimension in dimensions


@dataclass(frozen=True)
class _Restated:
    rows: tuple[Restatement, ...] = ()
    count: int = 0


def _restatements(connection: Connection) -> dict[str, _Restated]:
    rows = ask.rows(
        connection,
        """
        with
            ranked as (
                select
                    restatement.*,
                    count(*) over (partition by kpi_id) as of,
                    row_number() over (
                        partition by kpi_id order by restated_at desc, grain, period desc, dimension_key
                    ) as place
                from marts.kpi_restatement as restatement
            )
        select * from ranked where place <= %s order by kpi_id, place
        """,
        [MOST_RESTATEMENTS],
    )
    found = {}
    for kpi_id, group in groupby(rows, key=lambda row: row.kpi_id):
        many = list(group)
        found[kpi_id] = _Restated(
            tuple(
                Restatement(
                    grain=row.grain,
                    period=row.period,
                    dimensions=_said_of_key(row.dimension_key),
                    reported=row.reported_value,
                    restated=row.restated_value,
                    reported_json=row.reported_json,
                    restated_json=row.restated_json,
                    reported_at=row.reported_at,
                    restated_at=row.restated_at,
                    load_id=row.load_id,
                    version=row.definition_version or "",
                )
                for row in many
            ),
            many[0].of,
        )
    return found


def _said_of_key(key: str) -> str:
    try:
        return dimensions_said(json.loads(key)) if key else ""
    except ValueError:
        return key
