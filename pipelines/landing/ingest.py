"""Load what landed: one file, one transaction, exactly once; logs that grow are followed (`landing.follow`).

A crash at any point leaves all of a file or none of it; the same file again adds nothing; several ingests at once are
safe. What is wrong with a file is told in its outcome and stops no other file; DuemarkError is for what stops all:
the database does not answer, its disk is full, the landing folder cannot be listed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, cast

import psycopg
from psycopg import errors, sql

from pipelines.errors import DuemarkError
from pipelines.landing import known_feeds, ledger, source
from pipelines.landing.feed import Feed, FileError, NotYetError
from pipelines.landing.follow import follow
from pipelines.landing.formats.compressed import Unpacked
from pipelines.landing.formats.lines import BLOCK_BYTES
from pipelines.landing.formats.read import format_of, read_chunks
from pipelines.landing.formats.records import Warnings
from pipelines.landing.ledger import FileOutcome
from pipelines.landing.limits import Limits
from pipelines.landing.small import MOST_BYTES, MOST_FILES, Small, load_small, read_small
from pipelines.landing.source import LandedFile
from pipelines.landing.write import Batch, Part, Writer, part_of
from pipelines.logs import get_logger
from pipelines.warehouse.connect import connect
from pipelines.warehouse.loads import begin_load, end_load
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    Connection = psycopg.Connection[tuple[object, ...]]
    Cursor = psycopg.Cursor[tuple[object, ...]]

log = get_logger(__name__)

# So much of a file is read and checked before the load lock is taken: others wait for big files only.
HEAD_BYTES = 32 << 20
# Rows that a table (or partition) gains before it is analysed at once, not when autovacuum comes round.
ANALYZE_ROWS = 50_000


@dataclass(frozen=True)
class Progress:
    """How far an ingest is: bytes of the file under way, and which of how many files it is (from 1)."""

    path: str
    done_bytes: int
    total_bytes: int
    record_count: int
    file_number: int
    file_count: int


@dataclass(frozen=True)
class IngestReport:
    """What became of every file that was new, in the order in which they were taken, and what lies astray."""

    files: tuple[FileOutcome, ...]
    warnings: tuple[str, ...] = ()

    @property
    def loaded(self) -> tuple[FileOutcome, ...]:
        return tuple(outcome for outcome in self.files if outcome.status == "loaded")


def ingest(
    settings: Settings,
    paths: Sequence[str] | None = None,
    feeds: Iterable[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
    *,
    feed: str | None = None,
) -> IngestReport:
    """Load the files that landed, or those that `paths` name (files or folders, local or URLs).

    `feeds` limits it to some feeds' folders. `feed` says whose files `paths` are, where no folder's name does.
    `progress` is called after every chunk. Files named in `paths` are tried again even if they were quarantined.
    """
    wanted = list(feeds or ([feed] if feed else known_feeds.names()))
    for name in (*wanted, *([feed] if feed else ())):
        known_feeds.entry(name)
    limits = Limits.of(settings)
    warnings: list[str] = []
    began_at = datetime.now(UTC)
    if paths:
        files = source.named(paths, feed, settings.landing)
    else:
        files = source.landed(settings.landing, wanted)
        for name in source.strays(settings.landing):
            warnings.append(
                f"{name} in {settings.landing} is no folder: nothing of this feed is read."
                if name in known_feeds.names()
                else f"{name} lies in {settings.landing}, but in no feed's folder: it is not read."
            )
            log.warning("not in a feed's folder", landing=settings.landing, name=name)
    retry: ledger.Retry = "quarantined" if paths else "unread"
    refused = [file for file in files if file.refused]
    followed_feeds = known_feeds.followed()
    logs = [file for file in files if file.feed in followed_feeds and not file.refused]
    others = [file for file in files if file.feed not in followed_feeds and not file.refused]
    contexts: dict[str, Any] = {}
    for name in dict.fromkeys(file.feed for file in logs):
        try:
            contexts[name] = known_feeds.log_feed(name).context(settings)
        except NotYetError as error:
            if error.message not in warnings:
                warnings.append(error.message)
            log.warning("not read yet", feed=name, problem=error.message)
    logs = [file for file in logs if file.feed in contexts]
    outcomes: list[FileOutcome] = []
    with _database(outcomes), connect(settings, role="ingest", autocommit=True) as connection:
        with connection.cursor() as cursor:
            new = ledger.unknown(cursor, others, retry)
            for file in refused if paths else ledger.untold(cursor, refused):
                outcomes.append(_refuse(cursor, file))
                _log(outcomes[-1])
            if not paths:
                ledger.note_gone(cursor, settings.landing, wanted, files)
        gained: dict[str, int] = {}
        way = _Way(connection, settings, retry, limits, progress, len(new))
        for outcome in way.load(new):
            outcomes.append(outcome)
            _log(outcome)
        for table, rows in way.gained.items():
            gained[table] = gained.get(table, 0) + rows
        followed = follow(connection, logs, contexts, limits, _log_teller(progress, len(logs)))
        for outcome in followed.outcomes:
            outcomes.append(outcome)
            _log(outcome)
        for table, rows in followed.gained.items():
            gained[table] = gained.get(table, 0) + rows
        _analyze(connection, gained)
        if not paths and limits.loaded_files != "keep":
            warnings += _put_away(connection, settings.landing, others, set(new), limits)
        if not paths:
            incomplete = {outcome.feed for outcome in outcomes if outcome.status == "changed"}
            incomplete |= {file.feed for file in files} - {file.feed for file in [*others, *logs, *refused]}
            ledger.note_look(connection, set(wanted) - incomplete, began_at)
    return IngestReport(tuple(outcomes), tuple(warnings))


def _refuse(cursor: Cursor, file: LandedFile) -> FileOutcome:
    """Quarantine by name: what it holds is not looked at."""
    outcome = FileOutcome(
        file.label,
        file.feed,
        "quarantined",
        message=file.refused,
        hint="Put the file itself there; what is refused is never opened."
        if "link" in file.refused
        else "Let the user that runs Duemark list it."
        if "cannot" in file.refused
        else "Only files are loaded: take it away.",
    )
    ledger.record(cursor, file, outcome, None)
    return outcome


def _put_away(
    connection: Connection, landing: str, files: Sequence[LandedFile], new: Set[LandedFile], limits: Limits
) -> list[str]:
    """Archive or delete those of `files` that are loaded, and not changed since; what is in the way, as warnings.

    `new` are those that were loaded just now.
    """
    _, root = source.store_of(landing)
    problems: list[str] = []
    with connection.cursor() as cursor:
        loaded = ledger.loaded_as_they_are(cursor, files)
    for file, fingerprint in loaded.items():
        try:
            if file not in new and not _is_still(file, fingerprint):
                continue
            file.store.put_away(
                file.path, file.stamp, f"{root}/{file.feed}", is_kept=limits.loaded_files == "archive"
            )
        except FileNotFoundError:
            continue  # another ingest was faster
        except Exception as error:
            if not source.is_storage_error(error):
                raise
            problems.append(f"{file.label} is loaded, but cannot be put away: {error}.")
            log.warning("not put away", file=file.label, problem=str(error))
    return problems[:1] + ([f"So it is with {len(problems) - 1} more."] if len(problems) > 1 else [])


def _is_still(file: LandedFile, fingerprint: str) -> bool:
    """Whether a file that was loaded before has that content: object stores tell times by the second."""
    if file.stamp.modified_at.microsecond:
        return True
    with file.store.open(file.path) as stream:
        return _Content(stream).fingerprint() == fingerprint


def _teller(
    progress: Callable[[Progress], None], file: LandedFile, number: int, count: int
) -> Callable[[int, int], None]:
    def tell(done_bytes: int, record_count: int) -> None:
        progress(
            Progress(
                file.path, min(done_bytes, file.stamp.size), file.stamp.size, record_count, number, count
            )
        )

    return tell


def _log_teller(
    progress: Callable[[Progress], None] | None, count: int
) -> Callable[[LandedFile, int, int], None] | None:
    if progress is None:
        return None
    numbers: dict[str, int] = {}

    def tell(file: LandedFile, done_bytes: int, record_count: int) -> None:
        number = numbers.setdefault(file.path, len(numbers) + 1)
        progress(Progress(file.path, done_bytes, file.stamp.size, record_count, number, count))

    return tell


def _log(outcome: FileOutcome) -> None:
    facts = {"feed": outcome.feed, "file": outcome.path, "load": outcome.load_id}
    if outcome.status == "loaded":
        log.info("loaded", **facts, records=outcome.record_count, rejected=outcome.rejected_count)
        for warning in outcome.warnings:
            log.warning("warning", **facts, message=warning["message"], hint=warning["hint"])
    elif outcome.status == "duplicate":
        log.info("duplicate", **facts)
    else:
        log.warning(outcome.status, **facts, message=outcome.message, hint=outcome.hint)


@contextlib.contextmanager
def _database(outcomes: Sequence[FileOutcome]) -> Iterator[None]:
    """One clear error for what stops all: nothing is half loaded, and the files are still there."""
    try:
        yield
    except psycopg.Error as error:
        before = f"Files done before: {len(outcomes)}. " if outcomes else ""
        rest = f"{before}Nothing is half loaded; run it again, it goes on where it stopped."
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, errors.DiskFull):
            raise DuemarkError(
                f"The disk of the database is full: {text}.", f"Make room for it. {rest}"
            ) from error
        if isinstance(error, errors.UndefinedTable | errors.UndefinedFunction | errors.InvalidSchemaName):
            raise DuemarkError(
                f"The database is not up to date: {text}.", f"Run `duemark deploy`. {rest}"
            ) from error
        if isinstance(error, psycopg.OperationalError):
            raise DuemarkError(
                f"The database does not answer any more: {text}.", f"See that it runs. {rest}"
            ) from error
        raise DuemarkError(f"The database refused: {text}.", rest) from error


def _analyze(connection: Connection, gained: dict[str, int]) -> None:
    """Tell the planner of tables that grew much, before the tick reads them."""
    for table, rows in gained.items():
        if rows > ANALYZE_ROWS:
            connection.execute(sql.SQL("analyze {}").format(sql.Identifier(*table.split("."))))


@dataclass
class _Way:
    """The files of an ingest, in their order: small ones together, the others one by one."""

    connection: Connection
    settings: Settings
    retry: ledger.Retry
    limits: Limits
    progress: Callable[[Progress], None] | None
    file_count: int
    number: int = 0
    gained: dict[str, int] = field(default_factory=dict)
    contexts: dict[str, Any] = field(default_factory=dict)

    def load(self, files: Iterable[LandedFile]) -> Iterator[FileOutcome]:
        together: list[Small] = []
        size = 0
        for file in files:
            if len(together) >= MOST_FILES or size >= MOST_BYTES:
                yield from self._together(together)
                together, size = [], 0
            small = read_small(file, known_feeds.feed(file.feed), self.limits)
            if together and (small is None or file.feed != together[0].file.feed):
                yield from self._together(together)
                together, size = [], 0
            if small is None:
                yield from self._alone(file)
            else:
                together.append(small)
                size += len(small.body)
        if together:
            yield from self._together(together)

    def _together(self, smalls: list[Small]) -> Iterator[FileOutcome]:
        feed = known_feeds.feed(smalls[0].file.feed)
        outcomes: list[FileOutcome | None] = []
        gained: dict[str, int] = {}
        if len(smalls) > 1:
            try:
                outcomes, gained = load_small(
                    self.connection, smalls, feed, self._context(feed), self.retry, self.limits
                )
            except (FileError, psycopg.DataError, psycopg.IntegrityError) as error:
                log.info("small files go one by one", files=len(smalls), problem=str(error))
            except (DuemarkError, MemoryError, psycopg.Error):
                raise
            except Exception:
                # A defect of a check: whose file it was is found out one by one.
                log.info("small files go one by one", files=len(smalls), exc_info=True)
        if not outcomes:
            for small in smalls:
                yield from self._alone(small.file)
            return
        self._add(gained)
        for small, outcome in zip(smalls, outcomes, strict=True):
            self.number += 1
            if self.progress is not None and outcome is not None:
                size = small.file.stamp.size
                self.progress(
                    Progress(small.file.path, size, size, outcome.record_count, self.number, self.file_count)
                )
            if outcome is not None:
                yield outcome

    def _alone(self, file: LandedFile) -> Iterator[FileOutcome]:
        self.number += 1
        feed = known_feeds.feed(file.feed)
        loading = _Loading(self.connection, file, feed, self._context(feed), self.retry, self.limits)
        if self.progress is not None:
            loading.tell = _teller(self.progress, file, self.number, self.file_count)
        outcome = loading.run()
        self._add(loading.gained)
        if outcome is not None:
            yield outcome

    def _context(self, feed: Feed) -> Any:
        if feed.name not in self.contexts:
            self.contexts[feed.name] = feed.context(self.settings)
        return self.contexts[feed.name]

    def _add(self, gained: dict[str, int]) -> None:
        for table, rows in gained.items():
            self.gained[table] = self.gained.get(table, 0) + rows


class _KnownError(Exception):
    """Another ingest dealt with the file meanwhile."""


class _ChangedError(Exception):
    """The file changed while it was read."""


class _DuplicateError(Exception):
    """The same content is loaded."""

    def __init__(self, outcome: FileOutcome, fingerprint: str) -> None:
        self.outcome = outcome
        self.fingerprint = fingerprint


class _UnreadableError(Exception):
    """The file, or the place where it is, failed while it was read."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


