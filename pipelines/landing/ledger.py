"""The ledger `raw.landed_file`: what became of every file. Rows are added, never changed.

A file is known by feed, path, size and time of modification; its content by feed and sha256. What was loaded, found a
duplicate or quarantined after it was read is not looked at again until it changes. A file that could not be read at
all (its row has no fingerprint) is tried again: giving a permission leaves its size and time as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipelines.landing import known_feeds
from pipelines.landing.source import LandedFile, folder_labels, is_storage_error, landed
from pipelines.warehouse import homes
from pipelines.warehouse.connect import connect
from pipelines.warehouse.homes import Slot
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

    Cursor = psycopg.Cursor[tuple[object, ...]]

# "changed" (while it was read) leaves no row in the ledger, nor does "gone" of a file that was listed and is not there
# any more: the next ingest sees them anew. "gone" of what was quarantined does: its trouble ends with it.
Status = Literal["loaded", "duplicate", "quarantined", "changed", "gone"]
# Which of the files that were not loaded are tried again: those that could not be read, or all that somebody names,
# those that were taken out again too.
Retry = Literal["never", "unread", "quarantined"]


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file.

    `load_id` and the counts of records are of this load, or for a duplicate of the one that brought the same content;
    `rejected_kept`: how many of the rejected records are kept, None: all;
    `warnings`: {line, column, message, hint}.
    """

    path: str
    feed: str
    status: Status
    load_id: int | None = None
    record_count: int = 0
    rejected_count: int = 0
    message: str = ""
    hint: str = ""
    warnings: tuple[dict[str, str | int | None], ...] = ()
    rejected_kept: int | None = None


# Files as they are now, as rows that a query joins: what `_of_files` gives stands for its parameters.
_WANTED = """
    unnest(%s::text[], %s::text[], %s::bigint[], %s::timestamptz[])
        with ordinality as wanted (feed, path, size_bytes, modified_at, position)
"""


def _of_files(files: Sequence[LandedFile]) -> list[list[object]]:
    return [
        [file.feed for file in files],
        [file.label for file in files],
        [file.stamp.size for file in files],
        [file.stamp.modified_at for file in files],
    ]


def unknown(cursor: Cursor, files: Iterable[LandedFile], retry: Retry = "unread") -> list[LandedFile]:
    """Those of `files` that the ledger does not know as they are now, and those that are to be tried again."""
    files = list(files)
    if not files:
        return []
    cursor.execute(
        f"""
        select wanted.position
        from {_WANTED}
        where not exists (
            select from raw.landed_file as known
            where known.feed = wanted.feed
                and known.path = wanted.path
                and known.size_bytes = wanted.size_bytes
                and known.modified_at = wanted.modified_at
                and known.status <> 'gone'
                and (known.fingerprint is not null or not %s)
                and (known.status <> 'quarantined' or not %s)
                and (not %s or not exists (
                    select from raw.unload as taken
                    where taken.unloaded_load_id = known.load_id and taken.path = known.path
                ))
        )
        order by wanted.position
        """,  # noqa: S608
        [*_of_files(files), retry == "unread", retry == "quarantined", retry == "quarantined"],
    )
    return [files[int(str(row[0])) - 1] for row in cursor.fetchall()]


def untold(cursor: Cursor, refused: Iterable[LandedFile]) -> list[LandedFile]:
    """Those of `refused` that are not what the ledger said last of their path."""
    refused = list(refused)
    if not refused:
        return []
    cursor.execute(
        """
        select wanted.position
        from unnest(%s::text[], %s::text[], %s::text[]) with ordinality as wanted (feed, path, message, position)
        left join lateral (
            select status, message from raw.landed_file
            where feed = wanted.feed and path = wanted.path
            order by landed_file_id desc limit 1
        ) as newest on true
        where (newest.status, newest.message) is distinct from ('quarantined', wanted.message)
        order by wanted.position
        """,
        [
            [file.feed for file in refused],
            [file.label for file in refused],
            [file.refused for file in refused],
        ],
    )
    return [refused[int(str(row[0])) - 1] for row in cursor.fetchall()]


