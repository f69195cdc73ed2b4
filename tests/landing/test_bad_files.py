"""Files that cannot be taken as a whole: quarantined with a clear word, nothing loaded, the others go on."""

from __future__ import annotations

import gzip
import io
import itertools
import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.landing.ingest import ingest
from pipelines.landing.ledger import FileOutcome
from pipelines.warehouse.settings import Settings

HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
LINE = "deposits,load,START,2026-03-02T00:31:07-05:00,2026-03-01,r1,h1\n"
GOOD = HEADER + LINE


def parquet(**columns: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def statuses(**columns: pa.Array) -> bytes:
    """A good Parquet file, with some columns as given."""
    plain: dict[str, pa.Array] = {
        "application_id": pa.array(["deposits"]),
        "job_id": pa.array(["load"]),
        "status_code": pa.array(["START"]),
        "status_at": pa.array(["2026-03-02T05:31:07Z"]),
        "business_date": pa.array(["2026-03-01"]),
    }
    return parquet(**(plain | columns))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "The file is empty."),
        ("a.csv", b"\xef\xbb\xbf\n\r\n  \n", "The file is empty."),
        ("a.ndjson", b"", "The file is empty."),
        ("a.parquet", b"", "The file is empty."),
        ("a.csv.gz", gzip.compress(b""), "The file is empty."),
        ("a.csv", LINE, "Line 1, the header, names no column of the feed job_status: 'deposits,load,START,"),
        (
            "a.csv",
            "application_id,job_id,state,status_at\n",
            "Line 1, the header, lacks status_code, business_date.",
        ),
        ("a.csv", "application_id,job_id,state,status_at\n", "It has 'state', which the feed does not know."),
        ("a.csv", HEADER[:-1] + ",Run_ID \n", "Line 1, the header, has 'Run_ID ' twice."),
        ("a.csv", HEADER[:-1] + ",runId\n", "has 'run_id' and 'runId', which are one column."),
        ("a.csv", HEADER[:-1] + ",run_id\n", "has 'run_id' twice."),
        ("a.csv", HEADER[:-1] + ",note,note\n", "has 'note' twice."),
        ("a.csv", GOOD.encode("utf-16"), "The file is UTF-16 or binary, not UTF-8 text."),
        ("a.csv", GOOD.encode("utf-16-le"), "The file is UTF-16 or binary, not UTF-8 text."),
        ("a.csv", "año,".encode("latin-1") + GOOD.encode(), "Line 1, the header, is not UTF-8 text."),
        ("a.csv", GOOD.replace("\n", "\r"), "Lines end in a carriage return alone."),
        ("a.csv", "x" * (6 << 20), "Line 1 is no header: it has more than a megabyte."),
        ("a.csv", gzip.compress(GOOD.encode()), "The file is gzip, not CSV text."),
        ("a.csv", statuses(), "The file is Parquet, not CSV text."),
        ("a.csv", b"PK\x03\x04 xlsx", "The file is a zip archive or workbook, not CSV text."),
        (
            "a.csv.gz",
            gzip.compress(GOOD.encode() * 50)[:-30],
            "The gzip file is cut off: it ends before its end mark.",
        ),
        ("a.csv.gz", GOOD, "The gzip file is damaged: Not a gzipped file"),
        ("a.csv.gz", gzip.compress(GOOD.encode())[:-8] + bytes(8), "The gzip file is damaged: "),
        (
            "a.ndjson",
            '[\n{"application_id": "a"}\n]',
            "The file is a JSON array; one object a line is wanted.",
        ),
        ("a.parquet", GOOD, "The file is not Parquet: "),
        ("a.parquet", statuses()[:-200], "The file is not Parquet: "),
        (
            "a.parquet",
            parquet(job_id=pa.array(["x"])),
            "The Parquet file lacks application_id, status_code, ",
        ),
        ("a.parquet", statuses(jobId=pa.array(["x"])), "has 'job_id' and 'jobId', which are one column."),
        (
            "a.parquet",
            statuses(run_id=pa.array([[1]])),
            "Column 'run_id' (run_id) is of type list<element: int64>.",
        ),
        (
            "a.parquet",
            statuses(run_id=pa.array([{"a": 1}])),
            "Column 'run_id' (run_id) is of type struct<a: int64>.",
        ),
        ("a.parquet", statuses(hostId=pa.array([b"x"])), "Column 'hostId' (host_id) is of type binary."),
        ("a.parquet", statuses(run_id=pa.array([True])), "Column 'run_id' (run_id) is of type bool."),
        ("a.xlsx", GOOD, "Files of the feed job_status do not end in .xlsx."),
        ("README", GOOD, "Its name does not say its format."),
    ],
    # by number: contents hold times, and every worker must give a test the same name
    ids=(f"case-{number}" for number in itertools.count(1)),
)
def test_a_broken_file_is_quarantined(
    settings: Settings,
    drop: Callable[..., Path],
    query: Callable[..., list[tuple[Any, ...]]],
    name: str,
    content: str | bytes,
    message: str,
) -> None:
    path = drop(name, content)
    good = drop("good.csv", GOOD.replace("r1", "r2"))
    os.utime(path, (1, 1))
    broken, loaded = ingest(settings).files
    assert (broken.path, broken.status) == (str(path), "quarantined")
    assert message in broken.message
    assert broken.hint
    assert (loaded.path, loaded.status) == (str(good), "loaded")
    assert query("select run_id from raw.job_status") == [("r2",)]
    assert query("select count(*) from raw.rejected_record") == [(0,)]
    assert query("select message, hint, load_id from raw.landed_file where status = 'quarantined'") == [
        (broken.message, broken.hint, None)
    ]

    # Not tried again until it changes.
    assert ingest(settings).files == ()
    path.write_text(GOOD)
    path.rename(path.with_name("mended.csv"))
    (mended,) = ingest(settings).files
    assert mended.status == "loaded"


