"""Who is told what, now: a function of what is open, of what has been told, and of the clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sensors.incidents.model import (
    BACK_ON_TRACK,
    SEVERITIES,
    Event,
    Incident,
    Notice,
    Severity,
    Told,
)
from sensors.incidents.routes import Route, Routes

_WORDS: dict[Event, str] = {
    "opened": "",
    "repeated": "still open",
    "escalated": "not acknowledged",
    "resolved": "over",
    "back_on_track": "back on track",
}


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
class Situation:
    """All that telling depends on.

    `open`: what is open now; `over`: what was closed, or opened closed, just now and may have to be told;
    `told`: by (incident id, route), what a route has heard. Told once is told: a notice in the outbox is delivered.
    """

    open: Sequence[Incident]
    over: Sequence[Incident]
    told: Mapping[tuple[int, str], Told]
    silences: Sequence[Silence]


def notices(situation: Situation, routes: Routes, now: datetime) -> list[Notice]:
    """The messages that are due at `now`, a list per route in the order in which they are to be sent."""
    due: dict[str, list[tuple[Incident, Event]]] = defaultdict(list)
    for one in situation.over:
        for route in routes.routes.values():
            if (event := _event_of_end(one, route, situation, now)) is not None:
                due[route.id].append((one, event))
    escalations: dict[tuple[int, str], Incident] = {}
    for one in situation.open:
        if any(silence.covers(one, now) for silence in situation.silences):
            continue
        for route in routes.routes.values():
            event = _event_of_open(one, route, situation.told.get((one.incident_id, route.id)), now)
            if event is not None:
                due[route.id].append((one, event))
            if _escalates(one, route, situation, now) and route.escalate is not None:
                escalations.setdefault((one.incident_id, route.escalate.to), one)
    for (_, to), one in escalations.items():
        if to in routes.routes and not any(known is one for known, _ in due[to]):
            due[to].append((one, "escalated"))
    grouped: dict[int, list[Incident]] = defaultdict(list)
    for one in situation.open:
        if one.cause_id is not None:
            grouped[one.cause_id].append(one)
    made = []
    for route_id, items in due.items():
        if len(items) > routes.rules.digest_above:
            made.append(_digest(route_id, items))
        else:
            made += [_single(route_id, one, event, grouped.get(one.incident_id, [])) for one, event in items]
    return made


def _event_of_open(one: Incident, route: Route, told: Told | None, now: datetime) -> Event | None:
    is_grouped = one.cause_id is not None and not route.grouped
    if one.acknowledged_at is not None or is_grouped or now < one.tell_from:
        return None
    if told is None:
        return "opened" if route.when == "always" and route.matches(one) else None
    if route.repeat > timedelta() and now - told.last >= route.repeat:
        return "repeated"
    return None


def _escalates(one: Incident, route: Route, situation: Situation, now: datetime) -> bool:
    told = situation.told.get((one.incident_id, route.id))
    return (
        route.escalate is not None
        and told is not None
        and one.acknowledged_at is None
        and one.cause_id is None
        and now - told.first >= route.escalate.after
        and (one.incident_id, route.escalate.to) not in situation.told
    )


def _event_of_end(one: Incident, route: Route, situation: Situation, now: datetime) -> Event | None:
    """Of an end hears who was told of the incident; a late that was never overdue is told as it is."""
    if (one.incident_id, route.id) in situation.told:
        if not route.resolved:
            return None
        return "back_on_track" if one.resolution in BACK_ON_TRACK else "resolved"
    is_new = one.key.kind == "late" and route.when == "always" and route.matches(one)
    is_silent = any(silence.covers(one, now) for silence in situation.silences)
    return "opened" if is_new and not is_silent else None


def next_due(situation: Situation, routes: Routes, now: datetime) -> datetime | None:
    """The next moment after `now` at which time alone makes a notice due, silences aside; None without one."""
    moments = []
    for one in situation.open:
        moments.append(one.tell_from)
        if one.acknowledged_at is not None:
            continue
        for route in routes.routes.values():
            told = situation.told.get((one.incident_id, route.id))
            if told is None:
                continue
            if route.repeat > timedelta() and (one.cause_id is None or route.grouped):
                moments.append(told.last + route.repeat)
            if route.escalate is not None and (one.incident_id, route.escalate.to) not in situation.told:
                moments.append(told.first + route.escalate.after)
    return min((moment for moment in moments if moment > now), default=None)


# Messages


def _single(route: str, one: Incident, event: Event, grouped: Sequence[Incident]) -> Notice:
    is_end = event in {"resolved", "back_on_track"} or one.resolved_at is not None
    severity: Severity = "info" if is_end else one.severity
    word = _WORDS[event]
    title = f"{one.title} ({word})" if word else one.title
    lines = [one.message]
    if owner := one.detail.get("owner"):
        lines.append(f"Owner: {owner}")
    if grouped:
        names = [child.title for child in grouped[:10]]
        rest = len(grouped) - len(names)
        lines.append("Grouped under it: " + "; ".join(names) + (f"; and {rest} more" if rest > 0 else ""))
    if event == "escalated":
        lines.append(f"Open since {one.opened_at:%Y-%m-%d %H:%M} UTC, and nobody acknowledged it.")
    lines.append(f"Incident {one.incident_id}" + ("" if is_end else f": duemark ack {one.incident_id}"))
    return Notice(
        route=route,
        event=event,
        incidents=(one,),
        events=(event,),
        severity=severity,
        title=title,
        body="\n".join(lines),
        payload=_facts(one) | {"grouped": [child.incident_id for child in grouped]},
    )


def _digest(route: str, items: Sequence[tuple[Incident, Event]]) -> Notice:
    worst = max((one.severity for one, _ in items), key=SEVERITIES.index)
    counts: dict[str, int] = defaultdict(int)
    for one, event in items:
        counts[f"{one.key.kind.replace('_', ' ')}{' ' + _WORDS[event] if _WORDS[event] else ''}"] += 1
    summary = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    order = sorted(items, key=lambda item: (-SEVERITIES.index(item[0].severity), item[0].incident_id))
    lines = [
        f"{one.title}{f' ({_WORDS[event]})' if _WORDS[event] else ''} · {one.incident_id}"
        for one, event in order[:20]
    ]
    if len(order) > len(lines):
        lines.append(f"and {len(order) - len(lines)} more: duemark incidents")
    return Notice(
        route=route,
        event="digest",
        incidents=tuple(one for one, _ in items),
        events=tuple(event for _, event in items),
        severity=worst,
        title=f"{len(items)} incidents: {summary}",
        body="\n".join(lines),
        payload={"incidents": [_facts(one) | {"event": event} for one, event in order]},
    )


def _facts(one: Incident) -> dict[str, Any]:
    return {
        "incident_id": one.incident_id,
        "kind": one.key.kind,
        "subject": one.key.subject,
        "occurrence": one.key.occurrence,
        "application_id": one.application_id,
        "slo_id": one.slo_id,
        "business_date": one.business_date.isoformat() if one.business_date else None,
        "slot": one.slot,
        "began_at": one.began_at.isoformat(),
        "opened_at": one.opened_at.isoformat(),
        "resolution": one.resolution,
    }
