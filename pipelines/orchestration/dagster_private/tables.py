"""Dagster's own tables, read with plain SQL: it works when Dagster does not.

Dagster's times are in UTC without saying so. A `Cursor` is one of Dagster's own database.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg

from pipelines.orchestration.dagster_private.servers import Server, error_text

if TYPE_CHECKING:
    Cursor = psycopg.Cursor[Any]


@dataclass(frozen=True)
class Heartbeat:
    """The last one of a part of the daemon, by a process."""

    part: str
    process: str
    at: datetime


@dataclass(frozen=True)
class FailedTick:
    """A tick that failed. `is_timeout`: it took too long. `reason`: what was raised."""

    at: datetime
    is_timeout: bool
    reason: str


@dataclass(frozen=True)
class Instigator:
    """A sensor or schedule as Dagster keeps it.

    `ticked_at`: its last tick that reached its code; `is_failing`: the last one that ended failed; `failed`: the last
    failure that is recent, or is the last tick of all.
    """

    location: str
    name: str
    is_schedule: bool
    status: str
    """RUNNING or STOPPED where somebody switched it; DECLARED_IN_CODE: as the code says."""
    interval: int | None
    started_at: datetime | None
    ticked_at: datetime | None
    is_failing: bool = False
    failed: FailedTick | None = None


@dataclass(frozen=True)
class FailedRun:
    """The last failed run of a job; `is_over`: a run that succeeded ended after it. `is_retried`: by Dagster itself."""

    job: str
    run_id: str
    ended_at: datetime
    is_over: bool
    is_retried: bool
    reason: str


@dataclass(frozen=True)
class PendingRun:
    """A run that has not ended. `is_gone`: its code server says that it has no such process."""

    run_id: str
    job: str
    status: str
    created_at: datetime
    active_at: datetime
    is_gone: bool = False


@dataclass(frozen=True)
class FailedCheck:
    """The last failure of an asset check; `is_over`: it passed after it. `is_warning`: its severity."""

    asset: str
    check: str
    partition: str
    failed_at: datetime
    is_over: bool
    is_warning: bool
    run_id: str
    reason: str


TABLES = (
    "runs",
    "run_tags",
    "event_logs",
    "daemon_heartbeats",
    "instigators",
    "job_ticks",
    "asset_check_executions",
)


def are_there(cursor: Cursor) -> bool:
    """Dagster makes its tables when it is first started."""
    row = cursor.execute(
        "select count(*) from unnest(%s::text[]) as name where to_regclass('public.' || name) is null",
        [list(TABLES)],
    ).fetchone()
    return row is not None and row[0] == 0


def heartbeats(cursor: Cursor) -> list[Heartbeat]:
    """The last of each part of the daemon."""
    rows = cursor.execute(
        "select daemon_type, coalesce(daemon_id, ''), timestamp at time zone 'UTC' from daemon_heartbeats"
    )
    return [Heartbeat(*row) for row in rows]


# A tick whose code server was not reached tells of the location, not of the sensor.
_UNREACHED = (
    "(job_ticks.status = 'FAILURE' and tick_body like '%%UserCodeUnreachableError%%'"
    " and tick_body not like '%%timed out%%')"
)


def instigators(cursor: Cursor, since: datetime) -> list[Instigator]:
    """Every sensor and schedule that ever ticked or was switched; failures after `since` are recent."""
    rows = cursor.execute(
        f"""
        select
            instigator_body::jsonb, instigator_type = 'SCHEDULE', instigators.status, ticked.at, ended.status, ended.at,
            ended.tick_body, failed.at, failed.tick_body
        from instigators
        left join lateral (
            select job_ticks.timestamp at time zone 'UTC' as at from job_ticks
            where job_ticks.selector_id = instigators.selector_id and not {_UNREACHED}
            order by job_ticks.timestamp desc limit 1
        ) as ticked on true
        left join lateral (
            select
                job_ticks.status, job_ticks.timestamp at time zone 'UTC' as at,
                case when job_ticks.status = 'FAILURE' then tick_body end as tick_body
            from job_ticks
            where job_ticks.selector_id = instigators.selector_id and job_ticks.status <> 'STARTED'
                and not {_UNREACHED}
            order by job_ticks.timestamp desc limit 1
        ) as ended on true
        left join lateral (
            select job_ticks.timestamp at time zone 'UTC' as at, tick_body from job_ticks
            where job_ticks.selector_id = instigators.selector_id and job_ticks.status = 'FAILURE'
                and job_ticks.timestamp > %(since)s::timestamptz at time zone 'UTC'
                and not {_UNREACHED}
            order by job_ticks.timestamp desc limit 1
        ) as failed on true
        where instigator_type in ('SENSOR', 'SCHEDULE')
        """,  # noqa: S608 - a constant
        {"since": since},
    ).fetchall()
    return [_instigator(*row) for row in rows]


def _instigator(
    body: Mapping[str, Any], is_schedule: bool, status: str, ticked_at: datetime | None, ended: str | None,
    ended_at: datetime | None, ended_body: str | None, failed_at: datetime | None, failed_body: str | None,
) -> Instigator:  # fmt: skip
    origin, data = body["origin"], body.get("job_specific_data") or {}
    location = origin["external_repository_origin"]["repository_location_origin"].get("location_name") or ""
    started = data.get("start_timestamp") if is_schedule else data.get("last_sensor_start_timestamp")
    is_failing = ended == "FAILURE" and ended_at is not None
    if is_failing and (failed_at is None or (ended_at is not None and ended_at > failed_at)):
        failed_at, failed_body = ended_at, ended_body
    return Instigator(
        location=location,
        name=origin["job_name"],
        is_schedule=is_schedule,
        status=status,
        interval=data.get("min_interval"),
        started_at=datetime.fromtimestamp(started, UTC) if started else None,
        ticked_at=ticked_at,
        is_failing=is_failing,
        failed=_tick(failed_at, failed_body or "") if failed_at else None,
    )


def _tick(at: datetime, body: str) -> FailedTick:
    is_timeout = "UserCodeUnreachableError" in body and "timed out" in body
    try:
        reason = error_text(json.loads(body).get("error"))
    except ValueError:
        reason = ""
    return FailedTick(at, is_timeout, reason)


def failed_runs(cursor: Cursor, floor: datetime) -> list[FailedRun]:
    """The last failed run of each job that failed after `floor`."""
    rows = cursor.execute(
        """
        select distinct on (failed.pipeline_name)
            failed.pipeline_name, failed.run_id, to_timestamp(failed.ended),
            exists (
                select from runs as other
                where other.pipeline_name = failed.pipeline_name and other.status = 'SUCCESS'
                    and other.update_timestamp >= failed.update_timestamp and other.end_time > failed.ended
            ),
            exists (
                select from run_tags
                where run_tags.run_id = failed.run_id and key = 'dagster/will_retry' and value = 'true'
            )
        from (
            select
                *, coalesce(end_time, extract(epoch from update_timestamp at time zone 'UTC')::float) as ended
            from runs
            where status = 'FAILURE' and update_timestamp > %(floor)s::timestamptz at time zone 'UTC'
        ) as failed
        order by failed.pipeline_name, failed.ended desc
        """,
        {"floor": floor},
    ).fetchall()
    return [
        FailedRun(job, run_id, ended_at, is_over, is_retried, _run_reason(cursor, run_id))
        for job, run_id, ended_at, is_over, is_retried in rows
    ]


def _run_reason(cursor: Cursor, run_id: str) -> str:
    """What the run's first failed step raised, or what was said of its end."""
    rows = cursor.execute(
        "select event, dagster_event_type from event_logs where run_id = %s and dagster_event_type ="
        " any(array['STEP_FAILURE', 'PIPELINE_FAILURE', 'RUN_FAILURE', 'ENGINE_EVENT'])"
        " order by dagster_event_type <> 'STEP_FAILURE', id desc limit 3",
        [run_id],
    ).fetchall()
    fallback = ""
    for body, kind in rows:
        try:
            event = json.loads(body)["dagster_event"]
        except (ValueError, KeyError, TypeError):
            continue
        data = event.get("event_specific_data") or {}
        if kind == "STEP_FAILURE":
            said = (data.get("user_failure_data") or {}).get("description") or error_text(data.get("error"))
            return f"Step {event.get('step_key')}: {' '.join(str(said).split())[:500]}"
        fallback = fallback or error_text(data.get("error")) or str(event.get("message") or "")
        if kind == "ENGINE_EVENT" and "exit" in str(event.get("message")):
            return " ".join(str(event["message"]).split())[:500]
    return " ".join(fallback.split())[:500]


