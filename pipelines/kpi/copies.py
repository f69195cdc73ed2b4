"""Copies of tables of other databases: what KPIs read, brought up to date before a tick.

New and changed rows are found by a cursor column, deleted ones by comparing all rows now and then; only rows that
differ are written, so that triggers log what changed and nothing else. Each database is read by a thread of its own,
with timeouts: one that fails keeps what was copied before, is asked again after a while, and stops no other. A tick
waits for a moment only; what takes longer comes with the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from pydantic import ValidationError

from pipelines.catalog.documents import CatalogFolderError, add_files, yaml_files
from pipelines.catalog.kpis import Database, DatabaseTable
from pipelines.catalog.load import kept_folder, read_kpis
from pipelines.errors import DuemarkError
from pipelines.landing.load import begin_load, end_load
from pipelines.logs import get_logger
from pipelines.warehouse.connect import connect, database_url, with_database
from pipelines.warehouse.locks import Lock, try_take_to_commit
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine, Table

log = get_logger(__name__)

FEED = "copy"
SCHEMA = "copies"
EVERY_LOAD = 2**62
"""Copies are not read by the number of a load: they hold back none."""
WAIT = 3.0
"""Seconds that a tick waits for copies."""
LONGEST_BACK_OFF = timedelta(hours=1)
# A database that did not answer a question about its columns is not asked again at once.
_FORGET = 30.0
# Postgres, where text may hold it: everything but NUL.
_NUL = "\x00"
TIMES = ("timestamp with time zone", "date")

MADE = "Copy of {} of the database {}; see copies.state."
"""The comment of a copy."""

_down: dict[str, tuple[float, str]] = {}
_declared: dict[Path, _Declared] = {}
_running: dict[tuple[Path, str], Future[None]] = {}
_lock = threading.Lock()


class CopyError(DuemarkError):
    """A table that cannot be copied as it is."""


def refresh(settings: Settings, as_of: datetime) -> int:  # noqa: ARG001 # copies have a clock of their own
    """Bring the copies that are due up to date, as a preparation of a tick; see the module.

    Never raises for a database's sake: what is wrong with one stands in `copies.state`.
    """
    declared = _read_declared(settings)
    if _is_idle(settings, declared):
        return EVERY_LOAD
    with connect(settings, "ingest", autocommit=True) as connection:
        if not _is_there(connection):
            return EVERY_LOAD
        _forget(settings, connection, declared)
        if declared.is_faultless:
            _drop_unread(settings, connection)
        due = _due(connection, declared)
    if due:
        futures = [_start(settings, database, tables) for database, tables in due]
        wait([future for future in futures if future is not None], timeout=WAIT)
    return EVERY_LOAD


def refresh_now(settings: Settings, *, compare: bool = False) -> None:
    """Read all copies now, due or not, and wait for them; `compare` also compares all rows."""
    ensure(settings)
    for database in _databases(settings):
        _read_database(settings, database, list(database.tables), compare=compare)


def ensure(settings: Settings) -> bool:
    """Make the tables of copies that are missing, empty; True when one was made.

    A database that does not answer leaves its tables unmade, and the KPIs over them wait.
    """
    declared = _read_declared(settings)
    if _is_idle(settings, declared):
        return False
    with connect(settings, "ingest", autocommit=True) as connection:
        if not _is_there(connection):
            return False
        # Another copy may take the name of one that is gone.
        _forget(settings, connection, declared)
        states = _states(connection)
        made = False
        for database in declared.databases:
            for name, table in database.tables.items():
                state = states.get((database.id, name))
                now = datetime.now(UTC)
                if state is not None and (state.columns or state.next_at > now):
                    continue
                try:
                    with _engine(settings, database) as engine:
                        columns = _columns_of(engine, database, name)
                    _make(connection, database, name, table, columns)
                    made = True
                except Exception as error:  # noqa: BLE001 # whatever a driver raises is that database's own
                    _fail(connection, database, name, error)
        _note(settings, connection)
    return made


def known_columns(
    settings: Settings, database: Database, table: str, *, ask: bool = True
) -> dict[str, str] | str:
    """Columns of a table of another database with the types of its copy; a text says why nobody can tell now.

    Of the copies that this home has made; else, with `ask`, of the database itself.
    """
    found = _noted(settings).get(database.relation(table))
    if found is not None:
        return dict(found)
    if not ask:
        return "nothing was copied of it yet"
    key = f"{settings.home} {database.id}"
    since, reason = _down.get(key, (0.0, ""))
    if since > time.monotonic() - _FORGET:
        return reason
    try:
        with _engine(settings, database) as engine:
            return _columns_of(engine, database, table)
    except CopyError as error:
        return _said(error)
    except Exception as error:  # noqa: BLE001 # whatever a driver raises, it could not be asked
        reason = _said(error)
        if not os.environ.get(database.url_env):
            reason = (
                f"{database.url_env} is not set, and the warehouse's server has no {database.database} now"
            )
        _down[key] = (time.monotonic(), reason)
        return reason


def columns_file(settings: Settings) -> Path:
    """The columns of copies by relation, as this home knows them: what is made of the catalog needs no database."""
    return settings.home / "copies.json"


def _noted(settings: Settings) -> dict[str, list[tuple[str, str]]]:
    with contextlib.suppress(FileNotFoundError, ValueError):
        noted: dict[str, list[tuple[str, str]]] = json.loads(columns_file(settings).read_text("utf-8"))
        return noted
    return {}


def _note(settings: Settings, connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute(
        "select relation, columns from copies.state where columns <> '[]' order by relation"
    ).fetchall()
    text = json.dumps({str(relation): columns for relation, columns in rows}, indent=1) + "\n"
    _write(columns_file(settings), text)


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text("utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(text, "utf-8")
        part.replace(path)


# Which, and when


@dataclass(frozen=True)
class _State:
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    compared_at: datetime | None
    next_at: datetime
    failures: int


def _is_there(connection: psycopg.Connection[Any]) -> bool:
    return connection.execute("select to_regclass('copies.state')").fetchone() != (None,)


@dataclass(frozen=True)
class _Declared:
    """What is to be copied. `key`: of the files that say so; `raw`: as they say it, by id."""

    key: str
    is_faultless: bool
    databases: tuple[Database, ...]
    raw: Mapping[str, Any]


def declared_file(settings: Settings) -> Path:
    """The databases as they were last read without a fault: while they have one, what stood before stands."""
    return settings.home / "databases.json"


def _databases(settings: Settings) -> list[Database]:
    return list(_read_declared(settings).databases)


def _is_idle(settings: Settings, declared: _Declared) -> bool:
    """Whether nothing is to be copied, nor anything forgotten."""
    return not declared.databases and not _noted(settings) and not declared_file(settings).is_file()


def _read_declared(settings: Settings) -> _Declared:
    """The databases of the catalog, read again only when their files changed."""
    folder = settings.catalog
    files = [path for path in (folder / "databases.yml",) if path.is_file()]
    digest = hashlib.sha256()
    try:
        files += yaml_files(folder / "databases")
    except CatalogFolderError as error:
        # Who reads it tells what is wrong; those that stood before stand.
        digest.update(str(error.problem).encode())
    add_files(digest, folder, files)
    key = digest.hexdigest() if folder.is_dir() else ""
    found = _declared.get(settings.home)
    if found is not None and found.key == key and (files or declared_file(settings).is_file()):
        return found
    before = _stood(settings)
    if before is not None and before.key == key and before.is_faultless:
        found = before
    elif not files and before is None:
        # Those without any are not to have a file that says so.
        return _Declared(key, is_faultless=folder.is_dir(), databases=(), raw={})
    else:
        found = _as_declared(settings, key, before)
        _write(
            declared_file(settings),
            json.dumps({"key": key, "is_faultless": found.is_faultless, "databases": found.raw}, default=str),
        )
    _declared[settings.home] = found
    return found


def _stood(settings: Settings) -> _Declared | None:
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        told = json.loads(declared_file(settings).read_text("utf-8"))
        databases = []
        for raw in told["databases"].values():
            with contextlib.suppress(ValidationError):
                databases.append(Database.model_validate(raw))
        # One that is not valid any more makes the file one to be read again.
        is_faultless = told["is_faultless"] and len(databases) == len(told["databases"])
        return _Declared(told["key"], is_faultless, tuple(databases), told["databases"])
    return None


def _as_declared(settings: Settings, key: str, before: _Declared | None) -> _Declared:
    """What the files say now; where they have a fault, what has one as it was `before`, and nothing is gone."""
    folder = settings.catalog
    stood = {one.id: one for one in before.databases} if before is not None else {}
    found: dict[str, Database] = {}
    raw: dict[str, Any] = {}
    is_faultless = bool(key)
    if is_faultless:
        _, items, problems = read_kpis(folder, kept=kept_folder(settings))
        own = ((folder / "databases.yml").as_posix(), f"{(folder / 'databases').as_posix()}/")
        is_faultless = not any(problem.file.startswith(own) for problem in problems)
        taken: dict[str, str] = {}
        # Of two that do not go together, the one that stood before.
        for item in sorted(
            items, key=lambda item: item.model is None or stood.get(item.model.id) != item.model
        ):
            model = item.model
            relations = [] if model is None else [model.relation(table) for table in model.tables]
            if model is None or model.id in found or any(one in taken for one in relations):
                continue
            found[model.id], raw[model.id] = model, dict(item.raw)
            taken |= dict.fromkeys(relations, model.id)
    if not is_faultless and before is not None:
        for name, database in stood.items():
            if name not in found:
                found[name], raw[name] = database, before.raw[name]
    return _Declared(key, is_faultless, tuple(found.values()), raw)


def _forget(settings: Settings, connection: psycopg.Connection[Any], declared: _Declared) -> None:
    """Take out the state of copies that are not declared any more, which else would be due and stale for ever."""
    tables = [(database.id, table) for database in declared.databases for table in database.tables]
    gone = sql.SQL(
        "not exists (select from unnest(%(ids)s::text[], %(tables)s::text[]) as declared (id, name)"
        " where declared.id = state.database_id and declared.name = state.table_name)"
    )
    given = {"ids": [database for database, _ in tables], "tables": [table for _, table in tables]}
    if declared.is_faultless:
        query = sql.SQL("delete from copies.state where {}").format(gone)
        if connection.execute(query, given).rowcount:
            _note(settings, connection)
        return
    # It stays until the catalog says for sure that it is gone, and is not read meanwhile.
    connection.execute(
        sql.SQL(
            "update copies.state set next_at = %(now)s + %(later)s, failed_at = coalesce(failed_at, %(now)s),"
            " error = 'databases.yml has a fault, and says nothing of it' where next_at <= %(now)s and {}"
        ).format(gone),
        {**given, "now": datetime.now(UTC), "later": timedelta(minutes=5)},
    )


def _drop_unread(settings: Settings, connection: psycopg.Connection[Any]) -> None:
    """Drop the copies that are not declared any more once no KPI reads them."""
    left = [
        str(relation)
        for (relation,) in connection.execute(
            """
            select relname from pg_class
            where
                relnamespace = 'copies'::regnamespace and relkind = 'r'
                and obj_description(oid, 'pg_class') like %s
                and not exists (select from copies.state where relation = relname)
            """,
            [MADE.format("%", "%")],
        )
    ]
    if not left:
        return
    with connect(settings, "transform", autocommit=True) as other:
        # While a KPI's definition has a fault, the models before it stand, and read what they read.
        if other.execute("select to_regclass('kpi.model')").fetchone() != (None,):
            left = [
                str(relation)
                for (relation,) in other.execute(
                    """
                    select relation from unnest(%s::text[]) as relation
                    where
                        not exists (select from kpi.clock where clock.relation = 'copies.' || relation.relation)
                        and not exists (
                            select from kpi.model
                            where position(relation.relation in query || (spec #>> '{}')) > 0
                        )
                    """,
                    [left],
                )
            ]
    for relation in left:
        try:
            with connection.transaction():
                connection.execute("set local lock_timeout = '1s'")
                connection.execute(sql.SQL("drop table {}").format(sql.Identifier(SCHEMA, relation)))
                connection.execute("delete from raw.feed_read where feed = %s", [f"{SCHEMA}.{relation}"])
            log.info("a copy was dropped", table=relation)
        except psycopg.Error as error:
            # Someone's view reads it, or someone does now: the next tick asks again.
            log.info("a copy that is not declared any more stays", table=relation, error=_said(error))


def _states(connection: psycopg.Connection[Any]) -> dict[tuple[str, str], _State]:
    return {
        (str(database), str(table)): _State(
            tuple((str(name), str(kind)) for name, kind in columns),
            tuple(key),
            compared_at,
            next_at,
            failures,
        )
        for database, table, columns, key, compared_at, next_at, failures in connection.execute(
            "select database_id, table_name, columns, key, compared_at, greatest(next_at, '1970-01-01'), failures"
            " from copies.state"
        )
    }


def _due(connection: psycopg.Connection[Any], declared: _Declared) -> list[tuple[Database, list[str]]]:
    states = _states(connection)
    now = datetime.now(UTC)
    due = []
    for database in declared.databases:
        tables = [
            name
            for name in database.tables
            if (state := states.get((database.id, name))) is None or state.next_at <= now
        ]
        if tables:
            due.append((database, tables))
    return due


def next_instant(connection: psycopg.Connection[Any], published: datetime) -> datetime | None:  # noqa: ARG001
    """When the next copy is due: a tick reads it."""
    if not _is_there(connection):
        return None
    row: Any = connection.execute("select min(greatest(next_at, '1970-01-01')) from copies.state").fetchone()
    return row[0] if row else None


def _start(settings: Settings, database: Database, tables: list[str]) -> Future[None] | None:
    """Read a database in a thread; None while the one begun before is still at it."""
    key = (settings.home, f"{database_url(settings)} {database.id}")
    with _lock:
        before = _running.get(key)
        if before is not None and not before.done():
            return None
        pool = ThreadPoolExecutor(1, thread_name_prefix=f"copy-{database.id}")
        _running[key] = pool.submit(_read_database, settings, database, tables)
        pool.shutdown(wait=False)
        return _running[key]


# One database


def _read_database(
    settings: Settings, database: Database, tables: Iterable[str], *, compare: bool = False
) -> None:
    """Copy tables one by one; what fails is noted, and never raised."""
    try:
        with connect(settings, "ingest") as connection:
            for name in tables:
                began_at = datetime.now(UTC)
                try:
                    with _engine(settings, database) as engine:
                        _copy(connection, engine, database, name, began_at, compare=compare)
                    connection.commit()
                except Exception as error:  # noqa: BLE001 # whatever a driver raises is that database's own
                    connection.rollback()
                    _fail(connection, database, name, error)
                    connection.commit()
            _note(settings, connection)
    except (DuemarkError, psycopg.Error) as error:
        log.warning("copies were not read", database=database.id, error=_said(error))


def _url(settings: Settings, database: Database) -> str:
    given = os.environ.get(database.url_env)
    if given:
        return given
    if database.database is None:
        raise CopyError(f"{database.url_env} is not set", "it holds the URL of the database")
    return with_database(database_url(settings), database.database)


@contextlib.contextmanager
def _engine(settings: Settings, database: Database) -> Iterator[Engine]:
    """The database, with its timeouts; read only where it can be asked to be."""
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.pool import NullPool

    url = make_url(_url(settings, database))
    seconds = max(1, int(database.timeout.total_seconds()))
    arguments: dict[str, Any] = {}
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        url = url.set(drivername="postgresql+psycopg")
        arguments = {
            "connect_timeout": seconds,
            "options": f"-c statement_timeout={seconds * 1000} -c default_transaction_read_only=on"
            " -c timezone=UTC -c datestyle=ISO",
            "keepalives_idle": seconds,
            "tcp_user_timeout": seconds * 1000,
            "application_name": "duemark copy",
        }
    elif url.get_backend_name() in ("mysql", "mariadb"):
        arguments = {"connect_timeout": seconds, "read_timeout": seconds}
    elif url.get_backend_name() == "sqlite":
        arguments = {"timeout": seconds}
        if url.database and not Path(url.database).is_file():
            raise CopyError(f"there is no file {url.database}")
    engine = create_engine(url, connect_args=arguments, poolclass=NullPool)
    try:
        yield engine
    finally:
        engine.dispose()


def _reflected(engine: Engine, name: str) -> Table:
    from sqlalchemy import MetaData, Table
    from sqlalchemy.exc import NoSuchTableError

    schema, _, plain = name.rpartition(".")
    try:
        return Table(plain, MetaData(), schema=schema or None, autoload_with=engine, resolve_fks=False)
    except NoSuchTableError:
        raise CopyError(f"there is no table {name}", "is it spelled as there, with its schema?") from None


def _columns_of(engine: Engine, database: Database, name: str) -> dict[str, str]:
    return _types(_reflected(engine, name), database, name)


def _types(table: Table, database: Database, name: str) -> dict[str, str]:
    """The columns to copy, with the types that they have in the warehouse."""
    given = database.tables[name]
    wanted = given.columns
    types = {
        column.name: kind
        for column in table.columns
        if (wanted is None or column.name in wanted) and (kind := _type(column.type)) is not None
    }
    named = [*given.key, *((given.cursor,) if given.cursor else ()), *(wanted or ())]
    missing = [column for column in dict.fromkeys(named) if column not in types]
    if missing:
        raise CopyError(f"{name} has no column {', '.join(missing)}", "databases.yml names it")
    return types


def _type(kind: Any) -> str | None:
    """The warehouse's type for a column of another database; None for what is not copied (binary)."""
    from sqlalchemy import types as t

    if isinstance(kind, t.LargeBinary):
        return None
    if isinstance(kind, t.Numeric) and not isinstance(kind, t.Float):
        return "numeric" if kind.precision is None else f"numeric({kind.precision},{kind.scale or 0})"
    for known, name in (
        (t.Boolean, "boolean"),
        (t.Integer, "bigint"),
        (t.Float, "double precision"),
        (t.DateTime, "timestamp with time zone"),
        (t.Date, "date"),
        (t.Interval, "interval"),
        (t.Uuid, "uuid"),
        (t.JSON, "jsonb"),
    ):
        if isinstance(kind, known):
            return name
    if type(kind).__name__ == "INTERVAL":
        return "interval"
    return "text"


# The copy


def _make(
    connection: psycopg.Connection[Any],
    database: Database,
    name: str,
    table: DatabaseTable,
    columns: Mapping[str, str],
) -> None:
    """Make the table of a copy, or change it to have these columns and this key."""
    relation = database.relation(name)
    target = sql.Identifier(SCHEMA, relation)
    with connection.transaction():
        # As it is, whatever its state says: it may be one that was declared before.
        before, key = _shape(connection, target)
        exists = bool(before)
        if not exists:
            connection.execute(
                sql.SQL("create table {} ({})").format(
                    target, sql.SQL(", ").join(map(_column, columns.items()))
                )
            )
        connection.execute(
            sql.SQL("comment on table {} is {}").format(target, sql.Literal(MADE.format(name, database.id)))
        )
        if exists:
            for column, kind in before.items():
                if columns.get(column) != kind:
                    connection.execute(
                        sql.SQL("alter table {} drop column if exists {}").format(
                            target, sql.Identifier(column)
                        )
                    )
            for column, kind in columns.items():
                if before.get(column) != kind:
                    connection.execute(
                        sql.SQL("alter table {} add column {}").format(target, _column((column, kind)))
                    )
        lost = [column for column in key if before[column] != columns.get(column)]
        if not exists or lost or key != table.key:
            if exists:
                # Without their key, rows cannot be told apart: all are read again.
                connection.execute(sql.SQL("truncate {}").format(target))
                constraint = sql.Identifier(f"{relation}_pkey")
                connection.execute(
                    sql.SQL("alter table {} drop constraint if exists {}").format(target, constraint)
                )
            connection.execute(
                sql.SQL("alter table {} add constraint {} primary key ({})").format(
                    target,
                    sql.Identifier(f"{relation}_pkey"),
                    sql.SQL(", ").join(map(sql.Identifier, table.key)),
                )
            )
        if table.cursor is not None:
            connection.execute(
                sql.SQL("create index if not exists {} on {} ({})").format(
                    sql.Identifier(f"{relation}_{_short(table.cursor)}"), target, sql.Identifier(table.cursor)
                )
            )
        connection.execute(
            """
            insert into copies.state (database_id, table_name, relation, key, columns) values (%s, %s, %s, %s, %s)
            on conflict (database_id, table_name) do update set
                relation = excluded.relation, key = excluded.key, columns = excluded.columns, compared_at = null,
                next_at = '-infinity'
            """,
            [
                database.id,
                name,
                relation,
                list(table.key),
                json.dumps([list(one) for one in columns.items()]),
            ],
        )


def _shape(
    connection: psycopg.Connection[Any], target: sql.Identifier
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Columns with their types, and key, of the table of a copy; empty without one."""
    name = target.as_string(connection)
    columns = connection.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute"
        " where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum",
        [name],
    ).fetchall()
    key = connection.execute(
        "select attname from pg_index cross join unnest(indkey) with ordinality as part (number, place)"
        " inner join pg_attribute on attrelid = indrelid and attnum = part.number"
        " where indrelid = to_regclass(%s) and indisprimary order by place",
        [name],
    ).fetchall()
    return {str(column): str(kind) for column, kind in columns}, tuple(str(column) for (column,) in key)


def _column(column: tuple[str, str]) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(column[0]), sql.SQL(column[1]))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _copy(
    connection: psycopg.Connection[Any],
    engine: Engine,
    database: Database,
    name: str,
    began_at: datetime,
    *,
    compare: bool,
) -> None:
    """Bring one copy up to date in the transaction of `connection`, which the caller commits."""
    table = database.tables[name]
    relation = f"{SCHEMA}.{database.relation(name)}"
    # One process copies a table at a time; another's work is as good as ours.
    if not try_take_to_commit(connection, Lock.COPY, relation):
        return
    reflected = _reflected(engine, name)
    columns = _types(reflected, database, name)
    state = _states(connection).get((database.id, name))
    if state is None or dict(state.columns) != columns or state.key != table.key:
        _make(connection, database, name, table, columns)
        state = _states(connection)[database.id, name]
    is_full = (
        compare
        or table.cursor is None
        or state.compared_at is None
        or began_at - state.compared_at >= table.compare_every
    )
    target = sql.Identifier(*relation.split("."))
    connection.execute(sql.SQL("create temporary table incoming (like {}) on commit drop").format(target))
    since = None if is_full else _since(connection, target, columns, table)
    _read(connection, engine, reflected, columns, table, database, since)
    grown = _apply(connection, target, columns, table, database, name, is_full=is_full)
    cursor_value: Any = None
    row: Any = None
    if table.cursor is not None:
        row = connection.execute(
            sql.SQL("select max({})::text from {}").format(sql.Identifier(table.cursor), target)
        ).fetchone()
        cursor_value = row[0]
    if is_full:
        row = connection.execute(sql.SQL("select count(*) from {}").format(target)).fetchone()
    connection.execute(
        """
        update copies.state set
            read_at = %(began)s, cursor_value = %(cursor)s, error = null,
            row_count = case when %(full)s then %(more)s else row_count + %(more)s end,
            failed_at = null, failures = 0, next_at = %(next)s,
            compared_at = case when %(full)s then %(began)s else compared_at end
        where database_id = %(database)s and table_name = %(table)s
        """,
        {
            "began": began_at, "more": row[0] if is_full else grown, "cursor": cursor_value, "full": is_full,
            "next": began_at + database.every, "database": database.id, "table": name,
        },
    )  # fmt: skip
    # Who asks how far something was read finds copies among the feeds.
    connection.execute(
        "insert into raw.feed_read (feed, began_at) values (%s, %s)"
        " on conflict (feed) do update set began_at = excluded.began_at",
        [relation, began_at],
    )


def _since(
    connection: psycopg.Connection[Any],
    target: sql.Identifier,
    columns: Mapping[str, str],
    table: DatabaseTable,
) -> Any:
    """From which value of the cursor column on rows are read; None for all."""
    cursor = str(table.cursor)
    # Nothing comes after infinity, nor after NaN, so they say not how far was read.
    known: sql.Composable = sql.SQL("")
    if columns[cursor] in TIMES:
        known = sql.SQL("where {} between '1000-01-01' and '9999-12-30'").format(sql.Identifier(cursor))
    elif columns[cursor].startswith(("numeric", "double", "real")):
        known = sql.SQL("where {} < 'Infinity'").format(sql.Identifier(cursor))
    row: Any = connection.execute(
        sql.SQL("select max({}) from {} {}").format(sql.Identifier(cursor), target, known)
    ).fetchone()
    value = row[0]
    if isinstance(value, datetime | date) and value is not None:
        return value - table.overlap
    return value


def _read(
    connection: psycopg.Connection[Any],
    engine: Engine,
    reflected: Table,
    columns: Mapping[str, str],
    table: DatabaseTable,
    database: Database,
    since: Any,
) -> None:
    """The rows from `since` on into the temporary table `incoming`."""
    from sqlalchemy import or_, select

    zone = ZoneInfo(database.timezone)
    query = select(*(reflected.c[name] for name in columns))
    if since is not None and table.cursor is not None:
        column = reflected.c[table.cursor]
        if isinstance(since, datetime) and not getattr(column.type, "timezone", False):
            since = since.astimezone(zone).replace(tzinfo=None)
        # A row without a value is not behind any.
        query = query.where(or_(column >= since, column.is_(None)))
    copy_in = sql.SQL("copy incoming ({}) from stdin").format(
        sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    kinds = tuple(columns.values())
    with (
        engine.connect().execution_options(stream_results=True, yield_per=5000) as source,
        connection.cursor() as cursor,
        cursor.copy(copy_in) as copy,
    ):
        driver = source.connection.driver_connection
        if isinstance(driver, psycopg.Connection):
            for kind in ("timestamptz", "timestamp", "date"):
                driver.adapters.register_loader(kind, _AsText)
        for row in source.execute(query):
            copy.write_row([_value(value, kind, zone) for value, kind in zip(row, kinds, strict=True)])


class _AsText(Loader):
    """Times of Postgres as it writes them: Python has none for some of them."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode()


def _value(value: Any, kind: str, zone: ZoneInfo) -> Any:
    if isinstance(value, str) and kind in TIMES:
        return _time(value, kind, zone)
    if isinstance(value, datetime):
        return _on_clock(value, zone)
    if kind == "text" and value is not None:
        return (value if isinstance(value, str) else str(value)).replace(_NUL, "")
    if kind == "jsonb" and value is not None:
        return json.dumps(value, ensure_ascii=False, default=str).replace("\\u0000", "")
    return value


def _time(text: str, kind: str, zone: ZoneInfo) -> Any:
    """A time as Postgres writes it. Outside the years 1 to 9999 it is infinite: no period lies there."""
    if "infinity" in text:
        return text
    if text.endswith(" BC"):
        return "-infinity"
    if text[4] != "-":
        return "infinity"
    return text if kind == "date" or text.endswith("+00") else _on_clock(datetime.fromisoformat(text), zone)


def _on_clock(value: datetime, zone: ZoneInfo) -> datetime | str:
    """Without an offset it is on the wall clock of the database's zone."""
    if value.tzinfo is not None:
        return value
    try:
        value.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return "infinity" if value.year > 1 else "-infinity"
    return value.replace(tzinfo=zone)


def _apply(
    connection: psycopg.Connection[Any],
    target: sql.Identifier,
    columns: Mapping[str, str],
    table: DatabaseTable,
    database: Database,
    name: str,
    *,
    is_full: bool,
) -> int:
    """Write what differs, as a load where anything does; return by how many rows the copy grew."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    same_key = sql.SQL(" and ").join(
        sql.SQL("old.{0} = new.{0}").format(sql.Identifier(key)) for key in table.key
    )
    # Types without equality (JSON is copied as jsonb) do not occur, so rows can be compared as such.
    old_row, new_row = (
        sql.SQL("row({})").format(sql.SQL(", ").join(sql.Identifier(one, column) for column in columns))
        for one in ("old", "new")
    )
    connection.execute("analyze incoming")
    mark = "is_new"
    while mark in columns:
        mark += "_"
    parts = {"key": same_key, "old": old_row, "new": new_row, "target": target, "names": names}
    parts["mark"] = sql.Identifier(mark)
    first_key = sql.Identifier("old", table.key[0])
    connection.execute(
        sql.SQL(
            "create temporary table differing on commit drop as select new.*, {first} is null as {mark}"
            " from incoming as new left join {target} as old on {key}"
            " where {first} is null or {old} is distinct from {new}"
        ).format(first=first_key, **parts)
    )
    gone_rows = sql.SQL("{target} as old where not exists (select from incoming as new where {key})").format(
        **parts
    )
    row: Any = connection.execute(
        sql.SQL("select count(*), count(*) filter (where {mark}), {gone} from differing").format(
            gone=sql.SQL("(select count(*) from {})").format(gone_rows) if is_full else sql.SQL("0"), **parts
        )
    ).fetchone()
    differing, added, gone = (int(one) for one in row)
    if not gone and not differing:
        return 0
    others = [column for column in columns if column not in table.key]
    conflict = (
        sql.SQL("do update set {}").format(
            sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(one)) for one in others)
        )
        if others
        else sql.SQL("do nothing")
    )
    with connection.cursor() as cursor:
        load_id = begin_load(cursor)
        if gone:
            cursor.execute(sql.SQL("delete from {}").format(gone_rows))
        cursor.execute(
            sql.SQL(
                "insert into {target} ({names}) select {names} from differing on conflict ({keys}) {do}"
            ).format(keys=sql.SQL(", ").join(map(sql.Identifier, table.key)), do=conflict, **parts)
        )
        # It holds no statuses: no month of them has to be looked at.
        end_load(
            cursor, load_id, FEED, f"{database.id}.{name}", differing + gone,
            months=[], latest_at=datetime(1970, 1, 1, tzinfo=UTC),
        )  # fmt: skip
    return added - gone


# What is told


def _said(error: BaseException) -> str:
    """The first lines of an error, short enough for a table; drivers do not put passwords in them."""
    original = getattr(error, "orig", None) or error
    text = original.message if isinstance(original, DuemarkError) else str(original)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:3])[:500] or type(original).__name__


def _fail(connection: psycopg.Connection[Any], database: Database, name: str, error: Exception) -> None:
    """Note a failure; the next try comes later each time."""
    log.warning("a copy failed", database=database.id, table=name, error=_said(error))
    connection.execute(
        """
        insert into copies.state (database_id, table_name, relation, key, columns, error, failed_at, failures, next_at)
        values (%(database)s, %(table)s, %(relation)s, %(key)s, '[]', %(error)s, %(now)s, 1, %(now)s + %(every)s)
        on conflict (database_id, table_name) do update set
            error = excluded.error, failed_at = excluded.failed_at, failures = state.failures + 1,
            next_at = excluded.failed_at + least(
                %(every)s * power(2, least(state.failures, 10)), greatest(%(most)s, %(every)s)
            )
        """,
        {
            "database": database.id, "table": name, "relation": database.relation(name),
            "key": list(database.tables[name].key), "error": _said(error), "now": datetime.now(UTC),
            "every": database.every, "most": LONGEST_BACK_OFF,
        },
    )  # fmt: skip
