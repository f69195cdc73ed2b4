"""One look at the marts: what should be open is opened, what is over is closed, and both are written to the outbox.

All of it in one transaction, so that an incident without its message, or a message without its incident, cannot be.
Doing it twice, or a tick later, comes to the same: what should be open is a function of the marts, and a notice is
written once for what it tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.logs import get_logger
from pipelines.subject import in_use
from pipelines.warehouse import homes
from pipelines.warehouse.homes import Slot
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents import forecasts, future, kpis, marts, rules, silence
from sensors.oncall.incidents.model import (
    Detail,
    Ending,
    Incident,
    JobKey,
    Key,
    Occurrence,
    OccurrenceKey,
    Rules,
    Wanted,
    kinds_decided,
)
from sensors.oncall.incidents.store import (
    Versions,
    current_routes,
    in_transaction,
    open_versions,
    reconcile,
    tell,
)
from sensors.oncall.incidents.views import view_ending, view_wanted

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]

log = get_logger(__name__)

SLO_KINDS = frozenset({"overdue", "failed", "late"})
RECORD_KINDS = frozenset({"rejected_records"})


class Line(NamedTuple):
    """What a message says of one incident, and to whom."""

    event: str
    kind: str
    subject: str
    occurrence: str
    route: str


@dataclass(frozen=True)
class Summary:
    """What an evaluation did. `as_of`: of the tick it judged, None before the first one.

    `is_complete` is False when there was more to look through than one evaluation does: call again. `problems`: of
    the routes' files, in whose place the last good ones were used. `told`: each incident of each of the `messages`.
    """

    as_of: datetime | None = None
    opened: int = 0
    resolved: int = 0
    updated: int = 0
    messages: int = 0
    is_complete: bool = True
    problems: list[str] = field(default_factory=list)
    told: tuple[Line, ...] = ()

    @property
    def is_change(self) -> bool:
        """Whether anything was written that somebody may want to know of."""
        return bool(self.opened or self.resolved or self.messages)

    def __add__(self, later: Summary) -> Summary:
        """Both, one after the other."""
        return Summary(
            as_of=later.as_of,
            opened=self.opened + later.opened,
            resolved=self.resolved + later.resolved,
            updated=self.updated + later.updated,
            messages=self.messages + later.messages,
            is_complete=later.is_complete,
            problems=later.problems,
            told=self.told + later.told,
        )


def evaluate(settings: Settings, now: datetime | None = None) -> Summary:
    """Judge the marts of the last tick and tell who has to know; `now` is the clock of repeats and escalations.

    Safe from several processes at once: the second waits for the first.
    """
    moment = now or datetime.now(UTC)
    learned: list[_Memory] = []
    summary: Summary = in_transaction(
        settings, lambda cursor: _with_lines(cursor, _evaluate(cursor, settings, moment, learned))
    )
    # Only now: what was not committed was not told.
    for memory in learned:
        homes.of(settings).put(MEMORY, memory)
    if summary.is_change:
        log.info(
            "incidents",
            as_of=summary.as_of.isoformat() if summary.as_of else None,
            opened=summary.opened,
            resolved=summary.resolved,
            messages=summary.messages,
        )
    for problem in summary.problems:
        log.error("routes refused, the ones before stand", problem=problem)
    return summary


def _evaluate(cursor: Cursor, settings: Settings, now: datetime, learned: list[_Memory]) -> Summary:
    routes, problems = current_routes(cursor, settings, now)
    mark = marts.read_mark(cursor)
    if mark.as_of is None or not marts.has_views(cursor):
        return Summary(messages=tell(cursor, routes, now, site=settings.url), problems=problems)
    # Taken out: one that is done again, or fails, leaves none.
    before = homes.of(settings).take(MEMORY)
    if before is not None and before.mark.published_at != mark.evaluated_published_at:
        # Another process looked since, or the database is another one: a backup that was restored.
        before = None
    versions = open_versions(cursor, before.incidents if before is not None else {})
    everything = [one for _, one in versions.values()]
    decided = kinds_decided()
    standing = [one for one in everything if one.key.kind in decided]
    look = _Look(cursor, routes.rules, mark, mark.as_of, standing, now, before)
    slos = look.slos()
    wanted = (
        slos
        + look.risks(slos)
        + look.slowing()
        + look.unregistered()
        + look.records()
        + look.future()
        + look.calendars()
    )
    wanted += look.kpis(slos) + look.views()
    done = reconcile(
        cursor,
        decided,
        wanted,
        look.ending,
        now=now,
        regroup_after=routes.rules.regroup_after,
        reopens_within=routes.rules.flaps_within,
        standing=standing,
    )
    # What was over before the first look is kept, and nobody is woken up for it.
    over = [] if mark.is_first else look.news(done.over)
    still = [one for one in everything if one.key.kind not in decided] + done.open
    standing = sorted(still, key=lambda one: one.incident_id)
    messages = tell(cursor, routes, now, over, standing, site=settings.url)
    look.memory.incidents = versions
    learned.append(look.memory)
    cursor.execute(
        "update ops.evaluation set as_of = %s, published_at = %s, evaluated_at = %s, scanned_load_id = %s,"
        " scanned_file_id = %s",
        [mark.as_of, mark.published_at, now, look.scanned_load_id, look.scanned_file_id],
    )
    return Summary(
        as_of=mark.as_of,
        opened=len(done.opened),
        resolved=len(done.resolved),
        updated=done.updated,
        messages=messages,
        is_complete=look.scanned_load_id >= mark.high,
        problems=problems,
    )


def remind(settings: Settings, now: datetime | None = None) -> Summary:
    """Tell what time alone makes due: repeats, escalations, what a silence that ended held back.

    Cheap, and the same at any time: judges nothing. `is_complete` is False when there is something to `evaluate`.
    """
    moment = now or datetime.now(UTC)

    def work(cursor: Cursor) -> Summary:
        mark = marts.read_mark(cursor)
        is_moved = mark.published_at != mark.evaluated_published_at or mark.scanned_load_id < mark.high
        if mark.as_of is not None and is_moved:
            # The evaluation tells too, and first closes what is over.
            return Summary(mark.as_of, is_complete=False)
        routes, problems = current_routes(cursor, settings, moment)
        summary = Summary(
            mark.as_of, messages=tell(cursor, routes, moment, site=settings.url), problems=problems
        )
        if mark.as_of is not None and summary.messages:
            cursor.execute("update ops.evaluation set evaluated_at = greatest(evaluated_at, %s)", [moment])
        return _with_lines(cursor, summary)

    summary: Summary = in_transaction(settings, work)
    return summary


def _with_lines(cursor: Cursor, summary: Summary) -> Summary:
    """The summary with what its messages say: under the lock, the newest of the outbox are those just written."""
    if not summary.messages:
        return summary
    rows = cursor.execute(
        """
        select notice.event, kind, subject, occurrence, notice.route
        from ops.notice inner join ops.incident using (incident_id)
        where outbox_id in (select outbox_id from ops.alert_outbox order by outbox_id desc limit %s)
        order by outbox_id, incident_id
        """,
        [summary.messages],
    )
    return replace(summary, told=tuple(Line(*row) for row in rows))


@dataclass
class _Memory:
    """What the last look of this process read and worked out: what has not changed since is not read again.

    It holds for the marts that `mark` tells of, under `settings`. Who has none reads everything, and comes to the same.
    """

    mark: marts.Mark
    settings: Rules
    upstream: dict[JobKey, list[JobKey]]
    occurrences: dict[OccurrenceKey, Occurrence] = field(default_factory=dict)
    waits: dict[OccurrenceKey, rules.Waits] = field(default_factory=dict)
    asked_for: dict[OccurrenceKey, set[JobKey]] = field(default_factory=dict)
    incidents: Versions = field(default_factory=dict)
    heard: dict[str, datetime | None] = field(default_factory=dict)
    """When the applications that were asked for last sent a status; None: not lately."""
    calendars: list[rules.CalendarEnd] | None = None


MEMORY: Slot[_Memory | None] = Slot(lambda _: None)


class _Look:
    """One evaluation's reading: what is wanted of each kind, and how what is not wanted any more ended."""

    def __init__(
        self,
        cursor: Cursor,
        settings: Rules,
        mark: marts.Mark,
        as_of: datetime,
        standing: list[Incident],
        now: datetime,
        memory: _Memory | None = None,
    ) -> None:
        self._cursor = cursor
        self._rules = settings
        self._mark = mark
        self._as_of = as_of
        self._standing = standing
        self._now = now
        self._before = memory
        self._occurrences: dict[tuple[str, str], Occurrence] = {}
        self._kpis: dict[Key, kpis.Standing] = {}
        self._missed: set[str] = set()
        # Of what was taken out again.
        self._unloaded: set[Key] = set()
        self._views = {kind.name: kind for kind in in_use().incident_kinds()}
        self._calendars: set[str] = set()
        self._heard: dict[str, datetime] | None = None
        # Loads may be cut off by a restored database: then there is nothing before them to look through.
        self._low = min(mark.scanned_load_id, mark.high)
        self.scanned_load_id = marts.next_load(cursor, self._low, mark.high)
        self.scanned_file_id = mark.scanned_file_id

    def _of(self, *kinds: str) -> list[Incident]:
        return [one for one in self._standing if one.key.kind in kinds]

    def slos(self) -> list[Wanted]:
        """Overdue, failed, late, and the senders that are silent."""
        occurrences = self._read()
        self._occurrences = {(one.key.slo_id, one.key.text()): one for one in occurrences}
        keys = {one.incident_id: one.key for one in self._standing}
        causes = {one.key: keys.get(one.cause_id or 0) for one in self._standing}
        graph = marts.MartGraph(self._cursor, self.memory.upstream)
        return slo_wanted(
            occurrences, graph, self._rules, self._as_of, causes, self._last_statuses, self.memory.waits,
            lambda applications: silence.read_usual_pauses(self._cursor, applications),
            {one.key.subject: one.detail for one in self._of(silence.KIND)},
        )  # fmt: skip

    def _read(self) -> list[Occurrence]:
        """The occurrences as they stand, and in `memory` what holds them up; as far as that changed, or all of it."""
        standing = self._of(*SLO_KINDS)
        before, scope = self._before, None
        if before is not None and before.settings == self._rules:
            scope = marts.read_scope(self._cursor, before.mark, self._mark)
        if before is None or scope is None:
            self._before = None
            graph = marts.MartGraph(self._cursor)
            self.memory = memory = _Memory(self._mark, self._rules, graph.all_upstream())
            found = marts.read_occurrences(self._cursor, self._rules, self._as_of, standing)
            graph = marts.MartGraph(self._cursor, memory.upstream)
            watched = [one for one in found if one.is_watched]
            held = rules.holds(watched, graph, memory.asked_for)
            memory.waits = {one.key: rules.waits(one, held) for one in watched}
        else:
            found = self._read_changed(before, scope, standing)
        self.memory.occurrences = {one.key: one for one in found if one.outcome == "overdue" or one.is_failed}
        return found

    def _read_changed(
        self, before: _Memory, scope: marts.Scope, standing: Iterable[Incident]
    ) -> list[Occurrence]:
        slo_ids = {*scope.slo_ids, *self._grown_old(before)}
        for one in standing:
            key = OccurrenceKey(one.slo_id or "", one.business_date or date.min, one.slot or "")
            # Opened by another process since.
            if key not in before.occurrences and one.slo_id:
                slo_ids.add(one.slo_id)
        found = [one for key, one in before.occurrences.items() if key.slo_id not in slo_ids]
        found += marts.read_occurrences(self._cursor, self._rules, self._as_of, standing, slo_ids)
        found.sort(key=lambda one: one.key)
        watched = {one.key: one for one in found if one.is_watched}
        anew = {
            key
            for key in watched
            if key.slo_id in slo_ids or not scope.jobs.isdisjoint(before.asked_for.get(key, ()))
        }
        self.memory = memory = _Memory(self._mark, self._rules, before.upstream)
        memory.waits = {key: before.waits[key] for key in watched if key not in anew}
        memory.asked_for = {
            key: jobs for key, jobs in before.asked_for.items() if key in watched and key not in anew
        }
        graph = marts.MartGraph(self._cursor, memory.upstream)
        found_anew = [watched[key] for key in sorted(anew)]
        held = rules.holds(found_anew, graph, memory.asked_for)
        memory.waits |= {one.key: rules.waits(one, held) for one in found_anew}
        return found

    def _grown_old(self, before: _Memory) -> set[str]:
        """SLOs of occurrences that time alone may have taken out of what is watched."""
        if before.mark.as_of is None:
            return set()
        found = set()
        for limit in (self._rules.watch, self._rules.watch_newest):
            first, last = before.mark.as_of - limit, self._as_of - limit
            found |= {
                key.slo_id for key, one in before.occurrences.items() if first <= one.expected_end_at <= last
            }
        found |= {
            key.slo_id
            for key, one in before.occurrences.items()
            if one.flaps_until is not None and one.flaps_until <= self._as_of
        }
        return found

    def _last_statuses(self, applications: Iterable[str]) -> dict[str, datetime]:
        asked, heard, before = set(applications), self.memory.heard, self._before
        # The days that count move with the date.
        if before is not None and before.mark.as_of and before.mark.as_of.date() == self._as_of.date():
            known = sorted((asked & before.heard.keys()) - heard.keys())
            news = marts.last_statuses(self._cursor, known, self._as_of, self._mark.high, before.mark)
            for one in known:
                moments = [moment for moment in (before.heard[one], news.get(one)) if moment is not None]
                heard[one] = max(moments, default=None)
        new = sorted(asked - heard.keys())
        found = marts.last_statuses(self._cursor, new, self._as_of, self._mark.high)
        heard.update({one: found.get(one) for one in new})
        return {one: moment for one in asked if (moment := heard[one]) is not None}

    def risks(self, slos: list[Wanted]) -> list[Wanted]:
        """What is going to be missed."""
        return forecasts.risk_incidents(
            forecasts.read_risks(self._cursor),
            self._of(forecasts.AT_RISK),
            slos,
            self._occurrences,
            self._as_of,
        )

    def slowing(self) -> list[Wanted]:
        """Jobs that get slower."""
        found = forecasts.read_slowing(self._cursor)
        return forecasts.slowing_incidents(found, self._of(forecasts.SLOWING), self._as_of)

    def unregistered(self) -> list[Wanted]:
        """Jobs that the catalog does not have: those of new loads, and the open ones until they are registered."""
        new = marts.unregistered(self._cursor, self._low, self.scanned_load_id)
        wanted = {one.key: one for one in rules.unregistered_incidents(new, self._as_of)}
        standing = self._of("unregistered_job")
        known = marts.registered(self._cursor, [one.key.subject for one in standing])
        gone = marts.reported_no_more(
            self._cursor, self._low, self.scanned_load_id, [one.key.subject for one in standing]
        )
        self._unloaded |= {one.key for one in standing if one.key.subject in gone}
        for one in standing:
            if one.key.subject not in known | gone:
                wanted[one.key] = rules.as_it_stands(one)
        return rules.group_by(wanted.values(), standing, lambda one: one.application_id)

    def records(self) -> list[Wanted]:
        """Files with too much rejected."""
        since = self._now - self._rules.event_open
        files, self.scanned_file_id = marts.landed_files(self._cursor, self._mark.scanned_file_id, since)
        found = rules.rejected_incidents(files, self._rules)
        standing = self._of("rejected_records")
        gone = marts.unloaded_files(self._cursor, [one.key.occurrence for one in standing])
        self._unloaded |= {one.key for one in standing if one.key.occurrence in gone}
        standing = [one for one in standing if one.key not in self._unloaded]
        rejected = rules.still_wanted(standing, found, self._rules, self._now)
        return rules.group_by(rejected, standing, rules.by_sender)

    def future(self) -> list[Wanted]:
        """Senders whose statuses come from the future."""
        standing = self._of(future.KIND)
        sent = future.read_sent(
            self._cursor, self._low, self.scanned_load_id, self._rules.future_status,
            [one.key.subject for one in standing],
        )  # fmt: skip
        return future.future_wanted(sent, standing, self._rules, self._now)

    def calendars(self) -> list[Wanted]:
        """Calendars in use that end soon."""
        ends = self._before.calendars if self._before is not None else None
        if ends is None:
            ends = marts.calendar_ends(self._cursor)
        self.memory.calendars = ends
        self._calendars = {one.calendar_id for one in ends}
        return rules.calendar_incidents(ends, self._rules, self._as_of)

    def views(self) -> list[Wanted]:
        """What the views of subjects say."""
        return view_wanted(self._cursor, self._views.values(), self._standing, self._as_of)

    def kpis(self, slos: list[Wanted]) -> list[Wanted]:
        """KPIs beyond a threshold, held while an SLO that they wait for is overdue, or was missed."""
        standing = self._of("kpi_threshold")
        found = kpis.read_standings(self._cursor, standing)
        self._kpis = {one.key: one for one in found}
        self._missed = kpis.read_missed(self._cursor, {slo for one in found for slo in one.slos})
        return kpis.threshold_incidents(found, standing, slos, self._as_of, self._missed)

    def ending(self, incident: Incident) -> Ending:
        """How an incident that is not wanted any more ended."""
        if incident.key in self._unloaded:
            return _UNLOADED
        if incident.key.kind in SLO_KINDS:
            stands = self._occurrences.get(incident.key[1:])
            return rules.slo_ending(incident, stands, lambda: self._fate(incident))
        if incident.key.kind == forecasts.AT_RISK:
            at = OccurrenceKey(incident.slo_id or "", incident.business_date or date.min, incident.slot or "")
            verdict = forecasts.read_verdict(self._cursor, at)
            return forecasts.risk_ending(incident, verdict, lambda: self._fate(incident))
        if incident.key.kind == forecasts.SLOWING:
            return forecasts.STEADY
        if incident.key.kind in RECORD_KINDS:
            return rules.event_ending(incident)
        if incident.key.kind == future.KIND:
            return future.ending(incident, self._now, self._rules)
        if incident.key.kind == "kpi_threshold":
            return kpis.threshold_ending(incident, self._kpis.get(incident.key), self._missed)
        if incident.key.kind == "sender_silence":
            if self._heard is None:
                self._heard = self._last_statuses(one.key.subject for one in self._of("sender_silence"))
            last = self._heard.get(incident.key.subject)
            is_news = last is not None and last.isoformat() != incident.detail.get("last_status_at")
            return HEARD if is_news else NOTHING_MISSING
        if incident.key.kind == "calendar_ending":
            return EXTENDED if incident.key.subject in self._calendars else UNUSED
        if incident.key.kind in self._views:
            return view_ending(self._views[incident.key.kind])
        return REGISTERED

    def news(self, over: list[Incident]) -> list[Incident]:
        """Those of what is over that are told: what an upgrade finds given up long ago is no news."""
        given_up = {
            one.incident_id: self._occurrences.get(one.key[1:]) for one in over if one.resolution == "missed"
        }
        if not given_up:
            return over
        missed_before = marts.missed_before(self._cursor)
        return [
            one
            for one in over
            if (stands := given_up.get(one.incident_id)) is None
            or stands.gives_up_at is None
            or stands.gives_up_at > missed_before
        ]

    def _fate(self, incident: Incident) -> rules.Fate:
        if incident.slo_id is None or incident.business_date is None or incident.slot is None:
            return rules.Fate()
        key = OccurrenceKey(incident.slo_id, incident.business_date, incident.slot)
        return marts.read_fate(self._cursor, key, self._mark.high)


