"""Bring the databases up to date: make them where they are missing, then run the migrations."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from pipelines.errors import DuemarkError
from pipelines.warehouse.connect import connect, database_url, with_database
from pipelines.warehouse.locks import Lock, take
from pipelines.warehouse.settings import Settings

OLDEST_SERVER = 150000


def migrate(settings: Settings) -> None:
    """Make the warehouse and Dagster's database where they are missing, and run what migrations are due.

    Idempotent and safe from several processes. Raises DuemarkError when the server is too old or the user may not
    create what is missing.
    """
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ProgrammingError

    _ensure_database(settings, urlsplit(database_url(settings)).path.lstrip("/"))
    _ensure_database(settings, settings.dagster_database)
    with connect(settings, autocommit=True) as lock:
        if lock.info.server_version < OLDEST_SERVER:
            raise DuemarkError(
                f"The server is PostgreSQL {lock.info.server_version // 10000}; Duemark needs 15 or newer.",
                "Point DUEMARK_DATABASE_URL to a newer server, or unset it for the embedded one.",
            )
        take(lock, Lock.MIGRATE)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        url = database_url(settings)
        engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
        try:
            with engine.connect() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except ProgrammingError as error:
            if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
                raise DuemarkError(
                    f"The migrations were refused: {str(error.orig).strip().splitlines()[0]}",
                    "This user needs CREATE on the database and CREATEROLE, or to be granted the roles ingest,"
                    " transform, operate and analyst `with admin option`: see docs/operations.md.",
                ) from error
            raise
        finally:
            engine.dispose()
        if settings.database_url is None:
            lock.execute("alter role analyst login")


def _ensure_database(settings: Settings, name: str) -> None:
    try:
        psycopg.connect(with_database(database_url(settings), name), connect_timeout=10).close()
    except psycopg.OperationalError as error:
        if "does not exist" not in str(error) and settings.database_url:
            connect(settings, database=name).close()  # raises with an explanation
    else:
        return
    with connect(settings, autocommit=True, database="postgres") as connection:
        if connection.execute("select from pg_database where datname = %s", [name]).fetchone() is not None:
            return
        try:
            connection.execute(
                sql.SQL("create database {} template template0 encoding 'UTF8'").format(sql.Identifier(name))
            )
        except psycopg.errors.InsufficientPrivilege as error:
            raise DuemarkError(
                f"The database {name!r} does not exist and this user may not create it.",
                f"Have it made: create database {name}; or grant this user CREATEDB.",
            ) from error
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            pass  # another process was first
