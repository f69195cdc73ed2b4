"""Pages from what was read: a pure function, so the same data give the same bytes, and tests need no database."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.board import svg
from pipelines.board.model import (
    Board,
    Definition,
    Late,
    Members,
    Occurrence,
    Point,
    ShownKpi,
)
from pipelines.kpi import formats
from pipelines.kpi.grains import GRAINS
from pipelines.kpi.standing import TROUBLE, Threshold

# The card's picture shows so many periods, a table so many before it has to be opened.
SPARK_PERIODS = {"hour": 48, "day": 30, "week": 26, "month": 18, "quarter": 12, "year": 10}
CATEGORIES = ("business", "user", "performance", "custom")
STRIP_DATES = 30
# A row of the day's table stands for so many windows of an SLO, or more, that are alike.
LEAST_FOLDED = 3
# So many are named in the first line.
MOST_NAMED = 3
WORDS = {
    "ok": "ok", "warning": "warning", "critical": "critical", "no_data": "no data", "provisional": "provisional",
    "overdue": "overdue", "missed": "missed", "late": "late", "on_time": "on time", "not_due": "not due yet",
    "waived": "waived",
}  # fmt: skip
# What changed from one version to the next is told of these.
TOLD = [each.name for each in fields(Definition) if each.name not in {"version", "valid_from", "valid_to"}]


@dataclass(frozen=True)
class Attention:
    """Something that needs attention: what, how bad, since when."""

    page: str
    name: str
    status: str
    since: datetime
    since_text: str
    is_member: bool = False

    @property
    def rank(self) -> tuple[int, bool, datetime, str]:
        return (0 if self.status in {"critical", "overdue"} else 1, self.is_member, self.since, self.name)


@dataclass(frozen=True)
class Links:
    """Addresses of pages by their name: files beside each other, or places in the one page."""

    is_single: bool = False

    def __call__(self, page: str) -> str:
        return f"#{page}" if self.is_single else f"{page}.html"


def render(board: Board) -> dict[str, str]:
    """Every page by the name of its file: `index.html`, `slos.html` and `kpi-….html` for each KPI."""
    links = Links()
    names = page_names(board)
    pages = {
        "index": _template("index").render(_index(board, names, links)),
        "slos": _template("slos").render(_slos(board, links)),
    }
    for kpi in board.kpis:
        pages[names[kpi.id]] = _template("kpi").render(_kpi(board, kpi, names, links))
    frame = _template("page")
    titles = {"index": "Board", "slos": "SLOs"} | {names[kpi.id]: kpi.definition.name for kpi in board.kpis}
    return {
        links(page): frame.render(title=titles[page], page=page, bodies=[(page, body)], links=links, **_frame(board))
        for page, body in pages.items()
    }  # fmt: skip


def render_single(board: Board) -> str:
    """The same in one page, for a mail."""
    links = Links(is_single=True)
    names = page_names(board)
    bodies = [("index", _template("index").render(_index(board, names, links)))]
    bodies.append(("slos", _template("slos").render(_slos(board, links))))
    bodies += [(names[kpi.id], _template("kpi").render(_kpi(board, kpi, names, links))) for kpi in board.kpis]
    frame = _template("page")
    return str(frame.render(title="Board", page="index", bodies=bodies, links=links, **_frame(board)))


def page_names(board: Board) -> dict[str, str]:
    """A name for each KPI's page that is a file everywhere, and no other's: ids may differ in case alone."""
    names: dict[str, str] = {}
    for kpi in board.kpis:
        plain = re.sub(r"[^a-z0-9_-]+", "-", kpi.id.lower()).strip("-")[:60]
        name = f"kpi-{plain}"
        # What looks as if it ended in a hash gets one too, so that it is not another's name.
        if plain != kpi.id or re.search(r"-[0-9a-f]{24}$", plain):
            name += f"-{hashlib.sha256(kpi.id.encode()).hexdigest()[:24]}"
        names[kpi.id] = name
    return names


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipelines.board"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "instant": formats.instant,
        "iso": formats.iso,
        "quantity": formats.quantity,
        "difference": formats.difference,
        "percent": formats.percent,
        "words": formats.words,
        "lateness": formats.lateness,
    }
    environment.globals |= {"shape": svg.shape, "WORDS": WORDS}
    return environment


def _template(name: str) -> Any:
    return _environment().get_template(f"{name}.html.jinja")


def _frame(board: Board) -> dict[str, Any]:
    return {"as_of": board.as_of, "timezone": board.timezone, "has_kpis": bool(board.kpis)}


# What needs attention


def attention(board: Board, names: Mapping[str, str]) -> list[Attention]:
    """All that is bad now, the worst and the oldest first."""
    found = []
    for kpi in board.kpis:
        zone = kpi.definition.timezone
        for one in kpi.trouble:
            point = Point(one.since_period, one.since, one.since)
            since = _period(kpi.grain or "day", point, zone)
            found.append(
                Attention(
                    names[kpi.id],
                    kpi.definition.name + (f" ({one.dimensions})" if one.dimensions else ""),
                    one.status,
                    one.since,
                    f"before {since}" if one.is_older else since,
                    bool(one.dimensions),
                )
            )
    overdue: dict[str, list[Late]] = {}
    for late in board.late:
        if late.outcome == "overdue" and late.is_current:
            overdue.setdefault(late.slo_id, []).append(late)
    for many in overdue.values():
        first = min(many, key=lambda late: (late.due_at, late.business_date, late.slot))
        what = f"{first.business_date}" + ("" if first.slot == "00:00" else f" {first.slot}")
        what += f" and {len(many) - 1} more" if len(many) > 1 else ""
        since = formats.instant(first.due_at, board.timezone)
        found.append(Attention("slos", f"{first.name}, {what}", "overdue", first.due_at, since))
    return sorted(found, key=lambda one: one.rank)


# Pages


def _index(board: Board, names: Mapping[str, str], links: Links) -> dict[str, Any]:
    groups = []
    for category in sorted(
        {kpi.definition.category for kpi in board.kpis},
        key=lambda one: (CATEGORIES.index(one) if one in CATEGORIES else len(CATEGORIES), one),
    ):
        kpis = [kpi for kpi in board.kpis if kpi.definition.category == category]
        cards = [_card(kpi, names, links) for kpi in sorted(kpis, key=_order)]
        groups.append((formats.words(category), cards))
    found = attention(board, names)
    return {
        "board": board,
        "attention": found,
        "named": found[:MOST_NAMED],
        "groups": groups,
        "links": links,
        "late_count": sum(late.outcome == "late" for late in board.late),
        "overdue_count": sum(late.outcome == "overdue" for late in board.late),
        "slo_due": sum(slo.due for slo in board.slos),
        "slo_on_time": sum(slo.on_time for slo in board.slos),
    }


def _order(kpi: ShownKpi) -> tuple[int, str, str]:
    worst = min((TROUBLE.get(one.status, 2) for one in kpi.trouble), default=3)
    return (worst, kpi.definition.name, kpi.id)


def _card(kpi: ShownKpi, names: Mapping[str, str], links: Links) -> dict[str, Any]:
    definition, grain, point = kpi.definition, kpi.grain, kpi.closed or kpi.provisional
    card = {
        "kpi": kpi,
        "href": links(names[kpi.id]),
        "headline": _headline(point, definition.unit),
        "status": _status(point),
        "period": _period(grain, point, definition.timezone) if grain and point else "",
        "change": _change(point),
        "provisional": None,
        "bounds": formats.bounds(definition.threshold, definition.unit),
        "spark": "",
        "members": _members_in_trouble(kpi),
        "restated": kpi.restatements[0] if kpi.restatements else None,
    }
    if grain and kpi.provisional and kpi.closed:
        card["provisional"] = (
            _period(grain, kpi.provisional, definition.timezone),
            _headline(kpi.provisional, definition.unit),
        )
    if grain:
        points = kpi.series[grain][-SPARK_PERIODS.get(grain, 30) :]
        name, marks = next(iter(_plots(points, grain, definition)), ("", []))
        if any(mark.value is not None for mark in marks):
            title = f"{definition.name}{f', {name}' if name else ''}"
            card["spark"] = svg.sparkline(
                marks,
                [] if name else _lines(definition.threshold),
                uid=f"spark-{names[kpi.id]}",
                title=title,
                text=_in_words(marks),
            )
    return card


def _members_in_trouble(kpi: ShownKpi) -> str:
    counts = {
        status: sum(one.status == status and bool(one.dimensions) for one in kpi.trouble)
        for status in TROUBLE
    }
    return formats.and_list([f"{count} {status}" for status, count in counts.items() if count] or [""])


def _kpi(board: Board, kpi: ShownKpi, names: Mapping[str, str], links: Links) -> dict[str, Any]:
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
        "state": _status(point),
        "headline": _headline(point, definition.unit),
        "period": _period(kpi.grain, point, definition.timezone) if kpi.grain and point else "",
        "point": point,
        "change": _change(point),
        "bounds": formats.bounds(definition.threshold, definition.unit),
        "grains": grains,
        "members": [_members(kpi, members) for members in kpi.members],
        "trouble": [
            (one, _period(kpi.grain or "day", Point(one.since_period, one.since, one.since), definition.timezone))
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
    for name, marks in _plots(points, grain, definition):
        lines = [] if name else _lines(definition.threshold)
        scale = svg.scale_of(marks, lines)
        unit = "" if name else definition.unit
        at = svg.ticks(scale, steps=formats.time_steps(unit))
        uid = f"{page}-{grain}" + (f"-{len(charts)}" if charts else "")
        title = f"{definition.name}{f', {name}' if name else ''} by {grain}"
        charts.append(
            {
                "name": name,
                "svg": svg.line_chart(marks, lines, scale, at, uid=uid, title=title, text=_in_words(marks)),
                "ticks": [(scale.percent(y), formats.quantity(Decimal(str(y)), unit)) for y in at],
                "lines": [(scale.percent(one.value), one.level) for one in lines],
                "ends": _ends([_short(grain, point, definition.timezone) for point in points]),
            }
        )
    return {
        "grain": grain,
        "charts": charts,
        "has_provisional": any(point.is_provisional for point in points),
        "rows": [_row(grain, point, definition) for point in reversed(points)],
        "has_json": any(point.json is not None for point in points),
        "has_last_year": any(point.last_year is not None for point in points),
        "has_versions": len({point.version for point in points}) > 1,
        "items": _items(next((p for p in reversed(points) if not p.is_provisional), points[-1])),
    }


def _row(grain: str, point: Point, definition: Definition) -> dict[str, Any]:
    return {
        "period": _period(grain, point, definition.timezone),
        "value": _headline(point, definition.unit),
        "change": formats.difference(point.change, definition.unit),
        "percent": _change(point),
        "last_year": formats.quantity(point.last_year, definition.unit),
        "status": _status(point),
        "reason": point.reason or "",
        "version": point.version,
    }


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
            "value": _headline(one.point, definition.unit),
            "previous": formats.quantity(one.point.previous, definition.unit),
            "change": formats.difference(one.point.change, definition.unit),
            "effect": formats.difference(one.effect, definition.unit),
            "status": _status(one.point),
            "bar": svg.bar(float(_moved(one, has_effects) or 0), most, diverging=True),
        }
        for one in members.members
    ]
    return {
        "dimension": members.dimension,
        "grain": members.grain,
        "period": _period(members.grain, point, definition.timezone) if point else members.period,
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


def _slos(board: Board, links: Links) -> dict[str, Any]:
    rows = []
    for number, slo in enumerate(board.slos):
        cells = []
        for day in slo.days:
            outcome = (
                "overdue"
                if day.overdue
                else "missed"
                if day.missed
                else "late"
                if day.late
                else "on_time"
                if day.on_time
                else "none"
            )
            counts = [
                f"{count} {word}"
                for count, word in (
                    (day.on_time, "on time"),
                    (day.late, "late"),
                    (day.missed, "missed"),
                    (day.overdue, "overdue"),
                )
                if count
            ]
            cells.append((outcome, f"{day.business_date}: {', '.join(counts) or 'nothing was due'}"))
        missed = [day for day in slo.days if day.late or day.overdue or day.missed]
        share = Decimal(slo.on_time) / slo.due if slo.due else None
        rows.append(
            {
                "slo": slo,
                "share": formats.quantity(share, "share"),
                "is_short": share is not None
                and slo.objective is not None
                and share < Decimal(str(slo.objective)),
                "objective": formats.quantity(Decimal(str(slo.objective)), "share") if slo.objective else "",
                "strip": svg.strip(
                    cells,
                    room=STRIP_DATES,
                    uid=f"slo-{number}",
                    title=f"{slo.name}, its last {len(slo.days)} dates",
                    text=f"{slo.on_time} of {slo.due} on time; dates with a miss: {len(missed)}.",
                )
                if cells
                else "",
            }
        )
    today = board.as_of and formats.instant(board.as_of, board.timezone)
    return {
        "board": board,
        "links": links,
        "rows": rows,
        "overdue": [late for late in board.late if late.outcome == "overdue"],
        "was_late": [late for late in board.late if late.outcome != "overdue"],
        "today": (today or "")[:10],
        "folded": _folded(board.today),
        "names": {slo.id: slo.name for slo in board.slos}
        | {one.slo_id: one.slo_id for one in board.today if one.slo_id not in {s.id for s in board.slos}},
    }


def _folded(today: Sequence[Occurrence]) -> list[list[Occurrence]]:
    """The day's occurrences by due time; windows of one SLO that follow each other and are alike in one row."""
    runs: list[list[Occurrence]] = []
    last: dict[str, list[Occurrence]] = {}
    for one in today:
        run = last.get(one.slo_id)
        if (
            run
            and run[-1].outcome == one.outcome
            and one.outcome in {"on_time", "not_due", "waived"}
            and _alike(run[-1], one)
        ):
            run.append(one)
        else:
            last[one.slo_id] = [one]
            runs.append(last[one.slo_id])
    return [part for run in runs for part in ([run] if len(run) >= LEAST_FOLDED else [[one] for one in run])]