def test_a_quarantined_file_that_somebody_names_is_tried_again(
    settings: Settings, drop: Callable[..., Path]
) -> None:
    path = drop("a.csv", "no header\n")
    assert ingest(settings).files[0].status == "quarantined"
    assert ingest(settings, [str(path)]).files[0].status == "quarantined"
    path.write_text(GOOD)
    assert ingest(settings).files[0].status == "loaded"
    assert ingest(settings, [str(path)]).files == ()


def test_parquet_of_other_types_is_taken(
    load_one: Callable[..., FileOutcome], query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    moment = datetime(2026, 3, 2, 5, 31, 7, 123456, tzinfo=UTC)
    content = statuses(
        application_id=pa.array(["deposits"]).dictionary_encode(),
        job_id=pa.array([7]),
        status_code=pa.array(["start"], pa.large_string()),
        status_at=pa.array([moment], pa.timestamp("ns", "America/New_York")),
        business_date=pa.array([date(2026, 3, 1)]),
        host_id=pa.nulls(1),
        surplus=pa.array([[1]]),
    )
    outcome = load_one("a.parquet", content)
    assert (outcome.status, outcome.record_count) == ("loaded", 1)
    assert [warning["column"] for warning in outcome.warnings] == ["surplus"]
    assert query(
        "select application_id, job_id, status_code, status_at, business_date, host_id from raw.job_status"
    ) == [("deposits", "7", "START", moment, date(2026, 3, 1), None)]


@pytest.mark.usefixtures("registered")
def test_parquet_timestamps_without_zone_are_local(
    load_one: Callable[..., FileOutcome], query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    content = statuses(status_at=pa.array([datetime(2026, 3, 2, 0, 31)], pa.timestamp("ms")))  # noqa: DTZ001
    assert load_one("a.parquet.gz", gzip.compress(content)).record_count == 1
    assert query("select status_at from raw.job_status") == [(datetime(2026, 3, 2, 5, 31, tzinfo=UTC),)]


def test_parquet_records_are_rejected_by_row(
    load_one: Callable[..., FileOutcome], query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    broken = pa.array([b"load\xff", b"lo\x00ad", b"load"], pa.binary()).view(pa.string())
    content = parquet(
        application_id=pa.array(["deposits"] * 3),
        job_id=broken,
        status_code=pa.array(["START", "START", "BEGIN"]),
        status_at=pa.array(["2026-03-02T05:31:07Z"] * 3),
        business_date=pa.array(["2026-03-01"] * 3),
    )
    outcome = load_one("a.parquet", content)
    assert (outcome.status, outcome.record_count, outcome.rejected_count) == ("loaded", 0, 3)
    rows = query(
        "select line_no, record, reasons -> 0 ->> 'message' from raw.rejected_record order by line_no"
    )
    assert [(line, message) for line, _, message in rows] == [
        (1, "job_id is not UTF-8 text."),
        (2, "A NUL character stands in the value."),
        (3, "status_code is 'BEGIN': no such status."),
    ]
    assert '"job_id": "load\\\\xff"' in rows[0][1]


def test_a_header_without_records_is_a_load_of_nothing(
    load_one: Callable[..., FileOutcome], query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    outcome = load_one("a.csv", HEADER)
    assert (outcome.status, outcome.load_id, outcome.record_count) == ("loaded", 1, 0)
    assert query("select load_id, record_count, rejected_count from raw.load") == [(1, 0, 0)]


def test_columns_in_any_order_case_and_separator(
    load_one: Callable[..., FileOutcome], query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    content = (
        "\ufeff BusinessDate ;jobid;APPLICATIONID;jobStatusCode;jobStatusTimestamp;hostID;remark;;\r\n"
        "2026-03-01;load, all;deposits;sUcCeEd;2026-03-02T05:31:07z;h;x;;\r\n"
    )
    outcome = load_one("a.csv", content)
    assert query(
        "select line_no, application_id, job_id, status_code, host_id, run_id from raw.job_status"
    ) == [(2, "deposits", "load, all", "SUCCEED", "h", None)]
    assert [warning["message"] for warning in outcome.warnings] == [
        "Line 1: the feed job_status has no column 'remark'; its values are not loaded.",
        "Line 1: a column has no name; its values are not loaded.",
    ]


def test_unknown_columns_are_told_with_what_may_be_meant(
    load_one: Callable[..., FileOutcome], query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    outcome = load_one("a.csv", HEADER.replace("host_id", "hostid_") + LINE)
    message = (
        "Line 1: the feed job_status has no column 'hostid_'; its values are not loaded. Is hostId meant?"
    )
    assert outcome.status == "loaded"
    assert [(w["line"], w["column"], w["message"]) for w in outcome.warnings] == [(1, "hostid_", message)]
    assert query("select warnings -> 0 ->> 'message', warnings -> 0 ->> 'hint' from raw.landed_file") == [
        (
            message,
            "If they were to be loaded, rename it and deliver the file again; otherwise nothing needs doing.",
        )
    ]
    assert query("select host_id from raw.job_status") == [(None,)]


def test_unknown_keys_of_json_are_told_once_with_their_line(load_one: Callable[..., FileOutcome]) -> None:
    line = (
        '{"applicationId": "a", "jobId": "j", "jobStatusCode": "FAIL", "jobStatusTimestamp": "2026-03-02T05:31:07Z",'
        ' "businessDate": "2026-03-01"%s}\n'
    )
    outcome = load_one("a.jsonl", line % "" + line % ', "why": "disk"' + line % ', "why": "net"')
    assert outcome.record_count == 3
    assert [(w["line"], w["column"]) for w in outcome.warnings] == [(2, "why")]


def test_a_last_line_without_end_is_loaded_with_a_warning(load_one: Callable[..., FileOutcome]) -> None:
    outcome = load_one("a.csv", GOOD[:-1])
    assert outcome.record_count == 1
    assert [(w["line"], w["message"]) for w in outcome.warnings] == [(2, "The last line has no line end.")]
