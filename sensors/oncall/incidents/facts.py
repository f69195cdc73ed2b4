"""What a message says beside its incident: how the occurrence and the job to blame stand, and who is hit next.

Asked when something is told, of what is told, and not kept: a repetition says how things stand then. All of it is of
the marts of the last tick, in the caller's transaction.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.catalog.names import split_job
from sensors.oncall.incidents.forecasts import AT_RISK
from sensors.oncall.incidents.marts import MartGraph, has_views
from sensors.oncall.incidents.model import Detail, Incident, JobKey, OccurrenceKey

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]

# Of so many past days is what is usual of a job.
USUAL = timedelta(days=60)


@dataclass(frozen=True)
class Run:
    """A try of a job. `attempt`: of its business date, or window; `ended_at`: its first SUCCEED, else its FAIL."""

    attempt: int
    run_id: str
    host_id: str
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class JobFacts:
    """A job of a business date. `run`: the one that succeeded, else the last; `failed`: the last one that failed.

    `usual_duration` and `usual_restart` (from a FAIL until it is started again) are medians of its past; None without.
    `likely_end_at`: as likely as not it has ended by then, by the forecast of what is not complete.
    """

    key: JobKey
    business_date: date
    progress: str = "pending"
    name: str = ""
    description: str = ""
    runbook: str = ""
    owner: str = ""
    is_restartable: bool = True
    expected_start_at: datetime | None = None
    expected_end_at: datetime | None = None
    run: Run | None = None
    failed: Run | None = None
    failures: int = 0
    usual_duration: timedelta | None = None
    usual_restart: timedelta | None = None
    likely_end_at: datetime | None = None


@dataclass(frozen=True)
class Hit:
    """An occurrence of another SLO that comes after the job to blame, and is not complete."""

    slo_id: str
    name: str
    due_at: datetime


@dataclass(frozen=True)
class Facts:
    """Of one incident. Without an occurrence only `owner` and `zone` are known.

    `way`: from the job to blame to the one of this SLO that waits for it, both included. `hit`: by due time.
    `waiting`: the job of this SLO that is still waited for, where the one to blame is complete.
    """

    zone: str = "UTC"
    owner: str = ""
    as_of: datetime | None = None
    due_at: datetime | None = None
    ended_at: datetime | None = None
    progress: str = ""
    description: str = ""
    runbook: str = ""
    p50: datetime | None = None
    p80: datetime | None = None
    cause: JobFacts | None = None
    cause_kind: str = ""
    way: tuple[JobKey, ...] = ()
    hit: tuple[Hit, ...] = ()
    waiting: JobFacts | None = None


@dataclass(frozen=True)
class Before:
    """What a route was told of an incident last: when, and the payload of that message."""

    told_at: datetime
    payload: Detail


class Knowledge:
    """What is known beside the incidents; this one knows nothing."""

    def facts(self, incidents: Collection[Incident]) -> Mapping[int, Facts]:  # noqa: ARG002
        """Facts by incident id, of those of which anything is known."""
        return {}

    def before(self, told: Collection[tuple[int, str]]) -> Mapping[tuple[int, str], Before]:  # noqa: ARG002
        """What was told last, by (incident id, route)."""
        return {}


class Remembered(Knowledge):
    """What the replay of past days knows: what it has told itself, by (incident id, route)."""

    def __init__(self, told_last: Mapping[tuple[int, str], Before]) -> None:
        self._told_last = told_last

    def before(self, told: Collection[tuple[int, str]]) -> Mapping[tuple[int, str], Before]:
        return {one: self._told_last[one] for one in told if one in self._told_last}


class Known(Knowledge):
    """What the marts of the last tick, the catalog and the outbox say."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def facts(self, incidents: Collection[Incident]) -> Mapping[int, Facts]:
        if not incidents or not has_views(self._cursor):
            return {}
        found = _of_applications(self._cursor, [one for one in incidents if one.slo_id is None])
        return found | _of_occurrences(self._cursor, [one for one in incidents if one.slo_id is not None])

    def before(self, told: Collection[tuple[int, str]]) -> Mapping[tuple[int, str], Before]:
        rows = self._cursor.execute(
            """
            select distinct on (notice.incident_id, notice.route)
                notice.incident_id, notice.route, notice.told_at, message.payload
            from unnest(%s::bigint[], %s::text[]) as wanted (incident_id, route)
            inner join ops.notice as notice using (incident_id, route)
            inner join ops.alert_outbox as message using (outbox_id)
            where notice.event <> 'grouped' and message.undeliverable_at is null
            order by notice.incident_id, notice.route, outbox_id desc
            """,
            [[one for one, _ in told], [route for _, route in told]],
        )
        return {
            (incident_id, route): Before(told_at, payload_of(incident_id, payload))
            for incident_id, route, told_at, payload in rows
        }


