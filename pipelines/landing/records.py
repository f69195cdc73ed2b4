"""Bytes -> chunks of records, in flat memory, with the line number of every record.

A record is one physical line (of Parquet: one row). A line that cannot be a record is rejected and the rest goes on;
only what breaks the file as a whole raises FileError.
"""

from __future__ import annotations

import csv
import difflib
import functools
import gzip
import io
import json
import math
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipelines.landing.feed import Feed, FileError, Mask, Note, Reason
from pipelines.landing.limits import Limits
from pipelines.landing.pages import BadPageError, Pages, read_pages

BLOCK_BYTES = 4 << 20
BATCH_ROWS = 50_000
# What a value takes at least, also where it is nothing.
VALUE_BYTES = 8
# Pages of Parquet that are in memory at once, and what a batch of texts that are written by differences may become.
LARGEST_PAGES = 256 << 20
DELTA_BYTES = 128 << 20
# Floats tell whole numbers apart up to here.
MOST_WHOLE = 2**53
# Seconds since 1970 of the years 1 and 10000.
FIRST_SECOND, END_SECOND = -62_135_596_800, 253_402_300_800
# Columns in which pandas keeps its index, when it is not told to leave it out.
INDEX = re.compile(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__")
LONGEST_LINE = 1 << 20
# Of a longer line so much is kept; all other rejected records are kept whole.
LONGEST_KEPT = 16 << 20
MOST_WARNINGS = 50
# Of short lines a block has no more than these: what is said of each takes more memory than the line.
MOST_LINES = 65_536
# Arrow takes kilobytes for each column, whatever is in it.
MOST_COLUMNS = 10_000
# More rejected lines than any file has.
ALL = 1 << 62
# Names and texts that are shown in messages.
MOST_SHOWN = 10

FORMATS = {
    "columns": {
        "csv": "csv",
        "tsv": "csv",
        "ndjson": "ndjson",
        "jsonl": "ndjson",
        "json": "ndjson",
        "parquet": "parquet",
    },
    "document": {"ndjson": "ndjson", "jsonl": "ndjson", "json": "ndjson"},
    "line": {"log": "line", "txt": "line"},
}
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}

Positions = npt.NDArray[np.int64]
TEXT = pd.StringDtype("pyarrow")


@dataclass(frozen=True)
class Rejected:
    """A record that is none: where it stood, the whole of it, and why."""

    line_no: int
    record: str
    reasons: list[Reason]


@dataclass(frozen=True)
class Chunk:
    """Some consecutive records.

    `frame`: text columns, the index is the line number; `record(position)` is the record as it came; `rejected` are
    the lines among them that are no records, `only_counted` how many more there are after these.
    """

    frame: pd.DataFrame
    record: Callable[[int], str]
    rejected: list[Rejected]
    only_counted: int = 0


class Warnings:
    """What is worth a word but stops nothing: one entry at most for each column or `key`, with line and way out."""

    def __init__(self) -> None:
        self.entries: list[dict[str, str | int | None]] = []
        self._seen: set[str] = set()

    def add(self, line: int, column: str | None, message: str, hint: str, key: str | None = None) -> None:
        key = key or (message if column is None else column)
        if not self.are_wanted(key):
            return
        self._seen.add(key)
        self.entries.append(
            {"line": line, "column": column and column[:200], "message": message, "hint": hint}
        )

    def note(self, line: int, note: Note) -> None:
        """What a check notes of the record on a line."""
        self.add(line, note.field, note.message, note.hint, f"{note.field}: {note.kind}")

    def no_line_end(self, line: int) -> None:
        self.add(
            line,
            None,
            "The last line has no line end.",
            "If the file was cut off there, deliver it again; else end every line with a line feed.",
        )

    def are_wanted(self, key: str) -> bool:
        """Whether another word of this column would be kept."""
        return key not in self._seen and len(self.entries) < MOST_WARNINGS


def format_of(name: str, feed: Feed) -> tuple[str, bool]:
    """Format ("csv", "ndjson", "parquet", "line") of a file by its name, and whether it is gzipped."""
    parts = name.lower().rsplit("/", 1)[-1].split(".")
    gzipped = len(parts) > 1 and parts[-1] == "gz"
    extension = parts[-2 if gzipped else -1] if len(parts) > 1 + gzipped else ""
    known = FORMATS[feed.shape]
    if extension not in known:
        raise FileError(
            f"Files of the feed {feed.name} do not end in .{extension}."
            if extension
            else "Its name tells no format.",
            f"Name it by what is in it: {', '.join('.' + e for e in known)}, gzipped with .gz after that.",
        )
    return known[extension], gzipped


@dataclass(frozen=True)
class Unpacked:
    """How much a file of `packed` bytes may hold; None of both: as much as it does."""

    packed: int = 0
    limits: Limits | None = None

    def check(self, size: int) -> None:
        """FileError when `size` bytes are more than it may hold."""
        if self.limits is not None and size > self.limits.most_unpacked(self.packed):
            raise FileError(*self.limits.too_much(self.packed))


