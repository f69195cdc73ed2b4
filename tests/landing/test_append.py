"""Rows without a file: the same contract, the same rejections, one load."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import DuemarkError
from pipelines.landing import known_feeds
from pipelines.landing.append import Appended, append
from pipelines.landing.ingest import ingest
from pipelines.warehouse.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
Query = Callable[[str], list[tuple[Any, ...]]]

GOOD: dict[str, object] = {
    "application_id": "deposits",
    "job_id": "load",
    "status_code": "START",
    "status_at": "2026-03-02T00:31:07-05:00",
    "business_date": "2026-03-01",
    "run_id": "r1",
    "host_id": None,
}
# Of every kind: accepted, by another name, with a number, local, odd, rejected by the reader and by the check.
ROWS: list[dict[str, object]] = [
    GOOD,
    {"applicationId": "deposits", "jobId": "load", "jobStatusCode": " fail ", "statusAt": "2026-03-02T01:00:00Z",
     "businessDate": "2026-03-01", "runId": 17},
    GOOD | {"status_at": "2026-03-02T01:31:07", "run_id": "n/a", "note": "nobody knows this column"},
    GOOD | {"status_code": "GO"},
    GOOD | {"status_code": "GO", "status_at": "yesterday", "business_date": None},
    GOOD | {"application_id": "nobody", "status_at": "2026-03-02T01:31:07"},
    GOOD | {"run_id": ["r1"]},
    GOOD | {"run_id": "r\0"},
    GOOD | {"run_id": "x" * (1 << 20)},
    GOOD | {"job_id": "é" * 201},
    GOOD | {"job": "load", "jobId": "load"},
    {},
    GOOD | {"status_code": "SUCCEED"},
]  # fmt: skip
ACCEPTED = """
select seq, line_no, application_id, job_id, status_code, status_at, business_date, run_id, host_id, is_ambiguous
from raw.job_status order by load_id, seq
"""
REJECTED = "select feed, line_no, record, reasons from raw.rejected_record order by load_id, line_no"
LOADS = "select feed, record_count, rejected_count, months, latest_at from raw.load order by load_id"


def test_rows_are_loaded_in_one_load(settings: Settings, query: Query) -> None:
    found = append(settings, "job_status", [GOOD, GOOD | {"status_code": "SUCCEED"}], source="receiver")
    assert found == Appended(1, 2, 0)
    assert query("select load_id, seq, line_no, status_code from raw.job_status order by seq") == [
        (1, 0, 1, "START"),
        (1, 1, 2, "SUCCEED"),
    ]
    assert query("select feed, source, record_count, rejected_count from raw.load") == [
        ("job_status", "receiver", 2, 0)
    ]
    assert query("select count(*) from raw.landed_file") == [(0,)]


def test_dates_and_times_are_written_out(settings: Settings, query: Query) -> None:
    at = datetime(2026, 3, 2, 5, 31, 7, 250, tzinfo=UTC)
    row = GOOD | {"status_at": at, "business_date": date(2026, 3, 1)}
    # Another way of writing, for what only JSON has a word for.
    odd = row | {"run_id": 2**70}
    assert append(settings, "job_status", [row, odd], source="receiver").rejected_count == 0
    assert query("select status_at, business_date, run_id from raw.job_status order by seq") == [
        (at, date(2026, 3, 1), "r1"),
        (at, date(2026, 3, 1), str(2**70)),
    ]


def test_rejected_rows_are_kept_with_every_reason(settings: Settings, query: Query) -> None:
    found = append(
        settings, "job_status", [GOOD | {"status_code": "GO", "job_id": ""}, GOOD], source="receiver"
    )
    assert found == Appended(1, 1, 1)
    [(load_id, path, line_no, record, reasons)] = query(
        "select load_id, path, line_no, record, reasons from raw.rejected_record"
    )
    assert (load_id, path, line_no, json.loads(record)["status_code"]) == (1, "receiver", 1, "GO")
    assert [reason["field"] for reason in reasons] == ["job_id", "status_code"]
    # Also where nothing else came with them.
    assert append(settings, "job_status", [{}], source="receiver") == Appended(2, 0, 1)


@pytest.mark.usefixtures("registered")
def test_the_same_rows_by_file_come_to_the_same(
    settings: Settings, query: Query, drop: Callable[..., Path]
) -> None:
    drop(
        "a.ndjson", "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in ROWS)
    )
    (outcome,) = ingest(settings).files
    found = append(settings, "job_status", ROWS, source="receiver")
    assert (found.record_count, found.rejected_count) == (outcome.record_count, outcome.rejected_count)
    assert found.record_count > 3 < found.rejected_count
    assert found.warnings == outcome.warnings
    for sql in (ACCEPTED, REJECTED, LOADS):
        rows = query(sql)
        assert rows[: len(rows) // 2] == rows[len(rows) // 2 :], sql


def test_of_too_many_rejected_rows_some_are_counted(settings: Settings, query: Query) -> None:
    settings = settings.having(DUEMARK_REJECTED_KEPT="3")
    found = append(settings, "job_status", [{}] * 10 + [GOOD], source="receiver")
    assert found == Appended(1, 1, 10)
    assert query("select count(*) from raw.rejected_record") == [(3,)]


def test_no_rows_are_no_load(settings: Settings, query: Query) -> None:
    assert append(settings, "job_status", [], source="receiver") == Appended()
    assert query("select count(*) from raw.load") == [(0,)]


def test_a_feed_that_takes_no_rows_is_refused(settings: Settings, query: Query) -> None:
    with pytest.raises(DuemarkError, match="There is no feed 'jobs'"):
        append(settings, "jobs", [], source="receiver")
    with pytest.raises(DuemarkError, match="rows cannot be appended"):
        append(settings, "uptime", [{"line": "2026-03-01T05:00:00Z"}], source="receiver")
    assert query("select count(*) from raw.load") == [(0,)]


def test_what_json_has_no_word_for_loads_nothing(settings: Settings, query: Query) -> None:
    with pytest.raises(TypeError, match="holds a bytes"):
        append(settings, "job_status", [GOOD, GOOD | {"run_id": b"r1"}], source="receiver")
    assert query("select count(*) from raw.load") == [(0,)]
    # Half a character can be written, and is no JSON.
    assert append(settings, "job_status", [GOOD | {"run_id": "\ud800"}], source="x").rejected_count == 1


@pytest.mark.usefixtures("registered")
def test_the_check_may_know_something_else(settings: Settings) -> None:
    late = GOOD | {"status_at": "2026-03-02T01:00:00Z", "business_date": "2026-03-02"}
    assert append(settings, "job_status", [late], source="x").rejected_count == 1
    utc = {"deposits": "UTC"}
    assert append(settings, "job_status", [late], source="x", context=utc).rejected_count == 0


def test_nobody_else_writes_into_the_tables_of_feeds() -> None:
    tables = "|".join(known_feeds.tables())
    writes = re.compile(rf"(?:insert into|copy|update|delete from)\s+raw\.(?:{tables})\b", re.IGNORECASE)
    found = [
        str(path.relative_to(ROOT))
        for folder in ("pipelines", "sensors")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if writes.search(path.read_text("utf-8"))
    ]
    assert found == []
    assert writes.search("insert into raw.job_status (load_id)")
