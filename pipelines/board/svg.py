"""Pictures as SVG: a sparkline, a line chart, bars. Functions from numbers to markup, escaped here.

A picture fills what it is put into, so its x and y stretch by different factors: strokes do not (`vector-effect`), dots
are strokes without length, and no text stands inside. Labels of axes are the page's. Classes are the page's style:
`line`, `provisional`, `dot`, `warning`, `critical`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 1000.0
HEIGHT = 100.0
# So many marks, and each is a dot too.
MOST_DOTS = 31


@dataclass(frozen=True)
class Mark:
    """A period: its value (None: a gap), whether it is provisional, its status, and what is said of it on hover."""

    label: str
    value: float | None
    is_provisional: bool = False
    status: str | None = None


@dataclass(frozen=True)
class Line:
    """A threshold, `warning` or `critical`."""

    value: float
    level: str


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on the height of a picture, the high ones up."""

    low: float
    high: float

    def y(self, value: float) -> float:
        """Units from the top."""
        return HEIGHT * (self.high - value) / (self.high - self.low)

    def percent(self, value: float) -> float:
        """Percent from the top, for labels beside the picture."""
        return round(100 * self.y(value) / HEIGHT, 2)


def scale_of(marks: Iterable[Mark], lines: Iterable[Line], *, from_zero: bool = False) -> Scale:
    """A scale that holds all marks and thresholds, with some air."""
    values = [mark.value for mark in marks if mark.value is not None] + [line.value for line in lines]
    if from_zero or not values:
        values.append(0.0)
    low, high = min(values), max(values)
    air = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return Scale(low - (0 if from_zero and low == 0 else air), high + air)


def ticks(scale: Scale, count: int = 4, steps: Sequence[float] = ()) -> list[float]:
    """Round numbers within a scale, about so many; a step out of `steps` (in order) where one is large enough."""
    span = scale.high - scale.low
    raw = span / max(count, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    round_steps = [factor * magnitude for factor in (1.0, 2.0, 5.0, 10.0)]
    if steps and steps[0] <= raw <= steps[-1]:
        round_steps = list(steps)
    step = next(each for each in round_steps if each >= raw * (1 - 1e-9))
    first = math.ceil(scale.low / step)
    return [round(n * step, 12) for n in range(first, math.floor(scale.high / step) + 1)]


def sparkline(marks: Sequence[Mark], lines: Sequence[Line], *, uid: str, title: str, text: str) -> str:
    """The last periods at a glance: the line, its thresholds, the newest value as a dot."""
    scale = scale_of(marks, lines)
    places = _places(marks, scale)
    shown = [(place, mark) for place, mark in zip(places, marks, strict=True) if place is not None]
    dots = _dots([*_alone(marks, places), *shown[-1:]])
    body = _thresholds(lines, scale) + _path(marks, places) + dots
    return _svg("sparkline", body, uid, title, text)


def line_chart(
    marks: Sequence[Mark], lines: Sequence[Line], scale: Scale, at: Sequence[float], *, uid: str, title: str, text: str
) -> str:  # fmt: skip
    """Values over periods with grid lines `at`, thresholds, and a level for each provisional one."""
    places = _places(marks, scale)
    grid = "".join(f'<path class="grid" d="M0 {scale.y(value):.1f}H{WIDTH:.0f}"/>' for value in at)
    dots = [] if len(marks) <= MOST_DOTS else _alone(marks, places)
    for place, mark in zip(places, marks, strict=True):
        if place is not None and (len(marks) <= MOST_DOTS or mark.is_provisional or mark.status in _BAD):
            dots.append((place, mark))
    body = grid + _thresholds(lines, scale) + _path(marks, places) + _dots(dots)
    return _svg("chart", body, uid, title, text)


def bar(value: float, most: float, *, diverging: bool = False) -> str:
    """A bar within a table's cell, beside its number; `diverging`: from the middle, to the left when negative."""
    share = min(abs(value) / most, 1.0) if most else 0.0
    if not diverging:
        shapes = f'<rect width="{WIDTH * share:.1f}" height="{HEIGHT:.0f}"/>'
    else:
        half = WIDTH / 2
        left = half - half * share if value < 0 else half
        side = "down" if value < 0 else "up"
        shapes = f'<rect class="{side}" x="{left:.1f}" width="{half * share:.1f}" height="{HEIGHT:.0f}"/>'
        shapes += f'<path class="axis" d="M{half:.0f} 0V{HEIGHT:.0f}"/>'
    return _hidden("bar", shapes)


def ends(labels: Sequence[str]) -> list[tuple[str, float, str]]:
    """First, middle and last label: (text, percent from the left, what is aligned there)."""
    places = list(range(len(labels))) if len(labels) < 3 else [0, (len(labels) - 1) // 2, len(labels) - 1]
    aligned = {0: "start", len(labels) - 1: "end"}
    return [
        (labels[place], round(100 * (place + 0.5) / len(labels), 2), aligned.get(place, "middle"))
        for place in places
    ]


def drawing(
    kind: str,
    body: str,
    uid: str,
    title: str,
    text: str,
    *,
    width: int,
    height: int,
    is_stretched: bool = True,
) -> str:
    """An SVG element of what is drawn, with what it is called and shows for those who do not see it."""
    uid = escape(uid)
    stretched = ' preserveAspectRatio="none"' if is_stretched else ""
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}"{stretched} role="img"'
        f' aria-labelledby="{uid}-t {uid}-d"><title id="{uid}-t">{escape(title)}</title>'
        f'<desc id="{uid}-d">{escape(text)}</desc>{body}</svg>'
    )