def read_chunks(
    stream: IO[bytes], name: str, feed: Feed, warnings: Warnings, unpacked: Unpacked | None = None
) -> Iterator[Chunk]:
    """Read a file of `feed`, whose `name` tells the format, in chunks of some megabytes.

    `unpacked` bounds what compressed and Parquet files hold.

    Raises FileError, also in the middle, when the file as a whole cannot be taken, and OSError when `stream` does.
    """
    kind, gzipped = format_of(name, feed)
    unpacked = unpacked or Unpacked()
    if gzipped:
        stream = cast("IO[bytes]", Unzipped(stream, unpacked))
    if kind == "parquet":
        yield from _parquet(stream, feed, warnings, unpacked, spool=gzipped)
        return
    lines = _lines(stream, kind, warnings)
    most = unpacked.limits.rejected_kept if unpacked.limits is not None else ALL
    if kind == "csv":
        yield from _csv(lines, feed, warnings, most)
    elif kind == "ndjson":
        yield from _ndjson(lines, feed, warnings, most)
    else:
        yield from _plain(lines, feed)


def is_text(data: bytes, kind: str) -> bool:
    """Whether nothing about these bytes as a whole is odd, so that they can be read together with others alike."""
    try:
        _look(data, kind)
    except FileError:
        return False
    return b"\0" not in data


@functools.lru_cache(maxsize=64)
def is_header(line: bytes, feed: Feed) -> bool:
    """Whether a line names the columns of a feed."""
    try:
        _header(line, feed, Warnings())
    except FileError:
        return False
    return True


def chunk_of_lines(
    kind: str, header: bytes, data: bytes, feed: Feed, warnings: Warnings, first_line: int
) -> Chunk | None:
    """Whole lines of CSV below a header, or of NDJSON, as one chunk; None of no lines.

    Raises FileError when the header is none.
    """
    names = _header(header, feed, warnings) if kind == "csv" else None
    if not data:
        return None
    block = _block(data, first_line)
    if names is not None:
        return _csv_chunk(block, names, feed, 0, ALL)
    return next(_ndjson(iter([block]), feed, warnings, ALL))


class Unzipped(io.BufferedIOBase):
    """A gzip stream that says in our words what is wrong with it."""

    def __init__(self, stream: IO[bytes], unpacked: Unpacked) -> None:
        self._inner = gzip.GzipFile(fileobj=stream)
        self._unpacked = unpacked
        self._size = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            data = self._inner.read(size)
            self._size += len(data)
            self._unpacked.check(self._size)
            return data
        except EOFError:
            raise FileError(
                "The gzip file is cut off: it ends before its end mark.",
                "Deliver it again, under a name ending in .part until it is whole.",
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FileError(f"The gzip file is damaged: {error}.", "Deliver it again.") from None


# --- lines ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """Whole lines: the bytes, and where each line begins and ends (without its line end)."""

    data: bytes
    first_line: int
    starts: Positions
    ends: Positions

    def line(self, index: int) -> bytes:
        return self.data[self.starts[index] : self.ends[index]]

    def at(self, places: Positions) -> Positions:
        """Index of the line of each of these byte positions."""
        return np.searchsorted(self.starts, places, side="right") - 1

    def holders(self, places: Positions) -> Positions:
        """Indexes of the lines that hold these byte positions."""
        return np.unique(self.at(places))

    def places(self, byte: int) -> Positions:
        return np.flatnonzero(np.frombuffer(self.data, dtype=np.uint8) == byte)


class _LongLine:
    """A line that no block holds, put together part by part."""

    def __init__(self, line_no: int) -> None:
        self._line_no = line_no
        self._kept = bytearray()
        self._length = 0
        self._last = b""

    def add(self, part: bytes) -> None:
        self._kept += part[: max(0, LONGEST_KEPT - len(self._kept))]
        self._length += len(part)
        self._last = part[-1:] or self._last

    def rejected(self) -> Rejected:
        length = self._length - (self._last == b"\r")
        kept = bytes(self._kept[:length])
        cut = "" if length == len(kept) else f"; the first {len(kept):,} are kept"
        return Rejected(self._line_no, _text(kept), [_too_long(length, cut)])


def _too_long(length: int, cut: str = "") -> Reason:
    return Reason(
        None,
        f"The line has {length:,} bytes, {LONGEST_LINE:,} are allowed{cut}.",
        "Is a line end missing? One record a line.",
    )


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _block(data: bytes, first_line: int) -> _Block:
    raw = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw == 10)
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    trimmed = ends - ((ends > starts) & (raw[np.maximum(ends - 1, 0)] == 13))
    return _Block(data, first_line, starts, trimmed)


def _blocks(data: bytes, first_line: int) -> Iterator[_Block]:
    """Blocks of the whole lines in `data`, none of them with too many."""
    if data.count(b"\n") <= MOST_LINES:
        yield _block(data, first_line)
        return
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 10)[MOST_LINES - 1 :: MOST_LINES] + 1
    start = 0
    for end in [*ends.tolist(), len(data)]:
        if end > start:
            yield _block(data[start:end], first_line)
            first_line += MOST_LINES
            start = end


def _lines(stream: IO[bytes], kind: str, warnings: Warnings) -> Iterator[_Block | _LongLine]:
    """Cut a stream into blocks of whole lines; a line longer than a block comes by itself."""
    data = _read(stream)
    _look(data, kind)
    data = data.removeprefix(b"\xef\xbb\xbf")
    line_no = 1
    carry = b""
    long: _LongLine | None = None
    while data:
        if long is not None:
            part, end, data = data.partition(b"\n")
            long.add(part)
            if end:
                yield long
                line_no += 1
                long = None
            data = data or _read(stream)
            continue
        data = carry + data
        cut = data.rfind(b"\n") + 1
        if cut:
            for block in _blocks(data[:cut], line_no):
                yield block
                line_no += len(block.starts)
        carry = data[cut:]
        if len(carry) > LONGEST_LINE:
            long = _LongLine(line_no)
            long.add(carry)
            carry = b""
        data = _read(stream)
    if long is not None:
        yield long
    elif carry:
        warnings.no_line_end(line_no)
        yield _block(carry, line_no)