def note_gone(cursor: Cursor, landing: str, feeds: Iterable[str], files: Iterable[LandedFile]) -> None:
    """Note of what was quarantined in the folders of `feeds`, and is not among `files` any more, that it is gone."""
    files = list(files)
    listed = {(file.feed, file.label) for file in files}
    # Folders that cannot be listed are no sign of anything.
    closed = tuple(f"{file.label}/" for file in files if file.refused)
    inside = folder_labels(landing, feeds)
    rows = cursor.execute(
        """
        select quarantined.landed_file_id, quarantined.feed, quarantined.path
        from raw.landed_file as quarantined
        inner join unnest(%s::text[], %s::text[]) as inside (feed, folder)
            on quarantined.feed = inside.feed and starts_with(quarantined.path, inside.folder)
        where status = 'quarantined'
            and not exists (
                select from raw.landed_file as later
                where later.feed = quarantined.feed and later.path = quarantined.path
                    and later.landed_file_id > quarantined.landed_file_id
            )
        """,
        [[feed for feed, _ in inside], [folder for _, folder in inside]],
    ).fetchall()
    gone = [
        row[0]
        for row in rows
        if (row[1], row[2]) not in listed and not str(row[2]).startswith(closed or "\0")
    ]
    if gone:
        cursor.execute(
            "insert into raw.landed_file (feed, path, size_bytes, modified_at, status, message)"
            " select feed, path, size_bytes, modified_at, 'gone', 'It is not there any more.'"
            " from raw.landed_file where landed_file_id = any(%s)",
            [gone],
        )


def load_of(cursor: Cursor, feed: str, fingerprint: str) -> FileOutcome | None:
    """The load that brought this content, as the outcome of a duplicate; None when none did, or it was taken out."""
    return loads_of(cursor, feed, [fingerprint]).get(fingerprint)


def loads_of(cursor: Cursor, feed: str, fingerprints: Iterable[str]) -> dict[str, FileOutcome]:
    """The same of several, by fingerprint; what none brought is not in it."""
    rows = cursor.execute(
        "select fingerprint, load_id, path, record_count, rejected_count from raw.landed_file as file"
        " where feed = %s and fingerprint = any(%s) and status = 'loaded' and not exists ("
        " select from raw.unload as taken where taken.unloaded_load_id = file.load_id and taken.path = file.path)",
        [feed, list(fingerprints)],
    ).fetchall()
    return {
        str(row[0]): duplicate_of(feed, int(str(row[1])), str(row[2]), int(str(row[3])), int(str(row[4])))
        for row in rows
    }


def duplicate_of(feed: str, load_id: int, path: str, records: int = 0, rejected: int = 0) -> FileOutcome:
    """The outcome of a file whose content `path` brought before."""
    message = f"Its content was loaded before, from {path}."
    return FileOutcome("", feed, "duplicate", load_id, records, rejected, message, "Nothing to do.")


def is_size_known(cursor: Cursor, file: LandedFile) -> bool:
    """Whether a file of this feed and size is loaded: only then can a duplicate be."""
    row = cursor.execute(
        "select from raw.landed_file where feed = %s and size_bytes = %s and status = 'loaded' limit 1",
        [file.feed, file.stamp.size],
    ).fetchone()
    return row is not None


