"""Pictures as SVG: a sparkline, a line chart, bars, a strip of days. Functions from numbers to markup, escaped here.

A picture fills what it is put into, so its x and y stretch by different factors: strokes do not (`vector-effect`), dots
are strokes without length, and no text stands inside. Labels of axes are the page's. Classes are the page's style:
`line`, `provisional`, `dot`, `warning`, `critical`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

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
    body = _thresholds(lines, scale) + _path(marks, places) + _alone(marks, places)
    shown = [(place, mark) for place, mark in zip(places, marks, strict=True) if place is not None]
    body += "".join(_dot(place, mark) for place, mark in shown[-1:])
    return _svg("sparkline", body, uid, title, text)


def line_chart(
    marks: Sequence[Mark], lines: Sequence[Line], scale: Scale, at: Sequence[float], *, uid: str, title: str, text: str
) -> str:  # fmt: skip
    """Values over periods with grid lines `at`, thresholds, a dashed way to provisional ones, and hover texts."""
    places = _places(marks, scale)
    grid = "".join(f'<path class="grid" d="M0 {scale.y(value):.1f}H{WIDTH:.0f}"/>' for value in at)
    dots = ""
    for place, mark in zip(places, marks, strict=True):
        if place is not None and (len(marks) <= MOST_DOTS or mark.is_provisional or mark.status in _BAD):
            dots += _dot(place, mark)
    body = grid + _thresholds(lines, scale) + _path(marks, places)
    body += (dots if len(marks) <= MOST_DOTS else _alone(marks, places) + dots) + _hover(marks)
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


def strip(cells: Sequence[tuple[str, str]], *, room: int, uid: str, title: str, text: str) -> str:
    """Days side by side: (outcome, hover text). Told apart by height: on time low, late higher, else full.

    What is overdue or was missed is split, too.

    Outcomes: on_time, late, overdue, missed, none. There is `room` for so many; fewer stand at the right.
    """
    width = WIDTH / room
    body = ""
    for number, (outcome, said) in enumerate(cells[-room:], max(room - len(cells), 0)):
        x, wide = number * width + width * 0.08, width * 0.84
        hover = f"<title>{escape(said)}</title>"
        if outcome in {"overdue", "missed"}:
            shapes = _rect(x, 0, wide, 44) + _rect(x, 56, wide, 44)
        else:
            height = {"on_time": 40.0, "late": 75.0}.get(outcome, 6.0)
            shapes = _rect(x, HEIGHT - height, wide, height)
        body += f'<g class="{escape(outcome)}">{hover}{shapes}</g>'
    return _svg("strip", body, uid, title, text)


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
}


def shape(status: str) -> str:
    """The sign of a status, beside its word."""
    return f'<svg class="sign" viewBox="0 0 16 16" aria-hidden="true">{SHAPES.get(status, SHAPES["no_data"])}</svg>'


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
    """One path of what is closed, one of what leads to provisional values; both broken at gaps."""
    lines = {False: "", True: ""}
    pens: dict[bool, _Place | None] = {False: None, True: None}
    for (before, here), mark in zip(pairwise(places), marks[1:], strict=False):
        if before is None or here is None:
            continue
        kind = mark.is_provisional
        if pens[kind] != before:
            lines[kind] += f"M{before[0]:.1f} {before[1]:.1f}"
        lines[kind] += f"L{here[0]:.1f} {here[1]:.1f}"
        pens[kind] = here
    text = f'<path class="line" d="{lines[False]}"/>' if lines[False] else ""
    return text + (f'<path class="line provisional" d="{lines[True]}"/>' if lines[True] else "")


def _alone(marks: Sequence[Mark], places: Sequence[_Place | None]) -> str:
    """Dots for values that have gaps on both sides, which no line shows."""
    text = ""
    for number, (mark, place) in enumerate(zip(marks, places, strict=True)):
        around = [places[n] for n in (number - 1, number + 1) if 0 <= n < len(places)]
        if place is not None and not any(around):
            text += _dot(place, mark)
    return text


def _dot(place: _Place, mark: Mark) -> str:
    """A round stroke without length; provisional ones hollow, bad ones ringed."""
    at = f'd="M{place[0]:.1f} {place[1]:.1f}h0"'
    if mark.is_provisional:
        return f'<path class="dot" {at}/><path class="dot hole" {at}/>'
    if mark.status in _BAD:
        return f'<path class="dot ring {mark.status}" {at}/><path class="dot {mark.status}" {at}/>'
    return f'<path class="dot" {at}/>'


def _thresholds(lines: Sequence[Line], scale: Scale) -> str:
    return "".join(
        f'<path class="threshold {escape(line.level)}" d="M0 {scale.y(line.value):.1f}H{WIDTH:.0f}"/>'
        for line in lines
    )


def _hover(marks: Sequence[Mark]) -> str:
    step = WIDTH / max(len(marks), 1)
    return "".join(
        f'<rect class="hit" x="{step * number:.1f}" width="{step:.1f}" height="{HEIGHT:.0f}">'
        f"<title>{escape(mark.label)}</title></rect>"
        for number, mark in enumerate(marks)
    )


def _rect(x: float, y: float, width: float, height: float) -> str:
    return f'<rect x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{height:.0f}"/>'


def _svg(kind: str, body: str, uid: str, title: str, text: str) -> str:
    uid = escape(uid)
    return (
        f'<svg class="{kind}" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" preserveAspectRatio="none" role="img"'
        f' aria-labelledby="{uid}-t {uid}-d"><title id="{uid}-t">{escape(title)}</title>'
        f'<desc id="{uid}-d">{escape(text)}</desc>{body}</svg>'
    )


def _hidden(kind: str, body: str) -> str:
    """A picture of what stands beside it as a number."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" preserveAspectRatio="none"'
        f' aria-hidden="true">{body}</svg>'
    )
