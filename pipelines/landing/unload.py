"""Take the effect of a file, or of a load, out of all marts again: by an entry in a journal, never by a deletion.

An unload is a load: it has a number under the load lock, and the next tick judges again whatever rows it took out.
What looks at loads up to a number before it (`known_at`) still sees them. The same content may be landed again, and is
then loaded again.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import DuemarkError, nearest
from pipelines.landing import known_feeds
from pipelines.landing.source import store_of
from pipelines.warehouse.connect import connect
from pipelines.warehouse.loads import NO_INSTANT, TakenOut, begin_load, end_load, take_out
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]

# Rows of a load that is no file's, or all of a log's.
ALL_ROWS = (0, 2**63 - 1)
# Of so many files, the newest ones, one that was meant is looked for.
MOST_COMPARED = 2_000


@dataclass(frozen=True)
class Unloaded:
    """What was taken out, and by which load."""

    load_id: int
    feed: str
    parts: tuple[TakenOut, ...]

    @property
    def paths(self) -> list[str]:
        """The files, each once."""
        return sorted({part.path for part in self.parts})


def unload(settings: Settings, target: str, reason: str, by: str | None = None) -> Unloaded:
    """Take out what `target` brought: the number of a load, or the path of a file or log as it was landed.

    A path means all loads of that file; of a log, all of what was read of the log that is there now.

    Raises DuemarkError, and takes out nothing: there is no such load or file, it brought no records of a feed, or all
    of it is taken out already.
    """
    reason = reason.strip()
    if not reason:
        raise DuemarkError(
            "Why it is taken out is missing.", "Say it: --reason TEXT; whoever wonders will read it."
        )
    with connect(settings, "ingest") as connection, connection.cursor() as cursor:
        load_id = begin_load(cursor)
        feed, parts = (
            _of_load(cursor, int(target))
            if target.isdecimal() and len(target) < 19
            else _of_path(cursor, settings, target)
        )
        left = _still_there(cursor, parts)
        if not left:
            raise _already(cursor, parts)
        take_out(cursor, load_id, feed, left, reason, _who(by))
        end_load(
            cursor, load_id, feed, f"unload {target}", 0, months=_months(cursor, left), latest_at=NO_INSTANT
        )
    return Unloaded(load_id, feed, tuple(left))


def _who(by: str | None) -> str:
    return (by or "").strip() or getpass.getuser()


def _of_load(cursor: Cursor, number: int) -> tuple[str, list[TakenOut]]:
    row = cursor.execute("select feed, source from raw.load where load_id = %s", [number]).fetchone()
    if row is None:
        newest = cursor.execute("select coalesce(max(load_id), 0) from raw.load").fetchone()
        raise DuemarkError(
            f"There is no load {number}.",
            f"The newest is {newest[0] if newest else 0}; landed_file has the load of each file.",
        )
    feed, source = row
    by_unload = cursor.execute("select min(path) from raw.unload where load_id = %s", [number]).fetchone()
    if by_unload and by_unload[0] is not None:
        raise DuemarkError(
            f"Load {number} took out {by_unload[0]} itself.", "To have it back, land the same content again."
        )
    if feed == "exceptions":
        raise DuemarkError(
            f"Load {number} brought no records of a feed, but an exception: {source}.",
            "`duemark waive … --withdraw` takes it back.",
        )
    if feed not in known_feeds.names():
        raise DuemarkError(
            f"Load {number} brought no records of a feed, but {feed}: {source}.",
            "Only what landed can be taken out. The catalog is changed in its files (`duemark restate` for past dates),"
            " a copy at its source.",
        )
    files = _parts(
        cursor.execute(
            "select load_id, path, first_seq, first_seq + record_count from raw.landed_file"
            " where load_id = %s and status = 'loaded' order by landed_file_id",
            [number],
        )
    )
    return feed, files or [TakenOut(number, source, *ALL_ROWS)]


def _of_path(cursor: Cursor, settings: Settings, target: str) -> tuple[str, list[TakenOut]]:
    labels = _labels(settings, target)
    found: dict[str, list[TakenOut]] = {}
    for feed, *part in cursor.execute(
        "select feed, load_id, path, first_seq, first_seq + record_count from raw.landed_file"
        " where path = any(%s) and status = 'loaded' order by landed_file_id",
        [labels],
    ).fetchall():
        found.setdefault(feed, []).append(TakenOut(*part))
    for feed, path, is_copy, stream_id in _logs(cursor, labels):
        if is_copy:
            raise DuemarkError(
                f"{path} is a copy of a log, and nothing was loaded of it.", _own_paths(cursor, stream_id)
            )
        found.setdefault(feed, []).extend(
            _parts(
                cursor.execute(
                    "select distinct load.load_id, load.source, %s::bigint, %s::bigint"
                    " from raw.log_read inner join raw.load using (load_id) where stream_id = %s order by 1",
                    [*ALL_ROWS, stream_id],
                )
            )
        )
    if not found:
        raise _unknown(cursor, target, labels)
    if len(found) > 1:
        loads = ", ".join(str(part.load_id) for parts in found.values() for part in parts)
        raise DuemarkError(
            f"{target} was loaded by several feeds: {', '.join(sorted(found))}.",
            f"Give the number of the load: {loads}.",
        )
    return found.popitem()


def _labels(settings: Settings, target: str) -> list[str]:
    """How the ledger may call it: as it is, as an absolute path, and as one within the landing folder."""
    found = [target]
    with_scheme = "://" in target
    found.append(
        store_of(target)[1] if not with_scheme or target.startswith("file://") else target.rstrip("/")
    )
    if not with_scheme and not Path(target).is_absolute():
        found.append(f"{store_of(settings.landing)[1]}/{target.removeprefix('./')}")
    return [label.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for label in found]


def _logs(cursor: Cursor, labels: list[str]) -> list[tuple[str, str, bool, int]]:
    return cursor.execute(
        """
        select feed, path, is_copy, stream_id
        from (
            select distinct on (feed, path) feed, path, is_copy, stream_id from raw.log_read
            where path = any(%s) and stream_id is not null
            order by feed, path, log_read_id desc
        ) as newest
        """,
        [labels],
    ).fetchall()


def _own_paths(cursor: Cursor, stream_id: int) -> str:
    rows = cursor.execute(
        "select path from raw.log_read where stream_id = %s and not is_copy order by log_read_id desc limit 1",
        [stream_id],
    ).fetchall()
    return f"Take out the log itself: duemark unload {rows[0][0]}" if rows else ""


def _unknown(cursor: Cursor, target: str, labels: list[str]) -> DuemarkError:
    row = cursor.execute(
        """
        select file.status, file.message, file.load_id, original.path
        from raw.landed_file as file
        left join raw.landed_file as original on file.load_id = original.load_id and original.status = 'loaded'
            and original.fingerprint = file.fingerprint
        where file.path = any(%s) order by file.landed_file_id desc limit 1
        """,
        [labels],
    ).fetchone()
    if row is not None:
        status, message, load_id, original = row
        if status == "duplicate":
            return DuemarkError(
                f"Nothing was loaded of {target}: the same content was there before, by load {load_id}.",
                f"Take that out: duemark unload {original or load_id}",
            )
        return DuemarkError(f"Nothing was loaded of {target}: it is {status}.", message or "")
    known = [
        str(path)
        for (path,) in cursor.execute(
            """
            (select path from raw.landed_file where status = 'loaded' order by landed_file_id desc limit %(most)s)
            union
            (select path from raw.log_read where load_id is not null order by log_read_id desc limit %(most)s)
            """,
            {"most": MOST_COMPARED},
        )
    ]
    name = target.rstrip("/").rpartition("/")[2]
    alike = [path for path in known if path.endswith(f"/{name}")] or known
    return DuemarkError(
        f"No file {target} was ever loaded.", nearest(labels[-1], alike, "Loaded were, among others")
    )


def _still_there(cursor: Cursor, parts: list[TakenOut]) -> list[TakenOut]:
    taken = cursor.execute(
        "select unloaded_load_id, path from raw.unload where unloaded_load_id = any(%s)",
        [[part.load_id for part in parts]],
    ).fetchall()
    return [part for part in parts if (part.load_id, part.path) not in set(taken)]


def _already(cursor: Cursor, parts: list[TakenOut]) -> DuemarkError:
    row = cursor.execute(
        "select received_at, unloaded_by, reason from raw.unload inner join raw.load using (load_id)"
        " where unloaded_load_id = any(%s) order by load_id desc limit 1",
        [[part.load_id for part in parts]],
    ).fetchone()
    if row is None:
        return DuemarkError("It brought nothing.", "There is nothing to take out.")
    return DuemarkError(
        f"It was taken out already, at {row[0]:%Y-%m-%d %H:%M:%S}Z by {row[1]}: {row[2]}",
        "To have it back, land the same content again.",
    )


def _months(cursor: Cursor, parts: list[TakenOut]) -> set[date] | None:
    rows = cursor.execute(
        "select months from raw.load where load_id = any(%s)", [[part.load_id for part in parts]]
    ).fetchall()
    if any(months is None for (months,) in rows):
        return None
    return {month for (months,) in rows for month in months}


def _parts(cursor: Cursor) -> list[TakenOut]:
    return [TakenOut(*row) for row in cursor.fetchall()]
