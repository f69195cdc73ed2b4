"""One look: ask, read, judge, and write what changed and whom to tell, in one transaction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import psycopg

from pipelines.logs import get_logger
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.model import Incident
from sensors.oncall.incidents.store import current_routes, in_transaction, open_incidents, reconcile, tell
from sensors.oncall.watch.findings import KINDS, ending, judge
from sensors.oncall.watch.limits import Limits, expected
from sensors.oncall.watch.observed import ask_servers, read_facts, write_memory

if TYPE_CHECKING:
    Cursor = psycopg.Cursor[Any]

log = get_logger(__name__)

Watcher = Literal["inside", "outside"]


@dataclass(frozen=True)
class Seen:
    """What a look found. `open`: all that is wrong now; `opened` and `resolved`: what this look changed.

    `server_started_at`: since when the database runs without an interruption.
    """

    at: datetime
    open: list[Incident] = field(default_factory=list)
    opened: list[Incident] = field(default_factory=list)
    resolved: list[Incident] = field(default_factory=list)
    messages: int = 0
    server_started_at: datetime | None = None

    def has(self, kind: str) -> bool:
        """Whether something of this kind is wrong."""
        return any(one.key.kind == kind for one in self.open)


def look(
    settings: Settings,
    now: datetime | None = None,
    *,
    watcher: Watcher = "outside",
    limits: Limits | None = None,
    expect: Collection[tuple[str, str]] | None = None,
) -> Seen:
    """Look at all of Duemark's own parts; what is wrong is told once, by whoever sees it first, and its end once.

    Safe from several processes at once. Raises when the database does not answer: then nobody can be told through it.
    """
    limits = limits or Limits.of(settings)
    names = expected(settings) if expect is None else expect
    # Code servers may take seconds to say nothing: before the lock, which others wait for.
    asked = ask_servers(settings, limits, now)

    def work(cursor: Cursor) -> Seen:
        # After the lock: two that look at once must not go back in time.
        moment = now or datetime.now(UTC)
        observed = read_facts(cursor, settings, limits, asked, moment)
        standing = open_incidents(cursor, KINDS)
        wanted = judge(observed, limits, names, standing)
        done = reconcile(cursor, KINDS, wanted, lambda one: ending(one, observed, limits), now=moment)
        routes, _ = current_routes(cursor, settings, moment)
        messages = tell(cursor, routes, moment, done.over, site=settings.url)
        write_memory(cursor, observed.memory, watcher)
        return Seen(
            moment,
            open_incidents(cursor, KINDS),
            done.opened,
            done.resolved,
            messages,
            observed.server_started_at,
        )

    seen: Seen = in_transaction(settings, work)
    for one in seen.opened:
        log.error(
            "found", kind=one.key.kind, subject=one.key.subject, message=one.message, incident=one.incident_id
        )
    for one in seen.resolved:
        log.info(
            "over", kind=one.key.kind, subject=one.key.subject, message=one.message, incident=one.incident_id
        )
    return seen