def _read(stream: IO[bytes]) -> bytes:
    """A whole block, less only at the end: streams may give fewer bytes than asked for."""
    data = stream.read(BLOCK_BYTES)
    if not data or len(data) == BLOCK_BYTES:
        return data
    parts, size = [data], len(data)
    while size < BLOCK_BYTES and (data := stream.read(BLOCK_BYTES - size)):
        parts.append(data)
        size += len(data)
    return b"".join(parts)


def _look(head: bytes, kind: str) -> None:
    """Refuse what is not text in UTF-8 at all."""
    if not head.removeprefix(b"\xef\xbb\xbf").strip():
        raise FileError(
            "The file is empty.", "Deliver it again; a CSV file without records still has its header."
        )
    for magic, what, hint in (
        (b"\x1f\x8b", "gzip", "Let its name end in .gz."),
        (b"PAR1", "Parquet", "Let its name end in .parquet."),
        (b"PK\x03\x04", "a zip archive or workbook", f"Unpack it, or save it as {kind.upper()}."),
    ):
        if head.startswith(magic):
            raise FileError(f"The file is {what}, not {kind.upper()} text.", hint)
    start = head[:4096]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or start.count(b"\0") * 4 > len(start):
        raise FileError(
            "The file is UTF-16 or binary, not UTF-8 text.", "Write it as UTF-8: iconv -f UTF-16 -t UTF-8."
        )
    if kind == "ndjson" and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        raise FileError(
            "The file is a JSON array; one object a line is wanted.", "Write it as NDJSON: jq -c '.[]'."
        )


def _screen(block: _Block) -> dict[int, list[Reason]]:
    """Lines that are no text: too long, with NUL bytes, not UTF-8."""
    bad: dict[int, list[Reason]] = {}
    for index in np.flatnonzero(block.ends - block.starts > LONGEST_LINE).tolist():
        bad[index] = [_too_long(int(block.ends[index] - block.starts[index]))]
    if b"\0" in block.data:
        for index in block.holders(block.places(0)).tolist():
            column = block.line(index).index(b"\0") + 1
            reason = Reason(
                None, f"The line has a NUL byte, the first at byte {column}.", "Remove it at the sender."
            )
            bad.setdefault(index, []).append(reason)
    if block.data.isascii():
        return bad
    try:
        block.data.decode()
    except UnicodeDecodeError:
        high = np.flatnonzero(np.frombuffer(block.data, dtype=np.uint8) >= 0x80)
        for index in block.holders(high).tolist():
            line = block.line(index)
            try:
                line.decode()
            except UnicodeDecodeError as error:
                reason = Reason(
                    None,
                    f"The line is not UTF-8: byte 0x{line[error.start]:02x} at byte {error.start + 1}.",
                    "Write the file as UTF-8 (it looks like another encoding, Latin-1 for instance).",
                )
                bad.setdefault(index, []).append(reason)
    return bad


def _candidates(block: _Block, bad: dict[int, list[Reason]], shortest: int = 1) -> Positions:
    """Indexes of the lines to be parsed: neither bad nor blank (only lines below `shortest` bytes are looked at)."""
    keep = block.ends > block.starts
    for index in np.flatnonzero(keep & (block.ends - block.starts < shortest)).tolist():
        keep[index] = bool(block.line(index).strip())
    keep[list(bad)] = False
    return np.flatnonzero(keep)


def _chunk(
    block: _Block,
    kept: Positions,
    columns: dict[str, pa.ChunkedArray],
    bad: dict[int, list[Reason]],
    only_counted: int = 0,
) -> Chunk:
    """Put a chunk together from the columns of the lines `kept` and the lines that are `bad`."""
    frame = pd.DataFrame(
        {
            name: pd.Series(column.to_pandas(types_mapper=lambda _: TEXT), copy=False)
            for name, column in columns.items()
        }
    )
    frame.index = pd.Index(kept + block.first_line, name="line_no")
    rejected = [
        Rejected(block.first_line + i, _text(block.line(i)), reasons) for i, reasons in sorted(bad.items())
    ]
    return Chunk(frame, lambda position: _text(block.line(int(kept[position]))), rejected, only_counted)


def _only_rejected(feed: Feed, rejected: list[Rejected]) -> Chunk:
    frame = pd.DataFrame({name: pd.Series([], dtype=TEXT) for name in feed.frame_columns})
    return Chunk(frame, str, rejected)


# --- columns --------------------------------------------------------------------------------------------------------


def _folded(name: str) -> str:
    return name.strip().casefold()


def _names(feed: Feed) -> dict[str, str]:
    """Every name and alias, folded -> the column's name."""
    return {_folded(name): column.name for column in feed.columns for name in (column.name, *column.aliases)}


def _unknown(feed: Feed, name: str, line: int, warnings: Warnings) -> None:
    if not warnings.are_wanted(name):
        return
    known = _names(feed)
    spelled = {_folded(n): n for column in feed.columns for n in (column.name, *column.aliases)}
    near = difflib.get_close_matches(_folded(name[:200]), known, n=1, cutoff=0.6)
    meant = f" Is {spelled[near[0]]} meant?" if near else ""
    warnings.add(
        line,
        name,
        f"Line {line}: the feed {feed.name} has no column {_shown(name)}; its values are not loaded.{meant}"
        if name.strip()
        else f"Line {line}: a column has no name; its values are not loaded.",
        "If they were to be loaded, rename it and deliver the file again; otherwise nothing needs doing.",
    )


