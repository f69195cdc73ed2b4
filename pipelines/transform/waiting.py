"""What a tick would do now, found out cheaply: so that none runs for nothing, and that a missing one is noticed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.subject import in_use
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from pipelines.subject import Connection


@dataclass(frozen=True)
class Waiting:
    """What is there for a tick: loads it has not taken (`loads_since`: the oldest of them), or time that has gone on.

    `since` when there is something to do; None: nothing. `refresh_since`: what stands beside the marts is to be
    looked at again, which a tick does without dbt.
    """

    loads: int
    since: datetime | None
    published_at: datetime | None
    is_rebuild: bool
    loads_since: datetime | None = None
    refresh_since: datetime | None = None


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
        refreshes: list[datetime] = []
        if as_of is not None:
            instants += _next(connection, as_of, [one.next_due for one in in_use()])
            refreshes = _next(connection, as_of, [one.next_refresh for one in in_use()])
    since = min((instant for instant in instants if instant <= moment), default=None)
    refresh_since = min((instant for instant in refreshes if instant <= moment), default=None)
    if is_rebuild and since is None and published_at is not None:
        since = published_at
    return Waiting(loads, since, published_at, is_rebuild, first_load, refresh_since)


def _next(
    connection: Connection,
    as_of: datetime,
    steps: Sequence[Callable[[Connection, datetime], datetime | None] | None],
) -> list[datetime]:
    found = (step(connection, as_of) for step in steps if step is not None)
    return [instant for instant in found if instant is not None]