def pending_runs(cursor: Cursor) -> list[PendingRun]:
    """Runs that have not ended, the oldest thousand."""
    rows = cursor.execute(
        """
        select
            run_id, pipeline_name, status, create_timestamp at time zone 'UTC',
            greatest(
                create_timestamp at time zone 'UTC', to_timestamp(start_time),
                (
                    select event_logs.timestamp at time zone 'UTC' from event_logs
                    where event_logs.run_id = runs.run_id order by event_logs.id desc limit 1
                )
            )
        from runs
        where status in ('NOT_STARTED', 'QUEUED', 'STARTING', 'STARTED', 'CANCELING')
        order by id
        limit 1000
        """
    )
    return [PendingRun(*row) for row in rows]


def server_of(cursor: Cursor, run_id: str) -> Server | None:
    """The code server that started the run; None where none is known."""
    row = cursor.execute(
        "select value from run_tags where run_id = %s and key = '.dagster/grpc_info'", [run_id]
    ).fetchone()
    if row is None:
        return None
    try:
        info = json.loads(row[0])
        return Server(
            "",
            info.get("socket"),
            info.get("host") or "localhost",
            info.get("port"),
            bool(info.get("use_ssl")),
        )
    except (ValueError, AttributeError):
        return None


def last_event_id(cursor: Cursor) -> int:
    """The newest of the event log, 0 where it is empty."""
    row = cursor.execute("select coalesce(max(id), 0) from event_logs").fetchone()
    return int(row[0]) if row else 0


