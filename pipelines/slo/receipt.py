"""How far ahead of its receipt a status may lie: what clocks differ by. Beyond, it is from the future."""

from __future__ import annotations

from datetime import timedelta

FUTURE_STATUS = timedelta(minutes=5)


def as_sql() -> str:
    """The same as people say it, and as an interval of SQL has it."""
    return f"{FUTURE_STATUS // timedelta(minutes=1)} minutes"