HEARD = Ending("heard", "It sends again.")
NOTHING_MISSING = Ending("withdrawn", "It sent nothing, but nothing of it is missing any more.")
EXTENDED = Ending("extended", "The calendar goes on for longer.")
UNUSED = Ending("unused", "Nothing is due by the calendar any more.")
REGISTERED = Ending("registered", "The catalog has it now.")
_UNLOADED = Ending("unloaded", "What it was about was taken out again.")


def slo_wanted(
    occurrences: list[Occurrence],
    graph: rules.Graph,
    settings: Rules,
    as_of: datetime,
    standing: Mapping[Key, Key | None],
    last_statuses: silence.LastStatuses,
    waits: Mapping[OccurrenceKey, rules.Waits] | None = None,
    usual_pauses: silence.UsualPauses = silence.nothing_known,
    silent: Mapping[str, Detail] = silence.NOBODY,
) -> list[Wanted]:
    """All that should be open of SLOs and their senders, each with what it is grouped under.

    `standing`: the cause of every incident that is open; `waits`: what holds them up, where it is known already;
    `silent`: applications that were told to be silent, with the detail of the incident.
    """
    watched = [one for one in occurrences if one.is_watched]
    wanted = rules.slo_incidents(watched, as_of)
    if all(one.is_over for one in wanted):
        return wanted
    if waits is None:
        held = rules.holds(watched, graph)
        waits = {one.key: rules.waits(one, held) for one in watched}
    missed = silence.missed_jobs(watched, waits, as_of)
    silences, explained = silence.sender_silences(
        missed, last_statuses(missed) if missed else {}, usual_pauses, settings, as_of, silent
    )
    wholly = silence.wholly_explained(explained, watched)
    causes = rules.slo_causes(watched, waits, graph)
    return silences + rules.apply_slo_causes(wanted, causes, wholly, standing)