def _resolve(names: Sequence[str], feed: Feed, where: str, warnings: Warnings) -> dict[str, int]:
    """Feed columns -> positions among the `names` of a file. FileError when one is missing or there twice."""
    if len(names) > MOST_COLUMNS:
        raise FileError(
            f"{where} has {len(names):,} columns, {MOST_COLUMNS:,} are allowed.",
            "Is it turned on its side? One record a line.",
        )
    known = _names(feed)
    found: dict[str, int] = {}
    seen: set[str] = set()
    for position, name in enumerate(names):
        column = known.get(_folded(name))
        if column is not None and column in found:
            other = names[found[column]]
            twice = (
                f"{_shown(name)} twice"
                if _folded(other) == _folded(name)
                else f"{_shown(other)} and {_shown(name)}, which are one column"
            )
            raise FileError(f"{where} has {twice}.", "Leave one of them out and deliver the file again.")
        if column is not None:
            found[column] = position
        elif _folded(name) in seen and name.strip():
            raise FileError(
                f"{where} has {_shown(name)} twice.", "Leave one of them out and deliver the file again."
            )
        seen.add(_folded(name))
    wanted = f"Wanted are {', '.join(column.name for column in feed.columns)}, in any order."
    if not found:
        raise FileError(
            f"{where} names no column of the feed {feed.name}: {_shown(','.join(names))}.", wanted
        )
    missing = [column.name for column in feed.columns if column.required and column.name not in found]
    unknown = [name for name in names if _folded(name) not in known]
    if missing:
        extra = f" It has {_listed(map(_shown, unknown))}, which the feed does not know." if unknown else ""
        raise FileError(f"{where} lacks {', '.join(missing)}.{extra}", wanted)
    for position, name in enumerate(names):
        is_index = INDEX.fullmatch(name) or (position == 0 and not name.strip())
        if _folded(name) not in known and not is_index:
            _unknown(feed, name, 1, warnings)
    return found


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - MOST_SHOWN:,} more" if len(shown) > MOST_SHOWN else ""
    return ", ".join(shown[:MOST_SHOWN]) + more


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "…")


# --- CSV ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Header:
    delimiter: str
    names: list[str]
    columns: dict[str, int]


def _csv(lines: Iterator[_Block | _LongLine], feed: Feed, warnings: Warnings, most: int) -> Iterator[Chunk]:
    header: _Header | None = None
    for block in lines:
        if isinstance(block, _LongLine):
            if header is None:
                raise FileError(
                    "Line 1 is no header: it has more than a megabyte.", "The first line names the columns."
                )
            yield _only_rejected(feed, [block.rejected()])
            continue
        skip = 0
        if header is None:
            while skip < len(block.starts) and not block.line(skip).strip():
                skip += 1
            if skip == len(block.starts):
                continue
            header = _header(block.line(skip), feed, warnings)
            skip += 1
        yield _csv_chunk(block, header, feed, skip, most)
    if header is None:
        raise FileError("The file is empty.", "A CSV file without records still has its header.")


def _header(line: bytes, feed: Feed, warnings: Warnings) -> _Header:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise FileError("Line 1, the header, is not UTF-8 text.", "Write the file as UTF-8.") from None
    if "\r" in text:
        raise FileError("Lines end in a carriage return alone.", "Write the file with line feeds.")
    known = _names(feed)
    best: tuple[int, str, list[str]] = (-1, ",", [])
    for delimiter in DELIMITERS:
        try:
            names = next(csv.reader([text], delimiter=delimiter, strict=True))
        except csv.Error:
            continue
        hits = sum(_folded(name) in known for name in names)
        if hits > best[0]:
            best = (hits, delimiter, names)
    _, delimiter, names = best
    if not names:
        raise FileError(f"Line 1 is no header: {_shown(text)}.", "The first line names the columns.")
    return _Header(delimiter, names, _resolve(names, feed, "Line 1, the header,", warnings))


def _csv_chunk(block: _Block, header: _Header, feed: Feed, skip: int, most: int) -> Chunk:
    bad = _screen(block)
    width = len(header.names)
    wanted = [column.name for column in feed.columns if column.name in header.columns]
    candidates = _candidates(block, bad, shortest=width - 1)
    candidates = candidates[candidates >= skip]
    bad = {index: reasons for index, reasons in bad.items() if index >= skip}

    careful, fields = _shape_of_lines(block, header.delimiter)
    plain = candidates[~careful[candidates]]
    wrong = plain[fields[plain] != width]
    # No word of what nobody would keep: of a file of nothing else it would take minutes.
    for index in wrong[:most].tolist():
        bad[index] = [_wrong_width(int(fields[index]), header)]
    plain = plain[fields[plain] == width]

    table = _plain_fields(block, plain, header, wanted)
    order = plain
    if careful.any():
        rows, quoted = _careful_fields(block, candidates[careful[candidates]], header, bad)
        if rows:
            columns = list(zip(*rows, strict=True))
            more = pa.table({name: pa.array(columns[header.columns[name]], pa.string()) for name in wanted})
            order = np.concatenate([plain, quoted])
            by_line = np.argsort(order, kind="stable")
            table = pa.concat_tables([table, more]).take(pa.array(by_line))
            order = order[by_line]
    missing = pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    columns_of = {
        column.name: table.column(column.name) if column.name in header.columns else missing
        for column in feed.columns
    }
    return _chunk(block, order, columns_of, bad, max(0, len(wrong) - most))


