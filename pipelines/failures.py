"""What a command says when something was raised that nobody foresaw: a line, what stands, and where the rest is."""

from __future__ import annotations

import contextlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.errors import DuemarkError
from pipelines.warehouse.settings import Settings

# Exit codes beside those of a command.
FAILED = 3
INTERRUPTED = 130
READER_GONE = 141

# The log is begun anew when it is so long; the one before is kept.
MOST_BYTES = 1 << 20
LONGEST_LINE = 500

LEFT = {
    "tick": "The marts are as they were: they change together or not at all. The next tick does the work.",
    "ingest": "A file is loaded whole or not at all: what was loaded stays, the rest waits for the next time.",
    "deploy": "What was deployed stands; the next `duemark deploy`, or tick, does the rest.",
    "sql": "A question changes nothing.",
    "up": "What it had started was stopped; what was loaded and published stands.",
    "watch": "Nothing that is watched was changed.",
}
ELSE = "What was done stands, nothing is half done, and the command may be given again."


def left(command: str) -> str:
    """What stands after the command `duemark <command>` ended before its time."""
    return LEFT.get(command, ELSE)


def explained(error: Exception, settings: Settings) -> DuemarkError | None:
    """What a user can put right behind an exception of the database; None where it is a defect of ours."""
    psycopg = sys.modules.get("psycopg")
    if psycopg is None or not isinstance(error, psycopg.Error):
        return None
    if isinstance(error, psycopg.OperationalError) and not isinstance(error, psycopg.errors.QueryCanceled):
        return DuemarkError(
            f"The database went away, or could not go on: {one_line(error)}",
            "`duemark status` says how it is; then give the command again.",
        )
    with contextlib.suppress(psycopg.Error, DuemarkError):
        from pipelines.warehouse.connect import connect
        from pipelines.warehouse.version import known, present

        with connect(settings) as connection:
            numbers = present(connection)
        wanted = known()[-1]
        if numbers is not None and numbers != [wanted]:
            return DuemarkError(
                f"The database is older than this Duemark: its schema is {max(numbers, default='empty')}, wanted is"
                f" {wanted}.",
                "Run `duemark deploy`.",
            )
    return None


def one_line(error: BaseException) -> str:
    """The kind and the first words of an exception, without a password of ours."""
    text = " ".join(_without_secrets(str(error)).split())
    text = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def keep(error: BaseException, settings: Settings) -> str:
    """Write all of it to the log of errors in the home, which only its owner reads; return where, in words."""
    import traceback
    from importlib.metadata import version

    path = settings.home / "logs" / "errors.log"
    text = _without_secrets("".join(traceback.format_exception(error)))
    head = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} duemark {version('duemark')}: {' '.join(sys.argv[1:])}\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > MOST_BYTES:
            path.replace(path.with_suffix(".1.log"))
        _append(path, f"{head}{text}\n")
    except OSError as problem:
        return f"The details could not be written to {path} ({problem.strerror}); --debug shows them."
    return f"The details are at the end of {path}; --debug shows them too."


def _append(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def _without_secrets(text: str) -> str:
    given = Settings.from_env().database_url or ""
    with contextlib.suppress(ValueError):
        for secret in {password := urlsplit(given).password or "", unquote(password)}:
            if secret:
                text = text.replace(secret, "***")
    return text