def small_line(values: Sequence[float]) -> str:
    """A line beside its number, without a scale."""
    low, high = min(values), max(values)
    scale = Scale(low, high if high > low else low + 1)
    points = " ".join(f"{2 * number} {scale.y(value) / 4:.0f}" for number, value in enumerate(values))
    return (
        f'<svg class="spark" viewBox="-1 -1 {2 * len(values)} 27" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="line" d="M{points}"/></svg>'
    )


SHAPES = {
    "ok": '<circle cx="8" cy="8" r="6.2"/><path class="in" d="M5 8.2 7.2 10.4 11 5.8"/>',
    "warning": '<path d="M8 1.6 15 14H1Z"/><path class="in" d="M8 6v4M8 12v.3"/>',
    "critical": '<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5Z"/><path class="in" d="M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2"/>',
    "no_data": '<circle class="hollow" cx="8" cy="8" r="6"/>',
    "provisional": '<circle class="hollow dashed" cx="8" cy="8" r="6"/>',
    "overdue": '<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5Z"/><path class="in" d="M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2"/>',
    "missed": '<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5Z"/><path class="in" d="M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2"/>',
    "waived": '<circle class="hollow dashed" cx="8" cy="8" r="6"/>',
    "late": '<path d="M8 1.6 15 14H1Z"/><path class="in" d="M8 6v4M8 12v.3"/>',
    "on_time": '<circle cx="8" cy="8" r="6.2"/><path class="in" d="M5 8.2 7.2 10.4 11 5.8"/>',
    "not_due": '<circle class="hollow" cx="8" cy="8" r="6"/>',
    "at_risk": '<path class="hollow" d="M8 1.6 15 14H1Z"/><path d="M8 6v4M8 12v.3"/>',
    "failed": '<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5Z"/><path class="in" d="M8 4v5M8 11.6v.3"/>',
    "running": '<circle class="hollow" cx="8" cy="8" r="6"/><path d="M8 2a6 6 0 0 1 0 12Z"/>',
    "silent": '<circle class="hollow" cx="8" cy="8" r="6"/><path d="M3.8 12.2l8.4-8.4"/>',
}


def shape(status: str) -> str:
    """The sign of a status, beside its word: drawn once in a page, by `signs_of`."""
    return f'<svg class="sign" aria-hidden="true"><use href="#i-{status if status in SHAPES else "no_data"}"/></svg>'


