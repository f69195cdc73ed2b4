"""Records that break their contract: rejected whole, with line, field, reason and way out; the rest goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from pipelines.landing.formats.lines import LONGEST_KEPT
from pipelines.landing.ledger import FileOutcome

HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
LINE = "deposits,load,START,2026-03-02T00:31:07-05:00,2026-03-01,r1,h1\n"

Query = Callable[..., list[tuple[Any, ...]]]
Load = Callable[..., FileOutcome]


def rejected(query: Query) -> list[tuple[int, str, list[dict[str, Any]]]]:
    rows = query("select line_no, record, reasons from raw.rejected_record order by line_no")
    return [(line, record, reasons) for line, record, reasons in rows]


def messages(query: Query) -> list[tuple[int, str | None, str]]:
    return [
        (line, reason["field"], reason["message"])
        for line, _, reasons in rejected(query)
        for reason in reasons
    ]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deposits,load,START,2026-03-02T0", (None, "The line has 4 fields, the header has 7.")),
        (LINE[:-1] + ",more", (None, "The line has 8 fields, the header has 7.")),
        (
            'deposits,"load,START,2026-03-02T05:00Z,2026-03-01,,',
            (None, "A double quote is opened and not closed on the line."),
        ),
        (
            'deposits,"lo"ad,START,2026-03-02T05:00Z,2026-03-01,,',
            (None, "Something follows a closing double quote."),
        ),
        (
            "deposits,lo\rad,START,2026-03-02T05:00Z,2026-03-01,,",
            (None, "The line has a carriage return in it."),
        ),
        (
            "deposits,lo\0ad,START,2026-03-02T05:00Z,2026-03-01,,",
            (None, "The line has a NUL byte, the first at byte 12."),
        ),
        (",load,START,2026-03-02T05:00Z,2026-03-01,,", ("application_id", "application_id is missing.")),
        ("deposits, ,START,2026-03-02T05:00Z,2026-03-01,,", ("job_id", "job_id is missing.")),
        (
            f"deposits,{'é' * 201},FAIL,2026-03-02T05:00Z,2026-03-01,,",
            ("job_id", "job_id has 201 characters."),
        ),
        (
            f"deposits,load,FAIL,2026-03-02T05:00Z,2026-03-01,{'r' * 51},",
            ("run_id", "run_id has 51 characters."),
        ),
        (
            f"deposits,load,FAIL,2026-03-02T05:00Z,2026-03-01,,{'h' * 151}",
            ("host_id", "host_id has 151 characters."),
        ),
        ("deposits,load,,2026-03-02T05:00Z,2026-03-01,,", ("status_code", "status_code is missing.")),
        (
            "deposits,load,DONE,2026-03-02T05:00Z,2026-03-01,,",
            ("status_code", "status_code is 'DONE': no such status."),
        ),
        ("deposits,load,FAIL,,2026-03-01,,", ("status_at", "status_at is missing.")),
        (
            "deposits,load,FAIL,yesterday,2026-03-01,,",
            ("status_at", "status_at is 'yesterday': no instant that exists."),
        ),
        (
            "deposits,load,FAIL,2026-02-30T05:00Z,2026-02-01,,",
            ("status_at", "status_at is '2026-02-30T05:00Z': no instant that exists."),
        ),
        (
            "deposits,load,FAIL,2026-03-02,2026-03-01,,",
            ("status_at", "status_at is '2026-03-02': a date without a time."),
        ),
        (
            "deposits,load,FAIL,0001-01-01T00:00:00+05:00,0001-01-01,,",
            ("status_at", "status_at is '0001-01-01T00:00:00+05:00': outside the years 1 to 9999 of UTC."),
        ),
        (
            "nobody,load,FAIL,2026-03-02T00:31:07,2026-03-01,,",
            (
                "status_at",
                (
                    "status_at is '2026-03-02T00:31:07': it has no offset, and the application is not registered,"
                    " so its zone is not known."
                ),
            ),
        ),
        ("deposits,load,FAIL,2026-03-02T05:00Z,,,", ("business_date", "business_date is missing.")),
        (
            "deposits,load,FAIL,2026-03-02T05:00Z,2026-03-01T00:00:01,,",
            ("business_date", "business_date is '2026-03-01T00:00:01': no date."),
        ),
        (
            "deposits,load,FAIL,2026-03-02T04:59:59Z,2026-03-02,,",
            (
                "business_date",
                (
                    "business_date 2026-03-02 is later than 2026-03-01, the date of status_at 2026-03-02T04:59:59Z"
                    " in America/New_York."
                ),
            ),
        ),
        (
            "nobody,load,FAIL,2026-03-02T09:59:59Z,2026-03-03,,",
            (
                "business_date",
                (
                    "business_date 2026-03-03 is later than 2026-03-02, the date of status_at 2026-03-02T09:59:59Z"
                    " at UTC+14 (the application is not registered)."
                ),
            ),
        ),
    ],
)
def test_a_broken_record_is_rejected(
    load_one: Load, query: Query, line: str, expected: tuple[str | None, str]
) -> None:
    outcome = load_one("a.csv", HEADER + LINE + line + "\n\n" + LINE)
    assert (outcome.status, outcome.record_count, outcome.rejected_count) == ("loaded", 2, 1)
    assert messages(query) == [(3, *expected)]
    ((_, record, reasons),) = rejected(query)
    assert record == line.replace("\0", "\\x00")
    assert all(reason["hint"] for reason in reasons)
    assert query("select line_no, seq from raw.job_status order by seq") == [(2, 0), (5, 1)]


def test_all_breaches_of_a_record_are_told(load_one: Load, query: Query) -> None:
    load_one("a.csv", HEADER + f",{'j' * 201},GO,soon,never,{'r' * 51},{'h' * 151}\n")
    assert [field for _, field, _ in messages(query)] == [
        "application_id",
        "job_id",
        "run_id",
        "host_id",
        "status_code",
        "status_at",
        "business_date",
    ]


def test_a_latin_1_byte_costs_its_line_only(load_one: Load, query: Query) -> None:
    content = (HEADER + LINE + LINE.replace("load", "año")).encode("latin-1") + LINE.replace(
        "load", "año"
    ).encode()
    assert load_one("a.csv", content).record_count == 2
    assert messages(query) == [(3, None, "The line is not UTF-8: byte 0xf1 at byte 11.")]
    assert rejected(query)[0][1].startswith("deposits,a\\xf1o,START")


def test_a_line_of_ten_megabytes_is_kept_whole(load_one: Load, query: Query) -> None:
    long = "deposits," + "x" * (10 << 20)
    outcome = load_one("a.csv", HEADER + LINE + long + "\r\n" + LINE)
    assert (outcome.record_count, outcome.rejected_count) == (2, 1)
    ((line, record, reasons),) = rejected(query)
    assert (line, record) == (3, long)
    assert reasons[0]["message"] == "The line has 10,485,769 bytes, 1,048,576 are allowed."
    assert query("select line_no from raw.job_status order by seq") == [(2,), (4,)]


def test_of_a_longer_line_the_start_is_kept(load_one: Load, query: Query) -> None:
    load_one("a.csv", HEADER + "x" * (20 << 20))
    ((_, record, reasons),) = rejected(query)
    assert len(record) == LONGEST_KEPT
    assert "the first 16,777,216 are kept" in reasons[0]["message"]


def test_a_line_of_two_megabytes_within_a_block(load_one: Load, query: Query) -> None:
    load_one("a.csv", HEADER + LINE + "y" * (2 << 20) + "\n" + LINE)
    assert messages(query) == [(3, None, "The line has 2,097,152 bytes, 1,048,576 are allowed.")]


def test_nul_bytes_and_nul_characters(load_one: Load, query: Query) -> None:
    status = {
        "application_id": "a",
        "job_id": "j\0",
        "status_code": "FAIL",
        "status_at": "2026-03-02T05:31:07Z",
        "business_date": "2026-03-01",
    }
    load_one("a.ndjson", json.dumps(status) + "\n" + '{"a": "\0"}\n')
    assert messages(query) == [
        (1, "job_id", "A NUL character stands in the value."),
        (2, None, "The line has a NUL byte, the first at byte 8."),
    ]
    assert rejected(query)[1][1] == '{"a": "\\x00"}'


def test_values_of_json(load_one: Load, query: Query) -> None:
    def line(**changes: object) -> str:
        status = {
            "application_id": "a",
            "job_id": "j",
            "status_code": "FAIL",
            "status_at": "2026-03-02T05:31:07Z",
            "business_date": "2026-03-01",
        }
        return json.dumps(status | changes) + "\n"

    content = (
        line(job_id=12345678901234567890123, run_id=7)
        + line(job_id="x").replace('"x"', "1.50")
        + line(run_id=None, host_id="")
        + "\n"
        + line(job_id=True)
        + line(job_id=["j"], status_code={"a": 1})
        + line(run_id="r", runId="s")
        + line().replace('"j"', "NaN")
        + "7\n"
        + '{"a": \n'
        + line(job_id="\ud800")
    )
    outcome = load_one("a.json", content)
    assert outcome.record_count == 3
    assert query("select job_id, run_id from raw.job_status order by seq") == [
        ("12345678901234567890123", "7"),
        ("1.50", None),
        ("j", None),
    ]
    assert [
        (line, field, re.sub(r"no JSON: .+ at character \d+", "no JSON", message))
        for line, field, message in messages(query)
    ] == [
        (5, "job_id", "job_id is a JSON boolean; text is wanted."),
        (6, "job_id", "job_id is a JSON array; text is wanted."),
        (6, "status_code", "status_code is a JSON object; text is wanted."),
        (7, "run_id", "'run_id' and 'runId' are one column."),
        (8, None, "The line is no JSON."),
        (9, None, "The line is a JSON number, not an object."),
        (10, None, "The line is no JSON."),
        (11, None, "The line is no JSON."),
    ]


@pytest.mark.usefixtures("registered")
def test_singapores_second_of_june_starts_on_the_first_at_16(load_one: Load, query: Query) -> None:
    content = (
        HEADER
        + "treasury,load,START,2026-06-01T16:00:00Z,2026-06-02,,\n"
        + "treasury,load,START,2026-06-01T15:59:59.999999Z,2026-06-02,,\n"
    )
    assert load_one("a.csv", content).record_count == 1
    assert query("select line_no from raw.job_status") == [(2,)]


@pytest.mark.usefixtures("registered")
def test_times_without_offset_are_of_the_applications_zone(load_one: Load, query: Query) -> None:
    times = ("2026-03-02T00:31:07.1234567", "2026-03-08T02:30:00", "2026-11-01T01:30:00", "2026-11-01 02:30")
    load_one("a.csv", HEADER + "".join(f"deposits,load,START,{time},2026-03-01,,\n" for time in times))
    assert query("select status_at, is_ambiguous from raw.job_status order by seq") == [
        (datetime(2026, 3, 2, 5, 31, 7, 123456, tzinfo=UTC), False),
        (datetime(2026, 3, 8, 7, 30, tzinfo=UTC), False),  # in the gap: with the offset before it
        (datetime(2026, 11, 1, 5, 30, tzinfo=UTC), True),  # occurs twice: the first
        (datetime(2026, 11, 1, 7, 30, tzinfo=UTC), False),
    ]


def test_a_status_from_the_future_is_held_not_rejected(load_one: Load) -> None:
    outcome = load_one("a.csv", HEADER + "deposits,load,START,2199-03-02T05:00:00Z,2199-03-01,,\n")
    assert (outcome.record_count, outcome.rejected_count) == (1, 0)


def test_dates_before_1990(load_one: Load, query: Query) -> None:
    load_one("a.csv", HEADER + "deposits,load,START,0001-01-02T05:00:00Z,0001-01-01,,\n")
    assert query(
        "select to_char(business_date, 'YYYY-MM-DD'), tableoid::regclass::text from raw.job_status"
    ) == [("0001-01-01", "raw.job_status_before_1990")]


def test_a_file_of_rejected_records_only_is_a_load(load_one: Load, query: Query) -> None:
    outcome = load_one("a.csv", HEADER + "x\ny\n")
    assert (outcome.status, outcome.load_id, outcome.record_count, outcome.rejected_count) == (
        "loaded",
        1,
        0,
        2,
    )
    assert query("select load_id, feed, path, line_no, record from raw.rejected_record order by line_no") == [
        (1, "job_status", outcome.path, 2, "x"),
        (1, "job_status", outcome.path, 3, "y"),
    ]
    assert (
        query(
            "select record_count, rejected_count, rejected_at <= received_at from raw.load, raw.rejected_record"
        )
        == [(0, 2, True)] * 2
    )
