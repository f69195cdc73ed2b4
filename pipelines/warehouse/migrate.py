"""Bring the databases up to date: make them where they are missing, then run the migrations."""

from __future__ import annotations

import contextlib
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from pipelines.errors import DuemarkError
from pipelines.warehouse import version
from pipelines.warehouse.connect import analyst_limits, connect, database_url, with_database
from pipelines.warehouse.locks import Lock, held
from pipelines.warehouse.settings import Settings

OLDEST_SERVER = 150000
# Of the embedded server's 200, so that analysts leave some to everybody else.
ANALYST_CONNECTIONS = 50
# What a question may write to disk while it sorts: only a superuser can set it, so a server of one's own needs its own.
ANALYST_FILES = "10GB"


class MigrationFailedError(Exception):
    """A migration failed, a defect of ours: the database stands as after the last one that succeeded."""


def migrate(settings: Settings) -> None:
    """Make the warehouse and Dagster's database where they are missing, and run what migrations are due.

    Idempotent and safe from several processes; where nothing is due, one short look. Raises DuemarkError when the
    server is too old, the database newer than the code, or the user may not create what is missing.
    """
    if _is_done(settings):
        return
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
        _make_record(lock)
        with held(lock, Lock.MIGRATE):
            version.refuse_newer(version.present(lock) or [])
            config = Config()
            config.set_main_option("script_location", str(version.FOLDER.parent))
            url = database_url(settings)
            engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
            try:
                with engine.connect() as connection:
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
            except (ProgrammingError, psycopg.Error) as error:
                # Of Alembic's own statements it comes wrapped, of those of a migration as it is.
                cause = error.orig if isinstance(error, ProgrammingError) else error
                if isinstance(cause, psycopg.errors.InsufficientPrivilege):
                    raise _refused(cause) from error
                raise MigrationFailedError(str(cause).strip().splitlines()[0]) from error
            finally:
                engine.dispose()
            if settings.database_url is None:
                _limit_analysts(settings, lock)


def _is_done(settings: Settings) -> bool:
    """Whether nothing is due. False too where that cannot be seen yet."""
    try:
        connection = psycopg.connect(database_url(settings), autocommit=True, connect_timeout=10)
    except psycopg.OperationalError:
        return False
    with connection:
        numbers = version.present(connection)
        version.refuse_newer(numbers or [])
        if numbers != version.known()[-1:]:
            return False
        if (
            connection.execute(
                "select from pg_database where datname = %s", [settings.dagster_database]
            ).fetchone()
            is None
        ):
            return False
        return settings.database_url is not None or _are_limited(settings, connection)


def _make_record(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """The table of the migrations that were run, as Alembic makes it: it is what is locked while they run."""
    try:
        with contextlib.suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
            connection.execute(
                "create table if not exists public.alembic_version"
                " (version_num varchar(32) not null constraint alembic_version_pkc primary key)"
            )
    except psycopg.errors.InsufficientPrivilege as error:
        raise _refused(error) from error


def _refused(error: BaseException) -> DuemarkError:
    return DuemarkError(
        f"The migrations were refused: {str(error).strip().splitlines()[0]}",
        "This user needs CREATE on the database and CREATEROLE, or to be granted the roles ingest,"
        " transform, operate and analyst `with admin option`: see docs/operations.md.",
    )


def _wanted_limits(settings: Settings) -> dict[str, str]:
    return analyst_limits(settings) | {"temp_file_limit": ANALYST_FILES}


def _are_limited(settings: Settings, connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    row = connection.execute(
        "select rolcanlogin, rolconnlimit, rolconfig from pg_roles where rolname = 'analyst'"
    ).fetchone()
    wanted = sorted(f"{name}={value}" for name, value in _wanted_limits(settings).items())
    return row is not None and row[:2] == (True, ANALYST_CONNECTIONS) and sorted(row[2] or []) == wanted  # type: ignore[call-overload]


def _limit_analysts(settings: Settings, connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Let analysts log in to the embedded server, within limits."""
    connection.execute(f"alter role analyst login connection limit {ANALYST_CONNECTIONS}")
    connection.execute("alter role analyst reset all")
    for name, value in _wanted_limits(settings).items():
        connection.execute(
            sql.SQL("alter role analyst set {} = {}").format(sql.Identifier(name), sql.Literal(value))
        )


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
            if name == settings.dagster_database:
                # Nobody else has anything to do there.
                connection.execute(
                    sql.SQL("revoke connect, temporary on database {} from public").format(
                        sql.Identifier(name)
                    )
                )
        except psycopg.errors.InsufficientPrivilege as error:
            raise DuemarkError(
                f"The database {name!r} does not exist and this user may not create it.",
                f"Have it made: create database {name}; or grant this user CREATEDB.",
            ) from error
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            pass  # another process was first
