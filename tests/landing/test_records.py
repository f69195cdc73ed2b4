"""Reading: the same records and line numbers, however the bytes are cut, and in flat memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.landing.feed import Breaches, Checked, Column, Feed, FileError
from pipelines.landing.formats import lines
from pipelines.landing.formats.read import read_chunks
from pipelines.landing.formats.records import Warnings
from tests.examples import examples

FEED = Feed(
    "three",
    "raw.three",
    lambda frame, context: Checked(None, Breaches(len(frame))),
    tuple(map(Column, "abc")),
)
DOCUMENTS = Feed("documents", "raw.documents", FEED.check, shape="document")
LINES = Feed("lines", "raw.lines", FEED.check, shape="line")

FIELDS = st.text(st.sampled_from('ab",;\t\r é€😀 1'), max_size=6)


def read(
    content: bytes, name: str = "x.csv", feed: Feed = FEED
) -> tuple[list[tuple[Any, ...]], list[tuple[int, str]]]:
    """(line, fields…) of the records, and (line, text) of the rejected lines."""
    good: list[tuple[Any, ...]] = []
    rejected: list[tuple[int, str]] = []
    for chunk in read_chunks(io.BytesIO(content), name, feed, Warnings()):
        rows = [
            [None if value != value or value is None else value for value in row]
            for row in _rows(chunk.frame)
        ]
        good += [(int(line), *row) for line, row in zip(chunk.frame.index, rows, strict=True)]
        rejected += [(record.line_no, record.record) for record in chunk.rejected]
        for position, line in enumerate(chunk.frame.index):
            assert chunk.record(position) == text_of(content, name)[int(line) - 1]
    return good, sorted(rejected)


def _rows(frame: Any) -> list[list[Any]]:
    return [list(row) for row in frame.astype(object).where(frame.notna(), None).itertuples(index=False)]


def text_of(content: bytes, name: str) -> list[str]:
    plain = gzip.decompress(content) if name.endswith(".gz") else content
    lines = plain.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [
        line.removesuffix(b"\r").decode("utf-8", "backslashreplace").replace("\0", "\\x00") for line in lines
    ]


def reference(content: str, delimiter: str) -> tuple[list[tuple[Any, ...]], list[tuple[int, str]]]:
    """What the csv module makes of every line by itself."""
    good: list[tuple[Any, ...]] = []
    rejected: list[tuple[int, str]] = []
    for number, raw in enumerate(content.split("\n")[1:], start=2):
        line = raw.removesuffix("\r")
        if not line.strip() and len(line) < 2:
            continue
        try:
            row = next(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error:
            row = []
        if len(row) == 3:
            good.append((number, *row))
        else:
            rejected.append((number, line))
    return good, rejected


@given(
    st.lists(st.lists(FIELDS, min_size=1, max_size=5), max_size=30),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([0, 1, None]),  # csv.QUOTE_MINIMAL, csv.QUOTE_ALL, no quotes added
    st.sampled_from([7, 64, 4 << 20]),
)
@examples(300)
def test_csv_reads_as_the_csv_module_does_line_by_line(
    rows: list[list[str]], delimiter: str, end: str, quoting: Literal[0, 1] | None, block: int
) -> None:
    content = io.StringIO(newline="")
    content.write(delimiter.join("abc") + end)
    if quoting is None:
        content.writelines(delimiter.join(row) + end for row in rows)
    else:
        csv.writer(content, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        assert read(content.getvalue().encode()) == reference(content.getvalue(), delimiter)


@given(st.binary(max_size=300), st.sampled_from([5, 4 << 20]))
@examples(300)
def test_any_bytes_are_records_or_rejected_lines(content: bytes, block: int) -> None:
    content = b"a,b,c\n" + content.replace(b"\0", b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        good, rejected = read(content)
    numbers = [line for line, *_ in good] + [line for line, _ in rejected]
    assert len(set(numbers)) == len(numbers)
    kept = {
        number
        for number, text in enumerate(text_of(content, "x.csv"), start=1)
        if number > 1 and text.strip()
    }
    assert kept <= set(numbers)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


KEYS = st.sampled_from(["a", "b", "c", "x", "A", " b", "C "])


@given(st.lists(st.dictionaries(KEYS, JSON, max_size=4) | JSON, min_size=1, max_size=20))
@example([{"A": False}])
@example([{"a": 1, "A ": 1}])
@examples(200)
def test_ndjson(values: list[Any]) -> None:
    content = "{}\n" + "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    expected: list[tuple[Any, ...]] = [(1, None, None, None)]
    for number, value in enumerate(values, start=2):
        # Keys fold to their columns; two keys of one column, like a value that is no object, are no record.
        keys = [key.strip().casefold() for key in value] if isinstance(value, dict) else ["a", "a"]
        known = [key for key in keys if key in ("a", "b", "c")]
        folded = dict(zip(keys, value.values(), strict=True)) if isinstance(value, dict) else {}
        fields = [folded.get(name) for name in "abc"] if len(set(known)) == len(known) else [True]
        written = [str(f) if isinstance(f, int) and not isinstance(f, bool) else f for f in fields]
        if all(f is None or (isinstance(f, str) and "\0" not in f) for f in written):
            expected.append((number, *written))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", 64)
        good, rejected = read(content.encode(), "x.ndjson")
    assert good == expected
    assert {line for line, *_ in good} | {line for line, _ in rejected} == set(range(1, len(values) + 2))


def test_documents_are_whole_objects() -> None:
    content = (
        b'{"run": {"id": [1, 2.50]}}\n\n[]\n {"x": "\\u0000"}\n{"x": "\xff"}\n{"y": 1e400}\n{"z": 1} \r\n'
    )
    good, rejected = [], []
    for chunk in read_chunks(io.BytesIO(content), "x.json", DOCUMENTS, Warnings()):
        good += list(zip(chunk.frame.index, chunk.frame["document"], strict=True))
        rejected += [(record.line_no, record.reasons[0].message) for record in chunk.rejected]
    assert good == [(1, '{"run": {"id": [1, 2.50]}}'), (7, '{"z": 1}')]
    assert [line for line, _ in rejected] == [3, 4, 5, 6]
    assert rejected[1][1] == "A NUL character stands in the value."


def test_lines() -> None:
    content = b"2026-03-01T00:00:00Z\r\n\n  2026-03-01T00:01:00Z\n"
    assert read(content, "x.log", LINES)[0] == [(1, "2026-03-01T00:00:00Z"), (3, "2026-03-01T00:01:00Z")]
    with pytest.raises(FileError, match=r"do not end in \.csv"):
        read(b"x", "x.csv", LINES)


def test_gzip_members_are_one_file() -> None:
    content = gzip.compress(b"a,b,c\n1,2,3\n") + gzip.compress(b"4,5,6\n")
    assert read(content, "x.csv.gz")[0] == [(2, "1", "2", "3"), (3, "4", "5", "6")]


def test_a_feed_declares_columns_exactly_for_the_shape_columns() -> None:
    with pytest.raises(ValueError, match="columns are declared"):
        Feed("x", "raw.x", FEED.check)
    with pytest.raises(ValueError, match="columns are declared"):
        Feed("x", "raw.x", FEED.check, (Column("a"),), shape="line")


MEMORY = """
import io, itertools
from bench.measure import peak_memory
from pipelines.landing.formats.read import read_chunks
from pipelines.landing.formats.records import Warnings
from pipelines.slo.job_status import JOB_STATUS

header = b"application_id,job_id,status_code,status_at,business_date,run_id,host_id\\n"
line = b"deposits,load-%07d,START,2026-03-02T00:31:07-05:00,2026-03-01,r%d,h\\n"
lines = b"".join(line % (i, i) for i in range(100000))

class Repeated(io.RawIOBase):
    def __init__(self, megabytes):
        self.left, self.rest = megabytes << 20, header
    def read(self, size=-1):
        if not self.rest and self.left > 0:
            self.rest = lines
            self.left -= len(lines)
        part, self.rest = self.rest[:size], self.rest[size:]
        return part

def run(megabytes):
    count = 0
    for chunk in read_chunks(Repeated(megabytes), "x.csv", JOB_STATUS, Warnings()):
        count += JOB_STATUS.check(chunk.frame, {}).rows.num_rows
    return count, peak_memory() >> 20

run(20)
small, (count, large) = run(40)[1], run(400)
print(count, small, large)
"""


def test_memory_does_not_grow_with_the_file() -> None:
    result = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    count, small, large = map(int, result.stdout.split())
    assert count > 4_000_000
    assert large - small < 60, "MB"
    assert large < 1000, "MB"
