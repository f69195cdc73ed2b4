"""The other databases: how they are reached, what their tables have, and what that is in the warehouse."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.catalog.kpis import Database
from pipelines.errors import DuemarkError
from pipelines.warehouse.connect import database_url, with_database
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine, Table


class CopyError(DuemarkError):
    """A table that cannot be copied as it is."""


def _url(settings: Settings, database: Database) -> str:
    given = os.environ.get(database.url_env)
    if given:
        return given
    if database.database is None:
        raise CopyError(f"{database.url_env} is not set", "it holds the URL of the database")
    return with_database(database_url(settings), database.database)


@contextlib.contextmanager
def opened(settings: Settings, database: Database) -> Iterator[Engine]:
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


def reflect(engine: Engine, name: str) -> Table:
    """A table of another database as it is there, without its foreign keys. Raises CopyError where there is none."""
    from sqlalchemy import MetaData, Table
    from sqlalchemy.exc import NoSuchTableError

    schema, _, plain = name.rpartition(".")
    try:
        return Table(plain, MetaData(), schema=schema or None, autoload_with=engine, resolve_fks=False)
    except NoSuchTableError:
        raise CopyError(f"there is no table {name}", "is it spelled as there, with its schema?") from None


def columns_of(engine: Engine, database: Database, name: str) -> dict[str, str]:
    """The columns to copy of a table, asked of its database. Raises CopyError where declared ones are missing."""
    return warehouse_types(reflect(engine, name), database, name)


def warehouse_types(table: Table, database: Database, name: str) -> dict[str, str]:
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