def failed_checks(
    cursor: Cursor,
    event_id: int,
    others: Collection[tuple[str, str, str]],
    floor: datetime,
    *,
    but_assets: Collection[str],
    but_check: str,
) -> list[FailedCheck]:
    """Checks that failed since the event, and `others`, each as it is now; none that failed before `floor`.

    `others`: asset key as JSON, check, partition or "". Left out are checks of assets whose key begins with
    one of `but_assets`, and those of the name `but_check`.
    """
    rows = cursor.execute(
        """
        select distinct data -> 'asset_key' -> 'path', data ->> 'check_name', coalesce(data ->> 'partition', '')
        from event_logs
        cross join lateral (
            select event::jsonb -> 'dagster_event' -> 'event_specific_data' as data
        ) as parsed
        where dagster_event_type = 'ASSET_CHECK_EVALUATION' and id > %(low)s and data -> 'success' = 'false'
            and data -> 'asset_key' -> 'path' ->> 0 <> all(%(but_assets)s)
            and data ->> 'check_name' <> %(but_check)s
            -- Thousands may be told at once: they are passed over before they are parsed.
            and event not like all(%(but_texts)s)
        """,
        {
            "low": event_id,
            "but_assets": list(but_assets),
            "but_check": but_check,
            "but_texts": [f'%"path": ["{one}", %' for one in but_assets],
        },
    ).fetchall()
    found = {(json.dumps(path), str(check), str(partition)) for path, check, partition in rows}
    checks = [_check(cursor, *one, floor) for one in sorted(found | set(others))]
    return [one for one in checks if one is not None]


