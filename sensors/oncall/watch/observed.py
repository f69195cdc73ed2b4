"""What there is to know of Dagster and of the outbox, read with plain SQL: it works when Dagster does not."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from pipelines.logs import get_logger
from pipelines.orchestration.dagster_private.servers import Declared, has_run
from pipelines.orchestration.dagster_private.tables import (
    FailedCheck,
    FailedRun,
    Heartbeat,
    Instigator,
    PendingRun,
    are_there,
    failed_checks,
    failed_runs,
    heartbeats,
    instigators,
    last_event_id,
    pending_runs,
    server_of,
)
from pipelines.orchestration.locations import Answer, ask
from pipelines.transform.attempts import Attempts, attempts
from pipelines.transform.waiting import waiting
from pipelines.warehouse import embedded
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.model import Key
from sensors.oncall.watch import outage
from sensors.oncall.watch.limits import Limits
from sensors.oncall.watch.told import told_by_incidents

if TYPE_CHECKING:
    Cursor = psycopg.Cursor[Any]
    Connection = psycopg.Connection[Any]

log = get_logger(__name__)

# Whoever writes to the event log commits within this; rows of the log are looked at twice rather than not at all.
OVERLAP = timedelta(minutes=10)
# Longer without a look, and nobody was watching.
GAP = timedelta(minutes=2)
# The job whose work is done without a run, too, when it is little.
TICK = "tick"
# Assets that begin so are tracked jobs and SLOs; whether they are on time is told as incidents of the SLOs.
NOT_OURS = ("jobs", "slos")
# And KPIs beyond their thresholds as incidents of the KPIs, not of this check.
NOT_OURS_EITHER = "thresholds"
STATEMENT_TIMEOUT = "15s"


# What is remembered from look to look


@dataclass(frozen=True)
class Standing:
    """How a location, or the daemon, stood when it was last asked: up or down since `since`, as of `at`.

    `who`: of the daemon, which process. `is_error`: it answers that its code does not load.
    """

    is_up: bool
    since: datetime
    at: datetime
    reason: str = ""
    is_error: bool = False
    who: str = ""


@dataclass(frozen=True)
class Database:
    """The database as it was last seen: running without an interruption since `started_at`.

    `changed_at`: when a look found that it is not the one of the look before, at `before_at`; None where nobody has to
    be told of that.
    """

    started_at: datetime
    changed_at: datetime | None = None
    before_at: datetime | None = None


@dataclass(frozen=True)
class Memory:
    """What all watchers know together; a row of `ops.watch`."""

    looked_at: datetime | None = None
    watching_since: datetime | None = None
    daemon: Standing | None = None
    locations: Mapping[str, Standing] = field(default_factory=dict)
    event_id: int = 0
    """Of the event log, before which all has been looked at."""
    next_event_id: int = 0
    """What `event_id` becomes, once it is `OVERLAP` old."""
    next_event_at: datetime | None = None
    server: Database | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the two instants that are columns."""
        return {
            "daemon": _standing_json(self.daemon) if self.daemon else None,
            "locations": {name: _standing_json(one) for name, one in self.locations.items()},
            "event_id": self.event_id,
            "next_event_id": self.next_event_id,
            "next_event_at": self.next_event_at.isoformat() if self.next_event_at else None,
            "server": [_text(getattr(self.server, one.name)) for one in fields(Database)]
            if self.server
            else None,
        }

    @classmethod
    def from_json(
        cls, looked_at: datetime | None, watching_since: datetime | None, content: Mapping[str, Any]
    ) -> Memory:
        """What `to_json` made."""
        daemon, next_event_at = content.get("daemon"), content.get("next_event_at")
        server = content.get("server")
        return cls(
            looked_at=looked_at,
            watching_since=watching_since,
            daemon=_standing(daemon) if daemon else None,
            locations={name: _standing(one) for name, one in content.get("locations", {}).items()},
            event_id=int(content.get("event_id", 0)),
            next_event_id=int(content.get("next_event_id", 0)),
            next_event_at=datetime.fromisoformat(next_event_at) if next_event_at else None,
            server=Database(*(datetime.fromisoformat(one) if one else None for one in server))  # type: ignore[arg-type]
            if server
            else None,
        )


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant is not None else None


