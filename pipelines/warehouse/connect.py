"""Connections, each in the role of who asks."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import psycopg

from pipelines.errors import DuemarkError
from pipelines.warehouse import embedded
from pipelines.warehouse.settings import Settings

# One role writes a schema: ingest raw and catalog, transform control and dbt's, operate ops; analyst reads marts.
Role = Literal["ingest", "transform", "operate", "analyst"]


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

    Raises DuemarkError when the server does not answer.
    """
    url = database_url(settings)
    if role == "analyst" and settings.database_url is None:
        # Who only sets the role can set it back: an analyst of the embedded server is nobody else to begin with.
        url, role = embedded.url(settings.home, user="analyst"), None
    if database:
        url = with_database(url, database)
    options = "-c timezone=UTC" + (f" -c role={role}" if role else "")
    try:
        return psycopg.connect(
            url, autocommit=autocommit, options=options, application_name=f"duemark {role or ''}".strip()
        )
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
        return psycopg.connect(url, autocommit=autocommit, options=options)
    except psycopg.OperationalError as error:
        raise _explained(settings, error) from error


def _explained(settings: Settings, error: psycopg.OperationalError) -> DuemarkError:
    return DuemarkError(
        f"The embedded PostgreSQL of {settings.home} refused: {str(error).strip()}",
        "If it is new, run `duemark deploy` (or any command that builds: `duemark demo`, `duemark tick`).",
    )