def _shape_of_lines(block: _Block, delimiter: str) -> tuple[Mask, Positions]:
    """Lines that take the careful way, and the number of fields of all others.

    Careful are lines with a carriage return inside, and those where quotes do anything but stand around whole fields.
    """
    careful = np.zeros(len(block.starts), dtype=bool)
    if b"\r" in block.data:
        returns = block.places(13)
        careful[block.holders(returns[block.ends[block.at(returns)] > returns])] = True
    delimiters = block.places(ord(delimiter))
    if b'"' in block.data:
        quotes = block.places(34)
        careful |= np.bincount(block.at(quotes), minlength=len(block.starts)) % 2 == 1
        quotes = quotes[~careful[block.at(quotes)]]
        raw = np.frombuffer(block.data, dtype=np.uint8)
        opening, closing = quotes[0::2], quotes[1::2]
        at_start = (opening == block.starts[block.at(opening)]) | (raw[opening - 1] == ord(delimiter))
        at_end = closing + 1 == block.ends[block.at(closing)]
        at_end |= raw[np.minimum(closing + 1, len(raw) - 1)] == ord(delimiter)
        careful[block.at(opening[~(at_start & at_end)])] = True
        delimiters = delimiters[np.searchsorted(quotes, delimiters) % 2 == 0]
    return careful, np.searchsorted(delimiters, block.ends) - np.searchsorted(delimiters, block.starts) + 1


def _wrong_width(count: int, header: _Header) -> Reason:
    names = header.names
    if count > len(names):
        hint = f"A {DELIMITERS[header.delimiter]} inside a value? Put the value in double quotes."
    else:
        hint = f"{_listed(names[count:])} {'is' if len(names) - count == 1 else 'are'} missing."
    return Reason(None, f"The line has {count} fields, the header has {len(names)}.", hint)


