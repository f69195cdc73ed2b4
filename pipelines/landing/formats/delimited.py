"""CSV: lines of plain fields at full speed, lines with odd quotes one by one."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from pipelines.landing.feed import LONGEST_LINE, Feed, FileError, Mask, Reason
from pipelines.landing.formats.columns import folded, listed, names_of, resolve, shown
from pipelines.landing.formats.lines import Block, LongLine, candidates_of, chunk_of, screen
from pipelines.landing.formats.records import Chunk, Positions, Warnings, only_rejected

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}


@dataclass(frozen=True)
class Header:
    """The first line: its delimiter, its names, and the position of each column of the feed among them."""

    delimiter: str
    names: list[str]
    columns: dict[str, int]


def read_csv(lines: Iterator[Block | LongLine], feed: Feed, warnings: Warnings, most: int) -> Iterator[Chunk]:
    """Chunks of a CSV file; beyond `most` a chunk, lines of the wrong width are only counted. Raises FileError."""
    header: Header | None = None
    for block in lines:
        if isinstance(block, LongLine):
            if header is None:
                raise FileError(
                    "Line 1 is no header: it has more than a megabyte.", "The first line names the columns."
                )
            yield only_rejected(feed, [block.rejected()])
            continue
        skip = 0
        if header is None:
            while skip < len(block.starts) and not block.line(skip).strip():
                skip += 1
            if skip == len(block.starts):
                continue
            header = header_of(block.line(skip), feed, warnings)
            skip += 1
        yield csv_chunk(block, header, feed, skip, most)
    if header is None:
        raise FileError("The file is empty.", "A CSV file without records still has its header.")


def header_of(line: bytes, feed: Feed, warnings: Warnings) -> Header:
    """The line as the header of a file of this feed. FileError when it is none."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise FileError("Line 1, the header, is not UTF-8 text.", "Write the file as UTF-8.") from None
    if "\r" in text:
        raise FileError("Lines end in a carriage return alone.", "Write the file with line feeds.")
    known = names_of(feed)
    best: tuple[int, str, list[str]] = (-1, ",", [])
    for delimiter in DELIMITERS:
        try:
            names = next(csv.reader([text], delimiter=delimiter, strict=True))
        except csv.Error:
            continue
        hits = sum(folded(name) in known for name in names)
        if hits > best[0]:
            best = (hits, delimiter, names)
    _, delimiter, names = best
    if not names:
        raise FileError(f"Line 1 is no header: {shown(text)}.", "The first line names the columns.")
    return Header(delimiter, names, resolve(names, feed, "Line 1, the header,", warnings))


@functools.lru_cache(maxsize=64)
def is_header(line: bytes, feed: Feed) -> bool:
    """Whether a line names the columns of a feed."""
    try:
        header_of(line, feed, Warnings())
    except FileError:
        return False
    return True


def csv_chunk(block: Block, header: Header, feed: Feed, skip: int, most: int) -> Chunk:
    """The block without its first `skip` lines; beyond `most`, lines of the wrong width are only counted."""
    bad = screen(block)
    width = len(header.names)
    wanted = [column.name for column in feed.columns if column.name in header.columns]
    candidates = candidates_of(block, bad, shortest=width - 1)
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
    return chunk_of(block, order, columns_of, bad, max(0, len(wrong) - most))


def _shape_of_lines(block: Block, delimiter: str) -> tuple[Mask, Positions]:
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


def _wrong_width(count: int, header: Header) -> Reason:
    names = header.names
    if count > len(names):
        hint = f"A {DELIMITERS[header.delimiter]} inside a value? Put the value in double quotes."
    else:
        hint = f"{listed(names[count:])} {'is' if len(names) - count == 1 else 'are'} missing."
    return Reason(None, f"The line has {count} fields, the header has {len(names)}.", hint)


def _plain_fields(block: Block, lines: Positions, header: Header, wanted: list[str]) -> pa.Table:
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
    block: Block, lines: Positions, header: Header, bad: dict[int, list[Reason]]
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
