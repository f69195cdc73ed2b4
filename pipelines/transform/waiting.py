"""What a tick would do now, found out cheaply: so that none runs for nothing, and that a missing one is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.subject import in_use
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings


@dataclass(frozen=True)
class Waiting:
    """What is there for a tick: loads it has not taken (`loads_since`: the oldest of them), or time that has gone on.

    `since` when there is something to do; None: nothing.
    """

    loads: int
    since: datetime | None
    published_at: datetime | None
    is_rebuild: bool
    loads_since: datetime | None = None


def waiting(settings: Settings, now: datetime | None = None) -> Waiting:
    """What waits for a tick at `now`: loads, or an instant that has come. Reads a few index entries."""
    moment = now or datetime.now(UTC)
    with connect(settings, "transform") as connection:
        row: Any = connection.execute(
            "select published_high, nullif(published_as_of, '-infinity'), published_at, needs_rebuild from control.tick"
        ).fetchone()
        high, as_of, published_at, is_rebuild = row
        counted: Any = connection.execute(
            "select count(*), min(received_at) from raw.load where load_id > %s", [high]
        ).fetchone()
        loads, first_load = counted
        instants: list[datetime] = [first_load] if first_load else []
        if as_of is not None:
            steps = [one.next_due for one in in_use() if one.next_due is not None]
            instants += [
                instant for next_due in steps if (instant := next_due(connection, as_of)) is not None
            ]
    due = [instant for instant in instants if instant <= moment]
    since = min(due) if due else None
    if is_rebuild and since is None and published_at is not None:
        since = published_at
    return Waiting(loads, since, published_at, is_rebuild, first_load)
