"""When what is forecast is to be looked at again, though nothing came. Asked every few seconds: imports nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.subject import Connection

EVERY = timedelta(minutes=1)


def next_refresh(connection: Connection, as_of: datetime) -> datetime | None:
    """A minute after the last tick, while anything is open; None: nothing is."""
    row: Any = connection.execute("select exists (select from forecast.occurrence where is_open)").fetchone()
    return as_of + EVERY if row[0] else None
