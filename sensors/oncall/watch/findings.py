"""What is wrong: functions of what was observed, without a clock and without a connection.

Each failure is an incident of its own kind and subject, so that it is told once however often somebody looks. What
cannot be judged just now stays as it is: nobody can tell a sensor that stopped from one whose daemon is dead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pipelines.orchestration.dagster_private.calls import last_moment
from pipelines.orchestration.dagster_private.servers import Declared
from pipelines.orchestration.dagster_private.tables import FailedCheck, FailedRun, Instigator, PendingRun
from sensors.oncall.incidents.model import DELIVERY_FAILED, Ending, Incident, Key, Severity, Wanted
from sensors.oncall.incidents.routes import OWN_APPLICATION
from sensors.oncall.incidents.rules import as_it_stands
from sensors.oncall.watch.limits import Limits
from sensors.oncall.watch.observed import Database, Observed, Standing

# The nine classes, as the specification of operations numbers them.
RUN_FAILED = "run_failed"
CHECK_FAILED = "check_failed"
SENSOR_FAILED = "sensor_failed"
SENSOR_LATE = "sensor_late"
LOCATION_FAILED = "location_failed"
SENSOR_OFF = "sensor_off"
DAEMON_DEAD = "daemon_dead"
RUN_STUCK = "run_stuck"
TICK_FAILED = "tick_failed"
# And what is below all of them.
DATABASE_RESTARTED = "database_restarted"
KINDS = (
    RUN_FAILED,
    CHECK_FAILED,
    SENSOR_FAILED,
    SENSOR_LATE,
    LOCATION_FAILED,
    SENSOR_OFF,
    DAEMON_DEAD,
    RUN_STUCK,
    DELIVERY_FAILED,
    TICK_FAILED,
    DATABASE_RESTARTED,
)

TICKING = Key(TICK_FAILED, "tick")
# Of a restart: what it breaks for a moment is its symptom, and is not told by itself unless it lasts.
WAREHOUSE = "warehouse"
RESTARTED = Key(DATABASE_RESTARTED, WAREHOUSE)
PASSING = frozenset({SENSOR_FAILED, SENSOR_LATE, DAEMON_DEAD})
SYMPTOMS = PASSING | {RUN_FAILED}
# So long at most a restart is kept open for the symptoms that pass.
LINGERS = timedelta(minutes=5)
# A look takes a while, and what was begun in it may have been cut off.
MARGIN = timedelta(minutes=1)

DAEMON = "daemon"
QUEUE = "queue"
TICK = "tick"
# So often in a row is again and again.
AGAIN = 2
# What says of a tick that fails the same, or why none begins: it is told in its place.
SAY_WHY_IT_FAILS = (
    Key(SENSOR_FAILED, "pipelines/tick"),
    Key(SENSOR_FAILED, "pipelines/arrivals"),
    Key(RUN_FAILED, TICK),
)
SAY_WHY_NONE_BEGINS = (
    Key(LOCATION_FAILED, "pipelines"),
    Key(SENSOR_OFF, "pipelines/tick"),
    Key(SENSOR_LATE, "pipelines/tick"),
    *SAY_WHY_IT_FAILS,
)
# Runs without a job of their own: somebody materialised assets by hand.
ASSET_JOB = "__ASSET_JOB"

_ENDINGS = {
    RUN_FAILED: Ending("succeeded", "It has succeeded since."),
    CHECK_FAILED: Ending("passed", "It passes again."),
    SENSOR_FAILED: Ending("running", "It evaluates again without an error, or was switched off or removed."),
    SENSOR_LATE: Ending("running", "It ticks again in time, or was switched off or removed."),
    LOCATION_FAILED: Ending("loaded", "It loads again, or is no longer in the workspace."),
    SENSOR_OFF: Ending("running", "It is on again, or no longer expected."),
    DAEMON_DEAD: Ending("alive", "It gives heartbeats again."),
    RUN_STUCK: Ending("moving", "It goes on, or has ended."),
    DELIVERY_FAILED: Ending("delivered", "What was waiting has been delivered."),
    TICK_FAILED: Ending("published", "A tick was published, or nothing waits for one any more."),
    DATABASE_RESTARTED: Ending("steady", "It has been running since without another interruption."),
}
WITHDRAWN = Ending("withdrawn", "What failed is no longer there: somebody has deleted it.")
FORGOTTEN = Ending(
    "expired", "Nothing has put it right, and it has not been repeated either; it is not reported any more."
)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong."""

    kind: str
    subject: str
    title: str
    message: str
    began_at: datetime
    occurrence: str = ""
    severity: Severity = "critical"
    cause: Key | None = None
    failed_at: datetime | None = None
    """Of a failure that may be over before the next look: when."""
    detail: tuple[tuple[str, Any], ...] = ()

    @property
    def key(self) -> Key:
        return Key(self.kind, self.subject, self.occurrence)

    def wanted(self, now: datetime) -> Wanted:
        """As an incident, seen at `now`."""
        detail: dict[str, Any] = dict(self.detail)
        if self.failed_at is not None:
            detail["failed_at"] = self.failed_at.isoformat()
        return Wanted(
            key=self.key,
            severity=self.severity,
            title=self.title,
            message=self.message,
            began_at=self.began_at,
            seen_at=now,
            application_id=OWN_APPLICATION,
            detail=detail,
            cause=self.cause,
        )


