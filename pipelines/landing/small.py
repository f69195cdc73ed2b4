"""Many small files in one load: what a load costs is paid once, and each file is still whole or not at all.

Consecutive files are read whole, those with the same header are read and checked as one, and all become one load, in
their order. A file's rows are those of its load from `landed_file.first_seq` on, as many as its `record_count`.
Whatever is odd about a file sends it the way of a file of its own; a fault in the middle does so with all of them.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.landing import ledger, source
from pipelines.landing.feed import Feed, FileError, Rejected
from pipelines.landing.formats.compressed import Unpacked, Unzipped
from pipelines.landing.formats.delimited import is_header
from pipelines.landing.formats.lines import MOST_LINES, is_text
from pipelines.landing.formats.read import chunk_of_lines, format_of
from pipelines.landing.formats.records import Warnings
from pipelines.landing.ledger import Entry, FileOutcome
from pipelines.landing.limits import Limits
from pipelines.landing.source import LandedFile
from pipelines.landing.write import Part, Writer, part_of
from pipelines.warehouse.loads import begin_load, end_load

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[object, ...]]

# A file that is not larger goes with others, until they are so many or so much.
SMALL_BYTES = 64 << 10
MOST_FILES = 1000
MOST_BYTES = 4 << 20

Positions = npt.NDArray[np.int64]


@dataclass
class Small:
    """A file that was read whole: its lines below the header (empty where a format has none), each with its end."""

    file: LandedFile
    fingerprint: str
    kind: str
    header: bytes
    body: bytes
    warnings: Warnings = field(default_factory=Warnings)

    @property
    def first_line(self) -> int:
        return 2 if self.kind == "csv" else 1

    @property
    def line_count(self) -> int:
        return self.body.count(b"\n")


def read_small(file: LandedFile, feed: Feed, limits: Limits) -> Small | None:
    """The file, if it is small and there is nothing odd about it as a whole."""
    if file.stamp.size > SMALL_BYTES or feed.shape != "columns":
        return None
    try:
        kind, gzipped = format_of(file.label, feed)
        if kind not in {"csv", "ndjson"}:
            return None
        with file.store.open(file.path) as stream:
            stamp = file.store.stamp(file.path, stream)
            data = stream.read(SMALL_BYTES + 1)
        # All of one state, or it is told that it changed.
        if not data or len(data) != stamp.size or file.store.stamp(file.path) != stamp:
            return None
        fingerprint = hashlib.sha256(data).hexdigest()
        if gzipped:
            unzipped = Unzipped(cast("IO[bytes]", io.BytesIO(data)), Unpacked(len(data), limits))
            data = unzipped.read(MOST_BYTES // 4)
            if unzipped.read(1):
                return None
    except FileError:
        return None
    except Exception as error:
        if not source.is_storage_error(error):
            raise
        return None
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not is_text(data, kind):
        return None
    warnings = Warnings()
    if not data.endswith(b"\n"):
        warnings.no_line_end(data.count(b"\n") + 1)
        data += b"\n"
    header, _, body = data.partition(b"\n") if kind == "csv" else (b"", b"", data)
    header = header.removesuffix(b"\r")
    if kind == "csv" and not is_header(header, feed):
        return None
    return Small(replace(file, stamp=stamp), fingerprint, kind, header.removesuffix(b"\r"), body, warnings)


def load_small(
    connection: Connection,
    smalls: Sequence[Small],
    feed: Feed,
    context: Any,
    retry: ledger.Retry,
    limits: Limits,
) -> tuple[list[FileOutcome | None], dict[str, int]]:
    """Load them: what became of each (None: another ingest was faster), and the rows that tables gained.

    Raises what a check or the database raises; nothing is loaded then.
    """
    read = _Read(len(smalls), limits.rejected_kept)
    for start, run in _runs(smalls):
        _read_run(run, start, feed, context, read)
    with connection.transaction(), connection.cursor() as cursor:
        load_id = begin_load(cursor)
        outcomes = _known(cursor, smalls, feed, retry, load_id)
        is_new = np.array([outcome is not None and outcome.status == "loaded" for outcome in outcomes])
        writer = Writer(cursor, feed, "", load_id)
        counts = np.zeros(len(smalls), dtype=np.int64)
        if is_new.any():
            rows, which = read.rows(is_new)
            counts = np.bincount(which, minlength=len(smalls))
            for batch in writer.ready([Part(rows, [])]):
                writer.write(batch)
            labels = [small.file.label for small in smalls]
            kept = [(labels[each], record) for each, record in read.rejected if is_new[each]]
            writer.write_rejected([record for _, record in kept], [label for label, _ in kept])
        first_seqs = np.cumsum(counts) - counts
        entries: list[Entry] = []
        firsts: dict[str, FileOutcome] = {}
        for position, small in enumerate(smalls):
            outcome = outcomes[position]
            if outcome is None:
                continue
            if is_new[position]:
                outcome = replace(
                    outcome,
                    record_count=int(counts[position]),
                    rejected_count=int(read.rejected_counts[position]),
                    rejected_kept=read.kept(position),
                    warnings=tuple(small.warnings.entries),
                )
                firsts[small.fingerprint] = outcome
            elif (first_one := firsts.get(small.fingerprint)) is not None:
                outcome = replace(
                    outcome,
                    record_count=first_one.record_count,
                    rejected_count=first_one.rejected_count,
                )
            outcomes[position] = outcome
            entries.append(Entry(small.file, outcome, small.fingerprint, int(first_seqs[position])))
        ledger.record_all(cursor, entries)
        if is_new.any():
            first = smalls[int(is_new.argmax())].file.label
            more = int(is_new.sum()) - 1
            end_load(
                cursor,
                load_id,
                feed.name,
                f"{first} and {more} more" if more else first,
                writer.record_count,
                int(read.rejected_counts[is_new].sum()),
                months=writer.months,
                latest_at=writer.latest_at,
            )
    return outcomes, writer.gained


class _Read:
    """Rows and rejected records of files, each with its file's position."""

    def __init__(self, count: int, most: int) -> None:
        self.rejected: list[tuple[int, Rejected]] = []
        self.rejected_counts = np.zeros(count, dtype=np.int64)
        self._most = most
        self._tables: list[pa.Table] = []
        self._which: list[Positions] = []

    def add(self, rows: pa.Table, which: Positions, rejected: list[tuple[int, Rejected]]) -> None:
        self._tables.append(rows)
        self._which.append(which)
        for position, record in rejected:
            if self.rejected_counts[position] < self._most:
                self.rejected.append((position, record))
            self.rejected_counts[position] += 1

    def rows(self, is_wanted: npt.NDArray[np.bool_]) -> tuple[pa.Table, Positions]:
        rows, which = pa.concat_tables(self._tables), np.concatenate(self._which)
        if is_wanted.all():
            return rows, which
        return rows.filter(pa.array(is_wanted[which])), which[is_wanted[which]]

    def kept(self, position: int) -> int | None:
        return self._most if self.rejected_counts[position] > self._most else None


