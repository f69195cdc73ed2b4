"""What Dagster keeps of old runs, taken out: runs with their events and logs, and events told outside of runs.

The newest run of each job and the newest event of each asset and check stay, so that nothing looks as if it had never
run. The marts and the journals of the warehouse are no part of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pipelines.orchestration.dagster_private.tables import delete_old_checks, delete_old_events, old_runs
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

BATCH = 100
EVENTS_BATCH = 20_000


@dataclass(frozen=True)
class Purged:
    """What was taken out. `is_done`: nothing that old is left."""

    runs: int
    events: int
    is_done: bool


def purge(
    settings: Settings,
    instance: DagsterInstance,
    keep: timedelta,
    *,
    now: datetime | None = None,
    seconds: float | None = None,
) -> Purged:
    """Take out what is older than `keep`, for about so many `seconds` at most; the next call goes on from there.

    May be killed at any point, and run beside anything.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    before = (now or datetime.now(UTC)) - keep
    runs = events = 0
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
        for delete in (delete_old_events, delete_old_checks):
            gone = EVENTS_BATCH
            while gone == EVENTS_BATCH:
                if deadline is not None and time.monotonic() > deadline:
                    return Purged(runs, events, is_done=False)
                gone = delete(cursor, before, EVENTS_BATCH)
                events += gone
    return Purged(runs, events, is_done=True)