def _alike(one: Occurrence, other: Occurrence) -> bool:
    return one.outcome in {"on_time", "waived"} or one.progress == other.progress == "pending"


# Parts


def _status(point: Point | None) -> str:
    if point is None:
        return "no_data"
    if point.is_provisional:
        return "provisional"
    return point.status or ("no_data" if point.value is None and point.json is None else "ok")


def _headline(point: Point | None, unit: str) -> str:
    """The value, or the numbers of a JSON value with their names."""
    if point is None:
        return formats.NONE
    if point.value is None and (numbers := formats.scalars(point.json)):
        return " · ".join(f"{formats.words(name)} {formats.number(value)}" for name, value in numbers.items())
    return formats.quantity(point.value, unit)


def _change(point: Point | None) -> str:
    """The relative change in words, with an arrow."""
    if point is None or point.change_percent is None:
        return ""
    if point.direction == "stable":
        return f"→ stable ({formats.percent(point.change_percent)})"
    is_up = point.change_percent > 0
    return f"{'↑ up' if is_up else '↓ down'} {formats.percent(point.change_percent)}"


def _period(grain: str | None, point: Point, timezone: str) -> str:
    """A period as a person reads it; one that begins at an instant within a day with its zone."""
    return formats.instant(point.start, timezone) if grain == "hour" else point.period


