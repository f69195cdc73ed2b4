"""The numbering of loads. Whoever adds journal rows takes a number here: files, requests, the catalog."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, LiteralString, NamedTuple, cast

from pipelines.warehouse.locks import Lock, take_to_commit

if TYPE_CHECKING:
    import psycopg

# The channel by which who waits for a load is woken when it is committed.
LOADED = "duemark_loaded"
# `latest_at` of a load that brings no records: none of its own is held.
NO_INSTANT = datetime(1970, 1, 1, tzinfo=UTC)


class TakenOut(NamedTuple):
    """Of a load the rows with seq from `first_seq` to before `end_seq`, which `path` brought."""

    load_id: int
    path: str
    first_seq: int
    end_seq: int


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


def take_out(
    cursor: psycopg.Cursor[tuple[object, ...]],
    load_id: int,
    feed: str,
    parts: Iterable[TakenOut],
    reason: str,
    by: str,
) -> None:
    """Write the journal's entries: the load `load_id` takes these rows out. They stay where they are."""
    cursor.executemany(
        "insert into raw.unload (unloaded_load_id, path, first_seq, end_seq, load_id, feed, reason, unloaded_by)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s)",
        [(*part, load_id, feed, reason, by) for part in parts],
    )


def standing(rows: LiteralString) -> LiteralString:
    """A condition on rows of raw, by their name in the query: no load took them out. As the macro of that name."""
    return (
        f"({rows}.load_id not in (select unloaded_load_id from raw.unload)"  # noqa: S608 - of names in the code
        f" or not raw.is_unloaded({rows}.load_id, {rows}.seq, {2**62}))"
    )
