"""`duemark watch`: the watcher outside, a process of its own, which goes on when daemon and web interface are dead.

It looks, delivers what the sensor that should do so has left lying, and pings the dead man's URL. The ping stops when
the watcher is gone, when it cannot look, and when alerts do not reach somebody: with what cannot be told otherwise.
What can be told is told by an alert, once, and not by the silence of the ping a second time.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pipelines.errors import DuemarkError
from pipelines.logs import get_logger
from pipelines.signals import stopping
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.delivery import Message, deliver, send
from sensors.oncall.incidents.model import DELIVERY_FAILED, Incident, Key
from sensors.oncall.incidents.routes import OWN_APPLICATION, Route, Routes, load_routes
from sensors.oncall.watch import outage
from sensors.oncall.watch.findings import clock
from sensors.oncall.watch.limits import Limits
from sensors.oncall.watch.look import Seen, look
from sensors.oncall.watch.outage import Outage

log = get_logger(__name__)

INTERVAL = 10.0
PING_SECONDS = 30.0
PING_TIMEOUT = 5.0
# The sensor that delivers comes every ten seconds; what it leaves for longer, it leaves.
LEFT_LYING = timedelta(seconds=20)
DELIVER_SECONDS = 20.0
# A look that takes so long hangs: the process ends, so that whoever keeps it up starts it again, and the ping stops.
HANGS_SECONDS = 150
# So long without being able to look, and the routes are told past the database.
BLIND = timedelta(seconds=60)
BLIND_KIND = "database_down"


def run(settings: Settings, interval: float = INTERVAL, *, once: bool = False) -> int:
    """Watch until SIGINT or SIGTERM, or look `once`; return the exit code.

    Of one look: 0 nothing is wrong, 1 something is, 2 it could not look.

    Raises:
        DuemarkError: a setting is none.
    """
    # What would wait for ever must not: the silence of a network is no error of its own.
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
    watcher = Outside(settings, Limits.of(settings), settings.deadman_url)
    if once:
        return watcher.once()
    with stopping() as stopped:
        log.info("watching", interval=interval, deadman=bool(watcher.deadman))
        while not stopped.is_set():
            began = time.monotonic()
            faulthandler.dump_traceback_later(HANGS_SECONDS, exit=True)
            try:
                watcher.step()
            finally:
                faulthandler.cancel_dump_traceback_later()
            stopped.wait(max(interval - (time.monotonic() - began), 0.5))
    return 0


class Outside:
    """A watcher and what it remembers by itself: when it last pinged. That it cannot look stands in a file."""

    def __init__(self, settings: Settings, limits: Limits, deadman: str | None) -> None:
        self.settings = settings
        self.limits = limits
        self.deadman = deadman
        # Where the home cannot be written, it is remembered as long as the process lives.
        self._outage: Outage | None = None
        self._pinged = -PING_SECONDS
        self._is_ping_failing = False

    def once(self) -> int:
        """One look for cron: findings on stdout. What it cannot see it says on stderr; the missing ping tells too."""
        try:
            seen = self._look()
        except Exception as error:
            self._cannot_look(datetime.now(UTC), error)
            raise DuemarkError(f"Nothing can be watched: {error}") from error
        self._can_look(datetime.now(UTC), seen)
        if self._is_well(seen):
            self._ping()
        for one in seen.open:
            sys.stdout.write(f"{one.key.kind} {one.key.subject}: {one.message}\n")
        if not seen.open:
            sys.stdout.write("nothing is wrong\n")
        return 1 if seen.open else 0

    def step(self, now: datetime | None = None) -> Seen | None:
        """One look; None when it could not. Raises nothing: the next one may do better."""
        moment = now or datetime.now(UTC)
        try:
            seen = self._look()
        except Exception as error:  # noqa: BLE001 - a watcher that dies of what it looks at watches nothing
            self._cannot_look(moment, error)
            return None
        self._can_look(moment, seen)
        if self._is_well(seen):
            self._ping()
        return seen

    def _look(self) -> Seen:
        seen = look(self.settings, watcher="outside", limits=self.limits)
        if self._is_left_lying():
            done = deliver(self.settings, seconds=DELIVER_SECONDS)
            log.warning("delivered what was left lying", delivered=done.delivered, failed=done.failed)
        return seen

    def _is_left_lying(self) -> bool:
        with connect(self.settings, "operate", autocommit=True) as connection:
            row = connection.execute(
                "select exists (select from ops.alert_outbox where delivered_at is null and undeliverable_at is null"
                " and next_attempt_at < %s)",
                [datetime.now(UTC) - LEFT_LYING],
            ).fetchone()
        return row is not None and bool(row[0])

    def _is_well(self, seen: Seen) -> bool:
        return not seen.has(DELIVERY_FAILED)

    def _ping(self) -> None:
        if self.deadman is None or time.monotonic() - self._pinged < PING_SECONDS:
            return
        try:
            with urllib.request.urlopen(self.deadman, timeout=PING_TIMEOUT):  # noqa: S310 - the setting was checked
                pass
        except (OSError, urllib.error.URLError, ValueError) as error:
            if not self._is_ping_failing:
                log.warning("the dead man's URL does not answer", error=str(error))
            self._is_ping_failing = True
            return
        self._is_ping_failing = False
        self._pinged = time.monotonic()

    # Past the database

    def _cannot_look(self, now: datetime, error: Exception) -> None:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        log.error("cannot look", error=reason, kind=type(error).__name__)
        found = outage.read(self.settings) or self._outage or Outage(now, reason)
        self._keep(found)
        if now - found.since < BLIND:
            return
        text = f"The watcher cannot look since {clock(found.since)}: {found.reason}"
        incident = _incident(found.since, text)
        try:
            routes = load_routes(self.settings.catalog)
        except (DuemarkError, OSError) as problem:
            log.critical("nobody can be notified: the routes cannot be read", error=str(problem))
            return
        for route in routes.routes.values():
            is_wanted = route.when == "always" and route.matches(incident)
            if is_wanted and route.id not in found.told:
                message = _message(route, "opened", incident.title, text, now)
                if self._send(routes, message):
                    found = replace(found, told={**found.told, route.id: route})
                    self._keep(found)

    def _keep(self, found: Outage) -> None:
        if found != self._outage:
            outage.write(self.settings, found)
        self._outage = found

    def _can_look(self, now: datetime, seen: Seen) -> None:
        over, self._outage = outage.read(self.settings) or self._outage, None
        if over is None:
            return
        outage.clear(self.settings)
        started_at = seen.server_started_at
        text = f"The watcher can look again; it could not since {clock(over.since)}." + (
            f" The database was started on {clock(started_at)}."
            if started_at is not None and started_at > over.since
            else ""
        )
        title = f"{_incident(over.since, text).title} (over)"
        for route in over.told.values():
            if route.resolved:
                message = _message(route, "resolved", title, text, now)
                self._send(Routes({route.id: route}), message)

    def _send(self, routes: Routes, message: Message) -> bool:
        refused = send(self.settings, routes, message)
        if refused:
            log.error("could not notify past the database", route=message.route, error=refused)
        return not refused


def _incident(since: datetime, text: str) -> Incident:
    return Incident(
        incident_id=0, key=Key(BLIND_KIND, "warehouse"), severity="critical", title="Duemark cannot be watched",
        message=text, began_at=since, opened_at=since, last_seen_at=since, tell_from=since,
        application_id=OWN_APPLICATION,
    )  # fmt: skip


def _message(route: Route, event: str, title: str, text: str, now: datetime) -> Message:
    """A message that never was in the outbox, and so has no number."""
    return Message(
        outbox_id=0, route=route.id, event=event, severity="critical" if event == "opened" else "info", title=title,
        body=text, payload={"kind": BLIND_KIND, "subject": "warehouse", "occurrence": ""}, created_at=now, attempts=0,
    )  # fmt: skip
