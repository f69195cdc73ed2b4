"""What definitions say, as it is read and told: columns, values, time ranges."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipelines.kpi.grains import GRAINS
from pipelines.kpi.model import Window

Columns = Mapping[str, str]
"""Postgres types by name."""


def exact(name: str, columns: Columns) -> str:
    """The column's own spelling, where only the case differs."""
    if name in columns:
        return name
    same = [one for one in columns if one.lower() == name.lower()]
    return same[0] if len(same) == 1 else name


def window_of(time_range: str | None) -> Window | None:
    """What `last_N_days` or `GRAIN_to_date` means; None without a time range."""
    if time_range is None:
        return None
    days = re.fullmatch(r"last_(\d+)_days", time_range)
    if days:
        return Window(days=int(days[1]))
    grain = time_range.removesuffix("_to_date")
    return Window(to_date=next(one for one in GRAINS if one == grain))


def value_text(value: object) -> str:
    """A filter's value as it is written in SQL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


def article(kind: str | None) -> str:
    """A class of columns with its article, for messages: `an instant`, `a date`."""
    if kind in (None, "text", "JSON"):
        return str(kind)
    if kind == "other":
        return "of another type"
    return f"an {kind}" if str(kind)[0] in "aeiou" else f"a {kind}"
