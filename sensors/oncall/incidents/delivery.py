"""Empties the outbox: every message to its route, at least once, and where the route answers, once.

A message is claimed by a row lock that is held while it is sent: a process that dies gives it back, and two that
deliver at once never send the same one. Only one that dies between the answer of the route and its commit sends it
again; `notice` in the message is the same number then. What fails is tried again, ever more rarely, and never dropped;
only when the catalog has its route no more it is given up, and told (`store.tell`).
Messages of one incident reach a route in their order; others do not wait for one that a route refuses.
"""

from __future__ import annotations

import fcntl
import html
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from pipelines.errors import DuemarkError
from pipelines.logs import get_logger
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.files import open_route
from sensors.oncall.incidents.marts import single_row
from sensors.oncall.incidents.routes import MissingVariableError, Routes, expand
from sensors.oncall.incidents.secrets import hide
from sensors.oncall.incidents.texts import as_html

if TYPE_CHECKING:
    import psycopg

log = get_logger(__name__)

FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(minutes=15)
# Apprise waits 4 s for a connection and 4 s for an answer, unless the URL says otherwise (cto, rto).
SEND_SECONDS = 20.0
# One slow route must not hold up the others.
ROUTES_AT_ONCE = 4
# A route that refuses so often in a row is left alone until the next delivery.
REFUSALS = 3


@dataclass(frozen=True)
class Delivered:
    """What a delivery did: messages taken by their routes, refused (to be tried again), and left in the outbox."""

    delivered: int = 0
    failed: int = 0
    pending: int = 0


@dataclass(frozen=True)
class Message:
    """A row of the outbox."""

    outbox_id: int
    route: str
    event: str
    severity: str
    title: str
    body: str
    payload: dict[str, Any]
    created_at: datetime
    attempts: int


def deliver(settings: Settings, now: datetime | None = None, *, seconds: float = 30.0) -> Delivered:
    """Send what is due in the outbox at `now`; begins no new message after `seconds`."""
    with connect(settings, "operate") as connection:
        row = connection.execute("select content from ops.route_set").fetchone()
        routes = Routes.from_json(row[0]) if row else Routes()  # type: ignore[arg-type]
        waiting = connection.execute(
            "select distinct route from ops.alert_outbox"
            " where delivered_at is null and undeliverable_at is null and next_attempt_at <= %s",
            [now or datetime.now(UTC)],
        ).fetchall()
    names = [str(row[0]) for row in waiting]
    delivered = failed = 0
    if names:
        deadline = monotonic() + seconds
        with ThreadPoolExecutor(min(ROUTES_AT_ONCE, len(names))) as pool:
            for sent, refused in pool.map(lambda name: _drain(settings, routes, name, now, deadline), names):
                delivered, failed = delivered + sent, failed + refused
    with connect(settings, "operate") as connection, connection.cursor() as cursor:
        cursor.execute(
            "select count(*) from ops.alert_outbox where delivered_at is null and undeliverable_at is null"
        )
        pending = int(str(single_row(cursor)[0]))
    if delivered or failed:
        log.info("alerts delivered", delivered=delivered, failed=failed, pending=pending)
    return Delivered(delivered, failed, pending)


def _drain(
    settings: Settings, routes: Routes, route: str, now: datetime | None, deadline: float
) -> tuple[int, int]:
    """Send what one route is due; returns how many it took and how many it refused."""
    sent = refused = in_a_row = 0
    with connect(settings, "operate") as connection:
        while in_a_row < REFUSALS and monotonic() < deadline:
            with connection.transaction():
                message = _claim(connection, route, now or datetime.now(UTC))
                if message is None:
                    break
                error = send(settings, routes, message)
                _note(connection, message, error, now or datetime.now(UTC))
            if error:
                refused, in_a_row = refused + 1, in_a_row + 1
                log.warning("alert not delivered", notice=message.outbox_id, route=route, error=error)
            else:
                sent, in_a_row = sent + 1, 0
    return sent, refused


def _claim(connection: psycopg.Connection[Any], route: str, now: datetime) -> Message | None:
    """The route's next message, locked to the end of the transaction; none whose incident has an older one waiting."""
    row = connection.execute(
        """
        select outbox_id, route, event, severity, title, body, payload, created_at, attempts
        from ops.alert_outbox as message
        where route = %(route)s and delivered_at is null and undeliverable_at is null and next_attempt_at <= %(now)s
            and not exists (
                select
                from ops.notice as mine
                inner join ops.notice as before using (incident_id, route)
                inner join ops.alert_outbox as older on older.outbox_id = before.outbox_id
                where mine.outbox_id = message.outbox_id and before.outbox_id < message.outbox_id
                    and older.delivered_at is null and older.undeliverable_at is null
            )
        order by outbox_id
        limit 1
        for update of message skip locked
        """,
        {"route": route, "now": now},
    ).fetchone()
    return Message(*row) if row else None


