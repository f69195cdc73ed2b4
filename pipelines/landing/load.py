"""The numbering of loads. Whoever adds journal rows takes a number here: files, requests, the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import psycopg

# Transaction lock under which load_id is handed out, held to the commit: a higher load_id never becomes visible
# before a lower one, and whoever sees `load_id <= n` sees all of them.
LOAD_LOCK = 7_345_002


def begin_load(cursor: psycopg.Cursor[tuple[object, ...]]) -> int:
    """Wait for the load lock and return the next load_id. The lock is held until the transaction ends.

    The transaction must be READ COMMITTED (the default): the number is read after the lock is had.
    """
    cursor.execute("select pg_advisory_xact_lock(%s)", [LOAD_LOCK])
    row = cursor.execute("select coalesce(max(load_id), 0) + 1 from raw.load").fetchone()
    return cast("int", row[0]) if row else 1


def end_load(
    cursor: psycopg.Cursor[tuple[object, ...]],
    load_id: int,
    feed: str,
    source: str,
    record_count: int,
    rejected_count: int = 0,
) -> None:
    """Write the load's row, with the instant of the commit as `received_at`: call it last."""
    cursor.execute(
        "insert into raw.load (load_id, feed, source, received_at, record_count, rejected_count)"
        " values (%s, %s, %s, clock_timestamp(), %s, %s)",
        [load_id, feed, source, record_count, rejected_count],
    )
