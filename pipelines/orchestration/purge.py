"""What Dagster keeps of old runs, taken out: runs with their events and logs, and events told outside of runs.

The newest run of each job, the newest events of each asset and the newest of each check stay, so that nothing looks as
if it had never run, and the history of an asset is there. The marts and the journals of the warehouse are no part
of it.

Evaluations of sensors and schedules go too: those that found nothing to do after a day. There is one every two seconds,
and what the others did could not be found among them; Dagster itself takes out all after a week.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from pipelines.orchestration.dagster_private.tables import (
    delete_idle_ticks,
    delete_old_checks,
    delete_old_events,
    old_runs,
)
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

BATCH = 100
EVENTS_BATCH = 20_000
IDLE_KEPT = timedelta(days=1)
# Events of an asset, of each kind, however old they are.
EVENTS_KEPT = 60
# How an evaluation begins that did nothing: no work was found, or what is wrong is what it was. PostgreSQL's.
IDLE = r"^(nothing |no tick yet|0 delivered, 0 refused, |0 runs and 0 events |\d+ open: )"


@dataclass(frozen=True)
class Purged:
    """What was taken out. `idle`: evaluations that had done nothing. `is_done`: nothing that old is left."""

    runs: int
    events: int
    is_done: bool
    idle: int = 0


def purge(
    settings: Settings,
    instance: DagsterInstance,
    keep: timedelta,
    *,
    now: datetime | None = None,
    seconds: float | None = None,
) -> Purged:
    """Take out what is older than `keep`, and evaluations that found nothing to do a day ago or earlier.

    It takes about so many `seconds` at most; the next call goes on from there. May be killed at any point, and run
    beside anything.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    now = now or datetime.now(UTC)
    before = now - keep
    runs = events = idle = 0
    with (
        connect(settings, autocommit=True, database=settings.dagster_database) as connection,
        connection.cursor() as cursor,
    ):
        while found := old_runs(cursor, before, BATCH):
            for run_id in found:
                if deadline is not None and time.monotonic() > deadline:
                    return Purged(runs, events, is_done=False)
                instance.compute_log_manager.delete_logs(prefix=[run_id])
                instance.delete_run(run_id)
                runs += 1
        for delete in (partial(delete_old_events, kept=EVENTS_KEPT), delete_old_checks):
            gone = EVENTS_BATCH
            while gone == EVENTS_BATCH:
                if deadline is not None and time.monotonic() > deadline:
                    return Purged(runs, events, is_done=False)
                gone = delete(cursor, before, EVENTS_BATCH)
                events += gone
        gone = EVENTS_BATCH
        while gone == EVENTS_BATCH:
            if deadline is not None and time.monotonic() > deadline:
                return Purged(runs, events, is_done=False, idle=idle)
            gone = delete_idle_ticks(cursor, now - IDLE_KEPT, EVENTS_BATCH, IDLE)
            idle += gone
    return Purged(runs, events, is_done=True, idle=idle)