def _note(connection: psycopg.Connection[Any], message: Message, error: str, now: datetime) -> None:
    if not error:
        connection.execute(
            "update ops.alert_outbox set delivered_at = %s, attempts = attempts + 1, last_error = null"
            " where outbox_id = %s",
            [now, message.outbox_id],
        )
        return
    connection.execute(
        "update ops.alert_outbox set attempts = attempts + 1, last_error = %s, next_attempt_at = %s"
        " where outbox_id = %s",
        [error[:1000], now + wait_after(message.attempts), message.outbox_id],
    )


def wait_after(attempts: int) -> timedelta:
    """How long to wait after a message was refused, having been refused `attempts` times before: 10 s, doubling."""
    return min(LONGEST_WAIT, FIRST_WAIT * (1 << min(attempts, 20)))


def send(settings: Settings, routes: Routes, message: Message) -> str:
    """Hand one message to its route; returns why it was not taken, empty when it was."""
    route = routes.routes.get(message.route)
    if route is None:
        return f"The catalog has no route {message.route!r} any more."
    try:
        target = expand(route.to)
    except MissingVariableError as error:
        return str(error)
    if target.startswith("file:"):
        return _append(settings, target.removeprefix("file:"), message)
    # What services say of a failure may have the address in it.
    return hide(hide(_notify(target, message), target), route.to)


def _append(settings: Settings, name: str, message: Message) -> str:
    """Add the message to a file, as one line of JSON; a relative path is one in the home."""
    line = json.dumps(
        {
            "notice": message.outbox_id,
            "created_at": message.created_at.isoformat(),
            "event": message.event,
            "severity": message.severity,
            "title": message.title,
            "body": message.body,
        }
        | message.payload,
        ensure_ascii=False,
    )
    try:
        with open_route(settings.home, name) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except DuemarkError as error:
        return str(error)
    except OSError as error:
        return f"{name}: {error.strerror}"
    return ""


_TYPES = {"info": "info", "warning": "warning", "critical": "failure"}


def _notify(target: str, message: Message) -> str:
    import apprise

    # A URL with several services would deliver to some and fail for others; a route is one service.
    service = apprise.Apprise.instantiate(target, suppress_exceptions=True)
    if service is None:
        return "The route's `to` is no apprise URL."
    sender = apprise.Apprise()
    sender.add(service)
    kind = "success" if message.event in {"resolved", "back_on_track"} else _TYPES[message.severity]
    title, body = message.title, f"{message.body}\nNotice {message.outbox_id}"
    # What shows more than text is given HTML, of which apprise makes what the service has: HTML, Markdown, or its own.
    form = service.resolve_format()
    if form != apprise.NotifyFormat.TEXT:
        form, body = apprise.NotifyFormat.HTML, as_html(body)
        # A service without subjects has it in its body.
        title = title if service.title_maxlen > 0 else html.escape(title, quote=False)
    result = sender.notify(body=body, title=title, notify_type=kind, body_format=form, timeout=SEND_SECONDS)
    if result:
        return ""
    return (
        _reasons(str(getattr(entry, "message", entry)) for entry in result.logs())
        or "The route did not take it."
    )


def _reasons(lines: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(line.strip() for line in lines if line.strip()))


@dataclass(frozen=True)
class Backlog:
    """What waits in the outbox: how many messages, since when, how often the worst was refused, and why."""

    pending: int
    oldest_at: datetime | None
    most_attempts: int
    last_error: str


def backlog(settings: Settings) -> Backlog:
    """The state of the outbox, for whoever watches the delivery."""
    with connect(settings, "operate") as connection, connection.cursor() as cursor:
        cursor.execute(
            """
            select
                count(*), min(created_at), coalesce(max(attempts), 0),
                coalesce((array_agg(route || ': ' || last_error order by attempts desc)
                    filter (where last_error is not null))[1], '')
            from ops.alert_outbox where delivered_at is null and undeliverable_at is null
            """
        )
        return Backlog(*single_row(cursor))
