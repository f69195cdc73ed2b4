"""A KPI's values in words and pictures, on its card as on its page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from pipelines.board import svg
from pipelines.board.model import Definition, Point
from pipelines.kpi import formats
from pipelines.kpi.standing import TROUBLE, Threshold


def status_of(point: Point | None) -> str:
    """Its status as a word of `WORDS`."""
    if point is None:
        return "no_data"
    if point.is_provisional:
        return "provisional"
    return point.status or ("no_data" if point.value is None and point.json is None else "ok")


def headline(point: Point | None, unit: str) -> str:
    """The value, or the numbers of a JSON value with their names."""
    if point is None:
        return formats.NONE
    if point.value is None and (numbers := formats.scalars(point.json)):
        return " · ".join(f"{formats.words(name)} {formats.number(value)}" for name, value in numbers.items())
    return formats.quantity(point.value, unit)


def change_said(point: Point | None) -> str:
    """The relative change in words, with an arrow; none of a period that has not ended: it is no fall."""
    if point is None or point.is_provisional or point.change_percent is None:
        return ""
    if point.direction == "stable":
        return f"→ stable ({formats.percent(point.change_percent)})"
    is_up = point.change_percent > 0
    return f"{'↑ up' if is_up else '↓ down'} {formats.percent(point.change_percent)}"


def period_said(grain: str | None, point: Point, timezone: str) -> str:
    """A period as a person reads it; one that begins at an instant within a day with its zone."""
    return formats.instant(point.start, timezone) if grain == "hour" else point.period


def period_short(grain: str, point: Point, timezone: str) -> str:
    """The same below a picture."""
    return formats.instant(point.start, timezone)[5:16] if grain == "hour" else point.period


def threshold_lines(threshold: Threshold | None) -> list[svg.Line]:
    """The bounds to draw."""
    if threshold is None:
        return []
    return [svg.Line(float(bound), "warning") for bound in threshold.warning] + [
        svg.Line(float(bound), "critical") for bound in threshold.critical
    ]


def plots(
    points: Sequence[Point], grain: str, definition: Definition, timezone: str
) -> Iterable[tuple[str, list[svg.Mark]]]:
    """What there is to plot: the value, or up to three numbers of a JSON value by name. Instants in `timezone`."""
    if all(point.json is None for point in points):
        yield "", [_mark(point, point.value, grain, timezone, definition.unit) for point in points]
        return
    values = [formats.scalars(point.json) for point in points]
    names = list(dict.fromkeys(name for each in values for name in each))[:3]
    for name in names:
        marks = [
            _mark(point, each.get(name), grain, timezone, "")
            for point, each in zip(points, values, strict=True)
        ]
        yield formats.words(name), marks


def _mark(point: Point, value: Decimal | None, grain: str, timezone: str, unit: str) -> svg.Mark:
    said = f"{period_said(grain, point, timezone)}: {formats.quantity(value, unit)}"
    if point.is_provisional:
        said += ", provisional"
    elif point.status in TROUBLE:
        said += f", {point.status}"
    return svg.Mark(
        said, float(value) if value is not None and value.is_finite() else None, point.is_provisional, point.status
    )  # fmt: skip


def in_words(marks: Sequence[svg.Mark]) -> str:
    """What a picture shows, for those who do not see it."""
    shown = [mark for mark in marks if mark.value is not None]
    if not shown:
        return "No values."
    least, most = min(shown, key=lambda m: m.value or 0), max(shown, key=lambda m: m.value or 0)
    return (
        f"{len(marks)} periods. Newest {shown[-1].label}. Least {least.label}. Most {most.label}."
        f" {sum(mark.value is None for mark in marks)} without a value."
    )
