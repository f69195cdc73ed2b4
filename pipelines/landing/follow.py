"""Follow logs: files that grow and rotate, each whole line once.

Whole lines, those that end in a newline, are read from where the last read ended, in batches; the rows and rejected
records of a batch and the new position are one transaction. A position is not that of a name but of a *stream*, which
is known by the hash of its first 4 KiB (of what was read, while that is less), and goes on

* in the file with its inode: renamed or not;
* else in one that begins with all that was read of it (its head, and the 4 KiB before the position): a copy, moved or
  compressed, when its own file is gone or is itself the beginning of that one.

A file that begins a stream's own file, or the same bytes packed, is a copy and adds nothing. Every other file is a new
stream from its first byte: one that was truncated and written anew, and one that only begins like another. So the
lines that count are those of all files that are not the beginning of another one, however often and in whatever state
they were seen. A file that is shorter than what was read of it, or gone, takes nothing away. Where files have no inode
their path stands for it. Of `.gz` files (by their first bytes) all this is said of what they hold, also where the last
of it is yet to be written; their last line needs its newline too, for its writer may still have had the rest.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from pipelines.landing import known_feeds, ledger, source
from pipelines.landing.feed import LogFeed, LogReader, Reason, Rejected
from pipelines.landing.ledger import FileOutcome
from pipelines.landing.limits import Limits
from pipelines.landing.source import LandedFile, landed
from pipelines.logs import get_logger
from pipelines.warehouse.connect import connect
from pipelines.warehouse.loads import begin_load, end_load
from pipelines.warehouse.locks import Lock, held
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[object, ...]]

log = get_logger(__name__)

HEAD_BYTES = 4096
CHUNK_BYTES = 8 << 20
# Longer lines are rejected: no log has them, and memory is to stay flat.
LONGEST_LINE = 1 << 20
# A chunk of short lines is given to the reader in pieces.
MOST_LINES = 32_768
# A batch, and so a transaction, ends with whichever comes first.
BATCH_BYTES = 256 << 20
BATCH_REJECTED = 20_000
BATCH_ROWS = 500_000

GZIP = b"\x1f\x8b"

Tell = Callable[[int, int], None]
_Relation = Literal["goes on", "copy", "other"]


@dataclass(frozen=True)
class _Position:
    """How far a stream was read: unpacked bytes and lines, and how to know it again."""

    stream_id: int | None
    to_offset: int
    line_count: int
    head_length: int
    head_sha256: str
    tail_sha256: str
    inode: str = ""
    modified_at: datetime | None = None
    # What its file was ever called, where all that was read of it was taken out again.
    void_paths: tuple[str, ...] = ()

    @property
    def is_void(self) -> bool:
        return bool(self.void_paths)


_NEW = _Position(None, 0, 0, 0, "", "")


@dataclass(frozen=True)
class _Seen:
    """The newest row of a path."""

    inode: str
    size: int
    modified_at: datetime
    stream_id: int | None
    is_copy: bool
    is_drained: bool

    def is_of(self, file: LandedFile) -> bool:
        """Whether all of the file, as it is now, was looked at."""
        stamp = file.stamp
        return (self.inode, self.size, self.modified_at, self.is_drained) == (
            _inode(file), stamp.size, stamp.modified_at, True,
        )  # fmt: skip


@dataclass
class Followed:
    """What became of the logs that had grown, and the rows that tables (partitions) gained."""

    outcomes: list[FileOutcome] = field(default_factory=list)
    gained: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Grown:
    """A log that has something to read, and about how many bytes."""

    file: LandedFile
    unread_bytes: int


def grown(settings: Settings) -> list[Grown]:
    """Logs that have grown, moved or appeared since they were read, as their sizes and times tell. Cheap."""
    listed = landed(settings.landing, known_feeds.followed())
    refused = [file for file in listed if file.refused]
    files = [file for file in listed if file.stamp.size and not file.refused]
    found: list[Grown] = []
    if not files and not refused:
        return found
    with connect(settings, role="ingest") as connection:
        with connection.cursor() as cursor:
            found += [Grown(file, 0) for file in ledger.untold(cursor, refused)]
        for name in dict.fromkeys(file.feed for file in files):
            of_feed = [file for file in files if file.feed == name]
            seen = _seen(connection, name, of_feed)
            strange = [file for file in of_feed if not _is_seen(seen, file)]
            if strange:
                read = {each.inode: each.to_offset for each in _positions(connection, name).values()}
                found += [
                    Grown(file, max(0, file.stamp.size - read.get(_inode(file), 0))) for file in strange
                ]
    return found


def follow(
    connection: Connection,
    files: Sequence[LandedFile],
    contexts: Mapping[str, Any],
    limits: Limits,
    tell: Callable[[LandedFile, int, int], None] | None = None,
) -> Followed:
    """Read on in those of `files` that have grown, all of them of feeds that are followed.

    `contexts`: what each feed had to know, by its name. `connection` is in autocommit mode.
    `tell` is called after every chunk with a file, its bytes done, and records.
    """
    result = Followed()
    if not files:
        return result
    with held(connection, Lock.FOLLOW):
        for name in dict.fromkeys(file.feed for file in files):
            of_feed = [file for file in files if file.feed == name]
            _Following(
                connection,
                known_feeds.log_feed(name),
                contexts[name],
                tell,
                result,
                limits,
            ).run(of_feed)
    return result


def _inode(file: LandedFile) -> str:
    return file.stamp.inode or file.label


def _is_seen(seen: dict[str, _Seen], file: LandedFile) -> bool:
    return file.label in seen and seen[file.label].is_of(file)


def _seen(connection: Connection, feed: str, files: Sequence[LandedFile]) -> dict[str, _Seen]:
    rows: list[Any] = connection.execute(
        """
        select wanted.path, newest.*
        from unnest(%s::text[]) as wanted (path)
        cross join lateral (
            select inode, size_bytes, modified_at, stream_id, is_copy, is_drained
            from raw.log_read
            where feed = %s and path = wanted.path
            order by log_read_id desc
            limit 1
        ) as newest
        """,
        [[file.label for file in files], feed],
    ).fetchall()
    return {path: _Seen(*rest) for path, *rest in rows}


def _positions(connection: Connection, feed: str) -> dict[int, _Position]:
    rows: list[Any] = connection.execute(
        """
        with void as (
            select stream_id, array_agg(distinct path) as paths
            from raw.log_read
            where not is_copy and stream_id in (
                select stream_id from raw.log_read
                inner join raw.unload on log_read.load_id = unload.unloaded_load_id
            )
            group by stream_id
            having bool_and(load_id is null or load_id in (select unloaded_load_id from raw.unload))
        )
        select newest.*, coalesce(void.paths, '{}')
        from raw.log_stream as stream
        cross join lateral (
            select stream_id, to_offset, line_count, head_length, head_sha256, tail_sha256, inode, modified_at
            from raw.log_read
            where stream_id = stream.stream_id and not is_copy
            order by log_read_id desc
            limit 1
        ) as newest
        left join void on void.stream_id = stream.stream_id
        where stream.feed = %s
        """,
        [feed],
    ).fetchall()
    return {row[0]: replace(_Position(*row[:-1]), void_paths=tuple(row[-1])) for row in rows}


def _is_rotated(file: LandedFile, position: _Position) -> bool:
    """Whether the file is called after one that held the stream, as rotation does: access.log.1, access.log.2.gz."""
    return any(file.label.startswith(path) and file.label != path for path in position.void_paths)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Following:
    """One look at the logs of one feed."""

    def __init__(
        self,
        connection: Connection,
        feed: LogFeed,
        context: Any,
        tell: Callable[[LandedFile, int, int], None] | None,
        result: Followed,
        limits: Limits,
    ) -> None:
        self.connection = connection
        self.feed = feed
        self.context = context
        self.tell = tell
        self.result = result
        self.limits = limits
        self.positions: dict[int, _Position] = {}
        # Files that are there and hold a stream, by the stream.
        self.own: dict[int, _Log] = {}

    def run(self, files: Sequence[LandedFile]) -> None:
        seen = _seen(self.connection, self.feed.name, files)
        self.positions = _positions(self.connection, self.feed.name)
        with contextlib.ExitStack() as stack:
            strange: list[_Log] = []
            for file in files:
                one = _Log(file, self.limits)
                stack.callback(one.close)
                last = seen.get(file.label)
                if last is None or not last.is_of(file):
                    strange.append(one)
                elif last.stream_id is not None and not last.is_copy:
                    self.own[last.stream_id] = one
            # A file's own inode says more than the beginning that it shares with others.
            rest = [one for one in strange if not self._take(one, self._by_inode)]
            for one in rest:
                self._take(one, self._by_content)

    def _take(self, one: _Log, find: Callable[[_Log], tuple[_Position, _Relation] | None]) -> bool:
        """Read on in a file if `find` knows where; whether it is dealt with."""
        outcome: FileOutcome | None = None
        try:
            found = find(one)
            if found is None:
                return False
            position, relation = found
            if relation == "copy":
                self._note(one, position, is_copy=True)
            else:
                self._read(one, position)
        except _TooMuchError as error:
            outcome = self._too_much(one, *error.args)
        except FileNotFoundError:
            outcome = None  # moved away meanwhile: the next look finds it under its new name
        except (OSError, EOFError, zlib.error) as error:
            outcome = self._unreadable(one, error)
        except Exception as error:
            if not source.is_storage_error(error):
                raise
            outcome = self._unreadable(one, error)
        finally:
            one.rest()
        if outcome is not None:
            self.result.outcomes.append(outcome)
        return True

    # Which stream a file holds.

    def _by_inode(self, one: _Log) -> tuple[_Position, _Relation] | None:
        candidates = [
            position
            for stream_id, position in self.positions.items()
            if position.inode == _inode(one.file) and stream_id not in self.own
        ]
        # Of those that a truncated file held one after the other, the last.
        for position in sorted(candidates, key=lambda each: -(each.stream_id or 0)):
            relation = one.relation(position)
            if relation == "other" or (position.is_void and self._is_landed_again(one, position)):
                continue
            self.own[position.stream_id or 0] = one
            # Shorter than what was read: nothing is new, and the position stays.
            return position, "goes on"
        return None

    def _by_content(self, one: _Log) -> tuple[_Position, _Relation]:
        found: tuple[_Position, _Relation] = (_NEW, "other")
        if not one.piece(0, 1):
            return found
        for stream_id, position in self.positions.items():
            if position.is_void and not _is_rotated(one.file, position):
                continue
            own = self.own.get(stream_id)
            if len(one.head()) >= position.head_length or own is None:
                if not one.begins_like(position):
                    continue
                relation = one.relation(position) if own is None else one.compare(own)
            else:
                # Too short for the hash, but what it may be a copy of is there.
                relation = one.compare(own)
            if relation == "goes on":
                self.own[stream_id] = one
                return position, relation
            if relation == "copy":
                found = position, relation
        return found

    def _is_landed_again(self, one: _Log, position: _Position) -> bool:
        """Whether a file whose lines were all taken out was written anew: it is another time, and it has not grown."""
        is_same = one.file.stamp.modified_at == position.modified_at
        return not is_same and not one.length_at_least(position.to_offset + 1)

    # Reading.

    def _read(self, one: _Log, position: _Position) -> None:
        one.head()  # before its lines are read one after the other
        batch = _Batch(self.feed.reader(self.context), position)
        outcome = FileOutcome(one.file.label, self.feed.name, "loaded")
        # How many rejected lines may still be kept, once it matters.
        left: int | None = None
        if one.length_at_least(position.to_offset + 1):
            batch.tail = one.piece(
                max(0, position.to_offset - HEAD_BYTES), min(HEAD_BYTES, position.to_offset)
            )
            for piece in one.pieces(position.to_offset):
                if piece.too_long:
                    rejected = [Rejected(batch.line_count + 1, "", [_too_long(piece.size)])]
                    accepted = 0
                else:
                    accepted, rejected = batch.reader.take(without_fill(piece.block), batch.line_count + 1)
                if rejected and left is None:
                    left = self._left(position)
                batch.add(piece, accepted, rejected[:left], len(rejected))
                left = left if left is None else max(0, left - len(rejected))
                if self.tell is not None:
                    done = min(batch.to_offset, one.file.stamp.size)
                    self.tell(one.file, done, outcome.record_count + batch.record_count)
                if batch.is_full:
                    outcome, position = self._commit(one, batch, outcome, is_drained=False)
                    batch = _Batch(self.feed.reader(self.context), position, tail=batch.tail)
        if batch.to_offset > position.to_offset:
            outcome, position = self._commit(one, batch, outcome, is_drained=True)
        else:
            self._note(one, position, is_copy=False)
        if outcome.load_id is not None:
            self.result.outcomes.append(outcome)

    def _left(self, position: _Position) -> int:
        row = self.connection.execute(
            "select coalesce(sum(coalesce(rejected_kept, rejected_count)), 0) from raw.log_read"
            " where stream_id = %s",
            [position.stream_id],
        ).fetchone()
        return max(0, self.limits.rejected_kept - int(str(row[0])) if row else 0)

    def _commit(
        self, one: _Log, batch: _Batch, outcome: FileOutcome, *, is_drained: bool
    ) -> tuple[FileOutcome, _Position]:
        """Write a batch with the position that it ends at."""
        from pipelines.landing.write import Part, Writer

        rows = batch.reader.rows()
        with self.connection.transaction(), self.connection.cursor() as cursor:
            load_id = begin_load(cursor)
            writer = Writer(cursor, self.feed, one.file.label, load_id)
            for part in writer.ready(
                [Part(rows, batch.rejected, batch.rejected_count - len(batch.rejected))]
            ):
                writer.write(part)
            stream_id = batch.position.stream_id
            if stream_id is None:
                created = cursor.execute(
                    "insert into raw.log_stream (feed) values (%s) returning stream_id", [self.feed.name]
                ).fetchone()
                stream_id = cast("int", created[0]) if created else 0
            head = one.head()[: batch.to_offset]
            position = _Position(
                stream_id, batch.to_offset, batch.line_count, len(head), _sha256(head), _sha256(batch.tail),
                _inode(one.file), one.file.stamp.modified_at,
            )  # fmt: skip
            self._record(
                cursor, one, position, batch.position.to_offset,
                is_drained=is_drained, load_id=load_id, record_count=batch.record_count,
                rejected_count=batch.rejected_count, rejected_kept=writer.kept, row_count=rows.num_rows,
            )  # fmt: skip
            end_load(
                cursor, load_id, self.feed.name, one.file.label, batch.record_count, batch.rejected_count,
                months=writer.months, latest_at=writer.latest_at,
            )  # fmt: skip
        self.positions[stream_id] = position
        self.own[stream_id] = one
        for table, count in writer.gained.items():
            self.result.gained[table] = self.result.gained.get(table, 0) + count
        told = replace(
            outcome,
            load_id=load_id,
            record_count=outcome.record_count + batch.record_count,
            rejected_count=outcome.rejected_count + batch.rejected_count,
            rejected_kept=None
            if writer.kept is None and outcome.rejected_kept is None
            else (outcome.rejected_count if outcome.rejected_kept is None else outcome.rejected_kept)
            + len(batch.rejected),
        )
        return told, position

    def _note(self, one: _Log, position: _Position, *, is_copy: bool) -> None:
        """Remember that the file, as it is, has nothing new."""
        with self.connection.transaction(), self.connection.cursor() as cursor:
            here = replace(position, inode=_inode(one.file), modified_at=one.file.stamp.modified_at)
            self._record(cursor, one, here, position.to_offset, is_copy=is_copy, is_drained=True)
        if position.stream_id is not None and not is_copy:
            self.positions[position.stream_id] = here

    def _record(
        self, cursor: psycopg.Cursor[Any], one: _Log, position: _Position, from_offset: int, **rest: Any
    ) -> None:
        from psycopg import sql

        values = {
            "feed": self.feed.name,
            "path": one.file.label,
            "inode": position.inode,
            "size_bytes": one.file.stamp.size,
            "modified_at": one.file.stamp.modified_at,
            "stream_id": position.stream_id,
            "from_offset": from_offset,
            "to_offset": position.to_offset,
            "line_count": position.line_count,
            "head_length": position.head_length,
            "head_sha256": position.head_sha256,
            "tail_sha256": position.tail_sha256,
            **rest,
        }
        statement = sql.SQL("insert into raw.log_read ({}) values ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
        )
        cursor.execute(statement, list(values.values()))

    def _too_much(self, one: _Log, message: str, hint: str) -> FileOutcome:
        """What came of its beginning stays; the file is not looked at again until it changes."""
        outcome = FileOutcome(one.file.label, self.feed.name, "quarantined", message=message, hint=hint)
        with self.connection.transaction(), self.connection.cursor() as cursor:
            ledger.record(cursor, one.file, outcome, None)
        found = next((sid for sid, log in self.own.items() if log is one), None)
        self._note(one, self.positions.get(found or 0, _NEW), is_copy=False)
        return outcome

    def _unreadable(self, one: _Log, error: Exception) -> FileOutcome:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, PermissionError):
            hint = "Let the user that runs Duemark read it; the next ingest tries again."
        elif isinstance(error, zlib.error | gzip.BadGzipFile):
            hint = "What could be unpacked before is loaded; put a sound file in its place."
        else:
            hint = "Check the disk and the connection; the next ingest tries again."
        outcome = FileOutcome(
            one.file.label, self.feed.name, "quarantined", message=f"It cannot be read: {why}.", hint=hint
        )
        with self.connection.transaction(), self.connection.cursor() as cursor:
            ledger.record(cursor, one.file, outcome, None)
        return outcome


_FILL = re.compile(rb"^(?:\x00|\xef\xbb\xbf)+", re.MULTILINE)


def without_fill(block: bytes) -> bytes:
    """Whole lines without what others put before them: NULs where a log was cut under its writer, marks of UTF-8."""
    if b"\0" not in block and b"\xef\xbb\xbf" not in block:
        return block
    return _FILL.sub(b"", block)


def _too_long(size: int) -> Reason:
    return Reason(
        None,
        f"The line has {size:,} bytes.",
        f"At most {LONGEST_LINE:,}; it is stored nowhere, mend its writer.",
    )


@dataclass
class _Batch:
    """Lines read since `position`, and not yet written."""

    reader: LogReader
    position: _Position
    tail: bytes = b""
    record_count: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    # All of them, kept or not.
    rejected_count: int = 0

    def __post_init__(self) -> None:
        self.to_offset = self.position.to_offset
        self.line_count = self.position.line_count

    def add(self, piece: _Piece, accepted: int, rejected: list[Rejected], rejected_count: int) -> None:
        self.record_count += accepted
        self.rejected += rejected
        self.rejected_count += rejected_count
        self.to_offset += piece.size
        self.line_count += piece.line_count
        self.tail = (self.tail + piece.tail)[-HEAD_BYTES:]

    @property
    def is_full(self) -> bool:
        return (
            self.to_offset - self.position.to_offset >= BATCH_BYTES
            or len(self.rejected) >= BATCH_REJECTED
            or self.reader.row_count >= BATCH_ROWS
        )


@dataclass(frozen=True)
class _Piece:
    """Whole lines (`block`), one that is too long, or NULs before one; `tail` are its last bytes in the file."""

    size: int
    line_count: int
    tail: bytes
    block: bytes = b""
    too_long: bool = False


class _TooMuchError(Exception):
    """A packed file holds more than it may: message and way out."""


class _Log:
    """The bytes that a file holds, unpacked; opened when they are asked for."""

    def __init__(self, file: LandedFile, limits: Limits) -> None:
        self.file = file
        self._limits = limits
        self._raw: IO[bytes] | None = None
        self._unpacked: gzip.GzipFile | None = None
        self._at = 0
        self._head = b""
        self._length: int | None = None

    def close(self) -> None:
        for stream in (self._unpacked, self._raw):
            if stream is not None:
                with contextlib.suppress(Exception):
                    stream.close()
        self._raw = self._unpacked = None

    # Closed between uses: there may be more files than a process may open.
    rest = close

    def _seek(self, offset: int) -> None:
        if self._raw is None:
            self._raw = self.file.store.open(self.file.path)
            self._at = 0
            if self._raw.read(2) == GZIP:
                self._unpacked = gzip.GzipFile(fileobj=self._raw, mode="rb")
            self._raw.seek(0)
        if self._unpacked is None:
            self._raw.seek(offset)
            self._at = offset
            return
        if offset < self._at:
            self._raw.seek(0)
            self._unpacked = gzip.GzipFile(fileobj=self._raw, mode="rb")
            self._at = 0
        while self._at < offset and self._read(min(CHUNK_BYTES, offset - self._at)):
            pass

    def _read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end, which is that of what was written so far."""
        if self._unpacked is not None:
            try:
                data = self._unpacked.read1(size)
            except EOFError:
                data = b""
        else:
            data = cast("IO[bytes]", self._raw).read(size)
        self._at += len(data)
        if self._unpacked is not None and self._at > self._limits.most_unpacked(self.file.stamp.size):
            raise _TooMuchError(*self._limits.too_much(self.file.stamp.size))
        return data

    def piece(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer where the file ends."""
        self._seek(offset)
        if self._at < offset:
            return b""
        data = b""
        while len(data) < size and (more := self._read(size - len(data))):
            data += more
        return data

    def head(self) -> bytes:
        """The first 4 KiB, or what there was of them when the file was first looked at."""
        if not self._head:
            self._head = self.piece(0, HEAD_BYTES)
        return self._head

    def length_at_least(self, size: int) -> bool:
        if size <= 0:
            return True
        return len(self.piece(size - 1, 1)) == 1

    def length(self) -> int:
        """Unpacked bytes; of a packed file found out by unpacking it."""
        self._seek(0)
        if self._unpacked is None:
            return self.file.stamp.size
        while self._read(CHUNK_BYTES):
            pass
        return self._at

    def begins_like(self, position: _Position) -> bool:
        head = self.head()[: position.head_length]
        return len(head) == position.head_length and _sha256(head) == position.head_sha256

    def relation(self, position: _Position) -> _Relation:
        """Whether the stream can go on here; copy: the file ends before the position."""
        if not self.begins_like(position):
            return "other"
        size = min(HEAD_BYTES, position.to_offset)
        tail = self.piece(position.to_offset - size, size)
        if len(tail) < size:
            return "copy"
        return "goes on" if _sha256(tail) == position.tail_sha256 else "other"

    def compare(self, own: _Log) -> _Relation:
        """The same where the stream's own file is there, whose head is the same.

        goes on: all of `own` is the beginning of this one, which has more; copy: the other way round, or equal.
        """
        try:
            ours, theirs = self.length(), own.length()
            common = min(ours, theirs)
            start = max(0, common - HEAD_BYTES)
            if self.piece(start, common - start) != own.piece(start, common - start):
                return "other"
        finally:
            own.rest()
        return "goes on" if ours > theirs else "copy"

    def _chunk(self) -> bytes:
        """The next bytes; of a packed file too as many as are worth the while."""
        parts = [self._read(CHUNK_BYTES)]
        while self._unpacked is not None and parts[-1] and sum(map(len, parts)) < CHUNK_BYTES:
            parts.append(self._read(CHUNK_BYTES))
        return b"".join(parts)

    def pieces(self, offset: int) -> Iterator[_Piece]:
        """Whole lines from `offset` to the end of the file."""
        self._seek(offset)
        rest = b""
        dropped, tail = 0, b""
        while data := self._chunk():
            if dropped:
                cut = data.find(b"\n") + 1
                tail = (tail + (data[:cut] if cut else data))[-HEAD_BYTES:]
                if not cut:
                    dropped += len(data)
                    continue
                yield _Piece(dropped + cut, 1, tail, too_long=True)
                data, dropped = data[cut:], 0
            cut = data.rfind(b"\n") + 1
            # One copy, not three: what is left over is short.
            block = b"".join((rest, memoryview(data)[:cut])) if cut else b""
            rest = data[cut:] if cut else rest + data
            if block:
                yield from _cut(block)
            if len(rest) > LONGEST_LINE:
                bare = rest.lstrip(b"\0")
                if fill := len(rest) - len(bare):
                    # A hole as large as the log was before it was cut: the line begins behind it.
                    yield _Piece(fill, 0, bytes(min(fill, HEAD_BYTES)))
                    rest = bare
            if len(rest) > LONGEST_LINE:
                dropped, tail, rest = len(rest), rest[-HEAD_BYTES:], b""


def _cut(block: bytes) -> Iterator[_Piece]:
    """Pieces of a block of whole lines."""
    count = block.count(b"\n")
    if count <= MOST_LINES and not _has_long_line(block):
        yield _Piece(len(block), count, block[-HEAD_BYTES:], block)
        return
    import numpy as np

    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
    lengths = np.diff(ends, prepend=0)
    start = first = 0
    for place in [*np.flatnonzero(lengths - 1 > LONGEST_LINE).tolist(), len(ends)]:
        for begin in range(first, place, MOST_LINES):
            count = min(MOST_LINES, place - begin)
            end = int(ends[begin + count - 1])
            lines = block[start:end]
            yield _Piece(end - start, count, lines[-HEAD_BYTES:], lines)
            start = end
        if place < len(ends):
            end = int(ends[place])
            bare = block[start:end].lstrip(b"\0")
            too_long = len(bare) - 1 > LONGEST_LINE
            tail = block[max(start, end - HEAD_BYTES) : end]
            yield _Piece(end - start, 1, tail, b"" if too_long else bare, too_long=too_long)
            start, first = end, place + 1


def _has_long_line(block: bytes) -> bool:
    start = 0
    while len(block) - start > LONGEST_LINE + 1:
        end = block.rfind(b"\n", start, start + LONGEST_LINE + 1)
        if end < 0:
            return True
        start = end + 1
    return False