def record(cursor: Cursor, file: LandedFile, outcome: FileOutcome, fingerprint: str | None) -> None:
    """Add the file's row, unless the same was said of the same state before (a file that still cannot be read)."""
    is_loaded = outcome.status == "loaded"
    cursor.execute(
        """
        insert into raw.landed_file
            (feed, path, fingerprint, size_bytes, modified_at, status, load_id, record_count, rejected_count,
             message, hint, warnings, times_unloaded, rejected_kept)
        select %(feed)s, %(path)s, %(fingerprint)s::text, %(size)s, %(modified_at)s, %(status)s, %(load_id)s::bigint,
               %(records)s, %(rejected)s, %(message)s::text, %(hint)s::text, %(warnings)s::jsonb,
               case when %(status)s = 'loaded' then (
                   select count(*) from raw.landed_file
                   where feed = %(feed)s and fingerprint = %(fingerprint)s::text and status = 'loaded'
               ) else 0 end,
               %(kept)s::bigint
        where %(fingerprint)s::text is not null or not exists (
            select from (
                select size_bytes, modified_at, message from raw.landed_file
                where feed = %(feed)s and path = %(path)s
                order by landed_file_id desc limit 1
            ) as newest
            where size_bytes = %(size)s and modified_at = %(modified_at)s and message = %(message)s::text
        )
        """,
        {
            "feed": file.feed,
            "path": file.label,
            "fingerprint": fingerprint,
            "size": file.stamp.size,
            "modified_at": file.stamp.modified_at,
            "status": outcome.status,
            "load_id": outcome.load_id,
            "records": outcome.record_count if is_loaded else 0,
            "rejected": outcome.rejected_count if is_loaded else 0,
            "message": outcome.message or None,
            "hint": outcome.hint or None,
            "warnings": json.dumps(outcome.warnings),
            "kept": outcome.rejected_kept,
        },
    )


@dataclass(frozen=True)
class Entry:
    """A file whose outcome is to be written down; `first_seq`: of its rows in its load."""

    file: LandedFile
    outcome: FileOutcome
    fingerprint: str
    first_seq: int


def record_all(cursor: Cursor, entries: Sequence[Entry]) -> None:
    """Add the rows of files that were read, in their order."""
    loaded = [entry.outcome.status == "loaded" for entry in entries]
    cursor.execute(
        """
        insert into raw.landed_file
            (feed, path, fingerprint, size_bytes, modified_at, status, load_id, record_count, rejected_count,
             message, hint, warnings, rejected_kept, first_seq, times_unloaded)
        select feed, path, fingerprint, size_bytes, modified_at, status, load_id, record_count, rejected_count,
            message, hint, warnings, rejected_kept, first_seq,
            case when status = 'loaded' then (
                select count(*) from raw.landed_file as before
                where before.feed = entry.feed and before.fingerprint = entry.fingerprint and before.status = 'loaded'
            ) else 0 end
        from unnest(
            %s::text[], %s::text[], %s::text[], %s::bigint[], %s::timestamptz[], %s::text[], %s::bigint[],
            %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::jsonb[], %s::bigint[], %s::bigint[]
        ) with ordinality as entry (
            feed, path, fingerprint, size_bytes, modified_at, status, load_id, record_count, rejected_count,
            message, hint, warnings, rejected_kept, first_seq, position
        )
        order by position
        """,
        [
            [entry.file.feed for entry in entries],
            [entry.file.label for entry in entries],
            [entry.fingerprint for entry in entries],
            [entry.file.stamp.size for entry in entries],
            [entry.file.stamp.modified_at for entry in entries],
            [entry.outcome.status for entry in entries],
            [entry.outcome.load_id for entry in entries],
            [entry.outcome.record_count * new for entry, new in zip(entries, loaded, strict=True)],
            [entry.outcome.rejected_count * new for entry, new in zip(entries, loaded, strict=True)],
            [entry.outcome.message or None for entry in entries],
            [entry.outcome.hint or None for entry in entries],
            [json.dumps(entry.outcome.warnings) for entry in entries],
            [entry.outcome.rejected_kept for entry in entries],
            [entry.first_seq * new for entry, new in zip(entries, loaded, strict=True)],
        ],
    )


