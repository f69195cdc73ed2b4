"""Small files that would become big ones: bounded by what they unpack to, and by what is kept of what is wrong."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import DuemarkError
from pipelines.landing import limits
from pipelines.landing.follow import grown
from pipelines.landing.formats import parquet_sizes
from pipelines.landing.ingest import ingest
from pipelines.landing.ledger import FileOutcome
from pipelines.landing.limits import Limits
from pipelines.warehouse.settings import Settings

HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
LINE = "deposits,load,START,2026-03-02T00:31:07-05:00,2026-03-01,r1,h1\n"
NAMES = HEADER.strip().split(",")

Query = Callable[..., list[tuple[Any, ...]]]
Load = Callable[..., FileOutcome]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test can reach cheaply."""
    monkeypatch.setattr(limits, "ALWAYS_UNPACKED", 100_000)


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    if "small" not in request.fixturenames:
        return settings
    return settings.having(DUEMARK_UNPACKED_RATIO="50", DUEMARK_REJECTED_KEPT="3")


def parquet(version: str = "1.0", encoding: str | None = None, **columns: Any) -> bytes:
    """A Parquet file of job statuses; what is not given is as in LINE. `encoding`: of `run_id`, else a dictionary."""
    count = max(len(values) for values in columns.values())
    whole = dict(zip(NAMES, LINE.strip().split(","), strict=True))
    table = pa.table({name: columns.get(name, pa.array([value] * count)) for name, value in whole.items()})
    sink = io.BytesIO()
    pq.write_table(
        table, sink, compression="zstd", data_page_version=version,
        use_dictionary=[name for name in NAMES if name != "run_id"] if encoding else True,
        column_encoding={"run_id": encoding} if encoding else None,
    )  # fmt: skip
    return sink.getvalue()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.csv.gz"])
def test_the_first_rejections_are_kept_and_all_are_counted(load_one: Load, query: Query, name: str) -> None:
    # One that no record can be made of, then records that break a rule, then a good one.
    lines = ["a,b\n", *(LINE.replace("START", "BEGIN") for _ in range(8)), LINE]
    text = HEADER + "".join(lines)
    if name == "a.ndjson":
        text = "[1]\n".join(["", *[""] * 8]) + json.dumps(
            dict(zip(NAMES, LINE.strip().split(","), strict=True))
        )
        text = "7\n" + text
    content = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
    outcome = load_one(name, content)
    assert (outcome.status, outcome.record_count, outcome.rejected_count, outcome.rejected_kept) == (
        "loaded", 1, 9, 3,
    )  # fmt: skip
    first = 1 if name == "a.ndjson" else 2
    assert query("select line_no from raw.rejected_record order by line_no") == [
        (first,), (first + 1,), (first + 2,),
    ]  # fmt: skip
    assert query("select rejected_count, rejected_kept from raw.landed_file") == [(9, 3)]
    assert query("select rejected_count from raw.load") == [(9,)]