def payload_of(incident_id: int, payload: Detail) -> Detail:
    """What a message says of one incident; a digest says it of several."""
    listed: Iterable[Detail] = payload.get("incidents", [payload])
    return next((one for one in listed if one.get("incident_id") == incident_id), {})


def _of_applications(cursor: Cursor, incidents: Sequence[Incident]) -> dict[int, Facts]:
    rows = cursor.execute(
        "select application_id, owner from marts.incident_known_application where application_id = any(%s)",
        [list({one.application_id for one in incidents if one.application_id})],
    )
    owners: dict[str, str] = dict(rows.fetchall())
    return {
        one.incident_id: Facts(owner=owner)
        for one in incidents
        if (owner := owners.get(one.application_id or ""))
    }


def _of_occurrences(cursor: Cursor, incidents: Sequence[Incident]) -> dict[int, Facts]:
    wanted = [one for one in incidents if one.business_date is not None and one.slot is not None]
    if not wanted:
        return {}
    rows = cursor.execute(
        """
        select
            position, one.timezone, one.owner, published_as_of, one.expected_end_at, one.actual_end_at, one.progress,
            one.description, one.runbook, forecast.p50, forecast.p80, one.blocking_job, failed.job,
            one.cause_job, one.cause_business_date, one.cause_kind
        from unnest(%s::text[], %s::date[], %s::text[]) with ordinality
            as wanted (slo_id, business_date, slot, position)
        inner join marts.incident_occurrence as one using (slo_id, business_date, slot)
        left join marts.slo_forecast as forecast using (slo_id, business_date, slot)
        left join lateral (
            select application_id || '/' || job_id as job
            from marts.slo_job_performance as job
            where job.slo_id = one.slo_id and job.business_date = one.business_date and job.slot = one.slot
                and job.progress = 'failed'
            order by last_status_at desc, application_id, job_id
            limit 1
        ) as failed on true
        cross join control.tick
        """,
        [
            [one.slo_id for one in wanted],
            [one.business_date for one in wanted],
            [one.slot for one in wanted],
        ],
    ).fetchall()
    graph = _Graph(cursor)
    found: list[tuple[Incident, Facts, _Blamed, _Blamed]] = []
    for position, *row, blocking, failed, job, business_date, kind in rows:
        one = wanted[position - 1]
        at, facts = _at(one), Facts(*row)
        last = _Blamed(at, at.business_date, (split_job(blocking),))
        if one.key.kind == AT_RISK and (path := one.detail.get("path")):
            each = _Blamed(at, at.business_date, tuple(map(split_job, path)))
        elif one.key.kind == "failed" and failed is not None:
            each = _Blamed(at, at.business_date, (split_job(failed),))
            facts = replace(facts, cause_kind="failure")
        elif job is not None:
            each = _Blamed(at, business_date, graph.way(split_job(job), split_job(blocking)))
            facts = replace(facts, cause_kind=kind)
        else:
            each = last
        found.append((one, facts, each, last))
    blamed = [each for _, _, each, _ in found]
    jobs, hit = _jobs(cursor, [*blamed, *(last for *_, last in found)]), _hit(cursor, blamed, graph)
    return {
        one.incident_id: replace(
            facts,
            cause=jobs[each],
            way=each.way,
            hit=hit[each],
            waiting=jobs[waiting] if _is_waited_for(jobs[each], jobs[waiting]) else None,
        )
        for one, facts, each, waiting in found
    }