def judge(
    observed: Observed, limits: Limits, expected: Collection[tuple[str, str]], standing: Sequence[Incident]
) -> list[Wanted]:
    """All that should be open of these kinds: what is wrong, and what is open and cannot be judged."""
    look = _Look(observed, limits, expected, {one.key: one for one in standing})
    wanted = {one.key: one.wanted(observed.now) for one in look.findings()}
    for one in standing:
        if one.key not in wanted and look.is_unknown(one):
            wanted[one.key] = as_it_stands(one)
    if TICKING in wanted:
        reasons = look.reasons_of_the_tick()
        wanted[TICKING] = replace(
            wanted[TICKING], cause=next((one for one in reasons if one in wanted), None)
        )
    wanted |= _restarted(observed, limits, wanted, {one.key: one for one in standing})
    return list(wanted.values())


def ending(incident: Incident, observed: Observed, limits: Limits) -> Ending:
    """How an incident that is not wanted any more ended."""
    kind, failed_at = incident.key.kind, incident.detail.get("failed_at")
    if kind in {RUN_FAILED, CHECK_FAILED} and isinstance(failed_at, str):
        if observed.now - datetime.fromisoformat(failed_at) >= limits.forgotten:
            return FORGOTTEN
        known = {Key(RUN_FAILED, one.job) for one in observed.failed_runs}
        known |= {_check_key(one) for one in observed.failed_checks}
        return _ENDINGS[kind] if incident.key in known else WITHDRAWN
    return _ENDINGS[kind]


def _check_key(check: FailedCheck) -> Key:
    return Key(CHECK_FAILED, f"{check.asset} {check.check}", check.partition)