def _runs(smalls: Sequence[Small]) -> Iterator[tuple[int, list[Small]]]:
    """Consecutive files that can be read as one, each run with the position of its first."""
    start = 0
    for _, alike in itertools.groupby(smalls, lambda small: (small.kind, small.header)):
        run: list[Small] = []
        lines = 0
        for small in alike:
            if run and lines + small.line_count > MOST_LINES:
                yield start, run
                start += len(run)
                run, lines = [], 0
            run.append(small)
            lines += small.line_count
        yield start, run
        start += len(run)


def _read_run(run: list[Small], start: int, feed: Feed, context: Any, read: _Read) -> None:
    warnings = Warnings()
    first = run[0]
    chunk = chunk_of_lines(
        first.kind, first.header, b"".join(small.body for small in run), feed, warnings, first.first_line
    )
    if chunk is None:
        return
    checked = feed.check(chunk.frame, context)
    if len(run) > 1 and (checked.notes or (warnings.entries and first.kind != "csv")):
        # What is told of a line is told of every file's first.
        for position, small in enumerate(run, start=start):
            _read_run([small], position, feed, context, read)
        return
    for small in run:
        small.warnings.entries[:0] = warnings.entries
    for note in checked.notes:
        first.warnings.note(int(chunk.frame.index[note.position]), note)
    part = part_of(chunk, checked, len(chunk.rejected) + len(chunk.frame))
    before = np.cumsum([0, *(small.line_count for small in run)], dtype=np.int64)[:-1]
    lines = part.rows.column("line_no").to_numpy()
    places = np.searchsorted(before, lines - first.first_line, side="right") - 1
    rows = part.rows.set_column(
        part.rows.schema.get_field_index("line_no"), "line_no", pa.array(lines - before[places])
    )
    rejected = []
    for record in part.rejected:
        place = int(np.searchsorted(before, record.line_no - first.first_line, side="right")) - 1
        rejected.append((start + place, replace(record, line_no=record.line_no - int(before[place]))))
    read.add(rows, places + start, rejected)


def _known(
    cursor: psycopg.Cursor[tuple[object, ...]],
    smalls: Sequence[Small],
    feed: Feed,
    retry: ledger.Retry,
    load_id: int,
) -> list[FileOutcome | None]:
    """The outcome of each: loaded (yet to be filled in), a duplicate, or None where another ingest was faster."""
    new = {file.path for file in ledger.unknown(cursor, [small.file for small in smalls], retry)}
    known = ledger.loads_of(cursor, feed.name, [small.fingerprint for small in smalls])
    outcomes: list[FileOutcome | None] = []
    for small in smalls:
        label = small.file.label
        if small.file.path not in new:
            outcomes.append(None)
        elif (duplicate := known.get(small.fingerprint)) is not None:
            outcomes.append(replace(duplicate, path=label))
        else:
            outcomes.append(FileOutcome(label, feed.name, "loaded", load_id))
            known[small.fingerprint] = ledger.duplicate_of(feed.name, load_id, label)
    return outcomes
