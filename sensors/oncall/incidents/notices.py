"""Who is told what, now: a function of what is open, of what has been told, and of the clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sensors.oncall.incidents.facts import Facts, Knowledge
from sensors.oncall.incidents.model import (
    BACK_ON_TRACK,
    CAME_TRUE,
    SEVERITIES,
    UNDELIVERABLE,
    Event,
    Incident,
    Notice,
    Severity,
    Told,
)
from sensors.oncall.incidents.routes import Route, Routes
from sensors.oncall.incidents.texts import IS_END, WORDS, Telling, facts_of, said_of

NOTHING_KNOWN = Knowledge()
# A digest lists so many; it says how many more there are.
DIGEST_LINES = 50

Item = tuple[Incident, Event]
"""An incident, and what of it is told."""


@dataclass(frozen=True)
class Silence:
    """A row of `ops.silence`: what matches is not told from `starts_at` to `ends_at`."""

    silence_id: int
    application_id: str | None
    slo_id: str | None
    kind: str | None
    starts_at: datetime
    ends_at: datetime
    reason: str
    created_by: str

    def covers(self, incident: Incident, now: datetime) -> bool:
        """Whether it keeps `incident` from being told at `now`."""
        return (
            self.starts_at <= now < self.ends_at
            and self.application_id in {None, incident.application_id}
            and self.slo_id in {None, incident.slo_id}
            and self.kind in {None, incident.key.kind}
        )


@dataclass(frozen=True)
class Recent:
    """How many incidents a route was told of of late, and when last."""

    count: int = 0
    last_at: datetime | None = None


@dataclass(frozen=True)
class Situation:
    """All that telling depends on.

    `open`: what is open now; `over`: what was closed, or opened closed, just now and may have to be told;
    `told`: by (incident id, route), what a route has heard, those that are gone too. Told once is told: a notice in the
    outbox is delivered, or it ends as undeliverable, and then it is not among them.
    """

    open: Sequence[Incident]
    over: Sequence[Incident]
    told: Mapping[tuple[int, str], Told]
    silences: Sequence[Silence]
    since: Mapping[str, datetime] = field(default_factory=dict)
    """When routes came, of those that were not there from the begin."""
    recent: Mapping[str, Recent] = field(default_factory=dict)
    """By route, what it was sent within `Rules.digest_within`."""
    held: Mapping[str, Sequence[Item]] = field(default_factory=dict)
    """By route, what was held back for its next digest; it may be over by now."""
    untold: Mapping[tuple[int, str], datetime] = field(default_factory=dict)
    """By (incident id, route), since when neither it nor its root was told to a route that should hear of it."""


@dataclass(frozen=True)
class Held:
    """What a route is told in its next digest."""

    route: str
    incident_id: int
    event: Event


@dataclass(frozen=True)
class Notices:
    """The messages that are due, a list per route in the order in which they are to be sent.

    And what is held back, and since when who has not been told of what: `held` and `untold` of the next `Situation`.
    """

    sent: list[Notice]
    held: list[Held]
    untold: Mapping[tuple[int, str], datetime]


def notices(
    situation: Situation,
    routes: Routes,
    now: datetime,
    knowledge: Knowledge = NOTHING_KNOWN,
    site: str | None = None,
) -> Notices:
    """What is due at `now`.

    What is open and neither silenced nor acknowledged is told at every route that it matches, or its root is told
    there: only a root that is told itself keeps what is grouped under it from being told (see `_is_told_under`). In a
    storm (see `_is_held_back`) a route is sent one message each `Rules.digest_every`, of all that is due there.
    """
    silenced = {one.incident_id for one in situation.open if _is_silenced(one, situation, now)}
    quiet = silenced | {one.incident_id for one in situation.open if one.acknowledged_at is not None}
    due = _due(situation, routes, silenced, quiet, now)
    grouped: dict[int, list[Incident]] = defaultdict(list)
    for one in situation.open:
        if one.cause_id is not None:
            grouped[one.cause_id].append(one)
    sendings, held = _sendings(due, situation, routes, now)
    made = _made(sendings, grouped, situation, knowledge, site)
    sent = [one for route_id in routes.routes for one in made.get(route_id, ())]
    return Notices(sent, held, _untold(situation, routes, quiet, sent, now))


@dataclass
class _Due:
    """What is due, by route in the order of sending.

    `under_root`: by (incident id, route), what is told by itself only where its root is not told at this moment.
    """

    items: dict[str, list[Item]] = field(default_factory=lambda: defaultdict(list))
    under_root: set[tuple[int, str]] = field(default_factory=set)


@dataclass(frozen=True)
class _Sending:
    """What one route is sent now: one message for each item, or a digest of them all."""

    route: str
    items: Sequence[Item]
    is_digest: bool


def _due(
    situation: Situation, routes: Routes, silenced: Collection[int], quiet: Collection[int], now: datetime
) -> _Due:
    """Ends first, then what is open, then escalations. `quiet`: what is silenced or acknowledged."""
    due = _Due()
    for one in situation.over:
        for route in routes.routes.values():
            if (event := _event_of_end(one, route, situation, now)) is not None:
                due.items[route.id].append((one, event))
    escalated: dict[tuple[int, str], Incident] = {}
    known = {one.incident_id: one for one in situation.open}
    for one in situation.open:
        if one.incident_id in quiet:
            continue
        root = known.get(one.cause_id or 0)
        for route in routes.routes.values():
            above = root if _is_told_under(root, one, route, routes, situation, silenced) else None
            event = _event_of_open(one, route, above, situation, now)
            if event is None and _is_untold_for_long(one, route, situation, routes, now):
                event = "opened"
                if above is not None:
                    due.under_root.add((one.incident_id, route.id))
            if event is not None:
                due.items[route.id].append((one, event))
            if above is None and _escalates(one, route, situation, now) and route.escalate is not None:
                escalated.setdefault((one.incident_id, route.escalate.to), one)
    for (_, to), one in escalated.items():
        if to in routes.routes and not any(other is one for other, _ in due.items[to]):
            due.items[to].append((one, "escalated"))
    return due


def _sendings(
    due: _Due, situation: Situation, routes: Routes, now: datetime
) -> tuple[list[_Sending], list[Held]]:
    """What each route is sent now, and what is held back for its next digest."""
    sendings: list[_Sending] = []
    held: list[Held] = []
    for route_id in routes.routes:
        items = due.items.get(route_id, [])
        items = items + _still_held(route_id, items, situation, now)
        is_storm = _is_storm(route_id, items, situation, routes)
        if is_storm and _is_held_back(route_id, items, situation, routes, now):
            held += [Held(route_id, one.incident_id, event) for one, event in items]
            continue
        told_now = {one.incident_id for one, _ in items}
        items = [
            (one, event)
            for one, event in items
            if (one.incident_id, route_id) not in due.under_root or one.cause_id not in told_now
        ]
        sendings.append(_Sending(route_id, items, is_storm and len(items) > 1))
    return sendings, held


def _made(
    sendings: Sequence[_Sending],
    grouped: Mapping[int, Sequence[Incident]],
    situation: Situation,
    knowledge: Knowledge,
    site: str | None,
) -> dict[str, list[Notice]]:
    """The messages, by route. What is known beside the incidents is asked at once, of those told one by one."""
    singles = [(each.route, *item) for each in sendings if not each.is_digest for item in each.items]
    facts = knowledge.facts([*{one.incident_id: one for _, one, _ in singles}.values()]) if singles else {}
    repeated = {(one.incident_id, route_id) for route_id, one, event in singles if event == "repeated"}
    before = knowledge.before(repeated) if repeated else {}
    known = {one.incident_id: one for one in situation.open}
    made: dict[str, list[Notice]] = defaultdict(list)
    for each in sendings:
        if each.is_digest:
            made[each.route].append(_digest(each.route, each.items, grouped))
    for route_id, one, event in singles:
        telling = Telling(
            one,
            event,
            facts.get(one.incident_id, Facts()),
            grouped.get(one.incident_id, []),
            known.get(one.cause_id or 0),
            before.get((one.incident_id, route_id)),
            site,
        )
        made[route_id].append(_single(route_id, telling))
    return made


def _is_silenced(one: Incident, situation: Situation, now: datetime) -> bool:
    return any(silence.covers(one, now) for silence in situation.silences)


def _still_held(route_id: str, due: Sequence[Item], situation: Situation, now: datetime) -> list[Item]:
    """Of what was held back what is over by now: its end, or that it was there at all. What is open is due anew."""
    again = {one.incident_id for one, _ in due}
    return [
        (one, event)
        for one, event in situation.held.get(route_id, ())
        if one.resolved_at is not None
        and one.incident_id not in again
        and one.resolution != CAME_TRUE
        and event in {"opened", *IS_END}
        and not _is_silenced(one, situation, now)
    ]


def _is_storm(route_id: str, items: Sequence[Item], situation: Situation, routes: Routes) -> bool:
    """Whether more is told than anybody reads one by one; it lasts as long as something is held back."""
    recent = situation.recent.get(route_id, Recent())
    is_held = bool(situation.held.get(route_id))
    return is_held or recent.count + len(items) > routes.rules.digest_above


def _is_held_back(
    route_id: str,
    items: Sequence[Item],
    situation: Situation,
    routes: Routes,
    now: datetime,
) -> bool:
    """Whether the next digest is yet to come; none of `items` has been untold for as long as it may be."""
    last_at = situation.recent.get(route_id, Recent()).last_at
    if last_at is None or now >= last_at + routes.rules.digest_every:
        return False
    return not any(
        _is_untold_for_long(one, routes.routes[route_id], situation, routes, now) for one, _ in items
    )


def _is_untold_for_long(
    one: Incident, route: Route, situation: Situation, routes: Routes, now: datetime
) -> bool:
    """Whether nothing has told a route of it for as long as that may be."""
    since = situation.untold.get((one.incident_id, route.id))
    return since is not None and route.matches(one) and now - since >= routes.rules.regroup_after


def _untold(
    situation: Situation, routes: Routes, quiet: Collection[int], sent: Collection[Notice], now: datetime
) -> dict[tuple[int, str], datetime]:
    """Since when the routes have not been told of what is open there, neither of it nor of its root."""
    known = {one.incident_id: one for one in situation.open}
    told = situation.told.keys() | {(one.incident_id, each.route) for each in sent for one in each.incidents}
    found = {}
    for one in situation.open:
        if one.incident_id in quiet:
            continue
        root = known.get(one.cause_id or 0)
        speaks = root is not None and root.acknowledged_at is None
        for route in routes.routes.values():
            at = (one.incident_id, route.id)
            # What is less severe for a while goes on being untold meanwhile.
            is_expected = route.when == "always" and (route.matches(one) or at in situation.untold)
            # Of a KPI that is held it is enough that its root is told anywhere.
            anywhere = routes.routes if one.detail.get("is_held") else [route.id]
            is_root_told = speaks and any(((one.cause_id or 0), each) in told for each in anywhere)
            if is_expected and at not in told and not is_root_told:
                found[at] = situation.untold.get(at, now)
    return found


def _is_told_under(
    root: Incident | None,
    one: Incident,
    route: Route,
    routes: Routes,
    situation: Situation,
    silenced: Collection[int],
) -> bool:
    """Whether what is told of `root` at `route` tells of `one` too, or else it has to be told by itself there.

    A root that the route does not hear of, or that a silence keeps from being told, tells nobody of what is under it.
    A KPI whose data are not there yet is no news of its own: for it, it is enough that its root is told anywhere.
    """
    if root is None or route.grouped or root.incident_id in silenced:
        return False
    anywhere = routes.routes.values() if one.detail.get("is_held") else [route]
    return any(_hears(root, each, situation) for each in anywhere)


def _hears(one: Incident, route: Route, situation: Situation) -> bool:
    return (one.incident_id, route.id) in situation.told or (route.when == "always" and route.matches(one))


def _was_told(one: Incident, situation: Situation) -> bool:
    return any(incident_id == one.incident_id for incident_id, _ in situation.told)


def _told_lately(one: Incident, route_id: str, situation: Situation) -> Told | None:
    """What a route has heard of an incident as it stands now."""
    told = situation.told.get((one.incident_id, route_id))
    return told if told is not None and told.last >= one.tell_from else None


def _event_of_open(
    one: Incident, route: Route, root: Incident | None, situation: Situation, now: datetime
) -> Event | None:
    """What a route is told of one that is open and that nobody acknowledged. `root`: what tells of it there."""
    if now < one.tell_from or (root is not None and root.acknowledged_at is None):
        return None
    told = situation.told.get((one.incident_id, route.id))
    if told is None:
        # An acknowledgement covers what its acker was told: what joins the group later is told, once.
        if route.when != "always" or not route.matches(one):
            return None
        # To a route that came later it is no news that others were told.
        is_old = one.tell_from < situation.since.get(route.id, one.tell_from) and _was_told(one, situation)
        return "repeated" if is_old else "opened"
    if root is not None:
        return None
    if told.last < one.tell_from:
        # It lost its group or its acknowledgement since: that is news, and no repetition.
        return "repeated" if route.when == "always" else None
    is_repeated = timedelta() < route.repeat <= now - told.last
    return "repeated" if is_repeated else None


def _escalates(one: Incident, route: Route, situation: Situation, now: datetime) -> bool:
    told = _told_lately(one, route.id, situation)
    return (
        route.escalate is not None
        and told is not None
        and now - told.first >= route.escalate.after
        and _told_lately(one, route.escalate.to, situation) is None
    )


def _event_of_end(one: Incident, route: Route, situation: Situation, now: datetime) -> Event | None:
    """Of an end hears who was told of the incident; what opened closed, such as a late, is told as it is."""
    if (one.incident_id, route.id) in situation.told:
        if not route.resolved:
            return None
        return "back_on_track" if one.resolution in BACK_ON_TRACK else "resolved"
    is_new = (
        (one.key.kind == "late" or one.resolution == UNDELIVERABLE)
        and route.when == "always"
        and route.matches(one)
    )
    return "opened" if is_new and not _is_silenced(one, situation, now) else None


def next_due(situation: Situation, routes: Routes, now: datetime) -> datetime | None:
    """A moment after `now` at which time alone may make a notice due, silences aside; None without one."""
    moments = [
        recent.last_at + routes.rules.digest_every
        for route_id, recent in situation.recent.items()
        if recent.last_at is not None and situation.held.get(route_id)
    ]
    moments += [since + routes.rules.regroup_after for since in situation.untold.values()]
    for one in situation.open:
        moments.append(one.tell_from)
        if one.acknowledged_at is not None:
            continue
        for route in routes.routes.values():
            told = _told_lately(one, route.id, situation)
            if told is None:
                continue
            if route.repeat > timedelta():
                moments.append(told.last + route.repeat)
            if route.escalate is not None and _told_lately(one, route.escalate.to, situation) is None:
                moments.append(told.first + route.escalate.after)
    return min((moment for moment in moments if moment > now), default=None)


def _single(route: str, telling: Telling) -> Notice:
    one = telling.incident
    severity: Severity = "info" if telling.is_end else one.severity
    return Notice(
        route=route,
        event=telling.event,
        incidents=(one,),
        events=(telling.event,),
        severity=severity,
        title=telling.title,
        body=telling.body,
        payload=telling.payload,
        grouped=tuple(telling.grouped),
    )


def _digest(route: str, items: Sequence[Item], grouped: Mapping[int, Sequence[Incident]]) -> Notice:
    worst = max((one.severity for one, _ in items), key=SEVERITIES.index)
    counts: dict[str, int] = defaultdict(int)
    for one, event in items:
        counts[f"{one.key.kind.replace('_', ' ')}{' ' + WORDS[event] if WORDS[event] else ''}"] += 1
    summary = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    order = sorted(items, key=lambda item: (-SEVERITIES.index(item[0].severity), item[0].incident_id))
    lines = []
    for one, event in order[:DIGEST_LINES]:
        said = [word] if (word := said_of(one, event)) else []
        if under := grouped.get(one.incident_id):
            said.append(f"{len(under)} grouped under it")
        words = f" ({', '.join(said)})" if said else ""
        what = f"{one.title}{words}"
        lines.append(
            f"{what} · {one.incident_id}"
            if one.resolved_at is not None
            else f"{what} · duemark ack {one.incident_id}"
        )
    if len(order) > len(lines):
        lines.append(f"and {len(order) - len(lines)} more: duemark incidents")
    facts = [
        facts_of(one)
        | {"event": event, "grouped": [child.incident_id for child in grouped.get(one.incident_id, ())]}
        for one, event in order
    ]
    return Notice(
        route=route,
        event="digest",
        incidents=tuple(one for one, _ in items),
        events=tuple(event for _, event in items),
        severity=worst,
        title=f"{len(items)} incidents: {summary}",
        body="\n".join(lines),
        payload={"incidents": facts},
        grouped=tuple(child for one, _ in items for child in grouped.get(one.incident_id, ())),
    )
