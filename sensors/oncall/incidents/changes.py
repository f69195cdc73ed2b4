"""What is to be done so that what is open becomes what should be: a function of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sensors.oncall.incidents.model import SEVERITIES, Ending, Incident, Key, Wanted

# Of an incident of several things the key of `detail` that lists them, where each is no incident by itself.
PARTS = ("hosts", "slos", "kpis")


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
    """Whether there is something to write. What it is grouped under is compared where the causes have their ids.

    That it still holds is nothing to write: of the thousands that are open, every tick would write every one.
    """
    return (
        row.severity != wanted.severity
        or row.title != wanted.title
        or row.message != wanted.message
        or (wanted.comes_again and row.last_seen_at < wanted.seen_at)
        or dict(row.detail) != dict(wanted.detail)
    )


def brought_up_to_date(row: Incident, wanted: Wanted, now: datetime) -> Incident:
    """An open incident as it stands now.

    An acknowledgement was of what it was: it ends when the incident becomes more severe, or has another part.
    """
    changed = replace(
        row,
        severity=wanted.severity,
        title=wanted.title,
        message=wanted.message,
        detail=wanted.detail,
        last_seen_at=max(row.last_seen_at, wanted.seen_at),
    )
    is_worse = SEVERITIES.index(wanted.severity) > SEVERITIES.index(row.severity) or any(
        set(wanted.detail.get(name, ())) - set(row.detail.get(name, ())) for name in PARTS
    )
    if is_worse and row.acknowledged_at is not None:
        return replace(_unacknowledged(changed), tell_from=now)
    return changed


def reopened(row: Incident, wanted: Wanted, now: datetime) -> Incident:
    """An incident that was over and is wanted again: nobody has taken it on as it is now."""
    was = replace(
        _unacknowledged(row),
        resolved_at=None,
        resolution=None,
        resolved_into_id=None,
        cause_id=None,
        tell_from=now,
    )
    return brought_up_to_date(was, wanted, now)


def _unacknowledged(one: Incident) -> Incident:
    return replace(one, acknowledged_at=None, acknowledged_by=None, acknowledged_with_id=None)


# Grouping


def forest(wanted: Iterable[Wanted], open_: Iterable[Incident] = ()) -> dict[Key, Key]:
    """The root that each incident is grouped under; a root, and what stands alone, is not among the keys.

    The one place where "caused by" becomes "grouped under": whatever the causes say, every way ends at an incident
    that is wanted and that is grouped under none. A ring has its root too: the member that was told first by itself,
    else the one that began first.
    """
    nodes = {one.key: one for one in wanted if not one.is_over}
    standing = {one.key: one for one in open_}
    causes = {
        key: one.cause for key, one in nodes.items() if one.cause in nodes and one.cause not in {None, key}
    }

    def rank(key: Key) -> tuple[bool, bool, int, datetime, Key]:
        row = standing.get(key)
        is_grouped = row is not None and row.cause_id is not None
        return row is None, is_grouped, row.incident_id if row else 0, nodes[key].began_at, key

    roots: dict[Key, Key] = {}
    for start in causes:
        way: dict[Key, int] = {}
        at = start
        while at not in roots and at not in way and (cause := causes.get(at)) is not None:
            way[at] = len(way)
            at = cause
        if at in way:
            ring = [key for key, place in way.items() if place >= way[at]]
            at = min(ring, key=rank)
        root = roots.get(at, at)
        roots |= dict.fromkeys(way, root)
    return {key: root for key, root in roots.items() if key != root}


def regrouped(
    before: Iterable[Incident],
    open_: Iterable[Incident],
    wanted: Iterable[Wanted],
    now: datetime,
    regroup_after: timedelta,
) -> list[Incident]:
    """Open incidents whose group changed, as they are to be written.

    `before`: what was open until now; `open_`: what is open now; both of the kinds of `wanted`. One that lost its cause
    is told by itself after `regroup_after`. So long it may stay untold, and no longer, however often its group changes
    meanwhile: a root that is not told yet is told when the first in its group has to be.
    """
    wanted, open_ = list(wanted), list(open_)
    roots = forest(wanted, open_)
    keys = {one.key for one in wanted if not one.is_over}
    ids = {one.key: one.incident_id for one in open_}
    known = {one.incident_id: one for one in before}
    found: dict[int, Incident] = {}
    deadlines: dict[int, datetime] = {}
    for one in open_:
        if one.key not in keys:
            continue
        cause_id = ids.get(roots[one.key]) if one.key in roots else None
        if cause_id == one.cause_id:
            continue
        deadline = _deadline(one, known.get(one.cause_id or 0), now, regroup_after)
        changed = replace(one, cause_id=cause_id)
        if one.cause_id is not None:
            if one.acknowledged_with_id is not None and one.acknowledged_with_id != cause_id:
                changed = _unacknowledged(changed)
            if cause_id is None:
                changed = replace(changed, tell_from=deadline)
            else:
                deadlines[cause_id] = min(deadline, deadlines.get(cause_id, deadline))
        found[one.incident_id] = changed
    for one in open_:
        current = found.get(one.incident_id, one)
        if one.incident_id in deadlines and current.tell_from > max(now, deadlines[one.incident_id]):
            found[one.incident_id] = replace(current, tell_from=max(now, deadlines[one.incident_id]))
    return list(found.values())


def _deadline(one: Incident, root: Incident | None, now: datetime, regroup_after: timedelta) -> datetime:
    """When one that leaves its group has to be told by itself: sooner where its group was not told of either."""
    last = now + regroup_after
    if root is None or (root.acknowledged_at is not None and one.acknowledged_with_id is None):
        return min(last, one.tell_from) if one.tell_from > now else last
    return min(last, root.tell_from) if root.tell_from > now else last