def _standing_json(one: Standing) -> dict[str, Any]:
    return {
        "is_up": one.is_up, "since": one.since.isoformat(), "at": one.at.isoformat(), "reason": one.reason,
        "is_error": one.is_error, "who": one.who,
    }  # fmt: skip


def _standing(content: Mapping[str, Any]) -> Standing:
    return Standing(
        bool(content["is_up"]),
        datetime.fromisoformat(content["since"]),
        datetime.fromisoformat(content["at"]),
        str(content["reason"]),
        bool(content["is_error"]),
        str(content["who"]),
    )


def read_memory(cursor: Cursor) -> Memory:
    """The row of `ops.watch`."""
    row = cursor.execute("select looked_at, watching_since, memory from ops.watch").fetchone()
    return Memory.from_json(*row) if row else Memory()


def write_memory(cursor: Cursor, memory: Memory, watcher: str) -> None:
    """Keep it for the next look."""
    cursor.execute(
        "insert into ops.watch (is_only, looked_at, watching_since, memory)"
        " values (true, %(at)s, %(since)s, %(memory)s)"
        " on conflict (is_only) do update set looked_at = excluded.looked_at,"
        " watching_since = excluded.watching_since, memory = excluded.memory",
        {"at": memory.looked_at, "since": memory.watching_since, "memory": json.dumps(memory.to_json())},
    )
    cursor.execute(
        "insert into ops.watcher (watcher, looked_at) values (%(name)s, %(at)s)"
        " on conflict (watcher) do update set looked_at = excluded.looked_at",
        {"name": watcher, "at": memory.looked_at},
    )


def remembered(memory: Memory, observed: Observed, answers: Sequence[Answer], limits: Limits) -> Memory:
    """What is known after a look."""
    now = observed.now
    is_gap = memory.looked_at is None or now - memory.looked_at > GAP
    # A watcher that does not see the workspace leaves what others know, as long as they look.
    locations = {name: one for name, one in memory.locations.items() if not answers and now - one.at <= GAP}
    for answer in answers:
        before = memory.locations.get(answer.location)
        if before is not None and before.at >= answer.at:
            # Another watcher has asked since.
            locations[answer.location] = before
            continue
        # What was down before anybody looked may have been down for a minute only.
        is_same = before is not None and before.is_up == answer.is_ok and not is_gap
        since = before.since if is_same and before is not None else now
        locations[answer.location] = Standing(answer.is_ok, since, answer.at, answer.reason, answer.is_error)
    is_due = memory.next_event_at is None or now - memory.next_event_at >= OVERLAP
    return replace(
        memory,
        looked_at=now,
        watching_since=now if is_gap else memory.watching_since,
        daemon=_daemon(memory.daemon, observed.heartbeats, now, limits),
        locations=locations,
        event_id=memory.next_event_id if is_due else memory.event_id,
        next_event_id=observed.last_event_id if is_due else memory.next_event_id,
        next_event_at=now if is_due else memory.next_event_at,
        server=_server(memory, observed),
    )


def _server(memory: Memory, observed: Observed) -> Database | None:
    if observed.server_started_at is None:
        return memory.server
    if memory.server is not None and memory.server.started_at == observed.server_started_at:
        return memory.server
    if memory.server is None or observed.is_restart_known:
        return Database(observed.server_started_at)
    return Database(observed.server_started_at, observed.now, memory.looked_at)


