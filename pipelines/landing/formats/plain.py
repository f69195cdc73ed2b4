"""Text of which each line is a record as it stands."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.landing.feed import LONGEST_LINE, Feed
from pipelines.landing.formats.lines import Block, LongLine, candidates_of, chunk_of, screen
from pipelines.landing.formats.records import Chunk, only_rejected


def read_plain(lines: Iterator[Block | LongLine], feed: Feed) -> Iterator[Chunk]:
    """Chunks of a text file, one column `line`. Blanks around a line are cut off."""
    for block in lines:
        if isinstance(block, LongLine):
            yield only_rejected(feed, [block.rejected()])
            continue
        bad = screen(block)
        kept = candidates_of(block, bad, shortest=LONGEST_LINE)
        texts = pa.array([block.line(index).decode().strip() for index in kept.tolist()], pa.string())
        yield chunk_of(block, kept, {"line": pa.chunked_array([texts])}, bad)