def pending(settings: Settings, feeds: Iterable[str] | None = None) -> list[LandedFile]:
    """Landed files that an ingest would now load or quarantine, in its order. Cheap: contents are not read.

    A file that could not be read is among them when it can be opened now.
    """
    files = landed(settings.landing, known_feeds.whole() if feeds is None else feeds)
    if not files:
        return []
    refused = [file for file in files if file.refused]
    with connect(settings, role="ingest") as connection, connection.cursor() as cursor:
        settled = _settled_of(cursor, settings)
        asked = [file for file in files if not file.refused and _key(file) not in settled]
        states = _states(cursor, asked)
        new = [file for file, state in zip(asked, states, strict=True) if state == "new"]
        new += untold(cursor, refused)
    unread = [file for file, state in zip(asked, states, strict=True) if state == "unread" and _opens(file)]
    settled.update(_key(file) for file, state in zip(asked, states, strict=True) if state == "read")
    return sorted(new + unread, key=lambda file: file.order)


# Files that the ledger knows, as long as nothing was added to it: most of what lies in a folder was loaded long ago.
SETTLED: Slot[tuple[object, set[tuple[object, ...]]]] = Slot(lambda _: (None, set()))


def _settled_of(cursor: Cursor, settings: Settings) -> set[tuple[object, ...]]:
    state = cursor.execute(
        "select (select max(landed_file_id) from raw.landed_file), (select max(load_id) from raw.load),"
        " pg_postmaster_start_time(), current_database()"
    ).fetchone()
    home = homes.of(settings)
    before, files = home.get(SETTLED)
    if before != state:
        files = set()
        home.put(SETTLED, (state, files))
    return files


def _key(file: LandedFile) -> tuple[object, ...]:
    return file.feed, file.path, file.stamp


def _states(cursor: Cursor, files: Sequence[LandedFile]) -> list[Literal["new", "unread", "read"]]:
    """Of each file, as it is now: whether the ledger has it not, as one that could not be read, or as one that was."""
    if not files:
        return []
    rows = cursor.execute(
        f"""
        select known.is_read
        from {_WANTED}
        cross join lateral (
            select bool_or(fingerprint is not null) as is_read
            from raw.landed_file as known
            where known.feed = wanted.feed
                and known.path = wanted.path
                and known.size_bytes = wanted.size_bytes
                and known.modified_at = wanted.modified_at
                and known.status <> 'gone'
        ) as known
        order by wanted.position
        """,  # noqa: S608
        _of_files(files),
    ).fetchall()
    return ["new" if row[0] is None else "read" if row[0] else "unread" for row in rows]


def loaded_as_they_are(cursor: Cursor, files: Iterable[LandedFile]) -> dict[LandedFile, str]:
    """Those of `files` of which the ledger says last that they, as they are now, are loaded; each with its sha256."""
    files = list(files)
    if not files:
        return {}
    cursor.execute(
        f"""
        select wanted.position, newest.fingerprint
        from {_WANTED}
        cross join lateral (
            select status, size_bytes, modified_at, fingerprint from raw.landed_file
            where feed = wanted.feed and path = wanted.path
            order by landed_file_id desc limit 1
        ) as newest
        where newest.status in ('loaded', 'duplicate')
            and newest.size_bytes = wanted.size_bytes and newest.modified_at = wanted.modified_at
        order by wanted.position
        """,  # noqa: S608
        _of_files(files),
    )
    return {files[int(str(row[0])) - 1]: str(row[1]) for row in cursor.fetchall()}


def _opens(file: LandedFile) -> bool:
    try:
        with file.store.open(file.path) as stream:
            stream.read(1)
    except Exception as error:
        if not is_storage_error(error):
            raise
        return False
    return True


def note_look(
    connection: psycopg.Connection[tuple[object, ...]], feeds: Iterable[str], began_at: datetime
) -> None:
    """Note that all there was in these feeds' folders at `began_at` is loaded. Commits by the caller's mode."""
    connection.execute(
        "insert into raw.feed_read as known (feed, began_at) select unnest(%s::text[]), %s order by 1"
        " on conflict (feed) do update set began_at = greatest(known.began_at, excluded.began_at)",
        [sorted(feeds), began_at],
    )
