"""Incidents and their outbox in the database: rows to values, and changes to rows, in the caller's transaction."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import tuple_row

from pipelines.catalog.read import CatalogError
from pipelines.warehouse.connect import connect
from pipelines.warehouse.locks import Lock, take_to_commit
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.changes import brought_up_to_date, changes, regrouped, reopened
from sensors.oncall.incidents.facts import Known
from sensors.oncall.incidents.marts import single_row
from sensors.oncall.incidents.model import (
    CAME_TRUE,
    DELIVERY_FAILED,
    RESTARTED,
    UNDELIVERABLE,
    Ending,
    Event,
    Incident,
    Key,
    Notice,
    Told,
    Wanted,
)
from sensors.oncall.incidents.notices import Recent, Silence, Situation, notices
from sensors.oncall.incidents.routes import OWN_APPLICATION, Routes, load_routes

if TYPE_CHECKING:
    Cursor = psycopg.Cursor[Any]

# An operator who acknowledges in the same moment makes our snapshot stale; then all is done again.
ATTEMPTS = 5


def in_transaction(settings: Settings, work: Callable[[Cursor], Any]) -> Any:
    """Run `work` in one transaction under the lock of incidents, on one snapshot, in the role `operate`.

    Again when somebody changed the same rows meanwhile.
    """
    with connect(settings, "operate", autocommit=True) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for attempt in range(ATTEMPTS):
            try:
                with connection.transaction(), connection.cursor() as cursor:
                    # Whoever changes incidents does it alone. A second one waits, and finds the work done: first the
                    # lock, or the snapshot would be from before.
                    take_to_commit(cursor, Lock.INCIDENTS)
                    return work(cursor)
            except psycopg.errors.SerializationFailure:
                if attempt + 1 == ATTEMPTS:
                    raise
    return None


# In the order of the fields of an Incident, whose key is the second.
_COLUMNS = """
    incident_id, kind, subject, occurrence, severity, title, message, began_at, opened_at, last_seen_at, tell_from,
    application_id, slo_id, business_date, slot, detail, cause_incident_id, acknowledged_at, acknowledged_by,
    acknowledged_with_id, escalated_at, resolved_at, resolution, resolved_into_id