@dataclass
class _Loading:
    """One file on its way into the database."""

    connection: Connection
    file: LandedFile
    feed: Feed
    context: Any
    retry: ledger.Retry
    limits: Limits
    tell: Callable[[int, int], None] | None = None
    # Rows added by table or partition, once they are committed.
    gained: dict[str, int] = field(default_factory=dict)
    warnings: Warnings = field(default_factory=Warnings)

    def run(self) -> FileOutcome | None:
        """Load the file; None when another ingest was faster."""
        try:
            stream = self.file.store.open(self.file.path)
            stamp = self.file.store.stamp(self.file.path, stream)
        except FileNotFoundError:
            return self._outcome("gone", "It was there when the folder was listed, and is not now.")
        except Exception as error:
            if not source.is_storage_error(error):
                raise
            return self._unreadable(error)
        self.file = replace(self.file, stamp=stamp)
        with stream:
            content = _Content(stream)
            try:
                return self._load(content)
            except _KnownError:
                return None
            except _DuplicateError as found:
                return self._note(found.outcome, found.fingerprint)
            except _ChangedError:
                return self._changed()
            except _UnreadableError as error:
                return self._unreadable(error.cause)
            except FileError as breach:
                outcome = self._outcome("quarantined", breach.message, breach.hint)
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                message = f"The database refused its records: {str(error).strip().splitlines()[0]}."
                outcome = self._outcome(
                    "quarantined", message, f"A defect of the feed {self.feed.name}: report it."
                )
            try:
                fingerprint = content.fingerprint()
            except _UnreadableError as error:
                return self._unreadable(error.cause)
            # Half a file that is being written is no breach.
            return self._changed() if self._has_changed() else self._note(outcome, fingerprint)

    def _load(self, content: _Content) -> FileOutcome:
        parts = self._parts(content)
        head: list[Part] = []
        is_whole = False
        while sum(part.size for part in head) < HEAD_BYTES:
            part = next(parts, None)
            if part is None:
                is_whole = True
                break
            head.append(part)
        connection, file = self.connection, self.file
        with connection.cursor() as cursor:
            if not is_whole and ledger.is_size_known(cursor, file):
                # Rather read twice than write a big file and take it back.
                with _reading(), file.store.open(file.path) as again:
                    self._refuse_known(cursor, _Content(again).fingerprint())
            with connection.transaction():
                load_id = begin_load(cursor)
                if not ledger.unknown(cursor, [file], self.retry):
                    raise _KnownError
                if is_whole:
                    self._refuse_known(cursor, content.fingerprint())
                writer = Writer(cursor, self.feed, file.label, load_id)
                batches = writer.ready(itertools.chain(head, parts))
                # Closed before anybody else reads on: the next part is being read.
                with contextlib.closing(batches if is_whole else _ahead(batches)) as ready:
                    for batch in ready:
                        writer.write(batch)
                        if self.tell is not None:
                            self.tell(content.done_bytes, writer.record_count)
                fingerprint = content.fingerprint()
                self._refuse_known(cursor, fingerprint)
                if self._has_changed():
                    raise _ChangedError
                outcome = replace(
                    self._outcome("loaded"),
                    load_id=load_id,
                    record_count=writer.record_count,
                    rejected_count=writer.rejected_count,
                    rejected_kept=writer.kept,
                )
                ledger.record(cursor, file, outcome, fingerprint)
                end_load(
                    cursor,
                    load_id,
                    self.feed.name,
                    file.label,
                    writer.record_count,
                    writer.rejected_count,
                    months=writer.months,
                    latest_at=writer.latest_at,
                )
        self.gained = writer.gained
        return outcome

    def _parts(self, content: _Content) -> Iterator[Part]:
        chunks = read_chunks(
            content.for_reading(self.file.path, self.feed),
            self.file.label,
            self.feed,
            self.warnings,
            Unpacked(self.file.stamp.size, self.limits),
        )
        most = self.limits.rejected_kept
        while True:
            with self._guarded("Reading the file"), _reading():
                chunk = next(chunks, None)
            if chunk is None:
                return
            with self._guarded(f"The check of the feed {self.feed.name}"):
                checked = self.feed.check(chunk.frame, self.context)
            for note in checked.notes:
                self.warnings.note(int(chunk.frame.index[note.position]), note)
            part = part_of(chunk, checked, most)
            most -= len(part.rejected)
            yield part

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """One file that our code cannot bear must not keep all others waiting for ever."""
        try:
            yield
        except (DuemarkError, _UnreadableError, MemoryError):
            raise
        except Exception as error:
            log.exception("defect", feed=self.feed.name, file=self.file.label)
            raise FileError(
                f"{what} failed: {type(error).__name__}: {error}.",
                f"A defect of ours: report it. Once repaired: duemark ingest {self.file.label}",
            ) from error

    def _refuse_known(self, cursor: Cursor, fingerprint: str) -> None:
        known = ledger.load_of(cursor, self.feed.name, fingerprint)
        if known is not None:
            raise _DuplicateError(replace(known, path=self.file.label), fingerprint)

    def _has_changed(self) -> bool:
        try:
            return self.file.store.stamp(self.file.path) != self.file.stamp
        except FileNotFoundError:
            return True
        except Exception as error:
            if not source.is_storage_error(error):
                raise
            return True

    def _outcome(self, status: ledger.Status, message: str = "", hint: str = "") -> FileOutcome:
        return FileOutcome(
            self.file.label,
            self.feed.name,
            status,
            message=message,
            hint=hint,
            warnings=tuple(self.warnings.entries),
        )

    def _changed(self) -> FileOutcome:
        return self._outcome(
            "changed",
            "It changed while it was read; nothing of it was loaded, the next ingest takes it.",
            "Write files under a name ending in .part, and rename them when they are complete.",
        )

    def _unreadable(self, error: Exception) -> FileOutcome:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        what = (
            "Let the user that runs Duemark read it"
            if isinstance(error, PermissionError)
            else "Check the disk and the connection"
        )
        outcome = self._outcome(
            "quarantined", f"It cannot be read: {why}.", f"{what}; the next ingest tries again."
        )
        return self._note(outcome, None)

    def _note(self, outcome: FileOutcome, fingerprint: str | None) -> FileOutcome:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            ledger.record(cursor, self.file, outcome, fingerprint)
        return outcome


