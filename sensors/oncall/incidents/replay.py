"""What the rules would have sent over past days, had they been switched on: the same functions, fed from history.

An occurrence's expected and actual end, and when it was given up, tell when it was overdue, at any moment of the past;
a failed run's end and the next run's begin tell when it was failed (a run that failed and went on under its own id
counts as running). Ticks are taken to have come every minute, and nobody to have acknowledged anything. Kinds: overdue,
late, failed and sender_silence, with their grouping, repeats, escalations and digests; calendar, record, KPI and
silence rules are left out.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from pipelines.errors import DuemarkError
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents import marts, rules, silence
from sensors.oncall.incidents.changes import brought_up_to_date, changes, regrouped, reopened
from sensors.oncall.incidents.evaluate import slo_wanted
from sensors.oncall.incidents.facts import Before, Remembered, payload_of
from sensors.oncall.incidents.forecasts import NO_RISKS, Risks, past_risks
from sensors.oncall.incidents.model import (
    RESTARTED,
    Ending,
    Event,
    Incident,
    JobKey,
    JobState,
    Key,
    Notice,
    Occurrence,
    OccurrenceKey,
    Rules,
    Told,
    Wanted,
)
from sensors.oncall.incidents.notices import Recent, Situation, next_due, notices
from sensors.oncall.incidents.routes import Route, Routes, load_routes
from sensors.oncall.incidents.rules import JobDate, Standing, Window

if TYPE_CHECKING:
    Cursor = psycopg.Cursor[Any]

TICK = timedelta(minutes=1)
# Where the catalog has no route yet, all is counted as told to this one.
ANYONE = Route(id="anyone", to="file:/dev/null")


@dataclass(frozen=True)
class Sent:
    """A message that would have been sent at `at`."""

    at: datetime
    route: str
    event: str
    severity: str
    title: str
    body: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Replay:
    """What would have been sent, and how many incidents would have opened, by kind."""

    start: datetime
    end: datetime
    sent: list[Sent]
    opened: dict[str, int]
    risks: Risks = NO_RISKS
    """Warnings, by the forecasts as they were made. They are in no message: what lies between is not replayed."""

    def counts(self) -> dict[tuple[str, str], int]:
        """Messages by (route, event)."""
        return dict(Counter((one.route, one.event) for one in self.sent))


@dataclass
class PastJob:
    """A job of an occurrence through time. `failures`: (failed at, restarted at or None)."""

    key: JobKey
    expected_start_at: datetime | None
    expected_end_at: datetime
    actual_end_at: datetime | None
    first_seen_at: datetime | None
    upstream_rank: int
    failures: list[tuple[datetime, datetime | None]] = field(default_factory=list)

    def at(self, moment: datetime, flaps: Rules | None = None) -> JobState:
        """How it stood; `flaps`: by which rules it counts as failed although it runs again, where that was told."""
        begun = [begin for begin, _ in self.failures if begin <= moment]
        failed = [begin for begin, end in self.failures if begin <= moment and (end is None or moment < end)]
        if self.actual_end_at is not None and self.actual_end_at <= moment:
            progress, changed = "complete", self.actual_end_at
        elif failed:
            progress, changed = "failed", max(failed)
        elif self.first_seen_at is not None and self.first_seen_at <= moment:
            progress, changed = "running", self.first_seen_at
        else:
            progress, changed = "pending", None
        ended = self.actual_end_at if progress == "complete" else None
        until = flaps.flaps_until(len(begun), max(begun)) if flaps is not None and begun else None
        is_flapping = progress == "running" and until is not None and until > moment
        return JobState(
            self.key,
            progress,
            self.expected_start_at,
            self.expected_end_at,
            self.upstream_rank,
            changed,
            ended,
            len(begun),
            until if is_flapping else None,
        )


@dataclass
class PastOccurrence:
    """An occurrence through time."""

    key: OccurrenceKey
    application_id: str
    name: str
    expected_start_at: datetime | None
    expected_end_at: datetime
    actual_end_at: datetime | None
    jobs: list[PastJob] = field(default_factory=list)
    gives_up_at: datetime | None = None

    def begins(self) -> datetime | None:
        """When it first was of interest: failed, or overdue; None when it never was."""
        moments = [begin for job in self.jobs for begin, _ in job.failures]
        if self.actual_end_at is None or self.actual_end_at > self.expected_end_at:
            moments.append(self.expected_end_at + timedelta(microseconds=1))
        return min(moments, default=None)

    def instants(self) -> Iterable[datetime]:
        """When something about it changed."""
        for job in self.jobs:
            for begin, end in job.failures:
                yield begin
                if end is not None:
                    yield end
        yield self.expected_end_at + timedelta(microseconds=1)
        if self.gives_up_at is not None:
            yield self.gives_up_at + timedelta(microseconds=1)
        if self.actual_end_at is not None:
            yield self.actual_end_at

    def at(
        self, moment: datetime, *, is_watched: bool, is_late_known: bool, flaps: Rules | None = None
    ) -> Occurrence:
        """How it stood."""
        jobs = tuple(job.at(moment, flaps) for job in self.jobs)
        end = self.actual_end_at if self.actual_end_at is not None and self.actual_end_at <= moment else None
        states = {job.progress for job in jobs}
        if end is not None:
            outcome = "late" if end > self.expected_end_at else "on_time"
            progress = "complete"
        else:
            outcome = "overdue" if moment > self.expected_end_at else "not_due"
            if self.gives_up_at is not None and moment > self.gives_up_at:
                outcome = "missed"
            progress = "failed" if "failed" in states else "pending" if states == {"pending"} else "running"
        said = f"Due {self.expected_end_at:%Y-%m-%d %H:%M:%S} UTC"
        said += f", complete {end:%Y-%m-%d %H:%M:%S} UTC." if end else f", {progress}."
        return Occurrence(
            self.key, self.application_id, self.name, outcome, progress, self.expected_start_at,
            self.expected_end_at, end, said, jobs, "", is_watched, is_late_known, self.gives_up_at,
        )  # fmt: skip


class PastGraph:
    """The graph of jobs as the catalog has it now, and how jobs stood at `moment`."""

    def __init__(
        self, upstream: Mapping[JobKey, Sequence[JobKey]], occurrences: Iterable[PastOccurrence]
    ) -> None:
        self._upstream = upstream
        self._by_date: dict[tuple[JobKey, date], dict[str, list[tuple[OccurrenceKey, PastJob]]]] = {}
        dates: dict[JobKey, set[date]] = defaultdict(set)
        self._days: dict[tuple[str, date], list[PastOccurrence]] = defaultdict(list)
        for one in occurrences:
            self._days[one.key.slo_id, one.key.business_date].append(one)
            for job in one.jobs:
                dates[job.key].add(one.key.business_date)
                slos = self._by_date.setdefault((job.key, one.key.business_date), defaultdict(list))
                slos[one.key.slo_id].append((one.key, job))
        for day in self._days.values():
            day.sort(key=lambda one: (one.expected_end_at, one.key.slot))
        self._dates = {job: sorted(found) for job, found in dates.items()}
        self.moment = datetime.min.replace(tzinfo=UTC)

    def upstream(self, job: JobKey) -> Collection[JobKey]:
        return self._upstream.get(job, ())

    def standings(self, wanted: Collection[JobDate]) -> Mapping[JobDate, Sequence[Standing]]:
        return {one: self._standing(one) for one in wanted}

    def windows(self, days: Collection[tuple[str, date]]) -> Mapping[tuple[str, date], Sequence[Window]]:
        found = {}
        for day in days:
            stood = [one.at(self.moment, is_watched=True, is_late_known=True) for one in self._days[day]]
            found[day] = [
                Window(one.key, one.outcome in {"overdue", "late", "missed"}, _blamed(one))
                for one in stood
                if one.outcome != "not_due"
            ]
        return found

    def _standing(self, asked: JobDate) -> list[Standing]:
        dates = self._dates.get(asked.job, [])
        place = bisect_right(dates, asked.business_date)
        if not place:
            return []
        found = []
        for slots in self._by_date[asked.job, dates[place - 1]].values():
            in_time = [
                one for one in slots if asked.before is not None and one[1].expected_end_at <= asked.before
            ]
            key, job = max(in_time or slots, key=lambda one: one[1].expected_end_at)
            found.append(Standing(key, job.at(self.moment)))
        return found


def _blamed(one: Occurrence) -> JobKey | None:
    """The most upstream job that is not complete, or was not in time; as `marts.MartGraph.windows` has it."""
    missed = [
        job
        for job in one.jobs
        if job.progress != "complete" or (job.ended_at is not None and job.ended_at > job.expected_end_at)
    ]
    first = min(missed, key=lambda job: (job.upstream_rank, job.expected_end_at, job.key), default=None)
    return first.key if first is not None else None


@dataclass
class _Memory:
    """Incidents and what was told, as the database would hold them."""

    routes: Routes
    standing: dict[int, Incident] = field(default_factory=dict)
    told: dict[tuple[int, str], Told] = field(default_factory=dict)
    late: set[OccurrenceKey] = field(default_factory=set)
    opened: Counter[str] = field(default_factory=Counter)
    sent: dict[str, list[tuple[datetime, int]]] = field(default_factory=dict)
    held: dict[str, list[tuple[Incident, Event]]] = field(default_factory=dict)
    untold: Mapping[tuple[int, str], datetime] = field(default_factory=dict)
    restarted: dict[Key, Incident] = field(default_factory=dict)
    told_last: dict[tuple[int, str], Before] = field(default_factory=dict)
    last_id: int = 0

    def step(
        self, wanted: Sequence[Wanted], endings: Mapping[tuple[str, ...], Occurrence], now: datetime
    ) -> list[Notice]:
        """One evaluation; returns the messages that it sends."""
        todo = changes(
            self.standing.values(),
            wanted,
            lambda row: (
                rules.slo_ending(row, endings.get(row.key[1:])) if row.slo_id else Ending("heard", "")
            ),
        )
        before = list(self.standing.values())
        over: list[Incident] = []
        answered = set()
        for row, end in todo.resolved:
            del self.standing[row.incident_id]
            ended = replace(row, resolved_at=now, resolution=end.resolution, message=end.message)
            over.append(ended)
            if end.resolution == RESTARTED:
                self.restarted[row.key] = ended
            answered |= {row.key[1:]} if row.key.kind == "overdue" else set()
        for row, one in todo.updated:
            self.standing[row.incident_id] = brought_up_to_date(row, one, now)
        for one in todo.opened:
            incident = self._open(one, now)
            if not one.is_over:
                self.standing[incident.incident_id] = incident
                continue
            if one.slo_id and one.business_date and one.slot:
                self.late.add(OccurrenceKey(one.slo_id, one.business_date, one.slot))
            if incident.key[1:] not in answered:
                over.append(incident)
        regroup_after = self.routes.rules.regroup_after
        for moved in regrouped(before, list(self.standing.values()), wanted, now, regroup_after):
            self.standing[moved.incident_id] = moved
        situation = self.situation(now, over)
        due = notices(situation, self.routes, now, Remembered(self.told_last))
        were_held = {
            each.incident_id: each for held in self.held.values() for each, _ in held if each.resolved_at
        }
        rows = self.standing | {each.incident_id: each for each in over} | were_held
        self.held, self.untold = {}, due.untold
        for each in due.held:
            self.held.setdefault(each.route, []).append((rows[each.incident_id], each.event))
        for notice in due.sent:
            self.sent.setdefault(notice.route, []).append((now, len(notice.incidents)))
            for incident in notice.incidents:
                key = (incident.incident_id, notice.route)
                known = self.told.get(key)
                is_news = known is None or known.last < incident.tell_from
                self.told[key] = Told(now if known is None or is_news else known.first, now)
                self.told_last[key] = Before(now, payload_of(incident.incident_id, notice.payload))
        return due.sent

    def _open(self, one: Wanted, now: datetime) -> Incident:
        before = self.restarted.get(one.key)
        since = now - self.routes.rules.flaps_within
        if before is not None and before.resolved_at is not None and before.resolved_at > since:
            return reopened(before, one, now)
        self.last_id += 1
        self.opened[one.key.kind] += 1
        return Incident(
            incident_id=self.last_id, key=one.key, severity=one.severity, title=one.title, message=one.message,
            began_at=one.began_at, opened_at=now, last_seen_at=one.seen_at, tell_from=now,
            application_id=one.application_id, slo_id=one.slo_id, business_date=one.business_date, slot=one.slot,
            detail=one.detail, resolved_at=now if one.is_over else None,
            resolution=one.resolution if one.is_over else None,
        )  # fmt: skip

    def situation(self, now: datetime, over: Sequence[Incident] = ()) -> Situation:
        """What telling depends on."""
        rules = self.routes.rules
        since = now - max(rules.digest_within, rules.digest_every)
        recent = {}
        for route, sent in self.sent.items():
            self.sent[route] = late = [(at, count) for at, count in sent if at > since]
            if late:
                recent[route] = Recent(sum(count for _, count in late), max(at for at, _ in late))
        now_known = {one.incident_id: one for one in over} | self.standing
        held = {
            route: [(now_known.get(one.incident_id, one), event) for one, event in found]
            for route, found in self.held.items()
        }
        return Situation(
            list(self.standing.values()), over, self.told, (), recent=recent, held=held, untold=self.untold
        )

    def occurrences(self, kind: str | None = None) -> set[OccurrenceKey]:
        """Those of which an incident is open, of a kind or of any."""
        return {
            OccurrenceKey(row.slo_id, row.business_date, row.slot or "")
            for row in self.standing.values()
            if row.slo_id and row.business_date and kind in {None, row.key.kind}
        }

    def causes(self) -> dict[Key, Key | None]:
        """The cause of every open incident."""
        return {
            row.key: self.standing[row.cause_id].key if row.cause_id in self.standing else None
            for row in self.standing.values()
        }


def replay(settings: Settings, start: datetime, end: datetime, *, routes: Routes | None = None) -> Replay:
    """What the rules, with the routes of the catalog, would have sent from `start` to `end`.

    What stood open at `start` counts as told before. Reads the marts of those days; writes nothing.

    Raises:
        DuemarkError: the moments have no offset, or are in the wrong order; there are no marts.
        CatalogError: the routes have problems.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise DuemarkError("The moments to replay need an offset.", "Write 2026-03-02T00:00:00Z, or dates.")
    if end < start:
        raise DuemarkError(f"{end.isoformat()} is before {start.isoformat()}.", "Give the earlier one first.")

    chosen = routes or load_routes(settings.catalog)
    if not chosen.routes:
        chosen = Routes({ANYONE.id: ANYONE}, chosen.rules)
    since = start - max(chosen.rules.watch, chosen.rules.watch_newest)
    with connect(settings, "operate") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.cursor() as cursor:
            if not marts.has_views(cursor):
                raise DuemarkError(
                    "There are no marts yet, or only those of an earlier version.",
                    "`duemark tick` makes them.",
                )
            occurrences = read_past(cursor, since, end)
            upstream = marts.MartGraph(cursor).all_upstream()
            risks = past_risks(cursor, start, end)
    return replace(replay_of(occurrences, upstream, chosen, start, end), risks=risks)


