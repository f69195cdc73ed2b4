"""Bytes -> chunks of records, in flat memory, with the line number of every record.

A record is one physical line (of Parquet: one row). A line that cannot be a record is rejected and the rest goes on;
only what breaks the file as a whole raises FileError.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipelines.landing.feed import Feed, FileError, Mask, Reason

BLOCK_BYTES = 4 << 20
BATCH_ROWS = 50_000
LONGEST_LINE = 1 << 20
# Of a longer line so much is kept; all other rejected records are kept whole.
LONGEST_KEPT = 16 << 20
MOST_WARNINGS = 50

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
    the lines among them that are no records.
    """

    frame: pd.DataFrame
    record: Callable[[int], str]
    rejected: list[Rejected]


class Warnings:
    """What is worth a word but stops nothing: at most one entry for each column, with line, message and way out."""

    def __init__(self) -> None:
        self.entries: list[dict[str, str | int | None]] = []
        self._seen: set[str] = set()

    def add(self, line: int, column: str | None, message: str, hint: str) -> None:
        key = message if column is None else column
        if key in self._seen or len(self.entries) >= MOST_WARNINGS:
            return
        self._seen.add(key)
        self.entries.append({"line": line, "column": column, "message": message, "hint": hint})


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


def read_chunks(stream: IO[bytes], name: str, feed: Feed, warnings: Warnings) -> Iterator[Chunk]:
    """Read a file of `feed`, whose `name` tells the format, in chunks of some megabytes.

    Raises FileError, also in the middle, when the file as a whole cannot be taken, and OSError when `stream` does.
    """
    kind, gzipped = format_of(name, feed)
    if gzipped:
        stream = cast("IO[bytes]", _Unzipped(stream))
    if kind == "parquet":
        yield from _parquet(stream, feed, warnings, spool=gzipped)
        return
    lines = _lines(stream, kind, warnings)
    if kind == "csv":
        yield from _csv(lines, feed, warnings)
    elif kind == "ndjson":
        yield from _ndjson(lines, feed, warnings)
    else:
        yield from _plain(lines, feed)


