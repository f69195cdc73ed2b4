"""What KPIs are, said once more in plain Python: of rows in lists, period by period and cell by cell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.kpi.model import Kpi, Variable

Row = Mapping[str, Any]
Key = tuple[str, str, str, tuple[tuple[str, str | None], ...]]
"""KPI, grain, period, members."""
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@dataclass(frozen=True)
class Formula:
    """What the SQL of a definition says, in Python: a custom one gives the components of the rows in the period."""

    value: Callable[[Mapping[str, Any]], Any]
    conditions: Mapping[str, Callable[[Row], bool]]
    custom: Callable[[Sequence[Row]], Mapping[str, Any]] | None = None
    divides_by_zero: Callable[[Mapping[str, Any]], bool] = lambda _: False
    """Of components without a value: whether it is for this, and for nothing else."""


class Odd:
    """What an aggregate over numbers is of which one is none: NaN, or an infinity."""


ODD = Odd()


@dataclass(frozen=True)
class Period:
    """Half-open, in instants; `first` and `last` are the local dates of its begin and its end."""

    start: datetime
    end: datetime
    first: date
    last: date
    label: str


def day_of(grain: str, day: date) -> date:
    """First day of the week, month, quarter or year around it."""
    if grain == "week":
        return day - timedelta(days=day.weekday())
    if grain == "month":
        return day.replace(day=1)
    if grain == "quarter":
        return date(day.year, (day.month - 1) // 3 * 3 + 1, 1)
    return date(day.year, 1, 1) if grain == "year" else day


def next_day(grain: str, first: date) -> date:
    """First day of the period after the one that begins then."""
    months = {"month": 1, "quarter": 3, "year": 12}.get(grain)
    if months is None:
        return first + (7 * DAY if grain == "week" else DAY)
    count = first.year * 12 + first.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)


def local_midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def hour_of(at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The minutes around an instant at which a clock shows the same hour, before it is changed or after."""

    def shown(moment: datetime) -> tuple[Any, ...]:
        local = moment.astimezone(zone)
        return local.date(), local.hour, local.utcoffset()

    start = at.astimezone(UTC).replace(second=0, microsecond=0)
    end, this = start + timedelta(minutes=1), shown(start)
    while shown(start - timedelta(minutes=1)) == this:
        start -= timedelta(minutes=1)
    while shown(end) == this:
        end += timedelta(minutes=1)
    return start, end


def period_of(grain: str, at: datetime | date, zone: ZoneInfo) -> Period:
    """The one around an instant or a date."""
    if grain == "hour":
        assert isinstance(at, datetime)
        start, end = hour_of(at, zone)
        begin = start.astimezone(zone)
        return Period(start, end, begin.date(), begin.date(), begin.isoformat()[:13] + begin.isoformat()[-6:])
    first = day_of(grain, at.astimezone(zone).date() if isinstance(at, datetime) else at)
    after = next_day(grain, first)
    iso = first.isocalendar()
    label = {
        "day": first.isoformat(),
        "week": f"{iso.year}-W{iso.week:02}",
        "month": f"{first:%Y-%m}",
        "quarter": f"{first.year}-Q{(first.month + 2) // 3}",
        "year": str(first.year),
    }[grain]
    return Period(local_midnight(first, zone), local_midnight(after, zone), first, after - DAY, label)


def following(grain: str, period: Period, zone: ZoneInfo) -> Period:
    return period_of(grain, period.end if grain == "hour" else next_day(grain, period.first), zone)


def earlier(grain: str, period: Period, count: int, zone: ZoneInfo) -> Period:
    """The one so many before it."""
    for _ in range(count):
        period = period_of(grain, period.start - HOUR if grain == "hour" else period.first - DAY, zone)
    return period


def within(variable: Variable, row: Row, period: Period, zone: ZoneInfo) -> bool:
    """Whether the variable takes the row for the period."""
    at = row[variable.time_column]
    if not finite(at):
        return False
    start: Any = period.first if variable.is_date else period.start
    end: Any = period.last + DAY if variable.is_date else period.end
    if variable.kind == "snapshot":
        until = row[variable.until_column] if variable.until_column else None
        return bool(at < end and (until is None or (until >= end and until > at)))
    if variable.window is not None:
        if variable.window.days is not None:
            first = period.last - (variable.window.days - 1) * DAY
        else:
            first = day_of(str(variable.window.to_date), period.last)
        start = first if variable.is_date else local_midnight(first, zone)
    return bool(start <= at < end)


def finite(at: Any) -> bool:
    return at is not None


def aggregated(variable: Variable, rows: Sequence[Row]) -> Any:
    """None where SQL has null; exact, or a float's Fraction of a percentile."""
    if variable.column is None:
        return Decimal(len(rows))
    found = [number(row[variable.column]) for row in rows if row[variable.column] is not None]
    if variable.aggregation == "count":
        return Decimal(len(found))
    if variable.aggregation == "count_distinct":
        return Decimal(len(set(found)))
    if not found:
        return None
    if any(not each.is_finite() for each in found):
        return ODD
    if variable.aggregation in {"sum", "min", "max"}:
        return sum(found) if variable.aggregation == "sum" else extreme(variable.aggregation)(found)
    if variable.aggregation == "avg":
        return sum(found) / len(found)
    share = 0.5 if variable.aggregation == "median" else int(variable.aggregation[1:]) / 100
    place = share * (len(found) - 1)
    low, ordered = math.floor(place), sorted(map(float, found))
    high = ordered[min(low + 1, len(ordered) - 1)]
    return ordered[low] + (place - low) * (high - ordered[low])