def replay_of(
    occurrences: Sequence[PastOccurrence],
    upstream: Mapping[JobKey, Sequence[JobKey]],
    routes: Routes,
    start: datetime,
    end: datetime,
) -> Replay:
    """The same for occurrences at hand."""
    limits = routes.rules
    graph = PastGraph(upstream, occurrences)
    heard = _heard(occurrences)
    due: dict[str, list[datetime]] = defaultdict(list)
    for one in occurrences:
        due[one.key.slo_id].append(one.expected_end_at)
    for moments in due.values():
        moments.sort()
    entering = sorted(
        ((begin, one.key, one) for one in occurrences if (begin := one.begins()) is not None),
        key=lambda item: item[:2],
    )
    agenda = {_tick(start)}
    agenda |= {_tick(at) for _, _, one in entering for at in one.instants() if start <= at <= end}
    agenda |= {
        _tick(begin + limits.flaps_within)
        for _, _, one in entering
        for job in one.jobs
        for begin, _ in job.failures[1:]
        if begin <= end
    }
    agenda |= {
        _tick(one.expected_end_at + limits.watch) for _, _, one in entering if one.actual_end_at is None
    }
    queue = sorted(moment for moment in agenda if start <= moment <= end)
    heapq.heapify(queue)
    memory = _Memory(routes)
    sent: list[Sent] = []
    active: dict[OccurrenceKey, PastOccurrence] = {}
    entered = 0
    before: datetime | None = None
    while queue:
        moment = heapq.heappop(queue)
        if moment == before:
            continue
        while entered < len(entering) and entering[entered][0] <= moment:
            active[entering[entered][1]] = entering[entered][2]
            entered += 1
        graph.moment = moment
        watched, failing = memory.occurrences(), memory.occurrences("failed")
        standing = [
            one.at(
                moment,
                is_watched=_is_watched(one, due, limits, moment) or one.key in watched,
                is_late_known=one.key in memory.late,
                flaps=limits if one.key in failing else None,
            )
            for one in active.values()
        ]
        last = _Last(heard, moment)
        usual = _Usual(last)
        silent = {
            row.key.subject: row.detail for row in memory.standing.values() if row.key.kind == silence.KIND
        }
        wanted = slo_wanted(
            standing, graph, limits, moment, memory.causes(), last, usual_pauses=usual, silent=silent
        )
        for again in usual.again:
            if _tick(again) <= end:
                heapq.heappush(queue, _tick(again))
        made = memory.step(wanted, {(one.key.slo_id, one.key.text()): one for one in standing}, moment)
        if before is not None:
            sent += [_sent(notice, moment) for notice in made]
        else:
            memory.opened.clear()
        before = moment
        for key, one in list(active.items()):
            is_over = one.actual_end_at is not None and one.actual_end_at <= moment
            is_old = one.expected_end_at < moment - max(limits.watch, limits.watch_newest)
            is_old = is_old and (one.gives_up_at is None or one.gives_up_at < moment)
            if is_over or is_old:
                del active[key]
        if (later := next_due(memory.situation(moment), routes, moment)) is not None and _tick(later) <= end:
            heapq.heappush(queue, _tick(later))
    return Replay(start, end, sent, dict(memory.opened))


