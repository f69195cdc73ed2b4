"""What should be open, as of a moment of judging: functions of facts, without a database or a clock.

An occurrence opens incidents when it is watched: it fell due within `Rules.watch`, or it is its SLO's newest that is
due. So a job that never reported for years, or a back-fill of years, opens as many incidents as it has SLOs, not as
it has dates. What is open stays so until it is complete, given up or waived, whatever falls due after it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from sensors.oncall.incidents.model import (
    RESTARTED,
    Ending,
    Incident,
    JobKey,
    JobState,
    Key,
    Occurrence,
    OccurrenceKey,
    Rules,
    Wanted,
)

# Jobs on one way upstream; more are followed no further.
LONGEST_WAY = 200


class JobDate(NamedTuple):
    """A job at a business date, as asked for by one that is to start at `before` (None: not known)."""

    job: JobKey
    business_date: date
    before: datetime | None


class Standing(NamedTuple):
    """How a job stands in an occurrence that promises it."""

    occurrence: OccurrenceKey
    job: JobState


class Window(NamedTuple):
    """A window of an intraday SLO. `is_missed`: overdue, late or missed; `blamed`: then the first job to blame."""

    occurrence: OccurrenceKey
    is_missed: bool
    blamed: JobKey | None


class Graph(Protocol):
    """What the grouping asks of the catalog and of the marts."""

    def upstream(self, job: JobKey) -> Collection[JobKey]:
        """The jobs that `job` waits for."""

    def standings(self, wanted: Collection[JobDate]) -> Mapping[JobDate, Sequence[Standing]]:
        """How jobs stand at the same business date, else at their latest earlier one; one per SLO.

        Of an intraday SLO the last slot due by `before`, else its last. A job without an SLO has none.
        """

    def windows(self, days: Collection[tuple[str, date]]) -> Mapping[tuple[str, date], Sequence[Window]]:
        """The windows of (SLO, business date) that were decided or are due, in the order in which they fall due."""


@dataclass(frozen=True)
class Hold:
    """What a job waits for: the job `job` of `occurrence` (its own one, or another).

    It is not complete, or it was not when the one that waits was to start.
    """

    occurrence: OccurrenceKey
    job: JobState


# SLOs


def slo_incidents(occurrences: Iterable[Occurrence], as_of: datetime) -> list[Wanted]:
    """Overdue and failed occurrences, and late ones, which are over already."""
    wanted = []
    for one in occurrences:
        if not one.is_watched:
            continue
        if one.outcome == "overdue":
            wanted.append(one.overdue.but(seen_at=as_of))
        if one.is_failed:
            ends = [job.changed_at for job in one.jobs if job.progress == "failed" and job.changed_at]
            failed = one.wanted("failed", "warning", max(ends, default=as_of), as_of)
            often = max((job.failures for job in one.jobs), default=0)
            if often > 1:
                title = failed.title.replace("Failed", f"Failed {often} times", 1)
                failed = failed.but(title=title, detail={**failed.detail, "failures": often})
            wanted.append(failed)
        if one.outcome == "late" and not one.is_late_known:
            late = one.wanted("late", "warning", one.expected_end_at, as_of)
            wanted.append(late.but(is_over=True, resolution="late"))
    return wanted


@dataclass(frozen=True)
class Fate:
    """What became of the promise of an occurrence, and of its SLO.

    `taken_by`: what was edited so that nothing promises it any more (the SLO, or its calendar); empty when neither was.
    """

    is_slo_gone: bool = False
    taken_by: Literal["", "slo", "calendar"] = ""
    calendar_id: str = ""


def slo_ending(incident: Incident, now_stands: Occurrence | None, fate: Callable[[], Fate] = Fate) -> Ending:
    """How an overdue or failed incident ended, from how its occurrence stands now (None: there is none any more).

    `fate` is asked where that alone does not tell.
    """
    if now_stands is not None and now_stands.outcome in {"late", "on_time"}:
        return Ending(now_stands.outcome, now_stands.explanation)
    became = fate()
    if became.is_slo_gone:
        return Ending("withdrawn", f"The SLO {incident.slo_id} was taken out of the catalog.")
    if now_stands is None:
        return _gone(incident, became)
    said = now_stands.explanation
    if now_stands.is_waived:
        return Ending("waived", said)
    if now_stands.outcome == "missed":
        return Ending("missed", said)
    if incident.key.kind == "failed" and not now_stands.is_failed:
        if now_stands.progress == "pending":
            return Ending("retracted", f"The statuses that said so are not there any more. {said}")
        return Ending(RESTARTED, f"Running again. {said}")
    if now_stands.outcome == "not_due":
        if incident.key.kind == "overdue" and now_stands.expected_end_at != incident.began_at:
            before, now = (
                instant_text(at, now_stands.zone) for at in (incident.began_at, now_stands.expected_end_at)
            )
            return Ending("changed", f"The promise was changed: due {now}, and no longer {before}. {said}")
        return Ending("not_due", f"The marts show an earlier moment, when it was not due. {said}")
    return Ending("unwatched", f"Still not complete, and due for too long to be watched any longer. {said}")


def _gone(incident: Incident, became: Fate) -> Ending:
    what = incident.key.occurrence.removesuffix(" 00:00")
    if became.taken_by == "calendar":
        return Ending(
            "off_calendar",
            f"The calendar {became.calendar_id} was changed: nothing is due of {what} any more.",
        )
    if became.taken_by == "slo":
        return Ending(
            "changed", f"The SLO {incident.slo_id} was changed: it does not promise {what} any more."
        )
    return Ending("retracted", f"The statuses by which {what} was due are not there any more.")


# Grouping


Held = dict[tuple[OccurrenceKey, JobKey], list[Hold]]


def holds(
    occurrences: Iterable[Occurrence], graph: Graph, asked_for: dict[OccurrenceKey, set[JobKey]] | None = None
) -> Held:
    """For every troubled job of every occurrence, what it waits for, or had to, upstream.

    The way upstream goes on through jobs that are not complete, and through jobs that no SLO promises. It starts at
    the same business date, else at the upstream's latest earlier one, and goes on from there. `asked_for` is told
    which jobs were looked at for each occurrence: while none of them has changed, it is held by the same.
    """
    found: dict[tuple[OccurrenceKey, JobKey], list[Hold]] = {}
    frontier: dict[JobDate, set[tuple[OccurrenceKey, JobKey]]] = defaultdict(set)
    own: dict[OccurrenceKey, dict[JobKey, JobState]] = {}
    start_of: dict[tuple[OccurrenceKey, JobKey], datetime] = {}
    for one in occurrences:
        own[one.key] = {job.key: job for job in one.jobs}
        for job in one.troubled_jobs:
            node = (one.key, job.key)
            found[node] = []
            start_of[node] = job.expected_start_at or job.expected_end_at
            for above in graph.upstream(job.key):
                frontier[JobDate(above, one.key.business_date, job.expected_start_at)].add(node)
    seen: dict[tuple[OccurrenceKey, JobKey], set[tuple[JobKey, date]]] = defaultdict(set)
    for _ in range(LONGEST_WAY):
        if not frontier:
            break
        standings = graph.standings(list(frontier))
        following: dict[JobDate, set[tuple[OccurrenceKey, JobKey]]] = defaultdict(set)
        for asked, nodes in frontier.items():
            for node in nodes:
                if (asked.job, asked.business_date) in seen[node]:
                    continue
                seen[node].add((asked.job, asked.business_date))
                if asked_for is not None:
                    asked_for.setdefault(node[0], set()).add(asked.job)
                at_node = own[node[0]].get(asked.job)
                # A job of the same occurrence stands as it stands there.
                there = [Standing(node[0], at_node)] if at_node else standings.get(asked, ())
                if not there:
                    ways = [(asked.business_date, asked.before)]
                else:
                    unfinished = [one for one in there if one.job.progress != "complete"]
                    waited = [one for one in there if _ended_after(one.job, start_of[node])]
                    found[node] += [Hold(one.occurrence, one.job) for one in [*unfinished, *waited]]
                    ways = [(one.occurrence.business_date, one.job.expected_start_at) for one in unfinished]
                for business_date, before in dict.fromkeys(ways):
                    for above in graph.upstream(asked.job):
                        following[JobDate(above, business_date, before)].add(node)
        frontier = following
    return found


def _ended_after(job: JobState, moment: datetime) -> bool:
    return job.ended_at is not None and job.ended_at > moment


@dataclass(frozen=True)
class Missed:
    """What fell due without a word from its application: evidence that the sender is silent."""

    occurrence: OccurrenceKey
    job: JobState


class Upstream(NamedTuple):
    """What may be to blame for a job; the least is the most upstream."""

    rank: int
    expected_end_at: datetime
    occurrence: OccurrenceKey
    job: JobKey


class Waits(NamedTuple):
    """What is to be known of an occurrence by what holds it up: the same until one of the two changes.

    `missed`: jobs without a status that are not kept waiting, due or not. `upstream`: for each job to blame, what it
    waits for in other occurrences, in order.
    """

    missed: tuple[Missed, ...]
    upstream: tuple[tuple[Upstream, ...], ...]


def waits(one: Occurrence, held: Mapping[tuple[OccurrenceKey, JobKey], Sequence[Hold]]) -> Waits:
    """What an occurrence waits for, of what `holds` found.

    A job that waits for one that did report, or for another application's, is no evidence against its sender; nor
    is one that had to wait beyond its start.
    """
    missed = [
        Missed(one.key, job)
        for job in (one.jobs if one.outcome == "overdue" else ())
        if job.progress == "pending"
        and not any(
            hold.job.key[0] != job.key[0] or hold.job.progress != "pending"
            for hold in held.get((one.key, job.key), ())
        )
    ]
    upstream = []
    for job in one.troubled_jobs:
        others = {
            Upstream(hold.job.upstream_rank, hold.job.expected_end_at, hold.occurrence, hold.job.key)
            for hold in held.get((one.key, job.key), ())
            if hold.occurrence != one.key
        }
        upstream.append(tuple(sorted(others)))
    return Waits(tuple(missed), tuple(upstream))


def slo_causes(
    occurrences: Sequence[Occurrence], waiting: Mapping[OccurrenceKey, Waits], graph: Graph
) -> dict[OccurrenceKey, OccurrenceKey]:
    """The occurrence in trouble that each other one is grouped under; the causes may close into a ring.

    An occurrence is grouped when every job to blame in it waits for a job to blame in another one; under the most
    upstream of those. A window of an intraday SLO is grouped under the first of its row (see `_rows`).
    """
    troubled = {one.key: one.troubled_keys for one in occurrences if one.is_watched and one.troubled_jobs}
    causes: dict[OccurrenceKey, OccurrenceKey] = {}
    own_trouble: dict[tuple[str, date], set[OccurrenceKey]] = defaultdict(set)
    for one in occurrences:
        if one.key not in troubled:
            continue
        best: list[Upstream] = []
        for upstream in waiting[one.key].upstream:
            for above in upstream:
                if above.occurrence in troubled and above.job in troubled[above.occurrence]:
                    best.append(above)
                    break
            else:
                break
        else:
            causes[one.key] = min(best).occurrence
            continue
        if one.outcome == "overdue":
            own_trouble[one.key.slo_id, one.key.business_date].add(one.key)
    days = [day for day, keys in own_trouble.items() if len(keys) > 1]
    for day, windows in (graph.windows(days) if days else {}).items():
        causes |= _rows(windows, own_trouble[day])
    return causes


def _rows(
    windows: Sequence[Window], own_trouble: Collection[OccurrenceKey]
) -> dict[OccurrenceKey, OccurrenceKey]:
    """The first of its row, for each later window of it.

    A row is unbroken: its windows follow each other, all of them are overdue, late or missed, the same job is to blame,
    and those that are overdue wait for nothing else. After one that was on time, what is missed is new trouble.
    """
    causes: dict[OccurrenceKey, OccurrenceKey] = {}
    first: OccurrenceKey | None = None
    blamed: JobKey | None = None
    for one in windows:
        is_own = one.occurrence in own_trouble
        if not one.is_missed or one.blamed != blamed:
            first = None
        blamed = one.blamed
        if is_own and first is not None:
            causes[one.occurrence] = first
        elif is_own:
            first = one.occurrence
    return causes


def apply_slo_causes(
    wanted: Iterable[Wanted],
    causes: Mapping[OccurrenceKey, OccurrenceKey],
    silent: Mapping[OccurrenceKey, Key],
    standing: Mapping[Key, Key | None],
) -> list[Wanted]:
    """Give the wanted incidents of SLOs their cause: a silent sender, or the upstream occurrence's incident.

    Of two incidents of one occurrence that open together, overdue and failed, the first tells both. `standing`: the
    cause of every incident that is open.
    """
    wanted = list(wanted)
    keys = {one.key for one in wanted if not one.is_over}

    def incident_of(occurrence: OccurrenceKey) -> Key | None:
        for kind in ("overdue", "failed"):
            key = Key(kind, occurrence.slo_id, occurrence.text())
            if key in keys:
                return key
        return None

    def cause_of(one: Wanted) -> Key | None:
        if one.slo_id is None or one.business_date is None or one.slot is None or one.is_over:
            return None
        at = OccurrenceKey(one.slo_id, one.business_date, one.slot)
        if at in causes:
            visited = {at}
            while at in causes and causes[at] not in visited:
                at = causes[at]
                visited.add(at)
            is_grouped = len(visited) > 1
        else:
            is_grouped = False
        if at in silent and one.key.kind == "overdue":
            return silent[at]
        if is_grouped and (found := incident_of(at)) is not None:
            return silent.get(at, found)
        if one.key.kind != "failed":
            return None
        overdue = one.key._replace(kind="overdue")
        if overdue not in keys:
            return None
        is_new = one.key not in standing and overdue not in standing
        return overdue if is_new or standing.get(one.key) == overdue else None

    return [one if (cause := cause_of(one)) is None else one.but(cause=cause) for one in wanted]


# Senders


# Records


@dataclass(frozen=True)
class UnregisteredJob:
    """A job that reports and that the catalog does not have."""

    job: JobKey
    first_status_at: datetime
    is_application_known: bool


def unregistered_incidents(jobs: Iterable[UnregisteredJob], as_of: datetime) -> list[Wanted]:
    """An incident per job that is not in the catalog; one per application where that is not either."""
    wanted: dict[Key, Wanted] = {}
    for one in sorted(jobs, key=lambda one: (one.first_status_at, one.job)):
        application, job = one.job
        if one.is_application_known:
            subject, what = f"{application}/{job}", f"The job {job} of {application}"
            hint = "declare it in catalog/jobs"
        else:
            subject, what = application, f"The application {application}"
            hint = "declare it in catalog/applications, and its jobs in catalog/jobs"
        key = Key("unregistered_job", subject)
        wanted.setdefault(
            key,
            Wanted(
                key=key,
                severity="warning",
                title=f"Unregistered: {subject}",
                message=f"{what} reports and the catalog does not have it. Its statuses are kept; {hint}.",
                began_at=one.first_status_at,
                seen_at=as_of,
                application_id=application,
                detail={"first_job": job},
            ),
        )
    return list(wanted.values())


@dataclass(frozen=True)
class LandedFile:
    """A file that was loaded with rejected records, or that could not be loaded at all.

    `application_id`: whose statuses it holds, empty when it holds those of several, or of none.
    """

    landed_file_id: int
    feed: str
    path: str
    status: str
    record_count: int
    rejected_count: int
    message: str
    seen_at: datetime
    application_id: str = ""

    @property
    def sender(self) -> str:
        """Who sent it: the folder below that of the feed, else the application; empty where neither tells."""
        folder = self.path.rpartition("/")[0]
        is_below = folder.rpartition("/")[2] != self.feed
        return folder if is_below else self.application_id


def rejected_incidents(files: Iterable[LandedFile], rules: Rules) -> list[Wanted]:
    """Files of which too much was rejected: a count, a share, or all because they could not be read."""
    wanted = []
    for one in files:
        total = one.record_count + one.rejected_count
        share = one.rejected_count / total if total else 0.0
        is_share = share >= rules.rejected_share and one.rejected_count >= min(rules.rejected_least, total)
        if one.status == "quarantined":
            message = (
                f"The file could not be loaded: {one.message}"
                if one.message
                else "The file could not be loaded."
            )
        elif one.rejected_count and (one.rejected_count >= rules.rejected_count or is_share):
            message = f"{one.rejected_count} of {total} records were rejected ({share:.1%})."
        else:
            continue
        wanted.append(
            Wanted(
                key=Key("rejected_records", one.path, str(one.landed_file_id)),
                severity="warning",
                title=f"Rejected records: {one.path.rpartition('/')[2]}",
                message=f"{message} They stand in marts.rejected_record, with every reason."
                if one.status != "quarantined"
                else message,
                began_at=one.seen_at,
                seen_at=one.seen_at,
                detail={
                    "feed": one.feed,
                    "records": total,
                    "rejected": one.rejected_count,
                    "sender": "" if one.status == "quarantined" else one.sender,
                },
            )
        )
    return wanted


def by_sender(one: Wanted) -> Hashable:
    """Files of one sender are told together. One that could not be read says nothing of its sender: it stands alone."""
    sender = one.detail.get("sender")
    return (one.detail.get("feed"), sender) if sender else one.key


def still_wanted(
    open_: Iterable[Incident], new: Iterable[Wanted], rules: Rules, now: datetime
) -> list[Wanted]:
    """Incidents of records: the new ones, and those open ones that nobody acknowledged and that are not old."""
    wanted = {one.key: one for one in new}
    for one in open_:
        is_old = now - max(one.last_seen_at, one.opened_at) >= rules.event_open
        if one.key not in wanted and one.acknowledged_at is None and not is_old:
            wanted[one.key] = as_it_stands(one)
    return list(wanted.values())


def event_ending(incident: Incident) -> Ending:
    """How an incident of records ended."""
    if incident.acknowledged_at is not None:
        return Ending("acknowledged", f"Acknowledged by {incident.acknowledged_by}.")
    return Ending("expired", "Nothing more of the kind came.")


def as_it_stands(incident: Incident) -> Wanted:
    """An open incident as one that should stay as it is."""
    return Wanted(
        key=incident.key,
        severity=incident.severity,
        title=incident.title,
        message=incident.message,
        began_at=incident.began_at,
        seen_at=incident.last_seen_at,
        application_id=incident.application_id,
        slo_id=incident.slo_id,
        business_date=incident.business_date,
        slot=incident.slot,
        detail=incident.detail,
    )


# Calendars


@dataclass(frozen=True)
class CalendarEnd:
    """A calendar that SLOs use, and its last business date."""

    calendar_id: str
    last_date: date | None
    slo_ids: tuple[str, ...]


def calendar_incidents(ends: Iterable[CalendarEnd], rules: Rules, as_of: datetime) -> list[Wanted]:
    """Calendars that end soon, or have: after their last date nothing is due, and nothing is missed."""
    wanted = []
    for one in ends:
        if one.last_date is None or one.last_date >= as_of.date() + rules.calendar_ends_within:
            continue
        verb = "ended" if one.last_date < as_of.date() else "ends"
        began = (
            datetime.combine(one.last_date, datetime.min.time(), as_of.tzinfo) - rules.calendar_ends_within
        )
        wanted.append(
            Wanted(
                key=Key("calendar_ending", one.calendar_id),
                severity="warning",
                title=f"Calendar {verb}: {one.calendar_id}, {one.last_date}",
                message=f"The calendar {one.calendar_id} {verb} on {one.last_date}, and with it what is due of "
                f"{listed(one.slo_ids)}. Set a later `until`, add dates, or install a newer list of holidays.",
                began_at=began,
                seen_at=as_of,
                detail={"last_date": one.last_date.isoformat(), "slos": list(one.slo_ids)},
            )
        )
    return wanted


# Grouping of what has no graph


def group_by(
    wanted: Iterable[Wanted], open_: Iterable[Incident], group: Callable[[Wanted], Hashable]
) -> list[Wanted]:
    """Group what is alike under its first: the one open for longest, else the one that began first."""
    wanted = list(wanted)
    ids = {one.key: one.incident_id for one in open_}
    first: dict[Hashable, Wanted] = {}
    for one in sorted(
        wanted, key=lambda one: (one.key not in ids, ids.get(one.key, 0), one.began_at, one.key)
    ):
        first.setdefault(group(one), one)
    return [one if (root := first[group(one)]) is one else one.but(cause=root.key) for one in wanted]


# Words


def instant_text(moment: datetime, zone: str = "UTC") -> str:
    """An instant as messages have it, on the clocks of a zone: `2026-11-24 03:00 EST`."""
    return f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M %Z}"


def count_of(number: int, noun: str, plural: str = "") -> str:
    """A number of something."""
    return f"1 {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def listed(names: Sequence[str], most: int = 10, separator: str = ", ") -> str:
    """Names, the first of many only."""
    rest = len(names) - most
    return separator.join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
