"""What the rules judge: read from the marts, the catalog and what has landed, for what changed.

What is a function of marts, catalog and copies alone is a view of the dbt project (`dbt_project/models/incidents`);
here stands what asks for given keys, judges over time, or keeps something from one look to the next. Every function
reads in the caller's transaction, so that all of them see the marts of one tick.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sensors.oncall.incidents.model import Incident, JobKey, JobState, Occurrence, OccurrenceKey, Rules
from sensors.oncall.incidents.rules import (
    CalendarEnd,
    Fate,
    JobDate,
    LandedFile,
    Standing,
    UnregisteredJob,
    Window,
)

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]

# The views by which the rules judge.
VIEWS = (
    "marts.incident_occurrence",
    "marts.incident_forecast",
    "marts.incident_past_risk",
    "marts.job_duration_trend",
    "marts.incident_job",
    "marts.incident_job_edge",
    "marts.incident_known_application",
    "marts.incident_known_job",
    "marts.incident_calendar_in_use",
    "marts.incident_kpi_standing",
    "marts.incident_kpi_bad_period",
    "marts.sender_silence",
)
# Records that one evaluation looks through; what is more waits for the next, so that a back-fill holds up nothing.
RECORDS_AT_ONCE = 1_000_000
# Files of the ledger that are looked at again, because rows of two ingests may become visible in either order.
FILE_OVERLAP = 1_000


def single_row(cursor: Cursor) -> tuple[Any, ...]:
    """The row of a query that always has one.

    Raises:
        LookupError: it has none.
    """
    row: tuple[Any, ...] | None = cursor.fetchone()
    if row is None:
        raise LookupError("the query returned no row")
    return row


def has_views(cursor: Cursor) -> bool:
    """Whether all that the rules read is there: it is not after an upgrade, before the first tick."""
    cursor.execute(
        "select bool_and(to_regclass(name) is not null) from unnest(%s::text[]) as name", [list(VIEWS)]
    )
    return bool(single_row(cursor)[0])


@dataclass(frozen=True)
class Mark:
    """What the marts show (`control.tick`) and how far the rules have looked (`ops.evaluation`)."""

    as_of: datetime | None
    high: int
    published_at: datetime | None
    evaluated_published_at: datetime | None
    is_first: bool
    scanned_load_id: int
    scanned_file_id: int
    project: str | None = None
    """The version of the dbt project by which the marts were made."""


def read_mark(cursor: Cursor) -> Mark:
    """Where the tick and the rules stand; `as_of` is None before the first tick."""
    cursor.execute(
        """
        select
            nullif(tick.published_as_of, '-infinity'), tick.published_high, tick.published_at,
            evaluation.published_at, evaluation.evaluated_at is null, evaluation.scanned_load_id,
            evaluation.scanned_file_id, tick.deployed_project
        from control.tick as tick, ops.evaluation as evaluation
        """
    )
    return Mark(*single_row(cursor))


# Loads of these feeds change nothing of SLOs, or only those that their statuses, or the promises planned then, are of.
STATUS_FEED = "job_status"
OTHER_FEEDS = ("metric_log", "uptime", "indicators", "promises")


@dataclass(frozen=True)
class Scope:
    """What may have changed of SLOs between two looks: SLOs, as a whole, and jobs."""

    slo_ids: frozenset[str]
    jobs: frozenset[JobKey]


def read_scope(cursor: Cursor, before: Mark, mark: Mark) -> Scope | None:
    """What the ticks since the look at `before` may have changed; None when that may be anything.

    Marts are a function of the loads, of as_of and of the project. So it is what new statuses are of, and what they or
    the clock may touch, as in the scope of a tick, but wider: of an SLO of which anything changed, all may have.
    """
    if before.as_of is None or mark.as_of is None:
        return None
    if mark.is_first:
        return None
    if mark.as_of < before.as_of or mark.high < before.high or mark.project != before.project:
        return None
    span = {"low": before.high, "high": mark.high, "since": before.as_of, "as_of": mark.as_of}
    cursor.execute(
        """
        select exists (
            select from raw.load where load_id > %(low)s and load_id <= %(high)s and feed <> all(%(feeds)s)
        )
        or exists (select from raw.unload where load_id > %(low)s and load_id <= %(high)s)
        """,
        span | {"feeds": [STATUS_FEED, *OTHER_FEEDS]},
    )
    if single_row(cursor)[0]:
        return None
    rows = cursor.execute(
        """
        with seen as (
            select application_id, job_id, business_date from raw.job_status
            where load_id > %(low)s and load_id <= %(high)s
            union
            select application_id, job_id, business_date from raw.job_status
            where status_at > %(since)s and status_at <= %(as_of)s
        ),
        slos as (
            select promise_job.slo_id from seen
            inner join catalog.promise_job using (application_id, job_id, business_date)
            union
            select slo_id from catalog.promise where opens_at > %(since)s and opens_at <= %(as_of)s
            union
            select slo_id from catalog.promise where expected_end_at >= %(since)s and expected_end_at < %(as_of)s
            union
            -- what an exception had put off, and what was given up
            select slo_id from marts.slo_performance
            where outcome in ('overdue', 'missed', 'late', 'on_time')
                and expected_end_at >= %(since)s and expected_end_at < %(as_of)s
            union
            select slo_id from marts.slo_performance where gives_up_at >= %(since)s and gives_up_at < %(as_of)s
            union
            select slo_id from catalog.promise where planned_load_id > %(low)s and planned_load_id <= %(high)s
        )
        select slo_id, application_id, job_id from slos inner join catalog.slo_job using (slo_id)
        union
        select null, application_id, job_id from seen
        """,
        span,
    ).fetchall()
    return Scope(
        frozenset(str(row[0]) for row in rows if row[0] is not None),
        frozenset((row[1], row[2]) for row in rows),
    )


def read_occurrences(
    cursor: Cursor,
    rules: Rules,
    as_of: datetime,
    open_: Iterable[Incident],
    slo_ids: Collection[str] | None = None,
) -> list[Occurrence]:
    """Occurrences that may open an incident, and those of the open incidents, each with its jobs.

    `slo_ids`: only of these SLOs.
    """
    keys = {
        OccurrenceKey(o.slo_id, o.business_date, o.slot or ""): o.key.kind
        # Of several of one occurrence the last counts.
        for o in sorted(open_, key=lambda one: one.key.kind == "failed")
        if o.slo_id and o.business_date and (slo_ids is None or o.slo_id in slo_ids)
    }
    ordered = sorted(keys)
    parameters = {
        "as_of": as_of,
        "watch": as_of - rules.watch,
        "watch_newest": as_of - rules.watch_newest,
        "slos": [key.slo_id for key in ordered],
        "dates": [key.business_date for key in ordered],
        "slots": [key.slot for key in ordered],
        "only": None if slo_ids is None else list(slo_ids),
    }
    rows = cursor.execute(
        """
        with candidates as (
            select slo_id, business_date, slot from marts.slo_performance as performance
            where (%(only)s::text[] is null or slo_id = any(%(only)s)) and outcome = 'overdue'
                and expected_end_at > least(%(watch_newest)s, %(watch)s)
                and (
                    expected_end_at > %(watch)s
                    or not exists (
                        select from marts.slo_performance as newer
                        where newer.slo_id = performance.slo_id
                            and newer.expected_end_at > performance.expected_end_at
                            and newer.expected_end_at < %(as_of)s
                    )
                )
            union
            select slo_id, business_date, slot from marts.slo_performance
            where (%(only)s::text[] is null or slo_id = any(%(only)s))
                and outcome = 'not_due' and not is_waived and expected_end_at >= %(as_of)s and progress = 'failed'
            union
            select slo_id, business_date, slot from marts.slo_performance as performance
            where (%(only)s::text[] is null or slo_id = any(%(only)s))
                and outcome = 'late' and expected_end_at > %(watch)s
                and not exists (
                    select from ops.incident
                    where incident.kind = 'late' and incident.subject = performance.slo_id
                        and incident.occurrence = performance.business_date || ' ' || performance.slot
                )
            union
            select * from unnest(%(slos)s::text[], %(dates)s::date[], %(slots)s::text[])
        )
        select
            slo_id, business_date, slot, one.application_id, one.name, one.outcome, one.progress,
            one.expected_start_at, one.expected_end_at, one.actual_end_at, one.explanation, one.owner,
            not one.is_retired and (
                one.expected_end_at > %(watch)s
                or one.expected_end_at > %(watch_newest)s and not exists (
                    select from marts.slo_performance as newer
                    where newer.slo_id = one.slo_id
                        and newer.expected_end_at > one.expected_end_at
                        and newer.expected_end_at < %(as_of)s
                )
            ),
            exists (
                select from ops.incident
                where incident.kind = 'late' and incident.subject = one.slo_id
                    and incident.occurrence = one.business_date || ' ' || one.slot
            ),
            one.gives_up_at, one.is_waived, one.is_retired, one.timezone
        from candidates
        inner join marts.incident_occurrence as one using (slo_id, business_date, slot)
        order by slo_id, business_date, slot
        """,
        parameters,
    ).fetchall()
    jobs = _jobs_of(cursor, [OccurrenceKey(*row[:3]) for row in rows])
    failing = [
        key for row in rows if keys.get(key := OccurrenceKey(*row[:3])) == "failed" or row[6] == "failed"
    ]
    for key, failures in _failures_of(cursor, failing).items():
        jobs[key] = tuple(
            _with_failures(job, failures[job.key], rules, as_of, is_told=keys.get(key) == "failed")
            if job.key in failures
            else job
            for job in jobs[key]
        )
    return [
        Occurrence(
            key=(key := OccurrenceKey(*row[:3])),
            application_id=row[3],
            name=row[4],
            outcome=row[5],
            progress=row[6],
            expected_start_at=row[7],
            expected_end_at=row[8],
            actual_end_at=row[9],
            explanation=row[10],
            owner=row[11],
            # What is open is watched until it is over.
            is_watched=row[12] or (key in keys and not row[16]),
            is_late_known=row[13],
            gives_up_at=row[14],
            is_waived=row[15],
            zone=row[17],
            jobs=jobs.get(key, ()),
        )
        for row in rows
    ]


def read_fate(cursor: Cursor, key: OccurrenceKey, high: int) -> Fate:
    """What became of an occurrence that does not stand as it did: the promises, and the versions after them."""
    cursor.execute(
        """
        with promised as (
            select coalesce(max(load_id), 0) as load_id
            from catalog.promise
            where slo_id = %(slo)s and business_date = %(date)s and slot = %(slot)s and load_id <= %(high)s
        ),
        slo as (
            select is_retired, load_id, spec -> -1 ->> 'calendar' as calendar_id
            from catalog.slo_entry_version where slo_id = %(slo)s and load_id <= %(high)s
            order by load_id desc limit 1
        )
        select
            coalesce((select is_retired from slo), true),
            coalesce((select slo.load_id > promised.load_id from slo), false),
            exists (
                select from catalog.calendar_version as calendar inner join slo using (calendar_id)
                where calendar.load_id > promised.load_id and calendar.load_id <= %(high)s
            ),
            coalesce((select calendar_id from slo), '')
        from promised
        """,
        {"slo": key.slo_id, "date": key.business_date, "slot": key.slot, "high": high},
    )
    is_gone, is_slo_changed, is_calendar_changed, calendar_id = single_row(cursor)
    return Fate(
        is_slo_gone=is_gone,
        taken_by="slo" if is_slo_changed else "calendar" if is_calendar_changed else "",
        calendar_id=calendar_id,
    )


def missed_before(cursor: Cursor) -> datetime:
    """What was given up by then was so before there was an outcome for it."""
    # Every instant is after -infinity, which Python has not.
    cursor.execute("select greatest(missed_before, timestamptz '0001-01-02 00:00Z') from ops.evaluation")
    found: datetime = single_row(cursor)[0]
    return found


_JOB_COLUMNS = """
    application_id, job_id, progress, expected_start_at, expected_end_at, upstream_rank, last_status_at, actual_end_at
