"""Connections, each in the role of who asks."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import psycopg

from pipelines.errors import DuemarkError
from pipelines.warehouse import embedded, version
from pipelines.warehouse.settings import Settings

# One role writes a schema: ingest raw and catalog, transform control and dbt's, operate ops; analyst reads marts.
Role = Literal["ingest", "transform", "operate", "analyst"]

# A server works on for a client that is gone until it looks.
CHECK_INTERVAL = "10s"
# What a server's administrator sets for everybody must not end a rebuild, or let go of a lock.
UNLIMITED = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
# An application's name is cut there.
MOST_NAME_BYTES = 63
# Whether the database is newer than the code is looked at again after so many seconds.
VERSION_SECONDS = 10.0

_process = ""
_looked: dict[str, float] = {}


def name_process(name: str) -> None:
    """Say what this process is, for those who look who is connected."""
    global _process  # one name, of one process
    _process = name


def application_name(role: str | None) -> str:
    """How a connection names itself: the command, or the code location, and the role."""
    name = _process
    if not name:
        arguments = sys.argv
        place = arguments.index("--location-name") + 1 if "--location-name" in arguments else 0
        name = Path(arguments[place]).stem if place < len(arguments) else ""
    return f"duemark {name}{f' ({role})' if role else ''}"[:MOST_NAME_BYTES]


def analyst_limits(settings: Settings) -> dict[str, str]:
    """What holds for analysts, as PostgreSQL's settings. Raises DuemarkError where one of ours is no duration."""
    return {
        "statement_timeout": settings.analyst_statement_timeout,
        "idle_in_transaction_session_timeout": settings.analyst_idle_timeout,
        "client_connection_check_interval": CHECK_INTERVAL,
    }


def database_url(settings: Settings) -> str:
    """URL, as libpq reads it, of the warehouse; the embedded server need not run yet."""
    return settings.database_url or embedded.url(settings.home)


def with_database(url: str, database: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def connect(
    settings: Settings, role: Role | None = None, *, autocommit: bool = False, database: str | None = None
) -> psycopg.Connection[tuple[object, ...]]:
    """Open a connection in `role` (None: as who connects), starting the embedded server where it does not run.

    Analysts have limits. Raises DuemarkError when the server does not answer, and when the database is newer than the
    code.
    """
    url = database_url(settings)
    name = application_name(role)
    limits = (
        " ".join(f"-c {k}={v}" for k, v in analyst_limits(settings).items())
        if role == "analyst"
        else UNLIMITED
    )
    if role == "analyst" and settings.database_url is None:
        # Who only sets the role can set it back: an analyst of the embedded server is nobody else to begin with.
        url, role = embedded.url(settings.home, user="analyst"), None
    if database:
        url = with_database(url, database)
    options = f"-c timezone=UTC {limits}" + (f" -c role={role}" if role else "")
    try:
        connection = psycopg.connect(url, autocommit=True, options=options, application_name=name)
    except psycopg.OperationalError as error:
        if settings.database_url:
            raise DuemarkError(
                f"The database does not answer: {str(error).strip()}",
                "Check DUEMARK_DATABASE_URL, that the server runs, and that this user may connect. Nothing was"
                " changed.",
            ) from error
        if embedded.running_pid(settings.home) is not None and embedded.is_ready(settings.home):
            raise _explained(settings, error) from error
        embedded.start(settings.home)
        try:
            connection = psycopg.connect(url, autocommit=True, options=options, application_name=name)
        except psycopg.OperationalError as second:
            raise _explained(settings, second) from second
    if role not in {None, "analyst"}:
        _refuse_newer(connection, url)
    connection.autocommit = autocommit
    return connection


def _refuse_newer(connection: psycopg.Connection[tuple[object, ...]], url: str) -> None:
    """Old code must not write into a newer schema, however long it has been running."""
    if time.monotonic() - _looked.get(url, -VERSION_SECONDS) < VERSION_SECONDS:
        return
    try:
        version.refuse_newer(version.present(connection) or [])
    except DuemarkError:
        connection.close()
        raise
    _looked[url] = time.monotonic()


def _explained(settings: Settings, error: psycopg.OperationalError) -> DuemarkError:
    return DuemarkError(
        f"The embedded PostgreSQL of {settings.home} refused: {str(error).strip()}",
        "If it is new, run `duemark deploy` (or any command that builds: `duemark demo`, `duemark tick`).",
    )
