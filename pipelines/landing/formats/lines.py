"""Text files: blocks of whole lines in flat memory, whatever a line holds and however long it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.landing.feed import LONGEST_LINE, FileError, Reason, Rejected
from pipelines.landing.formats.records import TEXT, Chunk, Positions, Warnings, text_of

# So much is read at once.
BLOCK_BYTES = 4 << 20
# Of a longer line so much is kept; all other rejected records are kept whole.
LONGEST_KEPT = 16 << 20
# Of short lines a block has no more than these: what is said of each takes more memory than the line.
MOST_LINES = 65_536


@dataclass(frozen=True)
class Block:
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


class LongLine:
    """A line that no block holds, put together part by part."""

    def __init__(self, line_no: int, longest: int = LONGEST_LINE) -> None:
        self._line_no = line_no
        self._longest = longest
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
        return Rejected(self._line_no, text_of(kept), [_too_long(length, self._longest, cut)])


def _too_long(length: int, longest: int, cut: str = "") -> Reason:
    return Reason(
        None,
        f"The line has {length:,} bytes, {longest:,} are allowed{cut}.",
        "Is a line end missing? One record a line.",
    )


def block_of(data: bytes, first_line: int) -> Block:
    """These lines as a block; the last need not have a line end."""
    raw = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw == 10)
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    trimmed = ends - ((ends > starts) & (raw[np.maximum(ends - 1, 0)] == 13))
    return Block(data, first_line, starts, trimmed)


def _split(data: bytes, first_line: int) -> Iterator[Block]:
    """Blocks of the whole lines in `data`, none of them with too many."""
    if data.count(b"\n") <= MOST_LINES:
        yield block_of(data, first_line)
        return
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 10)[MOST_LINES - 1 :: MOST_LINES] + 1
    start = 0
    for end in [*ends.tolist(), len(data)]:
        if end > start:
            yield block_of(data[start:end], first_line)
            first_line += MOST_LINES
            start = end


def blocks_of(
    stream: IO[bytes], kind: str, warnings: Warnings, longest: int = LONGEST_LINE
) -> Iterator[Block | LongLine]:
    """Cut a stream into blocks of whole lines; a line longer than `longest` and a block comes by itself."""
    data = _read(stream)
    look(data, kind)
    data = data.removeprefix(b"\xef\xbb\xbf")
    line_no = 1
    carry = b""
    long: LongLine | None = None
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
            for block in _split(data[:cut], line_no):
                yield block
                line_no += len(block.starts)
        carry = data[cut:]
        if len(carry) > longest:
            long = LongLine(line_no, longest)
            long.add(carry)
            carry = b""
        data = _read(stream)
    if long is not None:
        yield long
    elif carry:
        warnings.no_line_end(line_no)
        yield block_of(carry, line_no)


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


def is_text(data: bytes, kind: str) -> bool:
    """Whether nothing about these bytes as a whole is odd, so that they can be read together with others alike."""
    try:
        look(data, kind)
    except FileError:
        return False
    return b"\0" not in data


def look(head: bytes, kind: str) -> None:
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


def screen(block: Block, longest: int = LONGEST_LINE) -> dict[int, list[Reason]]:
    """Lines that are no text: too long, with NUL bytes, not UTF-8."""
    bad: dict[int, list[Reason]] = {}
    for index in np.flatnonzero(block.ends - block.starts > longest).tolist():
        bad[index] = [_too_long(int(block.ends[index] - block.starts[index]), longest)]
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


def candidates_of(block: Block, bad: dict[int, list[Reason]], shortest: int = 1) -> Positions:
    """Indexes of the lines to be parsed: neither bad nor blank (only lines below `shortest` bytes are looked at)."""
    keep = block.ends > block.starts
    for index in np.flatnonzero(keep & (block.ends - block.starts < shortest)).tolist():
        keep[index] = bool(block.line(index).strip())
    keep[list(bad)] = False
    return np.flatnonzero(keep)


def chunk_of(
    block: Block,
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
        Rejected(block.first_line + i, text_of(block.line(i)), reasons) for i, reasons in sorted(bad.items())
    ]
    return Chunk(frame, lambda position: text_of(block.line(int(kept[position]))), rejected, only_counted)
