"""Is every part ready? The answer of `duemark status`, made of what can still be read when other parts are down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from pipelines.durations import spelled
from pipelines.errors import DuemarkError
from pipelines.orchestration.dagster_private.tables import are_there, heartbeats
from pipelines.processes.running import running_supervisor
from pipelines.warehouse import embedded
from pipelines.warehouse.connect import database_url, with_database
from pipelines.warehouse.settings import Settings
from pipelines.warehouse.version import known

# The daemon writes a heartbeat every half minute; Dagster itself calls it healthy for half an hour without one.
HEARTBEAT_AGE = timedelta(minutes=2)
WATCHER_AGE = timedelta(minutes=2)
LANDING_AGE = timedelta(minutes=5)
# Something may wait for a tick: while one is under way, and while none is.
TICK_AGE = timedelta(minutes=5)
NO_TICK_AGE = timedelta(minutes=2)
# So often in a row is again and again.
TICK_FAILURES = 2
DELIVERY_AGE = timedelta(minutes=5)
LOST_SHOWN = timedelta(days=1)
# The board is written again within a minute, and that takes some seconds.
BOARD_AGE = timedelta(minutes=3)
LEAST_FREE_BYTES = 2 << 30
TIMEOUT_SECONDS = 5


@dataclass(frozen=True)
class PartStatus:
    """One part: whether it is ready, why (or how it stands), and numbers for machines."""

    name: str
    is_ready: bool
    reason: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """All parts as of `at`."""

    at: datetime
    parts: tuple[PartStatus, ...]

    @property
    def exit_code(self) -> int:
        """0: all ready; 1: some are not; 2: the database is not, and so nothing can be known."""
        if all(part.is_ready for part in self.parts):
            return 0
        return 2 if any(part.name == "database" and not part.is_ready for part in self.parts) else 1

    def as_json(self) -> str:
        return json.dumps(
            {
                "at": self.at.isoformat(),
                "ready": self.exit_code == 0,
                "parts": [asdict(part) for part in self.parts],
            },
            default=str,
        )

    def as_text(self) -> str:
        width = max(len(part.name) for part in self.parts)
        return "\n".join(
            f"{'ready    ' if p.is_ready else 'NOT READY'}  {p.name.ljust(width)}  {p.reason}"
            for p in self.parts
        )


def report(settings: Settings) -> Status:
    """Look at every part. Starts nothing, changes nothing, and raises nothing."""
    now = datetime.now(UTC)
    parts: list[PartStatus] = []
    try:
        connection = _connect(settings)
    except (psycopg.Error, DuemarkError) as error:
        parts.append(PartStatus("database", False, _first_line(error)))
        parts += [
            _guarded("landing folder", lambda: _landing_folder(settings)),
            _guarded("code locations", lambda: _locations(settings)),
            _guarded("disk", lambda: _disk(settings)),
        ]
        return Status(now, tuple(parts))
    checks: dict[str, Callable[[], PartStatus]] = {
        "database": lambda: _database(settings, connection),
        "migrations": lambda: _migrations(connection),
        "catalog": lambda: _catalog(settings, connection),
        "landing": lambda: _landing(settings, now),
        "tick": lambda: _tick(settings, connection, now),
        "daemon": lambda: daemon(settings, now),
        "code locations": lambda: _locations(settings),
        "watcher": lambda: _watcher(connection, now),
        "delivery": lambda: _delivery(connection, now),
        "incidents": lambda: _incidents(connection),
        "kpis": lambda: _kpis(settings, connection),
        "board": lambda: _board(settings, connection, now),
        "disk": lambda: _disk(settings),
    }
    with connection:
        for name, check in checks.items():
            parts.append(_guarded(name, check))
    return Status(now, tuple(parts))


def _guarded(name: str, check: Callable[[], PartStatus]) -> PartStatus:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a status that crashes tells nothing of the other parts
        return PartStatus(name, False, _first_line(error))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _connect(settings: Settings) -> psycopg.Connection[Any]:
    if settings.database_url is None and embedded.running_pid(settings.home) is None:
        raise DuemarkError(
            f"the embedded PostgreSQL of {settings.home} does not run: `duemark up` or any other command starts it"
        )
    return psycopg.connect(
        database_url(settings), autocommit=True, connect_timeout=TIMEOUT_SECONDS,
        options=f"-c timezone=UTC -c statement_timeout={TIMEOUT_SECONDS}s",
    )  # fmt: skip


def _one(
    connection: psycopg.Connection[Any], query: str, parameters: Sequence[object] | None = None
) -> tuple[Any, ...]:
    row = connection.execute(query, parameters).fetchone()
    return tuple(row) if row else ()


def _database(settings: Settings, connection: psycopg.Connection[Any]) -> PartStatus:
    version, size = _one(
        connection, "select current_setting('server_version'), pg_database_size(current_database())"
    )
    kind = "the server of DUEMARK_DATABASE_URL" if settings.database_url else "embedded"
    return PartStatus(
        "database", True, f"PostgreSQL {version}, {kind}, {_bytes(size)}", {"version": version, "bytes": size}
    )


def _migrations(connection: psycopg.Connection[Any]) -> PartStatus:
    wanted = known()[-1]
    (present,) = _one(connection, "select max(version_num) from public.alembic_version")
    ready = present == wanted
    reason = f"at {present}"
    if present not in known():
        reason += f", newer than this version of Duemark, which knows up to {wanted}: use the newer one"
    elif not ready:
        reason += f", wanted {wanted}: run `duemark deploy`"
    return PartStatus("migrations", ready, reason, {"present": present, "wanted": wanted})


def _catalog(settings: Settings, connection: psycopg.Connection[Any]) -> PartStatus:
    from pipelines.catalog.store import fingerprint

    row = _one(
        connection,
        "select source, received_at from raw.load where feed = 'catalog' and not starts_with(source, 'restate ')"
        " order by load_id desc limit 1",
    )
    if row and row[0] == fingerprint(settings):
        return PartStatus("catalog", True, f"as stored at {row[1]:%Y-%m-%d %H:%M:%S}Z")
    from pipelines.catalog.read import CatalogError, kept_folder, read_catalog

    try:
        read_catalog(settings.catalog, kept_folder(settings))
    except CatalogError as error:
        count = len(error.problems)
        stands = f"the one stored at {row[1]:%Y-%m-%d %H:%M}Z stands" if row else "and none was stored before"
        what = f"{count} problem{'' if count == 1 else 's'}, {stands}"
        return PartStatus("catalog", False, f"{what}: `duemark check`")
    if not row:
        return PartStatus("catalog", False, "none was stored yet: the next tick does it")
    return PartStatus("catalog", True, "changed; the next tick stores it")


def _landing(settings: Settings, now: datetime) -> PartStatus:
    from pipelines.landing.ledger import pending

    if "://" not in settings.landing and settings.has_landing and not Path(settings.landing).is_dir():
        return PartStatus(
            "landing", False, f"{settings.landing} does not exist: make it, or set DUEMARK_LANDING"
        )
    files = pending(settings)
    if not files:
        return PartStatus("landing", True, "nothing waits", {"files": 0})
    oldest = min(file.stamp.modified_at for file in files)
    age = now - oldest
    facts = {"files": len(files), "oldest_seconds": round(age.total_seconds())}
    return PartStatus(
        "landing", age <= LANDING_AGE, f"{_waits(len(files), 'file')}, the oldest for {spelled(age)}", facts
    )


def _landing_folder(settings: Settings) -> PartStatus:
    from pipelines.landing.known_feeds import names
    from pipelines.landing.source import landed

    return PartStatus(
        "landing folder", True, f"{len(landed(settings.landing, names()))} files in {settings.landing}"
    )


def _tick(settings: Settings, connection: psycopg.Connection[Any], now: datetime) -> PartStatus:
    from pipelines.transform.attempts import attempts
    from pipelines.transform.waiting import waiting

    with connection.cursor() as cursor:
        last = attempts(cursor)
    failed = ""
    if last.failures and last.failed_at:
        times = "once" if last.failures == 1 else f"{last.failures} times in a row"
        failed = f"it has failed {times}, last {spelled(now - last.failed_at)} ago: {last.reason}"
    high, published_at, as_of, needs_rebuild = _one(
        connection,
        "select published_high, published_at, nullif(published_as_of, '-infinity'), needs_rebuild from control.tick",
    )
    if published_at is None or as_of is None:
        none = "there was none yet: `duemark tick`, or `duemark up`"
        return PartStatus("tick", False, f"{failed}; {none}" if failed else none, {"failures": last.failures})
    found = waiting(settings, now)
    facts = {
        "high": high,
        "as_of": as_of,
        "published_at": published_at,
        "waiting_loads": found.loads,
        "needs_rebuild": needs_rebuild,
        "failures": last.failures,
        "begun_at": last.begun_at,
    }
    if last.failures >= TICK_FAILURES:
        stands = (
            f"the marts stand as of {as_of:%Y-%m-%d %H:%M:%S}Z, published {spelled(now - published_at)} ago"
        )
        return PartStatus("tick", False, f"{failed}; {stands}", facts)
    reason = (
        f"loads up to {high}, as of {as_of:%Y-%m-%d %H:%M:%S}Z, published {spelled(now - published_at)} ago"
    )
    if found.since is None:
        return PartStatus("tick", True, f"{reason}; nothing waits", facts)
    age = now - (found.loads_since or found.since)
    if needs_rebuild:
        what = f"a rebuild waits, for {spelled(age)}"
    elif found.loads:
        what = f"{_waits(found.loads, 'load')}, for {spelled(age)}"
    else:
        what = f"a due time has passed since, {spelled(age)} ago"
    if last.begun_at is not None:
        what += f"; one is under way since {spelled(now - last.begun_at)}"
    if failed:
        what += f"; {failed}"
    return PartStatus(
        "tick",
        age <= (NO_TICK_AGE if last.begun_at is None else TICK_AGE),
        f"{reason}; {what}",
        facts | {"waiting_seconds": round(age.total_seconds())},
    )


def daemon(settings: Settings, now: datetime) -> PartStatus:
    """Whether the daemon gives its heartbeats."""
    url = with_database(database_url(settings), settings.dagster_database)
    with (
        psycopg.connect(url, connect_timeout=TIMEOUT_SECONDS, options="-c timezone=UTC") as connection,
        connection.cursor() as cursor,
    ):
        given = heartbeats(cursor) if are_there(cursor) else []
    if not given:
        return PartStatus("daemon", False, "never started: `duemark up`")
    ages = {one.part: now - one.at for one in given}
    oldest = max(ages, key=lambda kind: ages[kind])
    newest = min(ages.values())
    facts = {kind: round(age.total_seconds()) for kind, age in ages.items()}
    if newest > HEARTBEAT_AGE:
        return PartStatus("daemon", False, f"no heartbeat for {spelled(newest)}: `duemark up`", facts)
    if ages[oldest] > HEARTBEAT_AGE:
        return PartStatus(
            "daemon", False, f"its {oldest} part gave no heartbeat for {spelled(ages[oldest])}", facts
        )
    return PartStatus("daemon", True, f"heartbeat {spelled(newest)} ago", facts)


def _locations(settings: Settings) -> PartStatus:
    """Asked themselves: no daemon and no web interface has to be up for it."""
    from pipelines.orchestration.locations import ask, workspace_path

    answers = ask(settings, TIMEOUT_SECONDS / 2)
    if not answers:
        return PartStatus(
            "code locations",
            False,
            f"no code server is named in {workspace_path(settings)}: `duemark up` writes it; elsewhere"
            " DUEMARK_WORKSPACE says where the workspace is",
        )
    facts = {one.location: "loaded" if one.is_ok else one.reason for one in answers}
    if failed := [one for one in answers if not one.is_ok]:
        reasons = "; ".join(f"{one.location}: {one.reason}" for one in failed)
        return PartStatus("code locations", False, reasons, facts)
    return PartStatus("code locations", True, f"{', '.join(sorted(facts))} loaded", facts)


def _watcher(connection: psycopg.Connection[Any], now: datetime) -> PartStatus:
    """One is enough; it is the other's business to tell that one is gone."""
    rows = connection.execute("select watcher, looked_at from ops.watcher order by watcher").fetchall()
    ages = {str(name): now - at for name, at in rows}
    facts = {name: round(age.total_seconds()) for name, age in ages.items()}
    seen = ", ".join(f"{name} looked {spelled(age)} ago" for name, age in ages.items())
    if not any(age <= WATCHER_AGE for age in ages.values()):
        reason = f"nobody watches ({seen})" if seen else "nobody ever watched"
        return PartStatus("watcher", False, f"{reason}: `duemark up`, or `duemark watch`", facts)
    return PartStatus("watcher", True, seen, facts)