def clock(moment: datetime) -> str:
    """An instant in a message."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _restarted(
    observed: Observed, limits: Limits, wanted: Mapping[Key, Wanted], standing: Mapping[Key, Incident]
) -> dict[Key, Wanted]:
    """The restart of the database, if there was one of late, and its symptoms as what stands under it."""
    server = observed.memory.server
    if server is None or server.changed_at is None or observed.now - server.changed_at >= LINGERS:
        return {}
    since = (server.before_at or server.started_at) - MARGIN
    symptoms = [
        one
        for one in wanted.values()
        if one.key.kind in SYMPTOMS and since <= _happened_at(one) <= server.changed_at + limits.quiet
    ]
    is_new = observed.now - server.changed_at < limits.quiet
    lasts = RESTARTED in standing and any(one.key.kind in PASSING for one in symptoms)
    if not is_new and not lasts:
        return {}
    found = _restart(server, standing.get(RESTARTED)).wanted(observed.now)
    return {RESTARTED: found} | {one.key: replace(one, cause=RESTARTED) for one in symptoms}


def _restart(server: Database, known: Incident | None) -> Finding:
    started_at = server.started_at.isoformat()
    starts = [*(known.detail.get("starts", []) if known is not None else [])]
    if started_at not in starts:
        starts.append(started_at)
    often = f" It is number {len(starts)} in a row." if len(starts) > 1 else ""
    seen = f", after it had last been seen on {clock(server.before_at)}" if server.before_at else ""
    return Finding(
        DATABASE_RESTARTED,
        WAREHOUSE,
        "The database restarted",
        f"The database was interrupted, and runs again since {clock(server.started_at)}{seen}.{often}"
        " What was under way is done again by itself; what was published stands.",
        known.began_at if known is not None else server.started_at,
        detail=(("starts", starts),),
    )


def _happened_at(one: Wanted) -> datetime:
    failed_at = one.detail.get("failed_at")
    return datetime.fromisoformat(str(failed_at)) if failed_at else one.began_at


class _Look:
    def __init__(
        self,
        observed: Observed,
        limits: Limits,
        expected: Collection[tuple[str, str]],
        standing: dict[Key, Incident],
    ) -> None:
        self._facts = observed
        self._limits = limits
        self._expected = expected
        self._standing = standing
        self._now = observed.now
        self._memory = observed.memory
        self._watching_since = observed.memory.watching_since or observed.now
        self._rows = {(one.location, one.name): one for one in observed.instigators}
        self._code = {
            (location, one.name): one for location, found in observed.declared.items() for one in found
        }

    def findings(self) -> Iterator[Finding]:
        """Of all classes but what stands above them."""
        for run in self._facts.failed_runs:
            if self._is_open(Key(RUN_FAILED, run.job), run.ended_at, is_over=run.is_over):
                yield _run_failed(run)
        for check in self._facts.failed_checks:
            key = _check_key(check)
            is_told = (check.asset, check.check) in self._facts.told_checks and key not in self._standing
            if not is_told and self._is_open(key, check.failed_at, is_over=check.is_over):
                yield _check_failed(check)
        yield from self._daemon()
        yield from self._locations()
        yield from self._instigators()
        yield from self._runs()
        yield from self._tick()
        for route in self._facts.waiting:
            yield Finding(
                DELIVERY_FAILED,
                route.route,
                f"Alerts do not reach the route {route.route}",
                f"{route.route} refuses them: {route.reason}" if route.reason else "Nobody delivers them.",
                route.oldest_at,
            )

    def is_unknown(self, one: Incident) -> bool:
        """Whether it cannot be told now if it is over."""
        kind, subject = one.key.kind, one.key.subject
        if kind == LOCATION_FAILED:
            # Where nobody sees the workspace, only who opened it knows.
            return not self._memory.locations
        if kind in {SENSOR_FAILED, SENSOR_LATE, SENSOR_OFF}:
            return not self._is_heard(subject.split("/", 1)[0])
        if kind == TICK_FAILED:
            return self._facts.waiting_since is not None and self._is_daemon_silent()
        if kind == RUN_STUCK:
            return subject == QUEUE and not self._is_daemon_up()
        return False

    def _is_open(self, key: Key, failed_at: datetime, *, is_over: bool) -> bool:
        """A failure that is over is told all the same when nobody has told of it: the next look ends it."""
        if not is_over:
            return True
        covered = self._facts.covered.get(key)
        since = (self._memory.looked_at or self._now) - timedelta(minutes=10)
        return failed_at > since and (covered is None or failed_at > covered)

    def _is_watched(self) -> bool:
        """Whether somebody has been watching for long enough to miss something."""
        return self._now - self._watching_since >= self._limits.grace

    def _is_daemon_up(self) -> bool:
        return self._memory.daemon is not None and self._memory.daemon.is_up

    def _is_heard(self, location: str) -> bool:
        """Whether its sensors could tick now, as far as is known.

        A daemon that was killed is known to be dead after a while only, and its sensors are late before that.
        """
        place, daemon = self._memory.locations.get(location), self._memory.daemon
        if daemon is None or not daemon.is_up or (place is not None and not place.is_up):
            return False
        oldest = min(one.at for one in self._facts.heartbeats if one.process == daemon.who)
        return self._now - oldest < self._limits.heartbeat / 2

    # 7

    def _daemon(self) -> Iterator[Finding]:
        daemon = self._memory.daemon
        is_told = Key(DAEMON_DEAD, DAEMON) in self._standing
        if daemon is not None and not daemon.is_up and (is_told or self._is_watched()):
            yield Finding(
                DAEMON_DEAD,
                DAEMON,
                "The daemon is dead",
                f"The Dagster daemon: {daemon.reason}. Without it nothing is ticked, queued or monitored.",
                daemon.since,
            )

    # 5

    def _locations(self) -> Iterator[Finding]:
        for name, place in self._memory.locations.items():
            if not place.is_up and self._is_location_told(name, place):
                does = "does not load" if place.is_error else "does not answer"
                yield Finding(
                    LOCATION_FAILED,
                    name,
                    f"The code location {name} {does}",
                    f"The code location {name}: {place.reason}. Its sensors, schedules and runs stand still.",
                    place.since,
                )

    def _is_location_told(self, name: str, place: Standing) -> bool:
        """An error of the code stays until somebody mends it; silence may be a restart."""
        is_told = Key(LOCATION_FAILED, name) in self._standing
        return is_told or place.is_error or (self._now - place.since >= self._limits.location)

    # 3, 4, 6

    def _instigators(self) -> Iterator[Finding]:
        for key in sorted({*self._rows, *self._code, *self._expected}):
            location = key[0]
            row, code = self._rows.get(key), self._code.get(key)
            is_expected = key in self._expected or (code is not None and code.is_on)
            # Of a location that nobody can ask, the rows of Dagster are all that is known.
            is_coded = code is not None or (
                location not in self._facts.declared and not self._is_foreign(location)
            )
            if not self._is_heard(location):
                continue
            if is_expected and (reason := self._off(key, row, code, is_coded=is_coded)):
                yield self._finding(SENSOR_OFF, key, *reason)
            elif is_coded and not _is_stopped(row, code):
                yield from self._ticks(key, row, code)

    def _is_foreign(self, location: str) -> bool:
        """Whether the workspace, which is known, does not have the location."""
        return bool(self._memory.locations) and location not in self._memory.locations

    def _off(
        self, key: tuple[str, str], row: Instigator | None, code: Declared | None, *, is_coded: bool
    ) -> tuple[str, datetime] | None:
        """Why what is expected does not run, and since when; None when it does, or may do so soon."""
        location = key[0]
        since = self._could_tick_since(location)
        is_told = Key(SENSOR_OFF, "/".join(key)) in self._standing
        is_settled = is_told or self._now - since >= self._limits.grace
        if not is_coded and is_settled:
            where = (
                "workspace has no such code location"
                if self._is_foreign(location)
                else "code does not have it"
            )
            return f"is missing: it is expected, and the {where}", since
        if row is not None and row.status == "STOPPED":
            return "was switched off", self._now
        if code is not None and _is_stopped(row, code):
            return "is off: it is expected to be on, and nobody has switched it on", since
        if row is None and code is None and is_coded and is_settled:
            return "is missing: it is expected, and never ran", since
        return None

    def _ticks(
        self, key: tuple[str, str], row: Instigator | None, code: Declared | None
    ) -> Iterator[Finding]:
        if row is not None and row.failed is not None:
            failed = row.failed
            kind = SENSOR_LATE if failed.is_timeout else SENSOR_FAILED
            is_over = not row.is_failing and self._now - failed.at >= self._limits.quiet
            incident = Key(kind, "/".join(key))
            if self._is_open(incident, failed.at, is_over=is_over):
                reason = (
                    "timed out" if failed.is_timeout else f"raised: {failed.reason or 'it does not say what'}"
                )
                yield self._finding(kind, key, reason, failed.at, failed_at=failed.at)
                if kind == SENSOR_LATE:
                    return
        due = self._due(key[0], row, code)
        known = self._standing.get(Key(SENSOR_LATE, "/".join(key)))
        ticked_at = row.ticked_at if row is not None else None
        # Once told, only a tick ends it: not a daemon that was started again, and gives it time anew.
        is_still = known is not None and (ticked_at is None or ticked_at < known.began_at)
        is_late = due is not None and self._now - due >= self._limits.tick and self._is_watched()
        if is_late or is_still:
            last = f"last on {clock(ticked_at)}" if ticked_at else "and never did"
            yield self._finding(SENSOR_LATE, key, f"stopped ticking, {last}", due or self._now)

    def _due(self, location: str, row: Instigator | None, code: Declared | None) -> datetime | None:
        """When it should have ticked since its last tick; None when it should not."""
        since = self._could_tick_since(location)
        if row is not None and row.started_at is not None:
            since = max(since, row.started_at)
        ticked_at = row.ticked_at if row is not None else None
        if code is not None and code.cron:
            due = last_cron(code, self._now - self._limits.tick)
            return due if due is not None and due > max(since, ticked_at or since) else None
        if row is not None and row.is_schedule:
            return None
        interval = (
            (code.interval if code is not None else None) or (row.interval if row is not None else None) or 30
        )
        return max(since, ticked_at or since) + timedelta(seconds=interval)

    def _could_tick_since(self, location: str) -> datetime:
        """Since when daemon and location have been there, while somebody watched."""
        moments = [self._watching_since]
        if self._memory.daemon is not None:
            moments.append(self._memory.daemon.since)
        if location in self._memory.locations:
            moments.append(self._memory.locations[location].since)
        return max(moments)

    def _finding(
        self,
        kind: str,
        key: tuple[str, str],
        what: str,
        began_at: datetime,
        failed_at: datetime | None = None,
    ) -> Finding:
        location, name = key
        noun = "schedule" if self._is_schedule(key) else "sensor"
        known = self._standing.get(Key(kind, "/".join(key)))
        head, _, rest = what.partition(": ")
        return Finding(
            kind,
            "/".join(key),
            f"The {noun} {name} {head.partition(',')[0]}",
            f"The {noun} {name} of the code location {location} {head}{': ' if rest else ''}{rest}.",
            known.began_at if known is not None else began_at,
            failed_at=failed_at,
        )

    def _is_schedule(self, key: tuple[str, str]) -> bool:
        row, code = self._rows.get(key), self._code.get(key)
        return row.is_schedule if row is not None else code is not None and bool(code.cron)

    # 8

    def _runs(self) -> Iterator[Finding]:
        daemon = self._memory.daemon
        queued = []
        if daemon is not None and daemon.is_up:
            known = self._standing.get(Key(RUN_STUCK, QUEUE))
            # A daemon that has just come back has the whole queue to empty; what was told before goes on.
            queued = [
                run
                for run in self._facts.pending_runs
                if run.status == "QUEUED"
                and (
                    self._now - max(run.created_at, daemon.since) >= self._limits.queued
                    or (known is not None and run.created_at <= known.began_at)
                )
            ]
        if queued:
            oldest = min(queued, key=lambda run: run.created_at)
            yield Finding(
                RUN_STUCK,
                QUEUE,
                "Runs are stuck in the queue",
                f"The oldest, run {oldest.run_id} of {job_name(oldest.job)}, has been waiting since"
                f" {clock(oldest.created_at)}.",
                oldest.created_at,
            )
        for run in self._facts.pending_runs:
            if (reason := self._stuck(run)) is not None:
                yield Finding(
                    RUN_STUCK,
                    run.job,
                    f"A run of {job_name(run.job)} is stuck",
                    f"Run {run.run_id} of {job_name(run.job)} {reason}.",
                    run.active_at,
                    occurrence=run.run_id,
                )

    # A tick that fails, wherever it is done

    def _tick(self) -> Iterator[Finding]:
        last = self._facts.attempts
        reason = f" The last one failed on {clock(last.failed_at)}: {last.reason}" if last.failed_at else ""
        if last.failures >= AGAIN and last.since is not None:
            yield Finding(
                TICK_FAILED,
                TICK,
                "The tick fails again and again",
                f"The tick has failed {last.failures} times in a row since {clock(last.since)}. The marts stand as they"
                f" were.{reason}",
                last.since,
            )
            return
        since = self._facts.waiting_since
        if since is None or last.begun_at is not None or self._is_tick_queued() or not self._is_watched():
            return
        if self._is_daemon_silent():
            return
        due = max(since, self._could_tick_since("pipelines"))
        if self._now - due >= self._limits.waiting or (TICKING in self._standing and not last.failures):
            yield Finding(
                TICK_FAILED,
                TICK,
                "Nothing is ticked",
                f"Since {clock(since)} loads, or a due time that has passed, wait for a tick, and none is under way."
                f"{reason}",
                due,
            )

    def _is_daemon_silent(self) -> bool:
        """Whether the daemon that should tick may be dead: that is told then. Where none ever was, cron ticks."""
        daemon = self._memory.daemon
        return daemon is not None and bool(daemon.who) and not self._is_heard("pipelines")

    def _is_tick_queued(self) -> bool:
        """What is wrong with such a run is told of the run."""
        return any(run.job == TICK for run in self._facts.pending_runs)

    def reasons_of_the_tick(self) -> Sequence[Key]:
        """What is told in place of a tick that fails, by what it says of it."""
        if self._facts.attempts.failures >= AGAIN:
            return SAY_WHY_IT_FAILS
        daemon = self._memory.daemon
        # Where no daemon ever was, somebody ticks by cron.
        is_dead = daemon is not None and not daemon.is_up and bool(daemon.who)
        return ((Key(DAEMON_DEAD, DAEMON),) if is_dead else ()) + SAY_WHY_NONE_BEGINS

    def _stuck(self, run: PendingRun) -> str | None:
        if run.status == "QUEUED":
            return None
        silent = self._now - run.active_at
        since = clock(run.active_at)
        if run.is_gone and silent >= self._limits.orphaned:
            return f"has no process any more, and has said nothing since {since}; terminate it"
        if run.status == "STARTED":
            return f"has said nothing since {since}" if silent >= self._limits.silent else None
        if silent < self._limits.starting:
            return None
        return f"is {'being cancelled' if run.status == 'CANCELING' else 'starting'} since {since}"


def _is_stopped(row: Instigator | None, code: Declared | None) -> bool:
    if row is None or (row.status == "DECLARED_IN_CODE" and code is not None):
        return code is None or not code.is_on
    return row.status == "STOPPED"


def job_name(name: str) -> str:
    """A job as people know it."""
    return "assets by hand" if name == ASSET_JOB else name


def _run_failed(run: FailedRun) -> Finding:
    retried = " Dagster does it again." if run.is_retried else ""
    reason = f": {run.reason.rstrip('.')}" if run.reason else ""
    return Finding(
        RUN_FAILED,
        run.job,
        f"A run of {job_name(run.job)} failed",
        f"Run {run.run_id} of {job_name(run.job)} failed on {clock(run.ended_at)}{reason}.{retried}",
        run.ended_at,
        failed_at=run.ended_at,
        detail=(("run_id", run.run_id),),
    )


def _check_failed(check: FailedCheck) -> Finding:
    import json

    reason = f": {check.reason.rstrip('.')}" if check.reason else ""
    of = f" (partition {check.partition})" if check.partition else ""
    return Finding(
        CHECK_FAILED,
        f"{check.asset} {check.check}",
        f"The check {check.check} of {check.asset} failed",
        f"The check {check.check} of {check.asset}{of} failed on {clock(check.failed_at)}{reason}.",
        check.failed_at,
        occurrence=check.partition,
        severity="warning" if check.is_warning else "critical",
        failed_at=check.failed_at,
        detail=(
            ("asset_key", json.dumps(check.asset.split("/"))),
            ("check", check.check),
            ("run_id", check.run_id),
        ),
    )


def last_cron(code: Declared, before: datetime) -> datetime | None:
    """The last instant at or before `before` at which the schedule should have ticked."""
    return max((last_moment(cron, code.timezone, before) for cron in code.cron), default=None)
