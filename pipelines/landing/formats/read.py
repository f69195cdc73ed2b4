"""A file of any format -> chunks of records; its name tells the format.

A record is one physical line (of Parquet: one row). A line that cannot be a record is rejected and the rest goes on;
only what breaks the file as a whole raises FileError.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, cast

from pipelines.landing.feed import Feed, FileError
from pipelines.landing.formats.compressed import Unpacked, Unzipped
from pipelines.landing.formats.delimited import csv_chunk, header_of, read_csv
from pipelines.landing.formats.lines import block_of, blocks_of
from pipelines.landing.formats.ndjson import read_ndjson
from pipelines.landing.formats.parquet import read_parquet
from pipelines.landing.formats.plain import read_plain
from pipelines.landing.formats.records import ALL, Chunk, Warnings

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
            else "Its name does not say its format.",
            f"Name it by what is in it: {', '.join('.' + e for e in known)}, gzipped with .gz after that.",
        )
    return known[extension], gzipped


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
        yield from read_parquet(stream, feed, warnings, unpacked, spool=gzipped)
        return
    lines = blocks_of(stream, kind, warnings, feed.longest_line)
    most = unpacked.limits.rejected_kept if unpacked.limits is not None else ALL
    if kind == "csv":
        yield from read_csv(lines, feed, warnings, most)
    elif kind == "ndjson":
        yield from read_ndjson(lines, feed, warnings, most)
    else:
        yield from read_plain(lines, feed)


def chunk_of_lines(
    kind: str, header: bytes, data: bytes, feed: Feed, warnings: Warnings, first_line: int
) -> Chunk | None:
    """Whole lines of CSV below a header, or of NDJSON, as one chunk; None of no lines.

    Raises FileError when the header is none.
    """
    names = header_of(header, feed, warnings) if kind == "csv" else None
    if not data:
        return None
    block = block_of(data, first_line)
    if names is not None:
        return csv_chunk(block, names, feed, 0, ALL)
    return next(read_ndjson(iter([block]), feed, warnings, ALL))
