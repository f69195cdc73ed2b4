"""The page of a KPI: its values by grain, who moved them, its definition and restatements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from html import escape
from typing import Any

from pipelines.board import svg
from pipelines.board.attention import members_said
from pipelines.board.frame import WORDS, Links
from pipelines.board.model import Board, Definition, Members, Point, ShownKpi
from pipelines.board.points import (
    change_said,
    headline,
    in_words,
    period_said,
    period_short,
    plots,
    status_of,
    threshold_lines,
)
from pipelines.kpi import formats
from pipelines.kpi.grains import GRAINS
from pipelines.kpi.standing import Threshold

# What changed from one version to the next is told of these.
TOLD = [each.name for each in fields(Definition) if each.name not in {"version", "valid_from", "valid_to"}]


def kpi_page(board: Board, kpi: ShownKpi, names: Mapping[str, str], links: Links) -> dict[str, Any]:
    """What its template needs."""
    definition = kpi.definition
    page = names[kpi.id]
    grains = [_grain(kpi, grain, kpi.series[grain], page) for grain in GRAINS if kpi.series.get(grain)]
    point = kpi.closed or kpi.provisional
    return {
        "board": board,
        "kpi": kpi,
        "definition": definition,
        "page": page,
        "links": links,
        "state": status_of(point),
        "members_in_trouble": members_said(kpi),
        "headline": headline(point, definition.unit),
        "period": period_said(kpi.grain, point, definition.timezone) if kpi.grain and point else "",
        "point": point,
        "change": change_said(point),
        "bounds": formats.bounds(definition.threshold, definition.unit),
        "grains": grains,
        "members": [_members(kpi, members) for members in kpi.members],
        "trouble": [
            (one, period_said(kpi.grain or "day", Point(one.since_period, one.since, one.since), definition.timezone))
            for one in kpi.trouble
        ],
        "history": _history(kpi),
        "restatements": kpi.restatements,
        "as_json": _as_json,
        "said": _variable,
    }  # fmt: skip


def _grain(kpi: ShownKpi, grain: str, points: Sequence[Point], page: str) -> dict[str, Any]:
    definition = kpi.definition
    charts: list[dict[str, Any]] = []
    for name, marks in plots(points, grain, definition, definition.timezone):
        lines = [] if name else threshold_lines(definition.threshold)
        scale = svg.scale_of(marks, lines)
        unit = "" if name else definition.unit
        at = svg.ticks(scale, steps=formats.time_steps(unit))
        uid = f"{page}-{grain}" + (f"-{len(charts)}" if charts else "")
        title = f"{definition.name}{f', {name}' if name else ''} by {grain}"
        charts.append(
            {
                "name": name,
                "svg": svg.line_chart(marks, lines, scale, at, uid=uid, title=title, text=in_words(marks)),
                "hits": svg.hits(marks),
                "ticks": [(scale.percent(y), formats.quantity(Decimal(str(y)), unit)) for y in at],
                "lines": [(scale.percent(one.value), one.level) for one in lines],
                "ends": svg.ends([period_short(grain, point, definition.timezone) for point in points]),
            }
        )
    has_last_year = any(point.last_year is not None for point in points)
    has_versions = len({point.version for point in points}) > 1
    return {
        "grain": grain,
        "charts": charts,
        "has_provisional": any(point.is_provisional for point in points),
        "rows": [
            _row(grain, point, definition, has_last_year=has_last_year, has_versions=has_versions)
            for point in reversed(points)
        ],
        "has_last_year": has_last_year,
        "has_versions": has_versions,
        "items": _items(next((p for p in reversed(points) if not p.is_provisional), points[-1])),
    }


def _row(grain: str, point: Point, definition: Definition, *, has_last_year: bool, has_versions: bool) -> str:
    """A row of a table of values. Made by hand: a board of 200 KPIs has tens of thousands."""
    state = status_of(point)
    cells = [
        headline(point, definition.unit),
        formats.NONE if point.is_provisional else formats.difference(point.change, definition.unit),
        change_said(point),
        *([formats.quantity(point.last_year, definition.unit)] if has_last_year else []),
    ]
    said = f'<span class="status {state}">{svg.shape(state)} {WORDS[state]}</span>'
    said += escape(f" ({point.reason})") if point.reason else ""
    version = f"<td><code>{escape(point.version[:12])}</code></td>" if has_versions else ""
    values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    period = escape(period_said(grain, point, definition.timezone))
    return f'<tr><th scope="row">{period}</th>{values}<td>{said}</td>{version}</tr>'


def _items(point: Point) -> list[tuple[str, list[str], list[list[str]]]]:
    """The lists of a JSON value as tables: name, heads, rows."""
    tables = []
    for name, rows in formats.lists(point.json).items():
        heads = list(dict.fromkeys(key for row in rows for key in row))
        cells = [[_cell(row.get(head)) for head in heads] for row in rows]
        if heads:
            tables.append((formats.words(name), [formats.words(head) for head in heads], cells))
    return tables


def _cell(value: Any) -> str:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return formats.number(Decimal(str(value)))
    return formats.NONE if value is None else str(value)


def _members(kpi: ShownKpi, members: Members) -> dict[str, Any]:
    definition = kpi.definition
    has_effects = any(one.effect is not None for one in members.members)
    measures = [abs(float(_moved(one, has_effects) or 0)) for one in members.members]
    most = max(measures, default=0.0)
    point = members.members[0].point if members.members else None
    rows = [
        {
            "name": formats.NONE if one.name is None else one.name,
            "is_null": one.name is None,
            "value": headline(one.point, definition.unit),
            "previous": formats.quantity(one.point.previous, definition.unit),
            "change": formats.difference(one.point.change, definition.unit),
            "effect": formats.difference(one.effect, definition.unit),
            "status": status_of(one.point),
            "bar": svg.bar(float(_moved(one, has_effects) or 0), most, diverging=True),
        }
        for one in members.members
    ]
    return {
        "dimension": members.dimension,
        "grain": members.grain,
        "period": period_said(members.grain, point, definition.timezone) if point else members.period,
        "rows": rows,
        "more": max(members.count - len(rows), 0),
        "has_effects": has_effects,
        "is_finest": members.grain == kpi.grain,
    }


def _moved(member: Any, has_effects: bool) -> Decimal | None:
    found: Decimal | None = member.effect if has_effects else member.point.change
    return found


def _history(kpi: ShownKpi) -> list[dict[str, Any]]:
    """Versions, the newest first, with what each changed."""
    rows = []
    for number, version in enumerate(kpi.history):
        before = kpi.history[number - 1] if number else None
        changed = [
            (formats.words(name), _said(getattr(before, name)), _said(getattr(version, name)))
            for name in TOLD
            if before is not None and getattr(before, name) != getattr(version, name)
        ]
        rows.append({"version": version, "changed": changed, "is_first": before is None})
    return rows[::-1]


def _said(value: Any) -> str:
    if isinstance(value, Threshold):
        return "; ".join(formats.bounds(value, "")) or "none"
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_variable(each)}" for name, each in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, "") else str(value)


def _variable(variable: Any) -> str:
    """`count of rows of marts.slo_performance by business_date, where …`."""
    if not isinstance(variable, Mapping):
        return str(variable)
    rest = {key: value for key, value in variable.items() if value not in (None, "", [], {})}
    column = rest.pop("column", "rows")
    parts = [f"{rest.pop('aggregation', 'value')} of {column} of {rest.pop('table', '?')}"]
    if (database := rest.pop("database", "warehouse")) != "warehouse":
        parts[0] += f" in {database}"
    if time := rest.pop("time_column", ""):
        parts[0] += f" by {time}"
    if condition := rest.pop("condition", ""):
        parts.append(f"where {condition}")
    window = rest.pop("window", None)
    if isinstance(window, Mapping):
        if window.get("days"):
            parts.append(f"over the last {window['days']} days")
        if window.get("to_date"):
            parts.append(f"over the {window['to_date']} to date")
    dimensions = rest.pop("dimensions", None)
    if isinstance(dimensions, Mapping):
        parts += [f"{name} is {column}" for name, column in dimensions.items() if name != column]
    if (kind := rest.pop("kind", "flow")) != "flow":
        parts.append(str(kind))
    parts += [f"{formats.words(str(key)).lower()} {value}" for key, value in rest.items()]
    return ", ".join(parts)


def _as_json(value: Any) -> str:
    """A reported JSON value, shortened to its numbers where it has any."""
    numbers = formats.scalars(value)
    if numbers:
        return ", ".join(f"{formats.words(key)} {formats.number(each)}" for key, each in numbers.items())
    return formats.NONE if value is None else str(value)