def _plain_fields(block: _Block, lines: Positions, header: _Header, wanted: list[str]) -> pa.Table:
    """Fields of lines of the right width, where quotes stand around whole fields only."""
    if not len(lines):
        return pa.table({name: pa.array([], pa.string()) for name in wanted})
    if len(lines) == len(block.starts):
        data = block.data
    else:
        spans = zip(block.starts[lines].tolist(), block.ends[lines].tolist(), strict=True)
        data = b"\n".join(block.data[start:end] for start, end in spans)
    # By position: names of a header may repeat.
    names = [f"f{position}" for position in range(len(header.names))]
    include = [f"f{header.columns[name]}" for name in wanted]
    table = pa_csv.read_csv(
        pa.BufferReader(data),
        pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
        pa_csv.ParseOptions(
            delimiter=header.delimiter,
            quote_char='"' if b'"' in data else False,
            double_quote=False,
            ignore_empty_lines=False,
        ),
        pa_csv.ConvertOptions(
            include_columns=include,
            column_types=dict.fromkeys(include, pa.string()),
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    if table.num_rows != len(lines):
        raise AssertionError(f"{len(lines)} lines became {table.num_rows} records")
    return table.rename_columns(wanted)


def _careful_fields(
    block: _Block, lines: Positions, header: _Header, bad: dict[int, list[Reason]]
) -> tuple[list[list[str]], Positions]:
    """Fields of lines with doubled or stray quotes; lines that do not parse go to `bad`."""
    if csv.field_size_limit() < LONGEST_LINE:
        csv.field_size_limit(LONGEST_LINE)
    texts = [block.line(index).decode() for index in lines.tolist()]
    try:
        rows = list(csv.reader(texts, delimiter=header.delimiter, strict=True))
    except csv.Error:
        rows = []
    if len(rows) != len(texts):
        # An open quote somewhere would swallow the lines below it: each by itself.
        rows = []
        for index, text in zip(lines.tolist(), texts, strict=True):
            try:
                rows.append(next(csv.reader([text], delimiter=header.delimiter, strict=True)))
            except csv.Error as error:
                rows.append([])
                bad[index] = [_unparsable(str(error))]
    good: list[list[str]] = []
    kept: list[int] = []
    for index, row in zip(lines.tolist(), rows, strict=True):
        if len(row) == len(header.names):
            good.append(row)
            kept.append(index)
        elif index not in bad:
            bad[index] = [_wrong_width(len(row), header)]
    return good, np.array(kept, dtype=np.int64)


def _unparsable(error: str) -> Reason:
    if "unexpected end" in error:
        return Reason(
            None,
            "A double quote is opened and not closed on the line.",
            "One record a line; a quote in a value is doubled.",
        )
    if "new-line" in error:
        return Reason(
            None, "The line has a carriage return in it.", "Put the value in double quotes, or remove it."
        )
    return Reason(
        None, "Something follows a closing double quote.", "A quote inside a quoted value is doubled."
    )


# --- NDJSON and plain lines -----------------------------------------------------------------------------------------


def _ndjson(
    lines: Iterator[_Block | _LongLine], feed: Feed, warnings: Warnings, most: int
) -> Iterator[Chunk]:
    keys = _Keys(feed, warnings)
    for block in lines:
        if isinstance(block, _LongLine):
            yield _only_rejected(feed, [block.rejected()])
            continue
        bad = _screen(block)
        kept: list[int] = []
        objects: list[dict[str, Any]] = []
        described = only_counted = 0
        for index in _candidates(block, bad, shortest=8).tolist():
            line = block.line(index)
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                described += 1
                if described > most:
                    only_counted += 1
                    continue
                bad[index] = [
                    Reason(
                        None,
                        f"The line is no JSON: {error.msg} at character {error.colno}.",
                        "One object a line.",
                    )
                ]
                continue
            if isinstance(value, dict):
                kept.append(index)
                objects.append(value)
                continue
            described += 1
            if described > most:
                only_counted += 1
            else:
                bad[index] = [
                    Reason(None, f"The line is a JSON {_kind(value)}, not an object.", "One object a line.")
                ]
        if feed.shape == "document":
            chunk = _documents(block, kept, objects, bad)
        else:
            chunk = _json_chunk(block, kept, objects, bad, keys)
        yield replace(chunk, only_counted=only_counted) if only_counted else chunk


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _has_nul(value: object) -> bool:
    # No recursion: orjson takes more levels than Python.
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str) and "\0" in one:
            return True
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
    return False


_NUL = "A NUL character stands in the value."
_NUL_HINT = "Remove it at the sender; the database cannot keep it."


def _documents(
    block: _Block, kept: list[int], objects: list[dict[str, Any]], bad: dict[int, list[Reason]]
) -> Chunk:
    if b"\\u0000" in block.data:
        for index, value in zip(kept, objects, strict=True):
            if _has_nul(value):
                bad[index] = [Reason(None, _NUL, _NUL_HINT)]
        kept = [index for index in kept if index not in bad]
    texts = pa.chunked_array([pa.array([block.line(index).decode().strip() for index in kept], pa.string())])
    return _chunk(block, np.array(kept, dtype=np.int64), {"document": texts}, bad)


class _Keys:
    """Keys of JSON objects -> columns, remembered: objects of a file mostly have the same keys."""

    def __init__(self, feed: Feed, warnings: Warnings) -> None:
        self.feed = feed
        self._warnings = warnings
        self._known = _names(feed)
        self._cache: dict[tuple[str, ...], tuple[dict[str, str], list[Reason]]] = {}
        self._cached = 0

    def resolve(self, keys: tuple[str, ...], line_no: int) -> tuple[dict[str, str], list[Reason]]:
        """Column -> key, and what is wrong with these keys."""
        found = self._cache.get(keys)
        if found is None:
            columns: dict[str, str] = {}
            reasons: list[Reason] = []
            for key in keys:
                column = self._known.get(_folded(key))
                if column is None:
                    _unknown(self.feed, key, line_no, self._warnings)
                elif column in columns:
                    message = f"{_shown(columns[column])} and {_shown(key)} are one column."
                    reasons.append(Reason(column, message, "Leave one of them out."))
                else:
                    columns[column] = key
            found = (columns, reasons)
            self._cached += sum(map(len, keys)) + len(keys)
            if self._cached < 4 << 20:
                self._cache[keys] = found
        return found


def _json_chunk(
    block: _Block, kept: list[int], objects: list[dict[str, Any]], bad: dict[int, list[Reason]], keys: _Keys
) -> Chunk:
    names = keys.feed.frame_columns
    shapes = {tuple(value) for value in objects}
    values: dict[str, list[Any]]
    if len(shapes) == 1:
        columns, reasons = keys.resolve(shapes.pop(), block.first_line + kept[0])
        values = {
            name: [value.get(columns[name]) for value in objects]
            if name in columns
            else [None] * len(objects)
            for name in names
        }
        if reasons:
            bad.update((index, list(reasons)) for index in kept)
    else:
        values = {name: [] for name in names}
        for index, value in zip(kept, objects, strict=True):
            columns, reasons = keys.resolve(tuple(value), block.first_line + index)
            for name in names:
                values[name].append(value.get(columns[name]) if name in columns else None)
            if reasons:
                bad[index] = list(reasons)
    # Reasons that stand in `bad` by now belong to lines of `kept` as well: those are dropped below.
    arrays: dict[str, pa.Array] = {}
    for name in names:
        try:
            arrays[name] = pa.array(values[name], pa.string())
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            arrays[name] = _texts(block, kept, name, values[name], bad, keys)
    if b"\\u0000" in block.data:
        for name, array in arrays.items():
            for position in np.flatnonzero(
                pc.fill_null(pc.match_substring(array, "\0"), False).to_numpy(False)
            ).tolist():
                bad.setdefault(kept[position], []).append(Reason(name, _NUL, _NUL_HINT))
    good = [position for position, index in enumerate(kept) if index not in bad] if bad else None
    lines = np.array(kept, dtype=np.int64)
    if good is not None:
        lines = lines[good]
        arrays = {name: array.take(pa.array(good, pa.int64())) for name, array in arrays.items()}
    return _chunk(block, lines, {name: pa.chunked_array([array]) for name, array in arrays.items()}, bad)


def _texts(
    block: _Block, kept: list[int], name: str, values: list[Any], bad: dict[int, list[Reason]], keys: _Keys
) -> pa.Array:
    """Texts of a column that has other values too: a number is taken as it is written, anything else is a breach."""
    result: list[str | None] = []
    for index, value in zip(kept, values, strict=True):
        if value is None or isinstance(value, str):
            result.append(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            # Read again: 1e3, 1.50 and twenty digits are to stay what they are.
            try:
                written = json.loads(block.line(index), parse_int=str, parse_float=str)
            except RecursionError:
                result.append(None)
                bad.setdefault(index, []).append(
                    Reason(None, "The line is nested too deeply.", "One flat object a line.")
                )
                continue
            columns, _ = keys.resolve(tuple(written), block.first_line + index)
            result.append(written[columns[name]])
        else:
            result.append(None)
            reason = Reason(
                name, f"{name} is a JSON {_kind(value)}; text is wanted.", "Write it as a string."
            )
            bad.setdefault(index, []).append(reason)
    return pa.array(result, pa.string())


def _plain(lines: Iterator[_Block | _LongLine], feed: Feed) -> Iterator[Chunk]:
    for block in lines:
        if isinstance(block, _LongLine):
            yield _only_rejected(feed, [block.rejected()])
            continue
        bad = _screen(block)
        kept = _candidates(block, bad, shortest=LONGEST_LINE)
        texts = pa.array([block.line(index).decode().strip() for index in kept.tolist()], pa.string())
        yield _chunk(block, kept, {"line": pa.chunked_array([texts])}, bad)


# --- Parquet --------------------------------------------------------------------------------------------------------


def _parquet(
    stream: IO[bytes], feed: Feed, warnings: Warnings, unpacked: Unpacked, *, spool: bool
) -> Iterator[Chunk]:
    with tempfile.TemporaryFile() as spooled:
        if spool:
            # Parquet is read from its end.
            while data := stream.read(BLOCK_BYTES):
                spooled.write(data)
            spooled.seek(0)
        source: Any = spooled if spool else stream
        if not source.seek(0, io.SEEK_END):
            raise FileError("The file is empty.", "Deliver it again.")
        try:
            file = _parquet_file(source)
        except (pa.ArrowException, OSError) as error:
            raise FileError(f"The file is not Parquet: {_first_line(error)}.", "Deliver it again.") from None
        schema = file.schema_arrow
        columns = _resolve(schema.names, feed, "The Parquet file", warnings)
        names = {name: schema.names[position] for name, position in columns.items()}
        for name, position in columns.items():
            kind = schema.field(position).type
            if not _takes(kind):
                raise FileError(
                    f"Column {_shown(schema.names[position])} ({name}) is of type {kind}.",
                    "Write it as string; whole numbers, dates and timestamps are taken too.",
                )
        unpacked.check(_least_size(file.metadata, len(feed.columns)))
        row, size = 1, 0
        try:
            pages = read_pages(source, file.metadata, set(names.values()))
            _check_pages(pages, unpacked)
            # Texts stay in their dictionary until it is known how much they are.
            file = _parquet_file(
                source,
                [
                    name
                    for name in names.values()
                    if _is_text(schema.field(name).type) and name not in pages.delta
                ],
            )
            for batch in file.iter_batches(_batch_rows(file.metadata, pages), columns=list(names.values())):
                for piece, its_size in _pieces(batch):
                    size += its_size
                    unpacked.check(size)
                    yield _parquet_chunk(piece, row, columns, schema.names, feed)
                    row += piece.num_rows
        except (pa.ArrowException, BadPageError, OSError) as error:
            raise FileError(
                f"The Parquet file is damaged: {_first_line(error)}.", "Deliver it again."
            ) from None


def _parquet_file(source: Any, dictionaries: list[str] | None = None) -> pq.ParquetFile:
    source.seek(0)
    # Unbuffered it would hold a whole row group.
    return pq.ParquetFile(
        source,
        buffer_size=1 << 20,
        pre_buffer=False,
        read_dictionary=dictionaries,
        # In nanoseconds they would wrap in 2262.
        coerce_int96_timestamp_unit="us",
        thrift_container_size_limit=1_000_000,
        thrift_string_size_limit=64 << 20,
    )


def _least_size(metadata: pq.FileMetaData, width: int) -> int:
    """Bytes that the file says it holds, or that its values take at least."""
    return int(max(_said_size(metadata), metadata.num_rows * width * VALUE_BYTES))


def _said_size(metadata: pq.FileMetaData) -> int:
    return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def _check_pages(pages: Pages, unpacked: Unpacked) -> None:
    """FileError where the pages hold too much, which the footer need not say."""
    unpacked.check(pages.total)
    if pages.at_once > LARGEST_PAGES:
        raise FileError(
            f"The Parquet file has pages that hold {pages.at_once:,} bytes at once; {LARGEST_PAGES:,} are allowed.",
            "Write it with smaller pages or row groups.",
        )


def _batch_rows(metadata: pq.FileMetaData, pages: Pages) -> int:
    """So many rows that a batch has about the size of a block, however long the texts are."""
    rows = min(BATCH_ROWS, 4 * BLOCK_BYTES * metadata.num_rows // max(_said_size(metadata), 1))
    # A text that repeats the one before takes no room in its page, and may be as long as the page.
    if longest := sum(pages.delta.values()):
        rows = min(rows, DELTA_BYTES // longest)
    return int(max(1, rows))


def _pieces(batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The batch in pieces of about the size of a block, each with its size once its texts are written out."""
    sizes = np.full(batch.num_rows, VALUE_BYTES * batch.num_columns, dtype=np.int64)
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and _is_text(column.type.value_type):
            lengths = pc.binary_length(column.dictionary).take(column.indices)
        elif _is_text(column.type):
            lengths = pc.binary_length(column)
        else:
            continue
        sizes += pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    start = 0
    while start < batch.num_rows:
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BLOCK_BYTES, side="right")))
        yield batch.slice(start, stop - start), int(ends[stop - 1]) - before
        start = stop


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _takes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        "is_string",
        "is_large_string",
        "is_string_view",
        "is_integer",
        "is_floating",
        "is_decimal",
        "is_timestamp",
        "is_date",
        "is_null",
    )
    return any(getattr(pa.types, test)(kind) for test in tests)


def _as_text(column: pa.Array, name: str, bad: dict[int, list[Reason]]) -> pa.Array:
    """ISO text of dates and timestamps (a zone's as UTC, cut to the microsecond), digits of whole numbers, texts.

    A fraction, or an instant outside the years 1 to 9999, is a breach.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _whole(column, name, bad)
    if pa.types.is_timestamp(kind):
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        column = _in_range(column, per_second, name, bad)
        micros = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.timestamp("us"))
        text = pc.strftime(micros, "%Y-%m-%dT%H:%M:%S")
        return pc.binary_join_element_wise(text, "Z", "") if kind.tz is not None else text
    if pa.types.is_date(kind):
        column = _in_range(column, 1000 if pa.types.is_date64(kind) else 1 / 86_400, name, bad)
        return pc.strftime(column.cast(pa.date32(), safe=False), "%Y-%m-%d")
    return column.cast(pa.string())


def _in_range(column: pa.Array, per_second: float, name: str, bad: dict[int, list[Reason]]) -> pa.Array:
    """The column with null for what is outside the years 1 to 9999, where a cast would wrap."""
    numbers = pc.fill_null(
        column.view(pa.int32() if pa.types.is_date32(column.type) else pa.int64()), 0
    ).to_numpy(zero_copy_only=False)
    outside = (numbers < FIRST_SECOND * per_second) | (numbers >= END_SECOND * per_second)
    for position in np.flatnonzero(outside).tolist():
        message = f"{name} lies outside the years 1 to 9999."
        bad.setdefault(position, []).append(Reason(name, message, "ISO 8601, as text, is read as it stands."))
    return pc.if_else(pa.array(~outside), column, pa.scalar(None, column.type)) if outside.any() else column


def _whole(column: pa.Array, name: str, bad: dict[int, list[Reason]]) -> pa.Array:
    """Digits of numbers that are whole: a column of integers where some are missing is one of floats in pandas."""
    result: list[str | None] = []
    for position, value in enumerate(column.to_pylist()):
        if value is None or value != value:  # NaN
            result.append(None)
        elif math.isfinite(value) and value == int(value) and abs(value) < MOST_WHOLE:
            result.append(str(int(value)))
        else:
            result.append(None)
            message = f"{name} is the number {value}; text is wanted."
            bad.setdefault(position, []).append(Reason(name, message, "Write it as string."))
    return pa.array(result, pa.string())


def _parquet_chunk(
    batch: pa.RecordBatch, first_row: int, columns: dict[str, int], names: list[str], feed: Feed
) -> Chunk:
    bad: dict[int, list[Reason]] = {}
    arrays: dict[str, pa.Array] = {}
    came: dict[str, pa.Array] = {}
    for column in feed.columns:
        if column.name not in columns:
            arrays[column.name] = pa.nulls(batch.num_rows, pa.string())
            continue
        text = _shortened(
            _as_text(batch.column(names[columns[column.name]]), column.name, bad), column.name, bad
        )
        came[column.name] = text
        try:
            text.validate(full=True)
        except pa.ArrowInvalid:
            text = _valid(text, column.name, bad)
        for position in np.flatnonzero(
            pc.fill_null(pc.match_substring(text, "\0"), False).to_numpy(False)
        ).tolist():
            bad.setdefault(position, []).append(Reason(column.name, _NUL, _NUL_HINT))
        arrays[column.name] = text
    good = np.array([position for position in range(batch.num_rows) if position not in bad], dtype=np.int64)
    frame = pd.DataFrame(
        {
            name: array.take(pa.array(good)).to_pandas(types_mapper=lambda _: TEXT)
            for name, array in arrays.items()
        }
    )
    frame.index = pd.Index(good + first_row, name="line_no")

    def record(position: int) -> str:
        cells = {name: array[position] for name, array in came.items()}
        values = {name: _text(cell.as_buffer().to_pybytes()) for name, cell in cells.items() if cell.is_valid}
        return json.dumps(values, ensure_ascii=False)

    rejected = [
        Rejected(first_row + position, record(position), reasons) for position, reasons in sorted(bad.items())
    ]
    return Chunk(frame, lambda position: record(int(good[position])), rejected)


def _shortened(text: pa.Array, name: str, bad: dict[int, list[Reason]]) -> pa.Array:
    """The array with the beginning of what is longer than a line may be, each such value a breach."""
    lengths = pc.fill_null(pc.binary_length(text), 0).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(lengths > LONGEST_LINE).tolist()
    if not places:
        return text
    values: list[bytes | None] = text.cast(pa.binary()).to_pylist()
    for position in places:
        values[position] = (values[position] or b"")[:LONGEST_LINE]
        message = f"{name} has {lengths[position]:,} bytes, {LONGEST_LINE:,} are allowed; the first of them are kept."
        bad.setdefault(position, []).append(Reason(name, message, "One value a field."))
    return pa.array(values, pa.binary()).view(pa.string())


def _valid(text: pa.Array, name: str, bad: dict[int, list[Reason]]) -> pa.Array:
    """The array with what is not UTF-8 replaced by nothing, each such value a breach."""
    result: list[str | None] = []
    for position, value in enumerate(text.cast(pa.binary()).to_pylist()):
        try:
            result.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            result.append(None)
            bad[position] = [Reason(name, f"{name} is not UTF-8 text.", "Write the file as UTF-8.")]
    return pa.array(result, pa.string())