def _is_watched(
    one: PastOccurrence, due: Mapping[str, list[datetime]], limits: Any, moment: datetime
) -> bool:
    if one.expected_end_at > moment - limits.watch:
        return True
    moments = due[one.key.slo_id]
    newest = moments[bisect_left(moments, moment) - 1]
    return bool(one.expected_end_at > moment - limits.watch_newest and newest <= one.expected_end_at)


def _heard(occurrences: Iterable[PastOccurrence]) -> dict[str, list[datetime]]:
    """When each application reported, as far as its runs tell."""
    found: dict[str, set[datetime]] = defaultdict(set)
    for one in occurrences:
        for job in one.jobs:
            moments = [job.first_seen_at, job.actual_end_at, *(begin for begin, _ in job.failures)]
            found[job.key[0]].update(moment for moment in moments if moment is not None)
    return {application: sorted(moments) for application, moments in found.items()}


@dataclass(frozen=True)
class _Last:
    """`silence.LastStatuses` at a moment of the past."""

    heard: Mapping[str, list[datetime]]
    moment: datetime

    def __call__(self, applications: Iterable[str]) -> dict[str, datetime]:
        found = {}
        for application in applications:
            moments = self.heard.get(application, [])
            place = bisect_right(moments, self.moment)
            if place and moments[place - 1] > self.moment - timedelta(days=10):
                found[application] = moments[place - 1]
        return found


