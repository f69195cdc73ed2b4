"""The headers of a Parquet file's pages: what the pages hold once unpacked, whatever the footer says of it.

Reading a page unpacks it whole, to the size that its own header says, and no other. So what memory a file may take
has to be known from these headers; the library that reads it shows only the footer.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

import pyarrow.parquet as pq

# Texts written by their lengths alone, or by what they share with the one before: they come in no dictionary.
_DELTA = {6, 7}
# Where a page says how many values it has, and how they are written: by its kind, the field, and the places in it.
_DATA = {0: (5, 1, 2), 3: (8, 1, 4)}
# Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 6, 7, 8, 9, 10, 11, 12
DEEPEST = 8
# As much as Arrow reads of a header.
FIRST_READ, LONGEST_HEADER = 1 << 10, 16 << 20


class BadPageError(ValueError):
    """The headers of pages cannot be read."""


@dataclass(frozen=True)
class Pages:
    """What the pages hold, in bytes once they are unpacked.

    `total`: all of them; `at_once`: the largest of each column, in the row group where that is most; `delta`: columns
    that have pages of texts written by lengths or differences, with the largest page of each.
    """

    total: int = 0
    at_once: int = 0
    delta: dict[str, int] = field(default_factory=dict)


class _Page(NamedTuple):
    size: int
    encoding: int


def read_pages(source: IO[bytes], metadata: pq.FileMetaData, columns: Collection[str]) -> Pages:
    """The pages of these columns (by the names of the schema), by their headers alone.

    Raises BadPageError where they cannot be read, and what `source` raises.
    """
    total, at_once = 0, 0
    largest: dict[str, int] = defaultdict(int)
    delta: set[str] = set()
    for number in range(metadata.num_row_groups):
        group, here = metadata.row_group(number), 0
        for place in range(group.num_columns):
            chunk = group.column(place)
            name = chunk.path_in_schema
            if name not in columns:
                continue
            most = 0
            for page in _pages(source, chunk):
                total += page.size
                most = max(most, page.size)
                if page.encoding in _DELTA:
                    delta.add(name)
            here += most
            largest[name] = max(largest[name], most)
        at_once = max(at_once, here)
    return Pages(total, at_once, {name: largest[name] for name in delta})


def _pages(source: IO[bytes], chunk: pq.ColumnChunkMetaData) -> Iterator[_Page]:
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < at:
        at = chunk.dictionary_page_offset
    seen = 0
    # Until there are as many values as the footer says: whoever reads the pages stops there, too.
    while seen < chunk.num_values:
        header, length = _header(source, at)
        said = [header.get(2), header.get(3)]
        if (kind := header.get(1)) in _DATA:
            where, *places = _DATA[kind]
            data = header.get(where)
            said += [data.get(place) for place in places] if isinstance(data, dict) else [None]
        numbers = [one for one in said if type(one) is int and one >= 0]
        if len(numbers) < len(said):
            raise BadPageError("the header of a page lacks what it has to say")
        size, packed, count, encoding = [*numbers, 0, 0][:4]
        seen += count
        at += length + packed
        yield _Page(size, encoding)


def _header(source: IO[bytes], at: int) -> tuple[dict[int, Any], int]:
    """The fields of the header at a place in the file, by their numbers, and its length in bytes."""
    wanted = FIRST_READ
    while True:
        source.seek(at, io.SEEK_SET)
        data = source.read(wanted)
        try:
            return _struct(data, 0, 0)
        except IndexError:
            if len(data) < wanted or wanted >= LONGEST_HEADER:
                raise BadPageError("the header of a page has no end") from None
        wanted = min(16 * wanted, LONGEST_HEADER)


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Fields by number, and the place after them. IndexError where `data` ends before."""
    if depth > DEEPEST:
        raise BadPageError("the header of a page is nested too deeply")
    fields: dict[int, Any] = {}
    number = 0
    while first := data[at]:
        step, kind = first >> 4, first & 15
        at += 1
        if step:
            number += step
        else:
            number, at = _integer(data, at)
        if kind in {_TRUE, _FALSE}:
            fields[number] = kind == _TRUE
        else:
            fields[number], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """An integer or a struct, and the place after it; of anything else None."""
    if kind in {_TRUE, _FALSE, _BYTE}:
        return data[at], at + 1
    if _BYTE < kind <= _I64:
        return _integer(data, at)
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind == _DOUBLE:
        return None, _within(data, at + 8)
    if kind == _BINARY:
        length, at = _unsigned(data, at)
        return None, _within(data, at + length)
    inner: tuple[int, ...] = ()
    if kind in {_LIST, _SET}:
        count, inner, at = data[at] >> 4, (data[at] & 15,), at + 1
        if count == 15:
            count, at = _unsigned(data, at)
    elif kind == _MAP:
        count, at = _unsigned(data, at)
        if count:
            inner, at = (data[at] >> 4, data[at] & 15), at + 1
    else:
        raise BadPageError(f"the header of a page has a value of the kind {kind}")
    for _ in range(count):
        for each in inner:
            _, at = _value(data, at, each, depth + 1)
    return None, at


def _within(data: bytes, at: int) -> int:
    if at > len(data):
        raise IndexError
    return at


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    return value >> 1 ^ -(value & 1), at


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise BadPageError("the header of a page has a number that is too long")
