"""One look, for whoever asks for it: what the sensors `incidents` and `delivery` do in an evaluation, and no more.

The sensors call the same functions every few seconds; `duemark judge` calls them once, for cron and for tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from pipelines.errors import DuemarkError
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.delivery import Delivered, deliver
from sensors.oncall.incidents.evaluate import Summary, evaluate, remind
from sensors.oncall.incidents.store import in_transaction

if TYPE_CHECKING:
    import psycopg

# Dagster ends an evaluation after 60 s, and lets it run on beside the next one; so it ends itself before.
BUDGET_SECONDS = 30.0


@dataclass(frozen=True)
class Judged:
    """What one look did: incidents and their messages, and what became of the messages."""

    summary: Summary
    delivery: Delivered

    @property
    def exit_code(self) -> int:
        """0: judged, and nobody waits for a message; 1: there was no tick, routes are wrong, or messages wait."""
        is_well = self.summary.as_of is not None and not self.summary.problems
        return 0 if is_well and not self.delivery.pending else 1


def look(settings: Settings, now: datetime | None = None, *, seconds: float = BUDGET_SECONDS) -> Summary:
    """Judge what the last tick published, and tell what time alone makes due."""
    deadline = monotonic() + seconds
    summary = remind(settings, now)
    while not summary.is_complete and monotonic() < deadline:
        summary += evaluate(settings, now)
    return summary


def judge(settings: Settings, as_of: datetime | None = None) -> Judged:
    """Look once by the clock `as_of` (default: now), all of what there is, and send what is due then.

    Raises:
        DuemarkError: `as_of` is before the last look.
    """
    in_transaction(settings, lambda cursor: _refuse_step_back(cursor, as_of))
    summary = look(settings, as_of, seconds=float("inf"))
    if as_of is not None:
        in_transaction(settings, lambda cursor: _note(cursor, as_of))
    return Judged(summary, deliver(settings, as_of, seconds=BUDGET_SECONDS))


def _refuse_step_back(cursor: psycopg.Cursor[Any], as_of: datetime | None) -> None:
    # By the clock of after the lock: a sensor that looked while we waited for it is no look ahead.
    moment = as_of or datetime.now(UTC)
    row = cursor.execute(
        "select evaluated_at from ops.evaluation where evaluated_at > %s", [moment]
    ).fetchone()
    if row is None:
        return
    raise DuemarkError(
        f"The last look was as of {row[0].isoformat()}, which is later than {moment.isoformat()}.",
        "What was sent cannot be taken back: `duemark incidents --replay FROM TO` shows what would have been sent."
        if as_of is not None
        else "It was given a moment that is yet to come: give one that is not before it, with --as-of.",
    )


def _note(cursor: psycopg.Cursor[Any], as_of: datetime) -> None:
    """A look that was asked for is one, even if it found nothing to do."""
    cursor.execute(
        "update ops.evaluation set evaluated_at = %(at)s where evaluated_at < %(at)s", {"at": as_of}
    )
