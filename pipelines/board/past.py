"""The newest dates of an SLO or a job in one picture: a line of values, and below it a cell for each date.

The line is SVG; cells are elements of the page with hover texts, those of dates on time that follow each other one
element, so that a page is small. Cells are told apart by height and shape, not by colour alone: on time low, late
higher, else full and split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from functools import cache
from html import escape
from itertools import groupby
from typing import Any, NamedTuple

from pipelines.board import svg
from pipelines.kpi import formats

HEIGHT = 200
STEPS = formats.time_steps("minutes")
STEP = 10
# What lies further out than so many times the usual (nine of ten values) stands at the picture's edge.
FAR = 4.0
# The class of a cell; what is on time needs none.
CELLS = {
    "on_time": "",
    "late": "l",
    "overdue": "v",
    "missed": "v",
    "failed": "v",
    "waived": "w",
    "not_due": "n",
}


class Column(NamedTuple):
    """A date: `value`, `low` and `high` in minutes; `is_open`: the value is a forecast, between `low` and `high`."""

    business_date: date
    outcome: str
    said: str
    value: float | None = None
    is_open: bool = False
    low: float | None = None
    high: float | None = None


@cache
def minutes_said(minutes: int) -> str:
    """A length in whole minutes, as everywhere else; said of thousands of dates, of which most are alike."""
    return formats.duration(Decimal(60 * minutes))


def lateness_said(seconds: float) -> str:
    """`12 min late`, `5 min early`, `at the due time`."""
    minutes = round(seconds / 60)
    if minutes == 0:
        return "at the due time"
    return f"{minutes_said(abs(minutes))} {'late' if minutes > 0 else 'early'}"


def slot_said(business_date: date, slot: str) -> str:
    """`2026-03-09`, of a window `2026-03-09 06:30`."""
    return f"{business_date}" if slot in {"00:00", ""} else f"{business_date} {slot}"


def key_of(columns: Iterable[Column]) -> list[tuple[str, str]]:
    """The legend of the cells that there are: class, words."""
    there = {column.outcome for column in columns}
    words: dict[str, list[str]] = {}
    for outcome, kind in CELLS.items():
        if outcome in there:
            words.setdefault(kind, []).append(outcome.replace("_", " "))
    return [(kind, " or ".join(many)) for kind, many in words.items()]


def cells(columns: Iterable[Column]) -> str:
    """A cell for each date; dates on time that follow each other are one element, which is drawn as so many."""
    text = ""
    for is_plain, group in groupby(columns, key=lambda one: one.outcome == "on_time" and not one.is_open):
        run = list(group)
        if not is_plain or len(run) == 1:
            text += "".join(_cell(CELLS[one.outcome], one.said) for one in run)
            continue
        ends = f"{run[0].business_date} to {run[-1].business_date}"
        text += _cell("", f"{ends}: on time", f' style="--n:{len(run)}"')
    return text


def picture(
    columns: Sequence[Column],
    *,
    uid: str,
    title: str,
    text: str,
    is_lateness: bool,
    trend: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """What `past` of the templates draws. `trend`: its height (minutes) at the first and at the last column."""
    scale = _scale(columns, trend, has_zero=is_lateness)
    ticks = svg.ticks(scale, 5, steps=STEPS)
    at = [round(scale.y(tick) * 2) for tick in ticks]
    width = STEP * len(columns)
    body = f'<path class="grid" d="{"".join(f"M0 {y}H{width}" for y in at)}"/>'
    if is_lateness:
        body += f'<path class="due" d="M0 {round(scale.y(0) * 2)}H{width}"/>'
    if trend is not None:
        first, last = (round(_clipped(scale, end) * 2) for end in trend)
        body += f'<path class="trend" d="M{STEP // 2} {first}L{width - STEP // 2} {last}"/>'
    body += _line(columns, scale)
    return {
        "svg": svg.drawing("chart", body, uid, title, text, width=width, height=HEIGHT),
        "ticks": [(scale.percent(tick), _tick(tick, is_lateness=is_lateness)) for tick in ticks],
        "cells": cells(columns),
        "ends": svg.ends([column.business_date.isoformat() for column in columns]),
    }


def _scale(columns: Sequence[Column], trend: tuple[float, float] | None, *, has_zero: bool) -> svg.Scale:
    values = [value for one in columns for value in (one.value, one.low, one.high) if value is not None]
    values += trend or ()
    if has_zero:
        values.append(0.0)
    usual = sorted(map(abs, values))[len(values) * 9 // 10 - 1] if values else 0.0
    if usual:
        values = [min(max(value, -FAR * usual), FAR * usual) for value in values]
    return svg.scale_of([svg.Mark("", value) for value in values], [])


def _clipped(scale: svg.Scale, value: float) -> float:
    return scale.y(min(max(value, scale.low), scale.high))


def _tick(minutes: float, *, is_lateness: bool) -> str:
    if is_lateness and not minutes:
        return "due"
    said = formats.quantity(Decimal(str(minutes)), "minutes")
    return f"+{said}" if is_lateness and minutes > 0 else said


def _line(columns: Sequence[Column], scale: svg.Scale) -> str:
    """The line through what has ended, dots on what was not on time, forecasts as intervals with a hollow dot."""
    line, pen = "", "M"
    dots: dict[str, str] = {}
    intervals = ""
    for number, one in enumerate(columns):
        x = STEP * number + STEP // 2
        if one.value is None:
            continue
        y = round(_clipped(scale, one.value) * 2)
        if one.is_open:
            dots["hole"] = dots.get("hole", "") + f"M{x} {y}h0"
            if one.low is not None and one.high is not None:
                ends = (round(_clipped(scale, end) * 2) for end in (one.low, one.high))
                intervals += "M{x} {0}V{1}".format(*ends, x=x)
            continue
        line += f"{pen}{x} {y}"
        pen = " "
        if kind := {"late": "warning", "on_time": ""}.get(one.outcome, "critical"):
            dots[kind] = dots.get(kind, "") + f"M{x} {y}h0"
    body = f'<path class="interval" d="{intervals}"/>' if intervals else ""
    if line:
        body += f'<path class="line" d="{line}"/>'
    if "hole" in dots:
        body += f'<path class="dot" d="{dots["hole"]}"/>'
    return body + "".join(f'<path class="dot {kind}" d="{path}"/>' for kind, path in sorted(dots.items()))


def _cell(kind: str, said: str, more: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<i{name} title="{escape(said)}"{more}></i>'