def _ahead(batches: Iterator[Batch]) -> Generator[Batch]:
    """The same batches, the next one made while the database takes this one."""
    with ThreadPoolExecutor(1, "landing") as pool:
        upcoming = pool.submit(next, batches, None)
        while (batch := upcoming.result()) is not None:
            upcoming = pool.submit(next, batches, None)
            yield batch


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Tell a failure of the storage from every other."""
    try:
        yield
    except DuemarkError:
        raise
    except Exception as error:
        if not source.is_storage_error(error):
            raise
        raise _UnreadableError(error) from error


class _Content(io.RawIOBase):
    """The bytes of a file, with their sha256 as they are read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._sha256 = hashlib.sha256()
        self.done_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._stream.read(-1 if size is None else size)
        self._sha256.update(data)
        self.done_bytes += len(data)
        return data

    def for_reading(self, path: str, feed: Feed) -> IO[bytes]:
        """What the records are read from: Parquet jumps about, so it is digested before."""
        if format_of(path, feed) == ("parquet", False):
            self.fingerprint()
            self._stream.seek(0)
            return self._stream
        return cast("IO[bytes]", self)

    def fingerprint(self) -> str:
        """sha256 of the whole file: reads what is left of it."""
        with _reading():
            while self.read(BLOCK_BYTES):
                pass
        return self._sha256.hexdigest()
