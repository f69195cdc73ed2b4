"""The numbering of loads. Whoever adds journal rows takes a number here: files, requests, the catalog."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import TYPE_CHECKING, cast

from pipelines.warehouse.locks import Lock, take_to_commit

if TYPE_CHECKING:
    import psycopg

# The channel by which who waits for a load is woken when it is committed.
LOADED = "duemark_loaded"


def begin_load(cursor: psycopg.Cursor[tuple[object, ...]]) -> int:
    """Wait for the load lock and return the next load_id. The lock is held until the transaction ends.

    So a higher load_id never becomes visible before a lower one, and whoever sees `load_id <= n` sees all of them.

    The transaction must be READ COMMITTED (the default): the number is read after the lock is had.
    """
    take_to_commit(cursor, Lock.LOAD)
    row = cursor.execute("select coalesce(max(load_id), 0) + 1 from raw.load").fetchone()
    return cast("int", row[0]) if row else 1


def end_load(
    cursor: psycopg.Cursor[tuple[object, ...]],
    load_id: int,
    feed: str,
    source: str,
    record_count: int,
    rejected_count: int = 0,
    *,
    months: Iterable[date] | None = None,
    latest_at: datetime | None = None,
) -> None:
    """Write the load's row, with the instant of the commit as `received_at`: call it last. Who listens is woken then.

    `months`: first days of the months (of the date by which the table is partitioned) of its records; `latest_at`: the
    latest instant among its records. Who reads what is new need not look elsewhere; None when it is not known, and then
    everywhere is looked.
    """
    cursor.execute(
        "insert into raw.load"
        " (load_id, feed, source, received_at, record_count, rejected_count, months, latest_at)"
        " values (%s, %s, %s, clock_timestamp(), %s, %s, %s, coalesce(%s::timestamptz, 'infinity'))"
        " returning pg_notify(%s, '')",
        [
            load_id,
            feed,
            source,
            record_count,
            rejected_count,
            None if months is None else sorted(months),
            latest_at,
            LOADED,
        ],
    )