def _delivery(connection: psycopg.Connection[Any], now: datetime) -> PartStatus:
    count, oldest, error, lost, routes = _one(
        connection,
        """
        select
            count(*) filter (where undeliverable_at is null), min(created_at) filter (where undeliverable_at is null),
            max(last_error) filter (where undeliverable_at is null), count(undeliverable_at),
            string_agg(distinct route, ', ') filter (where undeliverable_at is not null)
        from ops.alert_outbox
        where delivered_at is null and (undeliverable_at is null or undeliverable_at > %s)
        """,
        [now - LOST_SHOWN],
    )
    # Nothing can be done for them any more: said for a day, and not counted as a fault.
    messages = "1 message" if lost == 1 else f"{lost} messages"
    said = f"; {messages} to routes that are gone ended undeliverable ({routes})" if lost else ""
    if not count:
        return PartStatus("delivery", True, f"nothing waits{said}", {"messages": 0, "undeliverable": lost})
    age = now - oldest
    reason = f"{_waits(count, 'message')}, the oldest for {spelled(age)}" + (
        f"; last error: {error}" if error else ""
    )
    reason += said
    return PartStatus(
        "delivery",
        age <= DELIVERY_AGE and not error,
        reason,
        {"messages": count, "oldest_seconds": round(age.total_seconds()), "undeliverable": lost},
    )