"""


def read_incidents(cursor: Cursor, where: str, parameters: Sequence[object] = ()) -> list[Incident]:
    """Rows of `ops.incident` for which `where` (SQL of ours, never of a user) holds, by id."""
    with cursor.connection.cursor(row_factory=tuple_row) as rows:
        rows.execute(
            f"select {_COLUMNS} from ops.incident where {where} order by incident_id",  # noqa: S608
            parameters,
        )
        return [Incident(row[0], Key(*row[1:4]), *row[4:]) for row in rows.fetchall()]


def open_incidents(cursor: Cursor, kinds: Collection[str] | None = None) -> list[Incident]:
    """Open incidents, of these kinds or of all."""
    if kinds is None:
        return read_incidents(cursor, "resolved_at is null")
    return read_incidents(cursor, "resolved_at is null and kind = any(%s)", [list(kinds)])


Versions = dict[int, tuple[str, Incident]]
"""Open incidents by id, each as it was in this version of its row."""


def open_versions(cursor: Cursor, known: Versions) -> Versions:
    """All open incidents, in the order of their ids.

    Of those that are `known`, from this database, only what was written since is read.
    """
    with cursor.connection.cursor(row_factory=tuple_row) as rows:
        # Each write of a row makes another version of it, in another place and by another transaction.
        rows.execute(
            "select incident_id, xmin::text || ctid::text from ops.incident where resolved_at is null"
            " order by incident_id"
        )
        versions: dict[int, str] = dict(rows.fetchall())
    written = [
        incident_id
        for incident_id, version in versions.items()
        if incident_id not in known or known[incident_id][0] != version
    ]
    read = (
        {one.incident_id: one for one in read_incidents(cursor, "incident_id = any(%s)", [written])}
        if written
        else {}
    )
    return {
        incident_id: (version, read[incident_id]) if incident_id in read else known[incident_id]
        for incident_id, version in versions.items()
    }


@dataclass(frozen=True)
class Reconciled:
    """What became of the incidents of some kinds. `over`: closed now, or opened closed; `open`: those that are open."""

    opened: list[Incident] = field(default_factory=list)
    resolved: list[Incident] = field(default_factory=list)
    over: list[Incident] = field(default_factory=list)
    open: list[Incident] = field(default_factory=list)
    updated: int = 0


def reconcile(
    cursor: Cursor,
    kinds: Collection[str],
    wanted: Iterable[Wanted],
    ending: Callable[[Incident], Ending],
    *,
    now: datetime,
    regroup_after: timedelta = timedelta(),
    reopens_within: timedelta = timedelta(),
    standing: Sequence[Incident] | None = None,
) -> Reconciled:
    """Make the open incidents of `kinds` those that are wanted: open, update and close rows.

    For whoever reports kinds of its own: call it within `in_transaction`, and `tell` after it. Idempotent. `standing`:
    the open ones of these kinds, where they were read already. `reopens_within`: what was restarted and fails again so
    soon is the same incident.
    """
    wanted = list(wanted)
    standing = open_incidents(cursor, kinds) if standing is None else standing
    todo = changes(standing, wanted, ending)
    again = _reopen(cursor, todo.opened, now, reopens_within)
    reopened = {one.key for one in again}
    opened = _insert(cursor, [one for one in todo.opened if one.key not in reopened], now) + again
    changed = [brought_up_to_date(row, one, now) for row, one in todo.updated]
    _rewrite(cursor, changed)
    into = {
        (one.key.subject, one.key.occurrence): one.incident_id for one in opened if one.key.kind == "late"
    }
    resolved = []
    for row, end in todo.resolved:
        is_late = row.key.kind == "overdue" and end.resolution == "late"
        ended = replace(
            row,
            resolved_at=now,
            resolution=end.resolution,
            message=end.message,
            resolved_into_id=into.get((row.key.subject, row.key.occurrence)) if is_late else None,
        )
        resolved.append(ended)
    cursor.executemany(
        "update ops.incident set resolved_at = %s, resolution = %s, message = %s, resolved_into_id = %s"
        " where incident_id = %s",
        [(now, one.resolution, one.message, one.resolved_into_id, one.incident_id) for one in resolved],
    )
    still_open = {one.incident_id: one for one in standing} | {one.incident_id: one for one in changed}
    still_open |= {one.incident_id: one for one in opened if one.resolved_at is None}
    for one in resolved:
        del still_open[one.incident_id]
    moved = {
        one.incident_id: one
        for one in regrouped(standing, list(still_open.values()), wanted, now, regroup_after)
    }
    _rewrite(cursor, list(moved.values()))
    answered = {one.key[1:] for one in resolved if one.key.kind == "overdue"}
    # The end of an overdue tells that it was late; a late that was never overdue is told as it is.
    ended_aloud = [one for one in resolved if one.resolution != CAME_TRUE]
    over = ended_aloud + [
        one for one in opened if one.resolved_at is not None and one.key[1:] not in answered
    ]
    return Reconciled(
        opened=[moved.get(one.incident_id, one) for one in opened],
        resolved=resolved,
        over=over,
        open=list((still_open | moved).values()),
        updated=len(changed) + len(moved),
    )


def _reopen(cursor: Cursor, wanted: Sequence[Wanted], now: datetime, within: timedelta) -> list[Incident]:
    """Of what is to be opened what was restarted a short while ago, open again: told once more, by the same number."""
    failed = {one.key: one for one in wanted if one.key.kind == "failed"}
    if not failed or not within:
        return []
    found = {
        row.key: reopened(row, failed[row.key], now)
        for row in read_incidents(
            cursor,
            "kind = 'failed' and resolution = %s and resolved_at > %s and (subject, occurrence) in"
            " (select * from unnest(%s::text[], %s::text[]))",
            [RESTARTED, now - within, [key.subject for key in failed], [key.occurrence for key in failed]],
        )
    }
    cursor.executemany(
        "update ops.incident set resolved_at = null, resolution = null where incident_id = %s",
        [(one.incident_id,) for one in found.values()],
    )
    _rewrite(cursor, list(found.values()))
    return list(found.values())


def _rewrite(cursor: Cursor, rows: Sequence[Incident]) -> None:
    """Write what may change of open incidents."""
    cursor.executemany(
        """
        update ops.incident set
            severity = %s, title = %s, message = %s, detail = %s, last_seen_at = %s, cause_incident_id = %s,
            tell_from = %s, acknowledged_at = %s, acknowledged_by = %s, acknowledged_with_id = %s
        where incident_id = %s
        """,
        [
            (
                one.severity, one.title, one.message, json.dumps(dict(one.detail)), one.last_seen_at, one.cause_id,
                one.tell_from, one.acknowledged_at, one.acknowledged_by, one.acknowledged_with_id, one.incident_id,
            )
            for one in rows
        ],
    )  # fmt: skip


def _insert(cursor: Cursor, wanted: Sequence[Wanted], now: datetime) -> list[Incident]:
    if not wanted:
        return []
    cursor.executemany(
        """
        insert into ops.incident
            (kind, subject, occurrence, slo_id, business_date, slot, application_id, severity, title, message, detail,
             began_at, opened_at, last_seen_at, tell_from, resolved_at, resolution)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        returning incident_id
        """,
        [
            (
                *one.key, one.slo_id, one.business_date, one.slot, one.application_id, one.severity, one.title,
                one.message, json.dumps(dict(one.detail)), one.began_at, now, one.seen_at, now,
                now if one.is_over else None, one.resolution if one.is_over else None,
            )
            for one in wanted
        ],
        returning=True,
    )  # fmt: skip
    ids = [int(single_row(cursor)[0])]
    while cursor.nextset():
        ids.append(int(single_row(cursor)[0]))
    return [
        Incident(
            incident_id=incident_id,
            key=one.key,
            severity=one.severity,
            title=one.title,
            message=one.message,
            began_at=one.began_at,
            opened_at=now,
            last_seen_at=one.seen_at,
            tell_from=now,
            application_id=one.application_id,
            slo_id=one.slo_id,
            business_date=one.business_date,
            slot=one.slot,
            detail=one.detail,
            resolved_at=now if one.is_over else None,
            resolution=one.resolution if one.is_over else None,
        )
        for incident_id, one in zip(ids, wanted, strict=True)
    ]


# Telling


def tell(
    cursor: Cursor,
    routes: Routes,
    now: datetime,
    over: Sequence[Incident] = (),
    standing: Sequence[Incident] | None = None,
    site: str | None = None,
) -> int:
    """Write what has to be told now to the outbox; returns how many messages.

    `over`: closed in this transaction; `standing`: all that is open, of any kind, where it was read already.
    `site`: where the pages of the board are served. What waits for a route that the catalog has no more is given up
    first, and told to the others.
    """
    standing = open_incidents(cursor) if standing is None else standing
    given_up = _give_up(cursor, routes, standing, now)
    closed = {one.incident_id for one in given_up}
    standing = [one for one in standing if one.incident_id not in closed]
    over = [*over, *given_up]
    told = read_told(cursor, [one.incident_id for one in [*standing, *over]])
    since: dict[str, datetime] = {}
    for route, begin, formerly in cursor.execute(
        "select route, since, formerly from ops.route where gone_at is null and since > '-infinity'"
    ).fetchall():
        since[route] = begin
        for name in formerly:
            for (incident_id, by), heard in list(told.items()):
                if by == name:
                    mine = told.get((incident_id, route), heard)
                    told[incident_id, route] = Told(min(heard.first, mine.first), max(heard.last, mine.last))
    situation = Situation(
        open=standing,
        over=over,
        told=told,
        silences=read_silences(cursor, "starts_at <= %(now)s and ends_at > %(now)s", {"now": now}),
        since=since,
        recent=_recent(cursor, now - max(routes.rules.digest_within, routes.rules.digest_every), now),
        held=_held(cursor, [*standing, *over]),
        untold={
            (incident_id, route): begin
            for route, incident_id, begin in cursor.execute(
                "select route, incident_id, since from ops.untold"
            ).fetchall()
        },
    )
    due = notices(situation, routes, now, Known(cursor), site)
    for notice in due.sent:
        enqueue(cursor, notice, now)
    held = {
        (route, one.incident_id, event) for route, found in situation.held.items() for one, event in found
    }
    if held != {(one.route, one.incident_id, one.event) for one in due.held}:
        cursor.execute("delete from ops.held")
        cursor.executemany(
            "insert into ops.held (route, incident_id, event) values (%s, %s, %s)",
            [(one.route, one.incident_id, one.event) for one in due.held],
        )
    if due.untold != situation.untold:
        cursor.execute("delete from ops.untold")
        cursor.executemany(
            "insert into ops.untold (route, incident_id, since) values (%s, %s, %s)",
            [(route, incident_id, begin) for (incident_id, route), begin in due.untold.items()],
        )
    return len(due.sent)


def _recent(cursor: Cursor, since: datetime, now: datetime) -> dict[str, Recent]:
    """By route, what it was sent after `since`."""
    rows = cursor.execute(
        """
        select message.route, count(*)::integer, max(created_at)
        from ops.alert_outbox as message
        inner join ops.notice using (outbox_id)
        where created_at > %(since)s and created_at <= %(now)s
            and notice.event <> 'grouped' and undeliverable_at is null
        group by message.route
        """,
        {"since": since, "now": now},
    )
    return {route: Recent(count, last_at) for route, count, last_at in rows}


def _held(cursor: Cursor, known: Sequence[Incident]) -> dict[str, list[tuple[Incident, Event]]]:
    """By route, what was held back for its next digest."""
    rows = cursor.execute(
        "select route, incident_id, event from ops.held order by route, incident_id"
    ).fetchall()
    incidents = {one.incident_id: one for one in known}
    over = [incident_id for _, incident_id, _ in rows if incident_id not in incidents]
    if over:
        incidents |= {one.incident_id: one for one in read_incidents(cursor, "incident_id = any(%s)", [over])}
    found: dict[str, list[tuple[Incident, Event]]] = defaultdict(list)
    for route, incident_id, event in rows:
        found[route].append((incidents[incident_id], event))
    return dict(found)


def _give_up(cursor: Cursor, routes: Routes, standing: Sequence[Incident], now: datetime) -> list[Incident]:
    """End the messages of routes that are gone; returns an incident for each such route, closed and to be told once."""
    rows = cursor.execute(
        """
        update ops.alert_outbox set
            undeliverable_at = %(now)s, last_error = 'The catalog has no route ' || route || ' any more.'
        where outbox_id in (
            -- One that is being sent just now is left to the next time.
            select outbox_id from ops.alert_outbox
            where delivered_at is null and undeliverable_at is null and not route = any(%(routes)s)
                and exists (select from ops.notice where notice.outbox_id = alert_outbox.outbox_id)
            for update skip locked
        )
        returning route, created_at
        """,
        {"now": now, "routes": list(routes.routes)},
    ).fetchall()
    waited: dict[str, list[datetime]] = defaultdict(list)
    for route, created_at in rows:
        waited[route].append(created_at)
    open_ = {one.key.subject: one for one in standing if one.key.kind == DELIVERY_FAILED}
    ended = []
    for route, moments in sorted(waited.items()):
        count = f"{len(moments)} messages" if len(moments) > 1 else "1 message"
        message = (
            f"The catalog has no route {route} any more; {count} that waited for it ended undeliverable."
        )
        closed = Wanted(
            key=Key(DELIVERY_FAILED, route),
            severity="critical",
            title=f"Alerts do not reach the route {route}",
            message=message,
            began_at=min(moments),
            seen_at=now,
            application_id=OWN_APPLICATION,
            is_over=True,
            resolution=UNDELIVERABLE,
        )
        one = open_.get(route) or _insert(cursor, [closed], now)[0]
        cursor.execute(
            "update ops.incident set resolved_at = %s, resolution = %s, message = %s where incident_id = %s",
            [now, UNDELIVERABLE, message, one.incident_id],
        )
        ended += read_incidents(cursor, "incident_id = %s", [one.incident_id])
    return ended


def read_told(cursor: Cursor, incident_ids: Sequence[int]) -> dict[tuple[int, str], Told]:
    """What routes have heard of these incidents."""
    rows = cursor.execute(
        """
        select
            incident_id, notice.route, coalesce(min(told_at) filter (where told_at >= tell_from), min(told_at)),
            max(told_at)
        from ops.notice as notice
        inner join ops.incident using (incident_id)
        inner join ops.alert_outbox as message using (outbox_id)
        where incident_id = any(%s) and notice.event <> 'grouped' and undeliverable_at is null
        group by incident_id, notice.route
        """,
        [list(incident_ids)],
    )
    return {(int(row[0]), str(row[1])): Told(row[2], row[3]) for row in rows}


def enqueue(cursor: Cursor, notice: Notice, now: datetime) -> int:
    """Add a message to the outbox, in the caller's transaction; returns its outbox_id."""
    cursor.execute(
        """
        insert into ops.alert_outbox (route, event, severity, title, body, payload, created_at, next_attempt_at)
        values (%(route)s, %(event)s, %(severity)s, %(title)s, %(body)s, %(payload)s, %(now)s, %(now)s)
        returning outbox_id
        """,
        {
            "route": notice.route,
            "event": notice.event,
            "severity": notice.severity,
            "title": notice.title,
            "body": notice.body,
            "payload": json.dumps(dict(notice.payload)),
            "now": now,
        },
    )
    outbox_id = int(single_row(cursor)[0])
    cursor.executemany(
        "insert into ops.notice (outbox_id, incident_id, route, event, told_at) values (%s, %s, %s, %s, %s)",
        [
            (outbox_id, one.incident_id, notice.route, event, now)
            for one, event in zip(notice.incidents, notice.events, strict=True)
        ],
    )
    told = {one.incident_id for one in notice.incidents}
    cursor.execute(
        """
        insert into ops.notice (outbox_id, incident_id, route, event, told_at)
        select %(outbox)s, child, %(route)s, 'grouped', %(now)s
        from unnest(%(children)s::bigint[]) as child
        where not exists (
            select from ops.notice as known inner join ops.alert_outbox as message using (outbox_id)
            where known.incident_id = child and undeliverable_at is null
        )
        """,
        {
            "outbox": outbox_id,
            "route": notice.route,
            "now": now,
            "children": [one.incident_id for one in notice.grouped if one.incident_id not in told],
        },
    )
    escalated = [
        one.incident_id
        for one, event in zip(notice.incidents, notice.events, strict=True)
        if event == "escalated"
    ]
    if escalated:
        cursor.execute(
            "update ops.incident set escalated_at = %s where incident_id = any(%s)", [now, escalated]
        )
    return outbox_id