def _is_waited_for(cause: JobFacts, last: JobFacts) -> bool:
    """Whether the cause is over, and the `last` job of the SLO is not."""
    return cause.progress == "complete" and last.progress != "complete"


@dataclass(frozen=True)
class _Blamed:
    """The job to blame for an occurrence, and the way from it."""

    at: OccurrenceKey
    business_date: date
    way: tuple[JobKey, ...]

    @property
    def job(self) -> JobKey:
        return self.way[0]


def _at(one: Incident) -> OccurrenceKey:
    return OccurrenceKey(one.slo_id or "", one.business_date or date.min, one.slot or "")


class _Graph:
    """Who waits for whom, read when it is asked for."""

    def __init__(self, cursor: Cursor) -> None:
        self._graph = MartGraph(cursor)
        self._below: dict[JobKey, list[JobKey]] | None = None

    def downstream(self, job: JobKey) -> dict[JobKey, JobKey]:
        """The job, and all that wait for it, however far, each with the one on the shortest way to it."""
        if self._below is None:
            self._below = defaultdict(list)
            for waiting, upstream in self._graph.all_upstream().items():
                for each in upstream:
                    self._below[each].append(waiting)
        reached, left = {job: job}, deque([job])
        while left:
            before = left.popleft()
            new = [one for one in self._below.get(before, ()) if one not in reached]
            reached |= dict.fromkeys(new, before)
            left += new
        return reached

    def way(self, first: JobKey, last: JobKey) -> tuple[JobKey, ...]:
        """From a job down to one that waits for it, both included."""
        before = self.downstream(first)
        way = [last]
        while way[-1] != first:
            # The edges may have changed since it was found to be the cause.
            way.append(before.get(way[-1], first))
        return tuple(reversed(way))


def _jobs(cursor: Cursor, blamed: Sequence[_Blamed]) -> dict[_Blamed, JobFacts]:
    parameters = {
        "applications": [one.job[0] for one in blamed],
        "jobs": [one.job[1] for one in blamed],
        "dates": [one.business_date for one in blamed],
        "slos": [one.at.slo_id for one in blamed],
        "slots": [one.at.slot for one in blamed],
        "days": USUAL.days,
    }
    wanted = (
        "unnest(%(applications)s::text[], %(jobs)s::text[], %(dates)s::date[], %(slos)s::text[], %(slots)s::text[])"
        " with ordinality as wanted (application_id, job_id, business_date, slo_id, slot, position)"
    )
    # Of an intraday SLO the runs of its window; of a job of other SLOs those of its date.
    runs: dict[int, list[tuple[str, Run]]] = defaultdict(list)
    for position, final_status, *run in cursor.execute(
        f"""
        select
            position, final_status, row_number() over (partition by position order by run.attempt),
            coalesce(run_id, ''), coalesce(host_id, ''), coalesce(started_at, first_status_at), ended_at
        from {wanted}
        inner join marts.job_run as run using (application_id, job_id, business_date)
        where
            not exists (
                select from marts.slo_job_performance as promised
                where promised.slo_id = wanted.slo_id and promised.slot = wanted.slot
                    and promised.business_date = run.business_date
                    and promised.application_id = run.application_id and promised.job_id = run.job_id
            )
            or exists (
                select from marts.slo_job_run as own
                where own.slo_id = wanted.slo_id and own.slot = wanted.slot and own.business_date = run.business_date
                    and own.application_id = run.application_id and own.job_id = run.job_id
                    and own.run_key = run.run_key
            )
        order by position, run.attempt
        """,  # noqa: S608 - ours
        parameters,
    ):
        runs[position].append((final_status, Run(*run)))
    rows = cursor.execute(
        f"""
        select
            position, coalesce(job.name, wanted.job_id), coalesce(job.description, ''), coalesce(job.runbook, ''),
            coalesce(job.owner, ''), coalesce(job.restartable, true), promised.expected_start_at,
            promised.expected_end_at, usual.duration, usual.pause, forecast.p50
        from {wanted}
        left join marts.slo_forecast_job as forecast using (application_id, job_id, business_date)
        left join marts.incident_job as job using (application_id, job_id)
        left join lateral (
            select expected_start_at, expected_end_at
            from marts.slo_job_performance as promised
            where promised.application_id = wanted.application_id and promised.job_id = wanted.job_id
                and promised.business_date = wanted.business_date
            order by
                (promised.slo_id = wanted.slo_id and promised.slot = wanted.slot) desc, expected_end_at, promised.slo_id
            limit 1
        ) as promised on true
        left join lateral (
            select
                percentile_disc(0.5) within group (order by duration) filter (where final_status = 'SUCCEED')
                    as duration,
                percentile_disc(0.5) within group (order by pause) filter (where final_status = 'FAIL') as pause
            from (
                select
                    final_status, duration,
                    lead(first_status_at) over (partition by business_date order by attempt) - ended_at as pause
                from marts.job_run as past
                where past.application_id = wanted.application_id and past.job_id = wanted.job_id
                    and past.business_date < wanted.business_date
                    and past.business_date >= wanted.business_date - %(days)s
            ) as past
        ) as usual on true
        """,  # noqa: S608 - ours
        parameters,
    )
    found = {}
    for position, *job in rows:
        one = blamed[position - 1]
        found[one] = _job(one, runs[position], dict(zip(_OF_A_JOB, job, strict=True)))
    return found