def _incidents(connection: psycopg.Connection[Any]) -> PartStatus:
    """Sender silence is a fault of the inflow; other incidents are about the tracked data, not about Duemark."""
    open_count, silent = _one(
        connection,
        "select count(*), array_agg(subject order by subject) filter (where kind = 'sender_silence')"
        " from ops.incident where resolved_at is null",
    )
    facts = {"open": open_count, "silent_senders": silent or []}
    if silent:
        return PartStatus(
            "incidents", False, f"{open_count} open; silent senders: {', '.join(silent)}", facts
        )
    return PartStatus("incidents", True, f"{open_count} open, no sender is silent", facts)


def _kpis(settings: Settings, connection: psycopg.Connection[Any]) -> PartStatus:
    """KPIs whose definition is wrong, whose source is not reached, or whose newest computation failed."""
    from pipelines.kpi.definitions.check import check

    count, failed, problem = _one(
        connection,
        """
        select count(distinct kpi_id), array_agg(distinct kpi_id order by kpi_id) filter (where problem is not null),
            min(split_part(problem, e'\\n', 1))
        from kpi.kpi left join kpi.model on model.name = kpi.model
        where not is_gone
        """,
    )
    checked = check(settings, ask=False)
    waiting = [] if checked.problems else sorted(set(checked.declared) - set(checked.kpis))
    facts = {"kpis": count, "failed": failed or [], "waiting": waiting, "problems": len(checked.problems)}
    said = []
    if checked.problems:
        many = "" if len(checked.problems) == 1 else "s"
        said.append(f"{len(checked.problems)} problem{many}, those before stand: `duemark check`")
    if waiting:
        said.append(f"their source was never read: {', '.join(waiting)}: `duemark check`")
    if failed:
        said.append(f"not computed: {', '.join(failed)}: {problem}")
    return PartStatus("kpis", not said, "; ".join(said) or f"{count} defined, all computed", facts)