def _daemon(
    before: Standing | None, heartbeats: Sequence[Heartbeat], now: datetime, limits: Limits
) -> Standing:
    """Only parts of the newest process count: others are left from before it, or no longer configured."""
    if not heartbeats:
        reason = "it never gave a heartbeat"
        return before if before and not before.is_up else Standing(False, now, now, reason)
    newest = max(heartbeats, key=lambda one: one.at)
    late = sorted(
        (one for one in heartbeats if one.process == newest.process and now - one.at > limits.heartbeat),
        key=lambda one: one.at,
    )
    if not late:
        is_same = before is not None and before.is_up and before.who == newest.process
        since = before.since if is_same and before is not None else now
        return Standing(True, since, now, who=newest.process)
    if newest in late:
        since, reason = newest.at, f"no heartbeat since {newest.at:%H:%M:%S} UTC"
    else:
        since = late[0].at
        reason = f"no heartbeat of its part {', '.join(one.part for one in late)} since {since:%H:%M:%S} UTC"
    return Standing(False, since, now, reason, who=newest.process)


# Observed


@dataclass(frozen=True)
class Waiting:
    """What waits in the outbox for one route for longer than it may."""

    route: str
    messages: int
    oldest_at: datetime
    attempts: int
    reason: str


@dataclass(frozen=True)
class Observed:
    """All that findings are made of, as of `now`."""

    now: datetime
    memory: Memory = field(default_factory=Memory)
    heartbeats: Sequence[Heartbeat] = ()
    instigators: Sequence[Instigator] = ()
    failed_runs: Sequence[FailedRun] = ()
    pending_runs: Sequence[PendingRun] = ()
    failed_checks: Sequence[FailedCheck] = ()
    told_checks: frozenset[tuple[str, str]] = frozenset()
    """Those, by asset and name, of which incidents tell: they open nothing."""
    waiting: Sequence[Waiting] = ()
    declared: Mapping[str, Sequence[Declared]] = field(default_factory=dict)
    """By location; without the locations of which it is not known."""
    covered: Mapping[Key, datetime] = field(default_factory=dict)
    """The last failure that an incident of the key has told of."""
    last_event_id: int = 0
    attempts: Attempts = field(default_factory=Attempts)
    waiting_since: datetime | None = None
    """Since when something waits for a tick."""
    server_started_at: datetime | None = None
    """Since when the database runs without an interruption."""
    is_restart_known: bool = False
    """It was stopped and started by `down` and `up`, or its outage was told past it."""


@dataclass(frozen=True)
class Asked:
    """What code servers said, before the look: `gone` are runs whose processes their servers do not have."""

    answers: Sequence[Answer] = ()
    gone: Collection[str] = ()


def dagster_connection(settings: Settings) -> Connection:
    """A connection to Dagster's own database, which nothing is written through."""
    connection = connect(settings, autocommit=True, database=settings.dagster_database)
    connection.execute(
        f"set statement_timeout = '{STATEMENT_TIMEOUT}'; set default_transaction_read_only = on"
    )
    return connection


def ask_servers(settings: Settings, limits: Limits, now: datetime | None = None) -> Asked:
    """Ask the code servers, which needs no lock: do they load, and are runs that say nothing still theirs?"""
    answers = ask(settings)
    moment = now or datetime.now(UTC)
    gone = []
    with dagster_connection(settings) as connection, connection.cursor() as cursor:
        if are_there(cursor):
            for run in pending_runs(cursor):
                server = server_of(cursor, run.run_id) if run.status in {"STARTED", "STARTING"} else None
                if (
                    server is not None
                    and moment - run.active_at > limits.orphaned
                    and has_run(server, run.run_id) is False
                ):
                    gone.append(run.run_id)
    return Asked(answers, frozenset(gone))