class _Unzipped(io.BufferedIOBase):
    """A gzip stream that says in our words what is wrong with it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._inner = gzip.GzipFile(fileobj=stream)

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return self._inner.read(size)
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
            block = _block(data[:cut], line_no)
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
        warnings.add(
            line_no,
            None,
            "The last line has no line end.",
            "If the file was cut off there, deliver it again; else end every line with a line feed.",
        )
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
    block: _Block, kept: Positions, columns: dict[str, pa.ChunkedArray], bad: dict[int, list[Reason]]
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
    return Chunk(frame, lambda position: _text(block.line(int(kept[position]))), rejected)


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
    known = _names(feed)
    spelled = {_folded(n): n for column in feed.columns for n in (column.name, *column.aliases)}
    near = difflib.get_close_matches(_folded(name), known, n=1, cutoff=0.6)
    meant = f" Is {spelled[near[0]]} meant?" if near else ""
    warnings.add(
        line,
        name,
        f"Line {line}: the feed {feed.name} has no column {name!r}; its values are not loaded.{meant}"
        if name.strip()
        else f"Line {line}: a column has no name; its values are not loaded.",
        "If they were to be loaded, rename it and deliver the file again; otherwise nothing needs doing.",
    )


def _resolve(names: Sequence[str], feed: Feed, where: str, warnings: Warnings) -> dict[str, int]:
    """Feed columns -> positions among the `names` of a file. FileError when one is missing or there twice."""
    known = _names(feed)
    found: dict[str, int] = {}
    seen: set[str] = set()
    for position, name in enumerate(names):
        column = known.get(_folded(name))
        if column is not None and column in found:
            other = names[found[column]]
            twice = (
                f"{name!r} twice"
                if _folded(other) == _folded(name)
                else f"{other!r} and {name!r}, which are one column"
            )
            raise FileError(f"{where} has {twice}.", "Leave one of them out and deliver the file again.")
        if column is not None:
            found[column] = position
        elif _folded(name) in seen and name.strip():
            raise FileError(
                f"{where} has {name!r} twice.", "Leave one of them out and deliver the file again."
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
        extra = f" It has {', '.join(map(_shown, unknown))}, which the feed does not know." if unknown else ""
        raise FileError(f"{where} lacks {', '.join(missing)}.{extra}", wanted)
    for name in unknown:
        _unknown(feed, name, 1, warnings)
    return found


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "…")


# --- CSV ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Header:
    delimiter: str
    names: list[str]
    columns: dict[str, int]


def _csv(lines: Iterator[_Block | _LongLine], feed: Feed, warnings: Warnings) -> Iterator[Chunk]:
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
        yield _csv_chunk(block, header, feed, skip)
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


def _csv_chunk(block: _Block, header: _Header, feed: Feed, skip: int) -> Chunk:
    bad = _screen(block)
    width = len(header.names)
    wanted = [column.name for column in feed.columns if column.name in header.columns]
    candidates = _candidates(block, bad, shortest=width - 1)
    candidates = candidates[candidates >= skip]
    bad = {index: reasons for index, reasons in bad.items() if index >= skip}

    careful, fields = _shape_of_lines(block, header.delimiter)
    plain = candidates[~careful[candidates]]
    for index in plain[fields[plain] != width].tolist():
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
    return _chunk(block, order, columns_of, bad)


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
        hint = f"{', '.join(names[count:])} {'is' if len(names) - count == 1 else 'are'} missing."
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


def _ndjson(lines: Iterator[_Block | _LongLine], feed: Feed, warnings: Warnings) -> Iterator[Chunk]:
    keys = _Keys(feed, warnings)
    for block in lines:
        if isinstance(block, _LongLine):
            yield _only_rejected(feed, [block.rejected()])
            continue
        bad = _screen(block)
        kept: list[int] = []
        objects: list[dict[str, Any]] = []
        for index in _candidates(block, bad, shortest=8).tolist():
            line = block.line(index)
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
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
            else:
                bad[index] = [
                    Reason(None, f"The line is a JSON {_kind(value)}, not an object.", "One object a line.")
                ]
        if feed.shape == "document":
            yield _documents(block, kept, objects, bad)
        else:
            yield _json_chunk(block, kept, objects, bad, keys)


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(_has_nul, value))


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
                    message = f"{columns[column]!r} and {key!r} are one column."
                    reasons.append(Reason(column, message, "Leave one of them out."))
                else:
                    columns[column] = key
            found = (columns, reasons)
            if len(self._cache) < 10_000:
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
            written = json.loads(block.line(index), parse_int=str, parse_float=str)
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


def _parquet(stream: IO[bytes], feed: Feed, warnings: Warnings, *, spool: bool) -> Iterator[Chunk]:
    with tempfile.TemporaryFile() as spooled:
        if spool:
            # Parquet is read from its end.
            while data := stream.read(BLOCK_BYTES):
                spooled.write(data)
            spooled.seek(0)
        source: Any = spooled if spool else stream
        if not source.seek(0, io.SEEK_END):
            raise FileError("The file is empty.", "Deliver it again.")
        source.seek(0)
        try:
            # Unbuffered it would hold a whole row group.
            file = pq.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise FileError(f"The file is not Parquet: {_first_line(error)}.", "Deliver it again.") from None
        schema = file.schema_arrow
        columns = _resolve(schema.names, feed, "The Parquet file", warnings)
        for name, position in columns.items():
            kind = schema.field(position).type
            if not _takes(kind):
                raise FileError(
                    f"Column {schema.names[position]!r} ({name}) is of type {kind}.",
                    "Write it as string; integers, dates and timestamps are taken too.",
                )
        row = 1
        try:
            for batch in file.iter_batches(
                _batch_rows(file.metadata), columns=[schema.names[p] for p in columns.values()]
            ):
                yield _parquet_chunk(batch, row, columns, schema.names, feed)
                row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise FileError(
                f"The Parquet file is damaged: {_first_line(error)}.", "Deliver it again."
            ) from None


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """So many rows that a batch has about the size of a block, however long the texts are."""
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return int(max(1, min(BATCH_ROWS, 4 * BLOCK_BYTES * metadata.num_rows // max(size, 1))))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _takes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        "is_string",
        "is_large_string",
        "is_string_view",
        "is_integer",
        "is_timestamp",
        "is_date",
        "is_null",
    )
    return any(getattr(pa.types, test)(kind) for test in tests)


def _as_text(column: pa.Array) -> pa.Array:
    """ISO text of dates and timestamps (a zone's as UTC, cut to the microsecond), digits of integers, text as it is."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type):
        zoned = column.type.tz is not None
        micros = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.timestamp("us"))
        text = pc.strftime(micros, "%Y-%m-%dT%H:%M:%S")
        return pc.binary_join_element_wise(text, "Z", "") if zoned else text
    if pa.types.is_date(column.type):
        return pc.strftime(column.cast(pa.date32()), "%Y-%m-%d")
    return column.cast(pa.string())


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
        came[column.name] = text = _as_text(batch.column(names[columns[column.name]]))
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
