"""What is to be done so that what is open becomes what should be: a function of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sensors.incidents.model import Ending, Incident, Key, Wanted


@dataclass(frozen=True)
class Changes:
    """Rows to add, to update and to close. `updated` holds only those whose content differs."""

    opened: list[Wanted] = field(default_factory=list)
    updated: list[tuple[Incident, Wanted]] = field(default_factory=list)
    resolved: list[tuple[Incident, Ending]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.opened or self.updated or self.resolved)


def changes(
    open_: Iterable[Incident], wanted: Iterable[Wanted], ending: Callable[[Incident], Ending]
) -> Changes:
    """Compare what is open with what should be; `ending` says how one that should not be open any more ended.

    What is wanted and over (`is_over`) is always opened: whoever asks leaves out what was told before.
    """
    result = Changes()
    standing = {one.key: one for one in open_}
    keep: dict[Key, Wanted] = {}
    for one in wanted:
        if one.is_over:
            result.opened.append(one)
        elif one.key not in keep:
            keep[one.key] = one
            if one.key not in standing:
                result.opened.append(one)
            elif _differs(standing[one.key], one):
                result.updated.append((standing[one.key], one))
    for incident in standing.values():
        if incident.key not in keep:
            result.resolved.append((incident, ending(incident)))
    return result


def _differs(row: Incident, wanted: Wanted) -> bool:
    """Whether there is something to write. What it is grouped under is compared where the causes have their ids."""
    return (
        row.severity != wanted.severity
        or row.title != wanted.title
        or row.message != wanted.message
        or row.last_seen_at < wanted.seen_at
        or dict(row.detail) != dict(wanted.detail)
    )


@dataclass(frozen=True)
class Regrouped:
    """An open incident whose cause is another one now, or none; `tell_from` as it is to be written."""

    incident: Incident
    cause_id: int | None
    tell_from: datetime


def regrouped(
    open_: Iterable[Incident],
    wanted: Iterable[Wanted],
    ids: Mapping[Key, int],
    now: datetime,
    regroup_after: timedelta,
) -> list[Regrouped]:
    """Open incidents whose cause changed. One that lost its cause is told by itself after `regroup_after`."""
    causes = {one.key: one.cause for one in wanted if not one.is_over}
    found = []
    for one in open_:
        if one.key not in causes:
            continue
        cause = causes[one.key]
        cause_id = ids.get(cause) if cause is not None else None
        if cause_id == one.cause_id or cause_id == one.incident_id:
            continue
        lost = one.cause_id is not None and cause_id is None
        found.append(Regrouped(one, cause_id, now + regroup_after if lost else one.tell_from))
    return found