@pytest.mark.usefixtures("small")
def test_what_is_packed_too_well_is_quarantined(
    settings: Settings, load_one: Load, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = gzip.compress((HEADER + LINE * 10_000).encode())
    outcome = load_one("a.csv.gz", bomb)
    assert (outcome.status, outcome.message) == (
        "quarantined",
        f"Its {len(bomb):,} bytes hold more than {max(100_000, 50 * len(bomb)):,} once they are unpacked.",
    )
    assert "DUEMARK_UNPACKED_RATIO (now 50)" in outcome.hint
    assert query("select count(*) from raw.job_status") == [(0,)]
    # Member after member is the same.
    members = gzip.compress((HEADER + LINE).encode()) + gzip.compress((LINE * 500).encode()) * 30
    assert load_one("b.csv.gz", members).status == "quarantined"
    # The way out that the message names.
    settings = settings.having(DUEMARK_UNPACKED_RATIO="1000")
    assert ingest(settings, [outcome.path]).files[0].record_count == 10_000


@pytest.mark.usefixtures("small")
def test_what_is_small_or_not_packed_is_loaded_however_alike(load_one: Load) -> None:
    assert load_one("a.csv", HEADER + LINE * 10_000).record_count == 10_000
    assert load_one("b.csv.gz", gzip.compress((HEADER + LINE * 1000).encode())).record_count == 1000


@pytest.mark.usefixtures("small")
def test_parquet_that_says_little_and_means_much(
    load_one: Load, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A long text in a dictionary; rows of nothing; and a page that says itself how much it is.
    long = parquet(run_id=pa.array(["x" * 5000] * 1000))
    nothing = parquet(**{name: pa.nulls(100_000, pa.string()) for name in NAMES})
    pages = parquet(run_id=pa.array([str(n) * 1000 for n in range(200)]))
    for name, content in {"long": long, "nothing": nothing, "pages": pages}.items():
        outcome = load_one(f"{name}.parquet", content)
        assert (name, outcome.status, " hold more than " in outcome.message) == (name, "quarantined", True)
    assert query("select count(*) from raw.rejected_record") == [(0,)]
    content = parquet(run_id=pa.array(["x" * 5001] * 1000))
    outcome = load_one("again.parquet", content, DUEMARK_UNPACKED_RATIO="100000")
    assert (outcome.rejected_count, outcome.rejected_kept) == (1000, 3)


def without_sizes(content: bytes) -> bytes:
    """A Parquet file whose footer says of every size, once unpacked, that it is 1."""
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8]
    group = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0)
    sizes = {group.column(number).total_uncompressed_size for number in range(group.num_columns)}
    for size in sizes | {group.total_byte_size}:
        if size >= 10_000:
            # As Thrift writes a number, and 1 in as many bytes.
            doubled = [2 * size >> shift & 127 | 128 for shift in range(0, 2 * size.bit_length(), 7)]
            doubled = doubled[: -(-(2 * size).bit_length() // 7)]
            number = bytes([*doubled[:-1], doubled[-1] & 127])
            assert number in footer
            footer = footer.replace(number, bytes([0x82, *[0x80] * (len(number) - 2), 0]))
    return content[: -8 - length] + footer + content[-8:]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_parquet_whose_footer_lies_about_its_pages(
    load_one: Load, query: Query, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(limits, "ALWAYS_UNPACKED", 100_000)
    texts = pa.array([str(number) * 1000 for number in range(300)])
    content = without_sizes(parquet(version, run_id=texts))
    assert pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0).total_byte_size == 1
    outcome = load_one("much.parquet", content, DUEMARK_UNPACKED_RATIO="2")
    assert (outcome.status, " hold more than " in outcome.message) == ("quarantined", True)
    monkeypatch.setattr(parquet_sizes, "LARGEST_PAGES", 500_000)
    outcome = load_one("at-once.parquet", content, DUEMARK_UNPACKED_RATIO="100000")
    assert (outcome.status, " bytes at once; 500,000 are allowed." in outcome.message) == (
        "quarantined",
        True,
    )
    monkeypatch.undo()
    # Texts of more than 50 characters are rejected.
    assert load_one("again.parquet", content).rejected_count == 300
    assert query("select count(*) from raw.rejected_record") == [(300,)]


def test_parquet_with_damaged_pages(load_one: Load) -> None:
    content = parquet(run_id=pa.array(["r1", "r2"]))
    for number, byte in enumerate([0x00, 0x1E, 0xFF]):
        outcome = load_one(f"{number}.parquet", content[:4] + bytes([byte]) * 40 + content[44:])
        assert (outcome.status, outcome.message[:28]) == ("quarantined", "The Parquet file is damaged:")


DELTA_CHILD = """
import sys
from bench.measure import peak_memory
from pipelines.landing.formats.read import read_chunks
from pipelines.landing.formats.records import Warnings
from pipelines.slo.job_status import JOB_STATUS
count = sum(len(chunk.frame) for chunk in read_chunks(open(sys.argv[1], "rb"), "a.parquet", JOB_STATUS, Warnings()))
print(peak_memory() >> 20, count)
"""


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_parquet_with_texts_written_by_their_differences(
    load_one: Load, query: Query, tmp_path: Path, encoding: str
) -> None:
    texts = pa.array([f"run-{number // 2}" for number in range(1000)])
    outcome = load_one("a.parquet", parquet(encoding=encoding, run_id=texts))
    assert (outcome.status, outcome.record_count) == ("loaded", 1000)
    assert query("select count(distinct run_id), max(length(run_id)) from raw.job_status") == [(500, 7)]
    if encoding == "DELTA_BYTE_ARRAY":
        # What is the same as before takes no room: some kilobytes are 400 MB.
        content = parquet(encoding=encoding, run_id=pa.array(["x" * 100_000] * 4096))
        assert len(content) < 20_000
        (tmp_path / "b.parquet").write_bytes(content)
        result = subprocess.run(
            [sys.executable, "-c", DELTA_CHILD, str(tmp_path / "b.parquet")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peak, count = map(int, result.stdout.split())
        assert (peak < 700, count) == (True, 4096)
        assert " hold more than " in load_one("b.parquet", content).message


def test_parquet_with_a_text_longer_than_a_line(load_one: Load, query: Query) -> None:
    outcome = load_one("a.parquet", parquet(run_id=pa.array(["ü" * (1 << 20), "r2"])))
    assert (outcome.record_count, outcome.rejected_count) == (1, 1)
    ((size, message),) = query("select length(record), reasons -> 0 ->> 'message' from raw.rejected_record")
    assert size < 600_000
    assert message == "run_id has 2,097,152 bytes, 1,048,576 are allowed; the first of them are kept."


@pytest.mark.usefixtures("small")
def test_a_log_that_is_packed_too_well(settings: Settings, query: Query) -> None:
    folder = Path(settings.landing) / "uptime"
    folder.mkdir()
    (folder / "bomb.log.gz").write_bytes(gzip.compress(b"no line of any log\n" * 50_000))
    (outcome,) = ingest(settings).files
    assert (outcome.status, " hold more than " in outcome.message) == ("quarantined", True)
    # It wakes nobody again.
    assert grown(settings) == []
    assert [one.status for one in ingest(settings).files] == []
    assert query("select count(*) from raw.rejected_record") == [(0,)]


@pytest.mark.usefixtures("small")
def test_rejected_lines_of_a_log_are_kept_up_to_the_limit(settings: Settings, query: Query) -> None:
    folder = Path(settings.landing) / "uptime"
    folder.mkdir()
    counts = []
    for lines in (2, 4, 5):
        with (folder / "a.log").open("a") as log:
            log.write("no line of any log\n" * lines)
        (outcome,) = ingest(settings).files
        counts.append((outcome.rejected_count, outcome.rejected_kept))
    assert counts == [(2, None), (4, 1), (5, 0)]
    assert query("select line_no from raw.rejected_record order by line_no") == [(1,), (2,), (3,)]
    assert query("select sum(rejected_count) from raw.log_read") == [(11,)]


@pytest.mark.parametrize("value", ["-1", "ten", "1.5", "²", "9" * 30])
def test_a_setting_that_is_no_number(value: str) -> None:
    with pytest.raises(
        DuemarkError, match=r"DUEMARK_REJECTED_KEPT is .*; a whole number from 0 on is wanted"
    ):
        Limits.of(Settings.from_env({"DUEMARK_REJECTED_KEPT": value}))
    assert Limits.of(Settings.from_env({"DUEMARK_REJECTED_KEPT": " "})) == Limits()


def test_messages_stay_short_whatever_the_file_is(load_one: Load, query: Query) -> None:
    wide = ",".join(f"c{n}" for n in range(20_000))
    outcome = load_one("a.csv", f"{wide}\n{wide}\n")
    assert outcome.message == "Line 1, the header, has 20,000 columns, 10,000 are allowed."
    outcome = load_one("b.csv", ",".join(["application_id", *(f"c{n}" for n in range(5000))]) + "\n")
    assert outcome.message.endswith("'c9' and 4,990 more, which the feed does not know.")
    outcome = load_one("c.csv", HEADER.strip() + "".join(f",c{n}" for n in range(5000)) + "\n" + LINE * 50)
    assert (outcome.rejected_count, len(outcome.warnings)) == (50, 50)
    assert query("select max(length(reasons::text)) < 1000 from raw.rejected_record") == [(True,)]


@pytest.mark.parametrize("depth", [500, 1000, 1020, 5000])
def test_json_that_is_nested_deeply_is_a_rejected_line(load_one: Load, depth: int) -> None:
    record = dict(zip(NAMES, LINE.strip().split(","), strict=True))
    deep = json.dumps({**record, "run_id": 7})[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}\n"
    outcome = load_one("a.ndjson", json.dumps(record) + "\n" + deep)
    assert (outcome.status, outcome.record_count + outcome.rejected_count) == ("loaded", 2)


CHILD = """
import itertools, sys
from bench.measure import peak_memory
from pipelines.landing.limits import Limits
from pipelines.landing.write import part_of
from pipelines.landing.formats.read import read_chunks
from pipelines.landing.formats.records import Warnings
from pipelines.slo.job_status import JOB_STATUS
class Endless:
    def __init__(self, head, part, size):
        self.parts = itertools.chain([head], itertools.repeat(part, size // len(part)))
    def read(self, size=-1):
        return next(self.parts, b"")
head, part = (bytes.fromhex(text) for text in sys.argv[2:4])
count = 0
for chunk in read_chunks(Endless(head, part * (65536 // len(part)), 3 << 19), sys.argv[1], JOB_STATUS, Warnings()):
    count += len(chunk.rejected) + len(part_of(chunk, JOB_STATUS.check(chunk.frame, {}), 10).rejected)
print(peak_memory() >> 20, count)
"""


@pytest.mark.parametrize(
    ("name", "head", "part"),
    [
        ("a.csv", HEADER, "x\n"),
        ("a.csv", HEADER, ","),
        ("a.csv", HEADER, '"'),
        ("a.csv", HEADER, '"",\n'),
        ("a.ndjson", "{}\n", "1\n"),
        ("a.ndjson", "{}\n", "[" * 1023 + "\n"),
    ],
)
def test_memory_is_flat_whatever_the_bytes(name: str, head: str, part: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CHILD, name, head.encode().hex(), part.encode().hex()],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, _ = map(int, result.stdout.split())
    assert peak < 700