def _board(settings: Settings, connection: psycopg.Connection[Any], now: datetime) -> PartStatus:
    """The pages that `up` keeps fresh. Where none runs they are as old as who wrote them wants them."""
    page = settings.board / "index.html"
    written_at = datetime.fromtimestamp(page.stat().st_mtime, UTC) if page.exists() else None
    if written_at is None:
        reason = "not written yet: `duemark board`, or `duemark up`"
    else:
        reason = f"{page.as_uri()}, written {spelled(now - written_at)} ago"
    facts = {"page": str(page), "written_at": written_at}
    (published_at,) = _one(connection, "select published_at from control.tick")
    running = running_supervisor(settings)
    if running is None or published_at is None:
        return PartStatus("board", True, reason, facts)
    due_at = max(published_at, datetime.fromisoformat(running["started_at"])) + BOARD_AGE
    is_stale = now > due_at and (written_at is None or written_at < published_at)
    if is_stale:
        since = spelled(now - published_at)
        reason += f"; a tick was published {since} ago: {settings.home}/logs/up/board.log says why"
    return PartStatus("board", not is_stale, reason, facts)


def _disk(settings: Settings) -> PartStatus:
    folder = settings.home if settings.home.exists() else settings.home.parent
    usage = shutil.disk_usage(folder)
    facts = {"free_bytes": usage.free, "total_bytes": usage.total}
    return PartStatus(
        "disk", usage.free >= LEAST_FREE_BYTES, f"{_bytes(usage.free)} free where {settings.home} is", facts
    )


def _waits(count: int, what: str) -> str:
    return f"{count} {what} waits" if count == 1 else f"{count} {what}s wait"


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
