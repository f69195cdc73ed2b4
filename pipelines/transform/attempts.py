"""The journal of ticks that failed in a row: begun, and then published, raised, or ended without a word.

A tick is noted when it begins, by the connection that does it. So one whose process was killed is known as well: it was
begun, its connection is gone, and nothing was published after it. Ticks are single, so there is one row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]
    Cursor = psycopg.Cursor[Any]

KILLED = "Its process ended before it could say why: it was killed, or memory was short."
MOST_REASON = 1000


@dataclass(frozen=True)
class Attempts:
    """`failures` ticks in a row failed, the first of them at `since`, the last at `failed_at` because of `reason`.

    `has_raised`: the last one said so itself. `begun_at`: of the one under way, None without one.
    """

    failures: int = 0
    since: datetime | None = None
    failed_at: datetime | None = None
    reason: str = ""
    has_raised: bool = False
    begun_at: datetime | None = None


@contextmanager
def attempt(connection: Connection, *harmless: type[BaseException]) -> Iterator[None]:
    """Note that a tick is under way, and how it ended; what is `harmless` to raise is no failure.

    `connection` is in autocommit mode, and that of the tick: as long as it is there, the tick goes on.
    """
    _begin(connection)
    try:
        yield
    except harmless:
        _end(connection, None)
        raise
    except BaseException as error:
        _end(connection, " ".join(str(error).split())[:MOST_REASON] or type(error).__name__)
        raise
    connection.execute(
        "update control.attempt set begun_at = null, backend_pid = null, failures = 0, since = null, failed_at = null,"
        " failure = null"
    )


def _begin(connection: Connection) -> None:
    found = _read(connection.cursor(), is_ours=True)
    connection.execute(
        "update control.attempt set begun_at = clock_timestamp(), backend_pid = pg_backend_pid(), failures = %s,"
        " since = %s, failed_at = %s, failure = %s",
        [found.failures, found.since, found.failed_at, found.reason or None],
    )


def _end(connection: Connection, reason: str | None) -> None:
    # A connection that broke cannot note it: then it is one that ended without a word.
    with suppress(psycopg.Error):
        connection.execute(
            """
            update control.attempt set
                failures = failures + (%(reason)s::text is not null)::integer,
                since = case when %(reason)s::text is null then since else coalesce(since, begun_at) end,
                failed_at = case when %(reason)s::text is null then failed_at else clock_timestamp() end,
                failure = coalesce(%(reason)s::text, failure),
                begun_at = null, backend_pid = null
            """,
            {"reason": reason},
        )


def attempts(cursor: Cursor) -> Attempts:
    """How the last ticks went, for whoever may read `control`."""
    return _read(cursor, is_ours=False)


def _read(cursor: Cursor, *, is_ours: bool) -> Attempts:
    """`is_ours`: we are about to begin one, so what was begun has ended, whatever became of its connection."""
    row: Any = cursor.execute(
        """
        select
            failures, since, failed_at, coalesce(failure, ''), begun_at,
            not %(is_ours)s and exists (
                select from pg_stat_activity as backend
                where backend.pid = attempt.backend_pid and backend.datname = current_database()
            ),
            coalesce(published_at, '-infinity') >= begun_at
        from control.attempt as attempt cross join control.tick
        """,
        {"is_ours": is_ours},
    ).fetchone()
    if row is None:
        return Attempts()
    failures, since, failed_at, reason, begun_at, is_under_way, is_published = row
    if begun_at is None or is_under_way:
        return Attempts(failures, since, failed_at, reason, reason not in {"", KILLED}, begun_at)
    if is_published:
        return Attempts()
    return Attempts(failures + 1, since or begun_at, begun_at, KILLED)