def read_silences(
    cursor: Cursor, where: str = "true", parameters: dict[str, object] | None = None
) -> list[Silence]:
    """Rows of `ops.silence` for which `where` (SQL of ours) holds, by id."""
    rows = cursor.execute(
        f"select silence_id, application_id, slo_id, kind, starts_at, ends_at, reason, created_by"  # noqa: S608
        f" from ops.silence where {where} order by silence_id",
        parameters or {},
    )
    return [Silence(*row) for row in rows]


# Routes


def current_routes(cursor: Cursor, settings: Settings, now: datetime) -> tuple[Routes, list[str]]:
    """The routes of the catalog, and while its files have problems those of before with the problems as text."""
    row = cursor.execute("select content from ops.route_set").fetchone()
    try:
        routes = load_routes(settings.catalog)
    except CatalogError as error:
        return (Routes.from_json(row[0]) if row else Routes()), [str(problem) for problem in error.problems]
    content = routes.to_json()
    if row is None or row[0] != content:
        cursor.execute(
            "insert into ops.route_set (is_only, content, stored_at) values (true, %(content)s, %(now)s)"
            " on conflict (is_only) do update set content = excluded.content, stored_at = excluded.stored_at",
            {"content": json.dumps(content), "now": now},
        )
        _note_routes(cursor, routes, now)
    return routes, []


def _note_routes(cursor: Cursor, routes: Routes, now: datetime) -> None:
    """Which routes came and which went. One that came with the `to` of one that went is that one, renamed."""
    rows = cursor.execute("select route, target from ops.route where gone_at is null").fetchall()
    before = {str(row[0]): str(row[1]) for row in rows}
    gone = {name: target for name, target in before.items() if name not in routes.routes}
    cursor.execute("update ops.route set gone_at = %s where route = any(%s)", [now, list(gone)])
    for one in routes.routes.values():
        cursor.execute(
            """
            insert into ops.route (route, target, since, formerly)
            select
                %(route)s, %(target)s, %(now)s,
                coalesce((
                    select array_agg(distinct name)
                    from ops.route as old cross join unnest(old.route || old.formerly) as name
                    where old.route = any(%(names)s)
                ), '{}')
            on conflict (route) do update set
                target = excluded.target,
                since = case when route.gone_at is null then route.since else excluded.since end,
                formerly = case when route.gone_at is null then route.formerly else excluded.formerly end,
                gone_at = null
            """,
            {
                "route": one.id,
                "target": one.to,
                "now": now,
                "names": [name for name, target in gone.items() if target == one.to and one.id not in before],
            },
        )