@dataclass
class _Usual:
    """`silence.UsualPauses` at a moment of the past; `again`: when to look again at those that may yet be silent."""

    last: _Last
    again: list[datetime] = field(default_factory=list)

    def __call__(self, applications: Collection[str]) -> dict[str, timedelta]:
        found = {}
        for application, last in self.last(applications).items():
            pause = silence.usual_pause(self.last.heard[application], self.last.moment)
            if pause is not None:
                found[application] = pause
            silent_from = last + (pause or timedelta()) + silence.GRACE
            if silent_from >= self.last.moment:
                self.again.append(silent_from + timedelta(microseconds=1))
        return found


def _sent(notice: Notice, moment: datetime) -> Sent:
    kinds = tuple(sorted({one.key.kind for one in notice.incidents}))
    return Sent(moment, notice.route, notice.event, notice.severity, notice.title, notice.body, kinds)


def _tick(moment: datetime) -> datetime:
    """The first tick at or after `moment`."""
    whole = moment.replace(second=0, microsecond=0)
    return whole if whole == moment else whole + TICK


def read_past(cursor: Cursor, since: datetime, until: datetime) -> list[PastOccurrence]:
    """Occurrences that fell due from `since` to `until`, and their jobs, with all that happened to them."""
    found: dict[OccurrenceKey, PastOccurrence] = {}
    span = {"since": since, "until": until}
    for row in cursor.execute(
        """
        select
            slo_id, business_date, slot, application_id, coalesce(slo.spec -> -1 ->> 'name', slo_id),
            expected_start_at, expected_end_at, actual_end_at, gives_up_at
        from marts.slo_performance as performance
        left join (
            select distinct on (slo_id) slo_id, spec from catalog.slo_entry_version order by slo_id, load_id desc
        ) as slo using (slo_id)
        where expected_end_at between %(since)s and %(until)s and not is_waived
        """,
        span,
    ):
        key = OccurrenceKey(*row[:3])
        found[key] = PastOccurrence(key, *row[3:8])
        found[key].gives_up_at = row[8]
    jobs: dict[tuple[OccurrenceKey, JobKey], PastJob] = {}
    for row in cursor.execute(
        """
        select
            slo_id, business_date, slot, job.application_id, job_id, job.expected_start_at, job.expected_end_at,
            job.actual_end_at, coalesce(job.actual_start_at, job.actual_end_at), upstream_rank
        from marts.slo_performance as performance
        inner join marts.slo_job_performance as job using (slo_id, business_date, slot)
        where performance.expected_end_at between %(since)s and %(until)s and not performance.is_waived
        order by slo_id, business_date, slot, job.application_id, job_id
        """,
        span,
    ):
        key, job_key = OccurrenceKey(*row[:3]), (row[3], row[4])
        jobs[key, job_key] = job = PastJob(job_key, *row[5:])
        found[key].jobs.append(job)
    for slo_id, business_date, slot, application, name, first, failed, restarted in cursor.execute(
        """
        select
            performance.slo_id, performance.business_date, performance.slot, run.application_id, run.job_id,
            run.first_status_at, run.ended_at, (
                select min(next_run.first_status_at)
                from marts.slo_job_run as next_slot
                inner join marts.job_run as next_run using (application_id, job_id, business_date, run_key)
                where next_slot.slo_id = slot_run.slo_id and next_slot.business_date = slot_run.business_date
                    and next_slot.slot = slot_run.slot and next_slot.application_id = run.application_id
                    and next_slot.job_id = run.job_id and next_run.first_status_at > run.ended_at
            )
        from marts.slo_performance as performance
        inner join marts.slo_job_run as slot_run using (slo_id, business_date, slot)
        inner join marts.job_run as run
            on run.application_id = slot_run.application_id and run.job_id = slot_run.job_id
            and run.business_date = slot_run.business_date and run.run_key = slot_run.run_key
        where performance.expected_end_at between %(since)s and %(until)s
            and run.final_status = 'FAIL' and run.ended_at is not null
        order by run.ended_at
        """,
        span,
    ):
        failing = jobs.get((OccurrenceKey(slo_id, business_date, slot), (application, name)))
        if failing is None:
            continue
        if failing.first_seen_at is None or first < failing.first_seen_at:
            failing.first_seen_at = first
        if failing.actual_end_at is None or failed < failing.actual_end_at:
            ends = [moment for moment in (restarted, failing.actual_end_at) if moment is not None]
            failing.failures.append((failed, min(ends, default=None)))
    return list(found.values())