# In the order of the question above.
_OF_A_JOB = (
    "name", "description", "runbook", "owner", "is_restartable", "expected_start_at", "expected_end_at",
    "usual_duration", "usual_restart", "likely_end_at",
)  # fmt: skip


def _job(one: _Blamed, runs: Sequence[tuple[str, Run]], known: Mapping[str, Any]) -> JobFacts:
    well = sorted(
        (run.ended_at, run.attempt, run)
        for status, run in runs
        if status == "SUCCEED" and run.ended_at is not None
    )
    failed = [run for status, run in runs if status == "FAIL"]
    last = runs[-1] if runs else ("", None)
    progress = {"": "pending", "FAIL": "failed"}.get(last[0], "running")
    return JobFacts(
        one.job,
        one.business_date,
        "complete" if well else progress,
        run=well[0][-1] if well else last[1],
        failed=failed[-1] if failed else None,
        failures=len(failed),
        **known,
    )


def _hit(cursor: Cursor, blamed: Sequence[_Blamed], graph: _Graph) -> dict[_Blamed, tuple[Hit, ...]]:
    below = [
        (position, *job) for position, one in enumerate(blamed) for job in sorted(graph.downstream(one.job))
    ]
    found: dict[_Blamed, list[Hit]] = {one: [] for one in blamed}
    for position, *hit in cursor.execute(
        """
        select distinct on (position, performance.expected_end_at, performance.slo_id)
            position, performance.slo_id, occurrence.name, performance.expected_end_at
        from unnest(%s::integer[], %s::text[], %s::text[], %s::date[])
            as below (position, application_id, job_id, since)
        inner join marts.slo_job_performance as job using (application_id, job_id)
        inner join marts.slo_performance as performance using (slo_id, business_date, slot)
        inner join marts.incident_occurrence as occurrence using (slo_id, business_date, slot)
        where
            job.business_date >= since and performance.actual_end_at is null and not performance.is_waived
            and performance.outcome in ('not_due', 'overdue')
        order by position, performance.expected_end_at, performance.slo_id
        """,
        [
            [position for position, *_ in below],
            [application_id for _, application_id, _ in below],
            [job_id for *_, job_id in below],
            [blamed[position].business_date for position, *_ in below],
        ],
    ):
        one = blamed[position]
        known = {each.slo_id for each in found[one]} | {one.at.slo_id}
        if hit[0] not in known:
            found[one].append(Hit(*hit))
    return {one: tuple(hits) for one, hits in found.items()}
