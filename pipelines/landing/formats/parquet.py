"""Parquet: a row is a record; row groups are read in batches of about the size of a block."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.landing.feed import Feed, FileError, Reason, Rejected
from pipelines.landing.formats.columns import resolve, shown
from pipelines.landing.formats.compressed import Unpacked
from pipelines.landing.formats.lines import BLOCK_BYTES
from pipelines.landing.formats.parquet_pages import BadPageError, read_pages
from pipelines.landing.formats.parquet_sizes import batch_rows, check_pages, least_size, pieces
from pipelines.landing.formats.parquet_values import as_text, holds_text, is_taken, only_utf8, shortened
from pipelines.landing.formats.records import NUL, NUL_HINT, TEXT, Chunk, Warnings, text_of


def read_parquet(
    stream: IO[bytes], feed: Feed, warnings: Warnings, unpacked: Unpacked, *, spool: bool
) -> Iterator[Chunk]:
    """Chunks of a Parquet file. `spool`: the stream cannot seek, and is written to a file first. Raises FileError."""
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
        columns = resolve(schema.names, feed, "The Parquet file", warnings)
        names = {name: schema.names[position] for name, position in columns.items()}
        for name, position in columns.items():
            kind = schema.field(position).type
            if not is_taken(kind):
                raise FileError(
                    f"Column {shown(schema.names[position])} ({name}) is of type {kind}.",
                    "Write it as string; whole numbers, dates and timestamps are taken too.",
                )
        unpacked.check(least_size(file.metadata, len(feed.columns)))
        row, size = 1, 0
        try:
            pages = read_pages(source, file.metadata, set(names.values()))
            check_pages(pages, unpacked)
            # Texts stay in their dictionary until it is known how much they are.
            file = _parquet_file(
                source,
                [
                    name
                    for name in names.values()
                    if holds_text(schema.field(name).type) and name not in pages.delta
                ],
            )
            for batch in file.iter_batches(batch_rows(file.metadata, pages), columns=list(names.values())):
                for piece, its_size in pieces(batch):
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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


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
        text = shortened(
            as_text(batch.column(names[columns[column.name]]), column.name, bad), column.name, bad
        )
        came[column.name] = text
        try:
            text.validate(full=True)
        except pa.ArrowInvalid:
            text = only_utf8(text, column.name, bad)
        for position in np.flatnonzero(
            pc.fill_null(pc.match_substring(text, "\0"), False).to_numpy(False)
        ).tolist():
            bad.setdefault(position, []).append(Reason(column.name, NUL, NUL_HINT))
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
        values = {
            name: text_of(cell.as_buffer().to_pybytes()) for name, cell in cells.items() if cell.is_valid
        }
        return json.dumps(values, ensure_ascii=False)

    rejected = [
        Rejected(first_row + position, record(position), reasons) for position, reasons in sorted(bad.items())
    ]
    return Chunk(frame, lambda position: record(int(good[position])), rejected)