def extreme(aggregation: str) -> Callable[[list[Any]], Any]:
    return min if aggregation == "min" else max


def number(value: Any) -> Any:
    if isinstance(value, timedelta):
        return Decimal(value // timedelta(microseconds=1)) / 1_000_000
    return Decimal(str(value)) if isinstance(value, int | float | Decimal) else value


def values(
    kpi: Kpi, formula: Formula, tables: Mapping[str, Sequence[Row]], as_of: datetime
) -> Iterator[tuple[Key, dict[str, Any], Any, str | None]]:
    """All cells of a KPI as (key, components, value, reason)."""
    zone = ZoneInfo(kpi.timezone)
    is_bounded = kpi.fills_gaps or any(
        variable.kind == "snapshot" or variable.window is not None for variable in kpi.variables
    )
    for grain in kpi.grains:
        now = period_of(grain, as_of, zone)
        periods = dict.fromkeys(_periods(kpi, grain, now, tables, zone, is_bounded=is_bounded))
        keep = dict(kpi.retention).get(grain)
        least = earlier(grain, now, keep - 1, zone).start if keep else None
        for period in periods:
            if least is None or period.start >= least:
                for members, components, value, reason in _cells(kpi, formula, tables, period, zone):
                    yield (kpi.id, grain, period.label, members), components, value, reason


def _periods(
    kpi: Kpi,
    grain: str,
    now: Period,
    tables: Mapping[str, Sequence[Row]],
    zone: ZoneInfo,
    *,
    is_bounded: bool,
) -> Iterator[Period]:
    """Those that may have a cell: with a row; of windows and snapshots those after one, up to now; or without gaps."""
    instants = [
        row[column]
        for variable in kpi.variables
        for row in tables[variable.source.relation]
        for column in (variable.time_column, variable.until_column)
        if column and finite(row[column]) and _ever(variable, row)
    ]
    found = {period_of(grain, at, zone) for at in instants}
    if not is_bounded:
        yield from found
        return
    keep = {str(name): count for name, count in kpi.retention}.get(grain)
    first = min(found, key=lambda period: period.start, default=now)
    if kpi.fills_gaps and first.start > now.start:
        first = now
    if keep and kpi.fills_gaps:
        first = earlier(grain, now, keep - 1, zone)
    while first.start <= now.start:
        yield first
        first = following(grain, first, zone)


def _ever(variable: Variable, row: Row) -> bool:
    if variable.kind != "snapshot":
        return finite(row[variable.time_column])
    if variable.until_column is None:
        return True
    at, until = row[variable.time_column], row[variable.until_column]
    return at is not None and (until is None or until > at)


def _cells(
    kpi: Kpi, formula: Formula, tables: Mapping[str, Sequence[Row]], period: Period, zone: ZoneInfo
) -> Iterator[tuple[tuple[tuple[str, str | None], ...], dict[str, Any], Any, str | None]]:
    taken: dict[str, list[Row]] = {}
    scoped: dict[str, list[Row]] = {}
    for variable in kpi.variables:
        rows = [row for row in tables[variable.source.relation] if within(variable, row, period, zone)]
        scoped[variable.name] = [
            row for row in rows if not variable.scope or formula.conditions[variable.scope](row)
        ]
        taken[variable.name] = [
            row for row in rows if not variable.condition or formula.conditions[variable.condition](row)
        ]
    if formula.custom is not None:
        components = dict(formula.custom(taken[kpi.variables[0].name]))
        yield (), components, formula.value(components), None
        return
    cells: set[tuple[tuple[str, str | None], ...]] = {()} if kpi.fills_gaps else set()
    for variable in kpi.variables:
        columns = dict(variable.dimensions)
        for row in scoped[variable.name]:
            members = [(name, text(row[column])) for name, column in sorted(columns.items())]
            for size in range(len(members) + 1):
                cells.update(itertools.combinations(members, size))
    for cell in cells:
        sides = {
            relation: any(
                _among(variable, scoped[variable.name], cell)
                for variable in kpi.variables
                if variable.source.relation == relation
            )
            for relation in {variable.source.relation for variable in kpi.variables}
        }
        components = {}
        for variable in kpi.variables:
            if sides[variable.source.relation]:
                components[variable.name] = aggregated(
                    variable, list(_among(variable, taken[variable.name], cell))
                )
            elif variable.default is not None:
                components[variable.name] = variable.default
            else:
                is_zero = kpi.fills_gaps and variable.aggregation in {"count", "sum", "count_distinct"}
                components[variable.name] = Decimal(0) if is_zero else None
        yield cell, *_judged(kpi, formula, components, sides)


def _judged(
    kpi: Kpi, formula: Formula, components: dict[str, Any], sides: Mapping[str, bool]
) -> tuple[dict[str, Any], Any, str | None]:
    if ODD in components.values():
        shown = {name: None if part is ODD else part for name, part in components.items()}
        return shown, None, "not a number"
    value = formula.value(components)
    if value is not None:
        return components, value, None
    if formula.divides_by_zero(components):
        return components, None, "division by zero"
    missing = [each for each in kpi.variables if components[each.name] is None]
    if any(not sides[each.source.relation] for each in missing):
        return components, None, "no rows"
    return components, None, "no values" if missing else "by formula"


def _among(variable: Variable, rows: Iterable[Row], cell: tuple[tuple[str, str | None], ...]) -> list[Row]:
    """Rows of the cell, by those of its dimensions that the source has."""
    columns = dict(variable.dimensions)
    wanted = [(columns[name], member) for name, member in cell if name in columns]
    return [row for row in rows if all(text(row[column]) == member for column, member in wanted)]


def text(member: Any) -> str | None:
    return None if member is None else str(member)