"""


def _job(row: Sequence[Any]) -> JobState:
    application, job, *rest = row
    return JobState((application, job), *rest)


def _jobs_of(cursor: Cursor, keys: Sequence[OccurrenceKey]) -> dict[OccurrenceKey, tuple[JobState, ...]]:
    found: dict[OccurrenceKey, list[JobState]] = defaultdict(list)
    if keys:
        rows = cursor.execute(
            f"""
            select slo_id, business_date, slot, {_JOB_COLUMNS}
            from unnest(%s::text[], %s::date[], %s::text[]) as wanted (slo_id, business_date, slot)
            inner join marts.slo_job_performance using (slo_id, business_date, slot)
            order by slo_id, business_date, slot, application_id, job_id
            """,  # noqa: S608
            [[key.slo_id for key in keys], [key.business_date for key in keys], [key.slot for key in keys]],
        )
        for row in rows:
            found[OccurrenceKey(*row[:3])].append(_job(row[3:]))
    return {key: tuple(jobs) for key, jobs in found.items()}


def _failures_of(
    cursor: Cursor, keys: Sequence[OccurrenceKey]
) -> dict[OccurrenceKey, dict[JobKey, tuple[int, datetime]]]:
    """How often jobs of these occurrences failed, and when last."""
    found: dict[OccurrenceKey, dict[JobKey, tuple[int, datetime]]] = defaultdict(dict)
    if keys:
        rows = cursor.execute(
            """
            select slo_id, business_date, slot, application_id, job_id, count(*)::integer, max(run.ended_at)
            from unnest(%s::text[], %s::date[], %s::text[]) as wanted (slo_id, business_date, slot)
            inner join marts.slo_job_run using (slo_id, business_date, slot)
            inner join marts.job_run as run using (application_id, job_id, business_date, run_key)
            where run.final_status = 'FAIL' and run.ended_at is not null
            group by slo_id, business_date, slot, application_id, job_id
            """,
            [[key.slo_id for key in keys], [key.business_date for key in keys], [key.slot for key in keys]],
        )
        for *key, application_id, job_id, count, last_at in rows:
            found[OccurrenceKey(*key)][application_id, job_id] = count, last_at
    return found


def _with_failures(
    job: JobState, failures: tuple[int, datetime], rules: Rules, as_of: datetime, *, is_told: bool
) -> JobState:
    count, last_at = failures
    until = rules.flaps_until(count, last_at)
    is_flapping = is_told and job.progress == "running" and until is not None and until > as_of
    return replace(job, failures=count, flaps_until=until if is_flapping else None)


class MartGraph:
    """The graph of jobs as the catalog has it, and how jobs stand, as `rules.holds` asks for them."""

    def __init__(self, cursor: Cursor, upstream: dict[JobKey, list[JobKey]] | None = None) -> None:
        self._cursor = cursor
        self._upstream = upstream
        self._known: dict[JobDate, list[Standing]] = {}

    def upstream(self, job: JobKey) -> Collection[JobKey]:
        if self._upstream is None:
            self._upstream = self.all_upstream()
        return self._upstream.get(job, ())

    def all_upstream(self) -> dict[JobKey, list[JobKey]]:
        """What every job of the catalog waits for."""
        found: dict[JobKey, list[JobKey]] = defaultdict(list)
        rows = self._cursor.execute(
            """
            select application_id, job_id, upstream_application_id, upstream_job_id
            from marts.incident_job_edge
            order by 1, 2, 3, 4
            """
        )
        for application, name, upstream_application, upstream_name in rows:
            found[application, name].append((upstream_application, upstream_name))
        return dict(found)

    def standings(self, wanted: Collection[JobDate]) -> Mapping[JobDate, Sequence[Standing]]:
        asked = [one for one in wanted if one not in self._known]
        if asked:
            for one in asked:
                self._known[one] = []
            rows = self._cursor.execute(
                f"""
                select distinct on (position, slo_id)
                    position, slo_id, business_date, slot, {_JOB_COLUMNS}
                from unnest(%s::text[], %s::text[], %s::date[], %s::timestamptz[])
                    with ordinality as asked (asked_application, asked_job, asked_date, before, position)
                cross join lateral (
                    select max(business_date) as job_date from marts.slo_job_performance as job
                    where job.application_id = asked_application and job.job_id = asked_job
                        and job.business_date <= asked_date
                ) as latest
                inner join marts.slo_job_performance as job
                    on job.application_id = asked_application and job.job_id = asked_job
                    and job.business_date = job_date
                order by
                    position, slo_id, coalesce(job.expected_end_at <= before, false) desc, job.expected_end_at desc
                """,  # noqa: S608
                [
                    [one.job[0] for one in asked],
                    [one.job[1] for one in asked],
                    [one.business_date for one in asked],
                    [one.before for one in asked],
                ],
            )
            for position, slo_id, business_date, slot, *job in rows:
                key = OccurrenceKey(slo_id, business_date, slot)
                self._known[asked[position - 1]].append(Standing(key, _job(job)))
        return {one: self._known[one] for one in wanted}

    def windows(self, days: Collection[tuple[str, date]]) -> Mapping[tuple[str, date], Sequence[Window]]:
        found: dict[tuple[str, date], list[Window]] = defaultdict(list)
        rows = self._cursor.execute(
            """
            select
                performance.slo_id, performance.business_date, performance.slot,
                performance.outcome in ('overdue', 'late', 'missed'), blamed.application_id, blamed.job_id
            from unnest(%s::text[], %s::date[]) as day (slo_id, business_date)
            inner join marts.slo_performance as performance using (slo_id, business_date)
            left join lateral (
                select application_id, job_id from marts.slo_job_performance as job
                where job.slo_id = performance.slo_id and job.business_date = performance.business_date
                    and job.slot = performance.slot
                    and (job.progress <> 'complete' or job.actual_end_at > job.expected_end_at)
                order by upstream_rank, expected_end_at, application_id, job_id
                limit 1
            ) as blamed on performance.outcome in ('overdue', 'late', 'missed')
            where performance.outcome <> 'not_due'
            order by performance.slo_id, performance.business_date, performance.expected_end_at, performance.slot
            """,
            [[slo_id for slo_id, _ in days], [day for _, day in days]],
        )
        for slo_id, day, slot, is_missed, application, name in rows:
            blamed = None if application is None else (application, name)
            found[slo_id, day].append(Window(OccurrenceKey(slo_id, day, slot), is_missed, blamed))
        return found


def last_statuses(
    cursor: Cursor, applications: Collection[str], as_of: datetime, high: int, since: Mark | None = None
) -> dict[str, datetime]:
    """When each application last sent a status, of those that sent one for the ten business dates before.

    `since`: only of statuses that came, or whose time came, after the look at that mark.
    """
    if not applications:
        return {}
    columns = "application_id, business_date, status_at, load_id, seq"
    statuses = "raw.job_status"
    if since is not None:
        statuses = f"""(
            select {columns} from raw.job_status where load_id > %(scanned)s and load_id <= %(high)s
            union all
            select {columns} from raw.job_status where status_at > %(since)s and status_at <= %(as_of)s
        )"""  # noqa: S608
    rows = cursor.execute(
        f"""
        select application_id, max(status_at) from {statuses} as status
        where application_id = any(%(applications)s) and load_id <= %(high)s and status_at <= %(as_of)s
            and (load_id not in (select unloaded_load_id from raw.unload)
                or not raw.is_unloaded(load_id, seq, %(high)s))
            and business_date between %(first)s and %(last)s
        group by application_id
        """,  # noqa: S608
        {
            "applications": list(applications),
            "high": high,
            "as_of": as_of,
            "first": as_of.date() - timedelta(days=10),
            "last": as_of.date() + timedelta(days=1),
            "scanned": since.high if since is not None else None,
            "since": since.as_of if since is not None else None,
        },
    )
    return {str(row[0]): row[1] for row in rows}


def next_load(cursor: Cursor, scanned: int, high: int) -> int:
    """The load up to which to look through new records now: all of them, or as many as are enough at once."""
    cursor.execute(
        """
        select coalesce(max(load_id), %(high)s) from (
            select load_id, sum(record_count) over (order by load_id) - record_count as before
            from raw.load where load_id > %(scanned)s and load_id <= %(high)s
        ) as loads
        where before < %(enough)s
        """,
        {"scanned": scanned, "high": high, "enough": RECORDS_AT_ONCE},
    )
    return int(single_row(cursor)[0])


def unregistered(cursor: Cursor, low: int, high: int) -> list[UnregisteredJob]:
    """Jobs in the loads after `low` up to `high` that the catalog does not have now."""
    rows = cursor.execute(
        """
        with reported as (
            select application_id, job_id, min(status_at) as first_status_at
            from raw.job_status where load_id > %(low)s and load_id <= %(high)s
            group by application_id, job_id
        )
        select
            reported.*,
            exists (
                select from marts.incident_known_application as known
                where known.application_id = reported.application_id
            )
        from reported
        where not exists (
            select from marts.incident_known_job as known
            where known.application_id = reported.application_id and known.job_id = reported.job_id
        )
        """,
        {"low": low, "high": high},
    )
    return [UnregisteredJob((row[0], row[1]), row[2], row[3]) for row in rows]


def registered(cursor: Cursor, subjects: Collection[str]) -> set[str]:
    """Those of `subjects`, applications or application/job, that the catalog has."""
    rows = cursor.execute(
        """
        select subject from unnest(%s::text[]) as subject
        where exists (
            select from marts.incident_known_application as known where known.application_id = subject
        ) or exists (
            select from marts.incident_known_job as known
            where known.application_id = split_part(subject, '/', 1)
                and known.job_id = substr(subject, strpos(subject, '/') + 1)
                and strpos(subject, '/') > 0
        )
        """,
        [list(subjects)],
    )
    return {str(row[0]) for row in rows}


def reported_no_more(cursor: Cursor, low: int, high: int, subjects: Collection[str]) -> set[str]:
    """Those of `subjects`, applications or application/job, all of whose statuses were taken out again.

    Asked only when one of the loads after `low` up to `high` took something out.
    """
    rows = cursor.execute(
        """
        select subject from unnest(%(subjects)s::text[]) as subject
        where exists (select from raw.unload where load_id > %(low)s and load_id <= %(high)s)
            and not exists (
                select from raw.job_status
                where application_id = split_part(subject, '/', 1)
                    and (strpos(subject, '/') = 0 or job_id = substr(subject, strpos(subject, '/') + 1))
                    and (load_id not in (select unloaded_load_id from raw.unload)
                        or not raw.is_unloaded(load_id, seq, %(high)s))
            )
        """,
        {"subjects": list(subjects), "low": low, "high": high},
    )
    return {str(row[0]) for row in rows}


def unloaded_files(cursor: Cursor, file_ids: Collection[str]) -> set[str]:
    """Those of these rows of the ledger whose records were taken out again."""
    rows = cursor.execute(
        """
        select landed_file_id::text from raw.landed_file as file
        inner join raw.unload as taken on taken.unloaded_load_id = file.load_id and taken.path = file.path
        where landed_file_id = any(%s::bigint[])
        """,
        [list(file_ids)],
    )
    return {str(row[0]) for row in rows}


def landed_files(cursor: Cursor, scanned: int, since: datetime) -> tuple[list[LandedFile], int]:
    """Files with rejected records, and quarantined ones, that landed since `since` and have no incident yet.

    Returns the highest id of the ledger too, up to which it has now been looked through.
    """
    rows = cursor.execute(
        """
        select
            landed_file_id, feed, path, status, record_count, rejected_count, coalesce(message, ''), seen_at,
            coalesce((
                -- By count: of least and greatest alone, an index in the order of applications would be read whole.
                select case when count(distinct application_id) = 1 then min(application_id) end
                from raw.job_status
                where job_status.load_id = file.load_id
                    and seq >= file.first_seq and seq < file.first_seq + file.record_count
            ), '')
        from raw.landed_file as file
        where landed_file_id > %(scanned)s and seen_at > %(since)s
            and (status = 'quarantined' or status = 'loaded' and rejected_count > 0)
            and not exists (
                select from raw.unload as taken
                where taken.unloaded_load_id = file.load_id and taken.path = file.path
            )
            and not exists (
                select from ops.incident
                where incident.kind = 'rejected_records' and incident.subject = file.path
                    and incident.occurrence = file.landed_file_id::text
            )
        order by landed_file_id
        """,
        {"scanned": scanned - FILE_OVERLAP, "since": since},
    ).fetchall()
    cursor.execute("select coalesce(max(landed_file_id), 0) from raw.landed_file")
    return [LandedFile(*row) for row in rows], int(single_row(cursor)[0])


def calendar_ends(cursor: Cursor) -> list[CalendarEnd]:
    """The last date of every calendar that an SLO of the catalog uses; worked out once per version of a calendar."""
    from pipelines.catalog.calendars import holidays_version, last_date
    from pipelines.catalog.models import STORED, Calendar

    version = holidays_version()
    rows = cursor.execute(
        """
        select
            calendar.calendar_id, calendar.load_id, calendar.spec, calendar.slo_ids,
            known.calendar_id is not null, known.last_date
        from marts.incident_calendar_in_use as calendar
        left join ops.calendar_end as known
            on known.calendar_id = calendar.calendar_id and known.load_id = calendar.load_id
            and known.holidays_version = %(version)s
        order by calendar.calendar_id
        """,
        {"version": version},
    ).fetchall()
    ends = []
    for calendar_id, load_id, spec, slo_ids, is_known, last in rows:
        if not is_known:
            last = last_date(Calendar.model_validate(spec, context=STORED))  # noqa: PLW2901
            cursor.execute(
                "insert into ops.calendar_end values (%s, %s, %s, %s) on conflict do nothing",
                [calendar_id, load_id, version, last],
            )
        ends.append(CalendarEnd(calendar_id, last, tuple(slo_ids)))
    return ends
