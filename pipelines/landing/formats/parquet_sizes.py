"""What bounds the memory that a Parquet file takes: what its footer says, its pages, and batches cut to size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.landing.feed import FileError
from pipelines.landing.formats.compressed import Unpacked
from pipelines.landing.formats.lines import BLOCK_BYTES
from pipelines.landing.formats.parquet_pages import Pages
from pipelines.landing.formats.parquet_values import holds_text

BATCH_ROWS = 50_000
# What a value takes at least, also where it is nothing.
VALUE_BYTES = 8
# Pages of Parquet that are in memory at once, and what a batch of texts that are written by differences may become.
LARGEST_PAGES = 256 << 20
DELTA_BYTES = 128 << 20


def least_size(metadata: pq.FileMetaData, width: int) -> int:
    """Bytes that the file says it holds, or that its values take at least."""
    return int(max(_said_size(metadata), metadata.num_rows * width * VALUE_BYTES))


def _said_size(metadata: pq.FileMetaData) -> int:
    return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def check_pages(pages: Pages, unpacked: Unpacked) -> None:
    """FileError where the pages hold too much, which the footer need not say."""
    unpacked.check(pages.total)
    if pages.at_once > LARGEST_PAGES:
        raise FileError(
            f"The Parquet file has pages that hold {pages.at_once:,} bytes at once; {LARGEST_PAGES:,} are allowed.",
            "Write it with smaller pages or row groups.",
        )


def batch_rows(metadata: pq.FileMetaData, pages: Pages) -> int:
    """So many rows that a batch has about the size of a block, however long the texts are."""
    rows = min(BATCH_ROWS, 4 * BLOCK_BYTES * metadata.num_rows // max(_said_size(metadata), 1))
    # A text that repeats the one before takes no room in its page, and may be as long as the page.
    if longest := sum(pages.delta.values()):
        rows = min(rows, DELTA_BYTES // longest)
    return int(max(1, rows))


def pieces(batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The batch in pieces of about the size of a block, each with its size once its texts are written out."""
    sizes = np.full(batch.num_rows, VALUE_BYTES * batch.num_columns, dtype=np.int64)
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and holds_text(column.type.value_type):
            lengths = pc.binary_length(column.dictionary).take(column.indices)
        elif holds_text(column.type):
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
