"""Duemark's own job: its ticks are statuses of the job `tick` of the application `duemark`, where the catalog has it.

Told is what its SLO needs and no more, for a status is a load, and a load wants a tick: the first tick of each
half-hour that did what there was to do, every one that failed, and every Dagster run of the job `tick`. Ticks that only
take in such statuses are not told of again within the half-hour, so nothing goes round in circles.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import psycopg

from pipelines.catalog.models import OWN_APPLICATION
from pipelines.errors import DuemarkError
from pipelines.logs import get_logger
from pipelines.transform.waiting import waiting
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

log = get_logger(__name__)

OWN_JOB = "tick"
FEED = "job_status"
SOURCE = "duemark"
# A success is told once in each of them, counted from midnight UTC: the windows of the SLO in the catalog.
PERIOD = timedelta(minutes=30)
# Dagster's runs that ended longer ago were told, or nobody was there to tell of them.
RECENT = timedelta(days=1)
MOST_RUNS = 50

ENDED = {
    dg.DagsterRunStatus.SUCCESS: "SUCCEED",
    dg.DagsterRunStatus.FAILURE: "FAIL",
    dg.DagsterRunStatus.CANCELED: "FAIL",
}

# (run id, status, at); the business date is that of the run's start, in UTC.
Status = tuple[str, str, datetime, date]


def tracked(
    settings: Settings,
    instance: dg.DagsterInstance,
    look: Callable[[], dg.SkipReason | dg.RunRequest],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SkipReason | dg.RunRequest:
    """Do what `look` does, a minute's look of the schedule `tick`, and tell of it and of runs that ended meanwhile.

    A look that asks for a run is no tick: the run is. What `look` raises is told as FAIL, and raised.
    """
    started = now()
    try:
        found = look()
    except Exception as error:
        try:
            tell(settings, instance, started, now(), is_good=False)
        except (DuemarkError, psycopg.Error) as second:
            log.warning("own failure not told", problem=str(second), after=str(error))
        raise
    # Whether by this look, by another or by a run: the marts show what there was when it began.
    is_good = isinstance(found, dg.SkipReason) and waiting(settings, started).since is None
    tell(settings, instance, started, now(), is_good=is_good or None)
    return found


def tell(
    settings: Settings,
    instance: dg.DagsterInstance,
    started: datetime,
    ended: datetime,
    *,
    is_good: bool | None,
) -> int:
    """Append the statuses of a tick from `started` to `ended` (None: there was none) and of runs; return their number.

    None before the first half-hour of a first day: an SLO whose first entry has no `effective_from` begins with the
    whole of the date of its first status, and nobody promised the hours before Duemark was there.
    """
    with connect(settings, "ingest", autocommit=True) as connection:
        if not _is_tracked(connection):
            return 0
        last = connection.execute(
            "select business_date, status_code, status_at from raw.job_status"
            " where application_id = %s and job_id = %s order by business_date desc, status_at desc limit 1",
            [OWN_APPLICATION, OWN_JOB],
        ).fetchone()
        if last is None and _period(started) != _period(started.replace(hour=0, minute=0)):
            return 0
        statuses: list[Status] = []
        if is_good is False or (is_good and not _is_told(last, started)):
            run_id = f"{started:%Y%m%dT%H%M%SZ}"
            code = "SUCCEED" if is_good else "FAIL"
            statuses += _run(run_id, code, started, ended)
        if last is not None:
            statuses += _runs(connection, instance, ended, {day for *_, day in statuses})
    if statuses:
        # Pandas, which a look without news does without.
        from pipelines.landing.append import append

        # Its dates are those of UTC, whatever zone the catalog gives its application.
        context = {OWN_APPLICATION: "UTC"}
        append(settings, FEED, [_row(status) for status in statuses], source=SOURCE, context=context)
    return len(statuses)


def _row(status: Status) -> dict[str, object]:
    run_id, code, at, day = status
    return {
        "application_id": OWN_APPLICATION,
        "job_id": OWN_JOB,
        "status_code": code,
        "status_at": at,
        "business_date": day,
        "run_id": run_id,
    }


def _is_tracked(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute(
        "select not is_retired from catalog.job_version where application_id = %s and job_id = %s"
        " order by load_id desc limit 1",
        [OWN_APPLICATION, OWN_JOB],
    ).fetchone()
    return bool(row and row[0])


def _period(at: datetime) -> datetime:
    midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // PERIOD * PERIOD


def _is_told(last: tuple[Any, ...] | None, started: datetime) -> bool:
    return last is not None and last[1] == "SUCCEED" and last[2] >= _period(started)


def _run(run_id: str, code: str, started: datetime, ended: datetime) -> list[Status]:
    day = started.astimezone(UTC).date()
    return [(run_id, "START", started, day), (run_id, code, max(started, ended), day)]


def _runs(
    connection: psycopg.Connection[Any], instance: dg.DagsterInstance, now: datetime, begun: set[date]
) -> list[Status]:
    """Runs of the job that ended of late and that nothing was told of."""
    records = instance.get_run_records(
        dg.RunsFilter(job_name=OWN_JOB, statuses=list(ENDED), updated_after=now - RECENT), limit=MOST_RUNS
    )
    ended = [record for record in records if record.start_time and record.end_time]
    if not ended:
        return []
    told = connection.execute(
        "select run_id, business_date from raw.job_status"
        " where application_id = %s and job_id = %s and business_date = any(%s)",
        [OWN_APPLICATION, OWN_JOB, [_instant(record.start_time).date() for record in ended]],
    ).fetchall()
    known = {run_id for run_id, _ in told}
    # A date is not begun by a run: not the first one, and none that was slept over.
    days = begun | {day for _, day in told}
    return [
        status
        for record in ended
        if record.dagster_run.run_id not in known and _instant(record.start_time).date() in days
        for status in _of(record)
    ]


def _of(record: dg.RunRecord) -> list[Status]:
    run = record.dagster_run
    return _run(run.run_id, ENDED[run.status], _instant(record.start_time), _instant(record.end_time))


def _instant(seconds: float | None) -> datetime:
    return datetime.fromtimestamp(seconds or 0.0, UTC)