def _short(grain: str, point: Point, timezone: str) -> str:
    """The same below a picture."""
    return formats.instant(point.start, timezone)[5:16] if grain == "hour" else point.period


def _ends(labels: Sequence[str]) -> list[tuple[str, float, str]]:
    """First, middle and last label: (text, percent from the left, what is aligned there)."""
    places = list(range(len(labels))) if len(labels) < 3 else [0, (len(labels) - 1) // 2, len(labels) - 1]
    aligned = {0: "start", len(labels) - 1: "end"}
    return [
        (labels[place], round(100 * (place + 0.5) / len(labels), 2), aligned.get(place, "middle"))
        for place in places
    ]


def _lines(threshold: Threshold | None) -> list[svg.Line]:
    if threshold is None:
        return []
    return [svg.Line(float(bound), "warning") for bound in threshold.warning] + [
        svg.Line(float(bound), "critical") for bound in threshold.critical
    ]


def _plots(
    points: Sequence[Point], grain: str, definition: Definition
) -> Iterable[tuple[str, list[svg.Mark]]]:
    """What there is to plot: the value, or up to three numbers of a JSON value by name."""
    if all(point.json is None for point in points):
        yield "", [_mark(point, point.value, grain, definition, definition.unit) for point in points]
        return
    values = [formats.scalars(point.json) for point in points]
    names = list(dict.fromkeys(name for each in values for name in each))[:3]
    for name in names:
        marks = [
            _mark(point, each.get(name), grain, definition, "")
            for point, each in zip(points, values, strict=True)
        ]
        yield formats.words(name), marks


def _mark(point: Point, value: Decimal | None, grain: str, definition: Definition, unit: str) -> svg.Mark:
    said = f"{_period(grain, point, definition.timezone)}: {formats.quantity(value, unit)}"
    if point.is_provisional:
        said += ", provisional"
    elif point.status in TROUBLE:
        said += f", {point.status}"
    return svg.Mark(
        said, float(value) if value is not None and value.is_finite() else None, point.is_provisional, point.status
    )  # fmt: skip


def _in_words(marks: Sequence[svg.Mark]) -> str:
    """What a picture shows, for those who do not see it."""
    shown = [mark for mark in marks if mark.value is not None]
    if not shown:
        return "No values."
    least, most = min(shown, key=lambda m: m.value or 0), max(shown, key=lambda m: m.value or 0)
    return (
        f"{len(marks)} periods. Newest {shown[-1].label}. Least {least.label}. Most {most.label}."
        f" {sum(mark.value is None for mark in marks)} without a value."
    )


def _as_json(value: Any) -> str:
    """A reported JSON value, shortened to its numbers where it has any."""
    numbers = formats.scalars(value)
    if numbers:
        return ", ".join(f"{formats.words(key)} {formats.number(each)}" for key, each in numbers.items())
    return formats.NONE if value is None else str(value)