def _check(cursor: Cursor, asset: str, check: str, partition: str, floor: datetime) -> FailedCheck | None:
    rows = cursor.execute(
        """
        select distinct on (execution_status)
            execution_status, evaluation_event_timestamp at time zone 'UTC', run_id, evaluation_event
        from asset_check_executions
        where asset_key = %s and check_name = %s and coalesce(partition, '') = %s
            and execution_status in ('SUCCEEDED', 'FAILED') and evaluation_event_storage_id is not null
        order by execution_status, evaluation_event_storage_id desc
        """,
        [asset, check, partition],
    ).fetchall()
    ended = {row[0]: row[1:] for row in rows}
    failed, passed = ended.get("FAILED"), ended.get("SUCCEEDED")
    if failed is None or failed[0] < floor:
        return None
    try:
        data = json.loads(failed[2])["dagster_event"]["event_specific_data"]
    except (ValueError, KeyError, TypeError):
        data = {}
    return FailedCheck(
        "/".join(json.loads(asset)),
        check,
        partition,
        failed[0],
        passed is not None and passed[0] > failed[0],
        str((data.get("severity") or {}).get("__enum__", "")).endswith(".WARN"),
        failed[1] or "",
        " ".join(str(data.get("description") or "").split())[:500],
    )


# What is old

_OLD_RUNS = """
select run_id from runs
where status in ('SUCCESS', 'FAILURE', 'CANCELED') and create_timestamp < %(before)s
    and id not in (select max(id) from runs group by pipeline_name)
order by id limit %(limit)s
"""

# Asset events outside of runs (completions of tracked jobs, checks): the newest of its kind stay.
_OLD_EVENTS = """
with newest as (
    select id
    from (
        select id, row_number() over (partition by asset_key, dagster_event_type order by id desc) as place
        from event_logs where run_id = '' and asset_key is not null
    ) as placed
    where place <= %(kept)s
),
checked as (
    select max(evaluation_event_storage_id) as id from asset_check_executions group by asset_key, check_name
)
delete from event_logs where id in (
    select id from event_logs
    where run_id = '' and timestamp < %(before)s
        and id not in (select id from newest)
        and id not in (select id from checked where id is not null)
    order by id limit %(limit)s
)
"""
_OLD_CHECKS = """
delete from asset_check_executions where id in (
    select id from asset_check_executions
    where create_timestamp < %(before)s
        and id not in (select max(id) from asset_check_executions group by asset_key, check_name)
    order by id limit %(limit)s
)
"""

# The newest of each sensor stays: by it is known when it last ran.
_IDLE_TICKS = """
delete from job_ticks where id in (
    select id from job_ticks
    where status = 'SKIPPED' and timestamp < %(before)s
        and tick_body::jsonb ->> 'skip_reason' ~ %(idle)s
        and id not in (select max(id) from job_ticks group by selector_id)
    limit %(limit)s
)
"""


def old_runs(cursor: Cursor, before: datetime, limit: int) -> list[str]:
    """Ids of the oldest runs that were made before and have ended; the newest run of each job is none of them."""
    rows = cursor.execute(_OLD_RUNS, {"before": _stored(before), "limit": limit})
    return [str(run_id) for (run_id,) in rows]


def delete_old_events(cursor: Cursor, before: datetime, limit: int, kept: int) -> int:
    """Take out the oldest events of assets told outside of runs before, but for the `kept` newest of each of a kind.

    Returns their number, at most `limit`.
    """
    parameters = {"before": _stored(before), "limit": limit, "kept": kept}
    return cursor.execute(_OLD_EVENTS, parameters).rowcount


def delete_old_checks(cursor: Cursor, before: datetime, limit: int) -> int:
    """Take out what is kept of the oldest checks, but for the newest of each; return their number."""
    return cursor.execute(_OLD_CHECKS, {"before": _stored(before), "limit": limit}).rowcount


def delete_idle_ticks(cursor: Cursor, before: datetime, limit: int, idle: str) -> int:
    """Take out ticks of sensors and schedules that were skipped before for a reason that `idle` matches.

    `idle` is a regular expression of PostgreSQL. The newest tick of each stays. Returns their number, at most `limit`.
    """
    parameters = {"before": _stored(before), "idle": idle, "limit": limit}
    return cursor.execute(_IDLE_TICKS, parameters).rowcount


def _stored(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)