def read_facts(cursor: Cursor, settings: Settings, limits: Limits, asked: Asked, now: datetime) -> Observed:
    """Read everything, the memory too, and remember it in `Observed.memory`; `cursor` is one of the warehouse."""
    memory = read_memory(cursor)
    open_checks = _open_checks(cursor)
    since = min(memory.looked_at or now, now) - OVERLAP
    published_at = _published_at(cursor)
    observed = Observed(
        now,
        waiting=_waiting(cursor, limits, now),
        declared={one.location: one.declared for one in asked.answers if one.declared is not None},
        covered=_covered(cursor, since),
        attempts=attempts(cursor),
        waiting_since=_tick_waits_since(settings, now),
    )
    with dagster_connection(settings) as connection, connection.cursor() as dagster:
        started_at = _server_started_at(dagster)
        observed = replace(
            observed,
            server_started_at=started_at,
            is_restart_known=_is_known(settings, memory.server, started_at),
        )
        if are_there(dagster):
            gone = asked.gone
            observed = replace(
                observed,
                heartbeats=heartbeats(dagster),
                instigators=instigators(dagster, since),
                failed_runs=[
                    _over_by_tick(run, published_at) for run in failed_runs(dagster, now - limits.forgotten)
                ],
                pending_runs=[replace(run, is_gone=run.run_id in gone) for run in pending_runs(dagster)],
                failed_checks=failed_checks(
                    dagster,
                    memory.event_id,
                    open_checks,
                    now - limits.forgotten,
                    but_assets=NOT_OURS,
                    but_check=NOT_OURS_EITHER,
                ),
                last_event_id=last_event_id(dagster),
            )
    observed = replace(observed, told_checks=told_by_incidents(cursor, observed.failed_checks))
    return replace(observed, memory=remembered(memory, observed, asked.answers, limits))


def _server_started_at(cursor: Cursor) -> datetime | None:
    """Since when the server runs without an interruption.

    When one of its processes is killed, the postmaster lives, and starts all others anew. That shows by the start of
    the checkpointer, which only members of pg_read_all_stats are told.
    """
    row = cursor.execute(
        "select greatest(pg_postmaster_start_time(), ("
        "select max(backend_start) from pg_stat_activity where backend_type = 'checkpointer'))"
    ).fetchone()
    return row[0] if row else None


def _is_known(settings: Settings, server: Database | None, started_at: datetime | None) -> bool:
    if started_at is None or server is None or server.started_at == started_at:
        return False
    if settings.database_url is None and embedded.was_planned(settings.home, started_at):
        return True
    told = outage.read(settings)
    return told is not None and bool(told.told)


def _over_by_tick(run: FailedRun, published_at: datetime | None) -> FailedRun:
    """Small ticks need no run: one that published puts right a failed run of `tick`, too."""
    is_over = run.job == TICK and published_at is not None and published_at > run.ended_at
    return replace(run, is_over=run.is_over or is_over)


# Observed of the warehouse


def _published_at(cursor: Cursor) -> datetime | None:
    row = cursor.execute("select published_at from control.tick").fetchone()
    return row[0] if row else None


def _tick_waits_since(settings: Settings, now: datetime) -> datetime | None:
    try:
        return waiting(settings, now).since
    except Exception as error:  # noqa: BLE001 - it asks every subject, and what one of them lacks must not blind us
        log.warning("not known what waits for a tick", error=str(error))
        return None


def _open_checks(cursor: Cursor) -> set[tuple[str, str, str]]:
    rows = cursor.execute(
        "select detail ->> 'asset_key', detail ->> 'check', occurrence from ops.incident"
        " where kind = 'check_failed' and resolved_at is null"
    )
    return {(str(row[0]), str(row[1]), str(row[2])) for row in rows}


def _waiting(cursor: Cursor, limits: Limits, now: datetime) -> list[Waiting]:
    rows = cursor.execute(
        """
        select
            route, count(*), min(created_at), max(attempts),
            coalesce((array_agg(last_error order by attempts desc) filter (where last_error is not null))[1], '')
        from ops.alert_outbox
        where delivered_at is null and undeliverable_at is null and created_at < %(since)s
        group by route
        order by route
        """,
        {"since": now - limits.undelivered},
    )
    return [Waiting(*row) for row in rows]


def _covered(cursor: Cursor, since: datetime) -> dict[Key, datetime]:
    rows = cursor.execute(
        """
        select kind, subject, occurrence, max((detail ->> 'failed_at')::timestamptz)
        from ops.incident
        where kind in ('run_failed', 'check_failed', 'sensor_failed', 'sensor_late') and detail ? 'failed_at'
        group by kind, subject, occurrence
        having max((detail ->> 'failed_at')::timestamptz) > %(since)s or bool_or(resolved_at is null)
        """,
        {"since": since},
    )
    return {Key(row[0], row[1], row[2]): row[3] for row in rows}
