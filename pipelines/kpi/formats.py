"""Numbers by their unit, instants with their zone, in words that a person reads."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.kpi.standing import Threshold

NONE = "–"
# The end of a unit that stands for many: runs, and neither status nor address.
ONE = re.compile(r"(?<=[^siu])s$")
# Between a number and its unit: no line ends there.
GAP = "\N{NO-BREAK SPACE}"
CURRENCY = re.compile(r"[A-Z]{3}")
SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}
# Units of time, in seconds.
TIMES = {
    "ms": Decimal("0.001"), "milliseconds": Decimal("0.001"), "s": Decimal(1), "seconds": Decimal(1),
    "min": Decimal(60), "minutes": Decimal(60), "h": Decimal(3600), "hours": Decimal(3600), "days": Decimal(86_400),
}  # fmt: skip
COMPARISONS = {"higher": "≥", "lower": "≤"}
PERCENT = frozenset({"percent", "%"})
SHARE = frozenset({"share", "ratio", "fraction"})


def number(value: Decimal) -> str:
    """A number with as many digits as say something: 12,345 or 1,234.5 or 3.14 or 0.00123."""
    if not value.is_finite():
        return str(value)
    size = abs(value)
    if value == value.to_integral_value():
        return _signed(f"{value:,.0f}")
    digits = 0 if size >= 10_000 else 1 if size >= 100 else 2 if size >= 1 else 3 - (size.adjusted() + 1)
    text = f"{value:,.{min(digits, 8)}f}"
    return _signed(text.rstrip("0").rstrip(".") if "." in text and size < 1 else text)


def quantity(value: Decimal | None, unit: str) -> str:
    """A value with its unit; a dash for none."""
    if value is None:
        return NONE
    if not value.is_finite():
        return str(value)
    if unit in SHARE:
        return f"{_percent(value * 100)}{GAP}%"
    if unit in PERCENT:
        return f"{_percent(value)}{GAP}%"
    if unit in TIMES:
        return duration(value * TIMES[unit])
    if CURRENCY.fullmatch(unit):
        text = f"{abs(value):,.2f}" if abs(value) < 100_000 else f"{abs(value):,.0f}"
        minus = "−" if value < 0 else ""
        return f"{minus}{SIGNS[unit]}{text}" if unit in SIGNS else f"{minus}{text}{GAP}{unit}"
    if abs(value) == 1:
        unit = ONE.sub("", unit)
    return f"{number(value)}{GAP}{unit}" if unit else number(value)


def difference(value: Decimal | None, unit: str) -> str:
    """A change, with its sign; shares and percents in points."""
    if value is None or not value.is_finite():
        return NONE
    sign = "+" if value > 0 else ""
    if unit in SHARE or unit in PERCENT:
        return f"{sign}{_percent(value * 100 if unit in SHARE else value)}{GAP}points"
    return sign + quantity(value, unit)


def percent(value: Decimal | None) -> str:
    """A relative change, in percent, without a sign."""
    return NONE if value is None or not value.is_finite() else f"{_percent(abs(value))}{GAP}%"


def _percent(value: Decimal) -> str:
    if value == value.to_integral_value():
        return _signed(f"{value:,.0f}")
    return _signed(f"{value:,.2f}" if abs(value) < 1 or 99 < abs(value) < 101 else f"{value:,.1f}")


def _signed(text: str) -> str:
    """A minus that is as wide as a digit."""
    return text.replace("-", "−")


def duration(seconds: Decimal) -> str:
    """The two largest parts: 2 d 3 h, 1 h 12 min, 45 s, 0.25 s."""
    minus, size = ("−" if seconds < 0 else ""), abs(seconds)
    if size < 60:
        return f"{minus}{number(size)}{GAP}s"
    whole = int(size.to_integral_value())
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole % 60, "s")]
    first = next(place for place, (count, _) in enumerate(parts) if count)
    return minus + GAP.join(f"{count}{GAP}{name}" for count, name in parts[first : first + 2] if count)


def time_steps(unit: str) -> list[float]:
    """Round steps of a unit of time, in it; none for other units."""
    if unit not in TIMES:
        return []
    minutes = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 14_400, 43_200)
    seconds = [1, 2, 5, 10, 15, 30, *(60 * each for each in minutes)]
    return [float(each / TIMES[unit]) for each in map(Decimal, seconds)]


def lateness(by: timedelta) -> str:
    """The same for an interval."""
    return duration(Decimal(int(by.total_seconds())))


def instant(moment: datetime | None, timezone: str) -> str:
    """`2026-03-03 09:15 EST`: the wall clock of a zone, and which one it is."""
    if moment is None:
        return NONE
    local = moment.astimezone(ZoneInfo(timezone))
    name = local.tzname() or ""
    # Not by `strftime`, which takes twice as long: a board has a hundred thousand instants.
    clock = local.isoformat(" ", "minutes")[:16]
    # Zones without a name of their own are known to themselves by their offset.
    return f"{clock} {f'UTC{name}' if name[:1] in {'+', '-'} else name}"


def iso(moment: datetime | None) -> str:
    """For machines."""
    return moment.isoformat() if moment else ""


def words(key: str) -> str:
    """`totalMinutesActivity` or `files_created` as a person writes it."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key).replace("_", " ").strip()
    return spaced[:1].upper() + spaced[1:].lower() if spaced else key


def and_list(texts: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last


def bounds(threshold: Threshold | None, unit: str) -> list[str]:
    """`warning ≥ 5 %`, `critical ≥ 10 %`; of a band `warning outside 3 to 7`."""
    if threshold is None:
        return []
    texts = []
    for level, limits in (("warning", threshold.warning), ("critical", threshold.critical)):
        said = [quantity(limit, unit) for limit in limits]
        if len(said) == 2:
            texts.append(f"{level} outside {said[0]} to {said[1]}")
        elif said:
            texts.append(f"{level} {COMPARISONS.get(threshold.direction, '=')}{GAP}{said[0]}")
    return texts


def scalars(json: Any) -> dict[str, Decimal]:
    """The numbers of a JSON value, by name: what can be plotted of it."""
    if not isinstance(json, dict):
        return {}
    return {
        str(key): Decimal(str(value))
        for key, value in json.items()
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    }


def lists(json: Any) -> dict[str, list[dict[str, Any]]]:
    """The lists of objects of a JSON value, by name: its tables."""
    if not isinstance(json, dict):
        return {}
    return {
        str(key): [row for row in value if isinstance(row, dict)]
        for key, value in json.items()
        if isinstance(value, list)
    }
