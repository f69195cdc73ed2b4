"""What a tick would do now, found out cheaply: so that none runs for nothing, and that a missing one is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

# The first instant after `published` at which time alone changes a mart of the subject, None without one. Called with
# (connection, published). By name, because transform imports no subject.
NEXT_INSTANTS = (
    "pipelines.slo.due:next_instant",
    "pipelines.metrics.due:next_instant",
    "pipelines.copies.due:next_instant",
    "pipelines.kpi.due:next_instant",
)


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
            instants += [instant for name in NEXT_INSTANTS if (instant := _call(name, connection, as_of))]
    due = [instant for instant in instants if instant <= moment]
    since = min(due) if due else None
    if is_rebuild and since is None and published_at is not None:
        since = published_at
    return Waiting(loads, since, published_at, is_rebuild, first_load)


def _call(name: str, connection: psycopg.Connection[Any], published: datetime) -> datetime | None:
    instant: datetime | None = resolve_name(name)(connection, published)
    return instant