def signs_of(bodies: Iterable[str]) -> str:
    """What the signs of a page refer to."""
    used = sorted({name for body in bodies for name in _SIGN.findall(body)})
    if not used:
        return ""
    shapes = "".join(f'<symbol id="i-{name}" viewBox="0 0 16 16">{SHAPES[name]}</symbol>' for name in used)
    return f'<svg class="signs" aria-hidden="true">{shapes}</svg>'


_SIGN = re.compile(r'href="#i-(\w+)"')
_BAD = frozenset({"warning", "critical"})
_Place = tuple[float, float]


def _places(marks: Sequence[Mark], scale: Scale) -> list[_Place | None]:
    """Where each mark stands; half a step of air on both sides."""
    step = WIDTH / max(len(marks), 1)
    return [
        None if mark.value is None else (step * (number + 0.5), scale.y(mark.value))
        for number, mark in enumerate(marks)
    ]


def _path(marks: Sequence[Mark], places: Sequence[_Place | None]) -> str:
    """One path of what is closed, broken at gaps; a level for each provisional value, which nothing falls down to."""
    line, levels = "", ""
    pen: _Place | None = None
    half = WIDTH / max(len(marks), 1) / 2
    for place, mark in zip(places, marks, strict=True):
        if place is not None and mark.is_provisional:
            levels += f"M{place[0] - half:.1f} {place[1]:.1f}h{2 * half:.1f}"
        elif place is not None and pen is not None:
            line += ("" if line.endswith(_at(pen)) else f"M{_at(pen)}") + f"L{_at(place)}"
        pen = None if mark.is_provisional else place
    text = f'<path class="line" d="{line}"/>' if line else ""
    return text + (f'<path class="line provisional" d="{levels}"/>' if levels else "")


def _at(place: _Place) -> str:
    return f"{place[0]:.1f} {place[1]:.1f}"


def _alone(marks: Sequence[Mark], places: Sequence[_Place | None]) -> list[tuple[_Place, Mark]]:
    """Closed values that no line shows: on both sides is a gap, or what is provisional."""
    found = []
    closed = [None if mark.is_provisional else place for mark, place in zip(marks, places, strict=True)]
    for number, (mark, place) in enumerate(zip(marks, closed, strict=True)):
        around = [closed[n] for n in (number - 1, number + 1) if 0 <= n < len(closed)]
        if place is not None and not any(around):
            found.append((place, mark))
    return found


def _dots(dots: Iterable[tuple[_Place, Mark]]) -> str:
    """Round strokes without length, a path for each kind; provisional ones hollow, bad ones ringed."""
    paths = dict.fromkeys(("ring warning", "ring critical", "", "hole", "warning", "critical"), "")
    for place, mark in dots:
        at = f"M{_at(place)}h0"
        if not mark.is_provisional and mark.status in _BAD:
            paths[f"ring {mark.status}"] += at
            paths[f"{mark.status}"] += at
            continue
        paths[""] += at
        if mark.is_provisional:
            paths["hole"] += at
    return "".join(
        f'<path class="{f"dot {kind}".strip()}" d="{path}"/>' for kind, path in paths.items() if path
    )


def _thresholds(lines: Sequence[Line], scale: Scale) -> str:
    return "".join(
        f'<path class="threshold {escape(line.level)}" d="M0 {scale.y(line.value):.1f}H{WIDTH:.0f}"/>'
        for line in lines
    )


def hits(marks: Sequence[Mark]) -> str:
    """What lies over a chart, with a text for each mark: elements of the page, which are half as long as SVG's."""
    return "".join(f'<i title="{escape(mark.label)}"></i>' for mark in marks)


def _svg(kind: str, body: str, uid: str, title: str, text: str) -> str:
    return drawing(kind, body, uid, title, text, width=int(WIDTH), height=int(HEIGHT))


def _hidden(kind: str, body: str) -> str:
    """A picture of what stands beside it as a number."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" preserveAspectRatio="none"'
        f' aria-hidden="true">{body}</svg>'
    )
