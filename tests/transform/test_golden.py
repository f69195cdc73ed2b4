"""The rules of the specification by hand: files in, rows of the marts out. New York is at UTC-5 in these days."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from pipelines.transform.tick import TickRefusedError, tick
from pipelines.warehouse.connect import connect
from pipelines.warehouse.locks import Lock, held
from tests.transform.support import Warehouse

HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
# Monday 2 March 2026: the work for it is done in the night to Tuesday.
CATALOG: dict[str, list[dict[str, Any]]] = {
    "applications": [
        {"id": "overdrafts", "timezone": "America/New_York"},
        {"id": "support", "timezone": "America/New_York"},
        {"id": "deposits", "timezone": "America/New_York"},
        {"id": "cards", "timezone": "Asia/Singapore"},
    ],
    "calendars": [
        {"id": "every_day", "weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]},
        {"id": "this_monday", "weekdays": ["mon"], "until": "2026-03-02"},
        {"id": "this_tuesday", "weekdays": ["tue"], "until": "2026-03-03"},
    ],
    "jobs": [
        {"id": "charge", "application": "overdrafts"},
        {"id": "load", "application": "support", "depends_on": ["overdrafts/charge"]},
        {"id": "check", "application": "support", "depends_on": ["load"]},
        {"id": "summarize", "application": "deposits"},
        {"id": "settle", "application": "cards"},
    ],
    "slos": [
        {
            "id": "charges",
            "application": "overdrafts",
            "calendar": "this_monday",
            "effective_from": "2026-03-02",
            "jobs": [{"job": "charge", "start": "00:30", "end": "03:00", "day_offset": 1}],
        },
        {
            "id": "decisions",
            "application": "support",
            "calendar": "this_monday",
            "effective_from": "2026-03-02",
            "jobs": [
                {"job": "overdrafts/charge", "start": "00:30", "end": "03:00", "day_offset": 1},
                # Both are due at the same time; `load` is upstream of `check`, which comes first by name.
                {"job": "check", "end": "05:00", "day_offset": 1},
                {"job": "load", "start": "03:00", "end": "05:00", "day_offset": 1},
            ],
        },
        {
            "id": "activity",
            "application": "deposits",
            "calendar": "this_tuesday",
            "effective_from": "2026-03-03",
            "every": {
                "minutes": 30,
                "from": "09:30",
                "to": "10:30",
                "due_after": "10m",
                "early_tolerance": "5m",
            },
            "jobs": [{"job": "summarize"}],
        },
        {
            "id": "settlement",
            "application": "cards",
            "calendar": "every_day",
            "jobs": [{"job": "settle", "end": "02:00", "day_offset": 0}],
        },
    ],
}
CHARGE = "overdrafts,charge,{},2026-03-03T{}-05:00,2026-03-02,{}\n"


@pytest.fixture
def bank(warehouse: Warehouse) -> Warehouse:
    warehouse.store_catalog(CATALOG)
    return warehouse


def charges(bank: Warehouse, *columns: str) -> tuple[Any, ...]:
    """The one row of the SLO `charges`."""
    (row,) = bank.rows("slo_performance", *columns, where="slo_id = 'charges'")
    return row


def test_absence_is_data(bank: Warehouse) -> None:
    bank.tick("2026-03-03 08:00:01")
    assert charges(bank, "expected_start_at", "expected_end_at") == ("2026-03-03 05:30", "2026-03-03 08:00")
    assert charges(bank, "actual_start_at", "actual_end_at", "late_by") == (None, None, None)
    assert charges(bank, "progress", "outcome") == ("pending", "overdue")
    columns = ("application_id", "job_id", "progress", "run_count")
    assert bank.rows("slo_job_performance", *columns, where="slo_id = 'decisions'") == [
        ("overdrafts", "charge", "pending", 0),
        ("support", "check", "pending", 0),
        ("support", "load", "pending", 0),
    ]
    # Nothing was promised where no job ever reported and no date was named.
    assert bank.rows("slo_performance", "slo_id", where="slo_id = 'settlement'") == []


def test_an_occurrence_is_there_from_the_start_of_its_date(bank: Warehouse) -> None:
    bank.tick("2026-03-02 04:59:59")
    assert bank.rows("slo_performance", "slo_id") == []
    bank.tick("2026-03-02 05:00")
    assert bank.rows("slo_performance", "slo_id", "outcome") == [
        ("charges", "not_due"),
        ("decisions", "not_due"),
    ]


@pytest.mark.parametrize(
    ("as_of", "outcome"),
    [
        ("2026-03-03 07:59:59.999999", "not_due"),
        ("2026-03-03 08:00", "not_due"),
        ("2026-03-03 08:00:00.000001", "overdue"),
    ],
)
def test_overdue_is_after_the_due_instant(bank: Warehouse, as_of: str, outcome: str) -> None:
    bank.tick("2026-03-03 07:00")
    bank.tick(as_of)
    assert charges(bank, "outcome") == (outcome,)


def test_an_overdue_falls_due_between_two_ticks_that_end_at_the_instant(bank: Warehouse) -> None:
    bank.tick("2026-03-03 08:00")
    assert charges(bank, "outcome") == ("not_due",)
    bank.tick("2026-03-03 08:00:00.000001")
    assert charges(bank, "outcome") == ("overdue",)


@pytest.mark.parametrize(
    ("ended", "outcome", "late_by"),
    [
        ("02:00:00", "on_time", -60),
        ("03:00:00", "on_time", 0),
        ("03:00:00.000006", "late", 1e-7),
        ("04:30:00", "late", 90),
    ],
)
def test_on_time_is_up_to_the_due_instant(bank: Warehouse, ended: str, outcome: str, late_by: float) -> None:
    bank.ingest(
        HEADER + CHARGE.format("START", "00:31:00", "r1,h1") + CHARGE.format("SUCCEED", ended, "r1,h1")
    )
    bank.tick("2026-03-03 12:00")
    assert charges(bank, "progress", "outcome", "late_by") == ("complete", outcome, pytest.approx(late_by))


def test_late_then_complete(bank: Warehouse) -> None:
    bank.ingest(HEADER + CHARGE.format("START", "00:31:00", "r1,h1"))
    columns = ("actual_start_at", "actual_end_at", "progress", "outcome", "late_by")
    bank.tick("2026-03-03 07:00")
    assert charges(bank, *columns) == ("2026-03-03 05:31", None, "running", "not_due", None)
    bank.tick("2026-03-03 08:30")
    assert charges(bank, *columns) == ("2026-03-03 05:31", None, "running", "overdue", None)
    bank.ingest(HEADER + CHARGE.format("SUCCEED", "03:45:00", "r1,h1"))
    bank.tick("2026-03-03 09:00")
    assert charges(bank, *columns) == ("2026-03-03 05:31", "2026-03-03 08:45", "complete", "late", 45)


def test_a_success_under_another_run_id_counts(bank: Warehouse) -> None:
    bank.ingest(
        HEADER + CHARGE.format("START", "00:30:00", "r1,h1") + CHARGE.format("FAIL", "01:10:00", "r1,h1")
    )
    bank.tick("2026-03-03 06:15")
    assert charges(bank, "progress", "outcome", "last_status") == ("failed", "not_due", "FAIL")
    bank.ingest(
        HEADER + CHARGE.format("START", "01:30:00", "r2,h2") + CHARGE.format("SUCCEED", "02:40:00", "r2,h2")
    )
    bank.tick("2026-03-03 08:00")
    columns = ("progress", "outcome", "actual_start_at", "actual_end_at", "revisions")
    assert charges(bank, *columns) == ("complete", "on_time", "2026-03-03 05:30", "2026-03-03 07:40", 0)
    runs = bank.rows(
        "job_run", "attempt", "run_key", "started_at", "ended_at", "duration", "final_status", "host_id"
    )
    assert runs == [
        (1, "r1", "2026-03-03 05:30", "2026-03-03 06:10", 40, "FAIL", "h1"),
        (2, "r2", "2026-03-03 06:30", "2026-03-03 07:40", 70, "SUCCEED", "h2"),
    ]
    assert bank.rows("slo_job_run", "slo_id", "slot", "run_key") == [
        ("charges", "00:00", "r1"),
        ("charges", "00:00", "r2"),
        ("decisions", "00:00", "r1"),
        ("decisions", "00:00", "r2"),
    ]


def test_a_success_without_a_start(bank: Warehouse) -> None:
    bank.ingest(HEADER + CHARGE.format("SUCCEED", "02:40:00", ",") + CHARGE.format("START", "02:50:00", ","))
    bank.tick("2026-03-03 08:00")
    assert charges(bank, "progress", "actual_start_at", "actual_end_at", "revisions") == (
        "complete", None, "2026-03-03 07:40", 1,
    )  # fmt: skip
    assert bank.rows("job_run", "run_key", "started_at", "ended_at", "duration", "final_status") == [
        ("~0", None, "2026-03-03 07:40", None, "SUCCEED"),
        ("~1", "2026-03-03 07:50", None, None, "START"),
    ]


def test_revisions_do_not_break_a_kept_promise(bank: Warehouse) -> None:
    bank.ingest(
        HEADER
        + CHARGE.format("START", "00:30:00", "r1,h1")
        + CHARGE.format("SUCCEED", "02:00:00", "r1,h1")
        + CHARGE.format("START", "06:00:00", "r2,h1")
        + CHARGE.format("FAIL", "06:30:00", "r2,h1")
        + CHARGE.format("SUCCEED", "07:00:00", "r3,h1")
    )
    bank.tick("2026-03-03 13:00")
    columns = ("outcome", "actual_end_at", "late_by", "revisions", "last_success_at", "last_status")
    assert charges(bank, *columns) == ("on_time", "2026-03-03 07:00", -60, 3, "2026-03-03 12:00", "SUCCEED")
    (explanation,) = charges(bank, "explanation")
    assert explanation == (
        "On time: overdrafts/charge succeeded at 2026-03-03 02:00:00, due 2026-03-03 03:00:00 America/New_York;"
        " revised since, last success 2026-03-03 07:00:00."
    )


def test_an_slo_is_complete_only_when_all_its_jobs_are(bank: Warehouse) -> None:
    columns = ("outcome", "actual_end_at", "completed_job_count", "blocking_job", "explanation")

    def decisions() -> tuple[Any, ...]:
        (row,) = bank.rows("slo_performance", *columns, where="slo_id = 'decisions'")
        return row

    bank.tick("2026-03-03 05:00")
    # Of those due last, the most upstream.
    explanation = (
        "Not due yet: nothing reported for any of its 3 jobs, waiting for support/load,"
        " due 2026-03-03 05:00:00 America/New_York."
    )
    assert decisions() == ("not_due", None, 0, "support/load", explanation)
    bank.ingest(
        HEADER
        + CHARGE.format("SUCCEED", "02:00:00", "r1,h1")
        + "support,load,FAIL,2026-03-03T03:30:00-05:00,2026-03-02,r1,h1\n"
        + "support,check,SUCCEED,2026-03-03T03:40:00-05:00,2026-03-02,r1,h1\n"
    )
    bank.tick("2026-03-03 11:00")
    explanation = (
        "Overdue: a job failed; 2 of 3 complete, waiting for support/load,"
        " due 2026-03-03 05:00:00 America/New_York; cause: support/load failed at 2026-03-03 03:30:00."
    )
    assert decisions() == ("overdue", None, 2, "support/load", explanation)
    bank.ingest(HEADER + "support,load,SUCCEED,2026-03-03T06:05:00-05:00,2026-03-02,r2,h1\n")
    bank.tick("2026-03-03 12:00")
    explanation = (
        "Late: all 3 jobs are complete, the last, support/load, at 2026-03-03 06:05:00,"
        " due 2026-03-03 05:00:00 America/New_York; cause: support/load failed at 2026-03-03 03:30:00."
    )
    assert decisions() == ("late", "2026-03-03 11:05", 3, "support/load", explanation)


def test_a_run_belongs_to_the_last_window_that_had_begun(bank: Warehouse) -> None:
    line = "deposits,summarize,{},2026-03-03T{}:00-05:00,2026-03-03,{},\n"
    bank.ingest(
        HEADER
        # The work of the night belongs to the first window.
        + line.format("START", "02:00", "a") + line.format("SUCCEED", "02:20", "a")
        # A 10:00 run that starts at 10:32 is the 10:30 run.
        + line.format("START", "10:32", "b") + line.format("SUCCEED", "10:39", "b")
    )  # fmt: skip
    bank.tick("2026-03-03 16:00")
    columns = ("slot", "expected_end_at", "actual_start_at", "outcome")
    assert bank.rows("slo_performance", *columns, where="slo_id = 'activity'") == [
        ("09:30", "2026-03-03 14:40", "2026-03-03 07:00", "on_time"),
        ("10:00", "2026-03-03 15:10", None, "overdue"),
        ("10:30", "2026-03-03 15:40", "2026-03-03 15:32", "on_time"),
    ]


def test_a_run_a_little_early_belongs_to_the_window_to_come(bank: Warehouse) -> None:
    line = "deposits,summarize,{},2026-03-03T{}-05:00,2026-03-03,{},\n"
    bank.ingest(
        HEADER
        + line.format("START", "09:54:59.999999", "a")
        + line.format("START", "10:25:00", "b")
        + line.format("SUCCEED", "10:31:00", "b")
    )
    bank.tick("2026-03-03 16:00")
    assert bank.rows("slo_job_run", "slot", "run_key") == [("09:30", "a"), ("10:30", "b")]


def test_a_late_first_status_moves_a_run_to_another_window(bank: Warehouse) -> None:
    line = "deposits,summarize,{},2026-03-03T{}:00-05:00,2026-03-03,a,\n"
    bank.ingest(HEADER + line.format("SUCCEED", "10:34"))
    bank.tick("2026-03-03 15:35")
    columns = ("slot", "actual_end_at")
    where = "slo_id = 'activity' and progress = 'complete'"
    assert bank.rows("slo_performance", *columns, where=where) == [("10:30", "2026-03-03 15:34")]
    bank.ingest(HEADER + line.format("START", "10:01"))
    bank.tick("2026-03-03 15:36")
    assert bank.rows("slo_performance", *columns, where=where) == [("10:00", "2026-03-03 15:34")]


def test_singapores_date_begins_while_it_is_the_day_before_in_utc(bank: Warehouse) -> None:
    report = bank.ingest(
        HEADER
        + "cards,settle,START,2026-06-01T16:00:00Z,2026-06-02,r1,h1\n"
        + "cards,settle,SUCCEED,2026-06-02T01:30:00,2026-06-02,r1,h1\n"  # without offset: in Singapore
        + "cards,settle,START,2026-06-01T15:59:59Z,2026-06-02,r1,h1\n"  # still the 1st there
        + "cards,settle,START,2026-06-01T01:00:00Z,2026-06-01,r0,h1\n"
    )
    assert [(file.record_count, file.rejected_count) for file in report.files] == [(3, 1)]
    bank.tick("2026-06-01 18:00")
    columns = ("business_date", "expected_end_at", "actual_start_at", "actual_end_at", "outcome")
    where = "slo_id = 'settlement' and business_date > '2026-06-01'"
    assert bank.rows("slo_performance", *columns, where=where) == [
        ("2026-06-02", "2026-06-01 18:00", "2026-06-01 16:00", "2026-06-01 17:30", "on_time")
    ]
    # An open start began with the first status: from here on absence is data.
    bank.tick("2026-06-03 18:00:01")
    assert bank.rows("slo_performance", "business_date", "outcome", where=where) == [
        ("2026-06-02", "on_time"), ("2026-06-03", "missed"), ("2026-06-04", "overdue"),
    ]  # fmt: skip


def test_an_open_start_moves_back_with_an_earlier_first_status(bank: Warehouse) -> None:
    bank.ingest(HEADER + "cards,settle,SUCCEED,2026-06-02T01:30:00,2026-06-02,r1,h1\n")
    bank.tick("2026-06-02 12:00")
    bank.ingest(HEADER + "cards,settle,SUCCEED,2026-05-31T01:30:00,2026-05-30,r1,h1\n")
    bank.tick("2026-06-02 12:01")
    assert bank.rows("slo_performance", "business_date", "outcome", where="slo_id = 'settlement'") == [
        ("2026-05-30", "late"), ("2026-05-31", "missed"), ("2026-06-01", "missed"), ("2026-06-02", "on_time"),
    ]  # fmt: skip


def test_an_open_start_moves_back_over_dates_that_were_promised_before(bank: Warehouse) -> None:
    bank.tick("2026-05-29 12:00")
    bank.ingest(
        HEADER
        + "cards,settle,SUCCEED,2026-06-01T01:30:00,2026-06-01,r0,h1\n"
        + "cards,settle,SUCCEED,2026-06-02T01:30:00,2026-06-02,r1,h1\n"
    )
    bank.tick("2026-06-02 12:00")
    columns = ("business_date", "outcome")
    assert bank.rows("slo_performance", *columns, where="slo_id = 'settlement'") == [
        ("2026-06-01", "on_time"),
        ("2026-06-02", "on_time"),
    ]
    bank.ingest(HEADER + "cards,settle,SUCCEED,2026-05-30T02:00:00,2026-05-30,r1,h1\n")
    bank.tick("2026-06-02 12:01")
    assert bank.rows("slo_performance", *columns, where="slo_id = 'settlement'") == [
        ("2026-05-30", "on_time"),
        ("2026-05-31", "missed"),
        ("2026-06-01", "on_time"),
        ("2026-06-02", "on_time"),
    ]


def test_statuses_without_run_ids_make_runs_by_themselves(bank: Warehouse) -> None:
    bank.ingest(
        HEADER
        + CHARGE.format("START", "00:30:00", ",h1")
        + CHARGE.format("FAIL", "01:00:00", ",h1")
        + CHARGE.format("START", "01:00:00", ",h2")  # the FAIL at its instant closes the run before
        + CHARGE.format("SUCCEED", "02:00:00", ",")
        + CHARGE.format("START", "00:45:00", "~1,")  # a sender's own id never meets ours
    )
    bank.tick("2026-03-03 08:00")
    columns = ("attempt", "run_key", "run_id", "started_at", "ended_at", "final_status", "host_id")
    assert bank.rows("job_run", *columns) == [
        (1, "~1", None, "2026-03-03 05:30", "2026-03-03 06:00", "FAIL", "h1"),
        (2, "~~1", "~1", "2026-03-03 05:45", None, "START", None),
        (3, "~2", None, "2026-03-03 06:00", "2026-03-03 07:00", "SUCCEED", "h2"),
    ]


def test_of_copies_the_least_is_the_status(bank: Warehouse) -> None:
    copies = ["", "r2,h1", "r1,", "r1,h9", "r1,h2", "é,h0"]
    for number, copy in enumerate(copies):
        bank.ingest(HEADER + CHARGE.format("START", "00:30:00", copy or ","))
        bank.tick(f"2026-03-03 08:0{number}")
    assert bank.rows("job_run", "run_key", "host_id") == [("r1", "h2")]
    assert bank.query("select count(*) as n from raw.job_status") == [{"n": len(copies)}]


def test_a_status_from_the_future_is_held_until_its_time(bank: Warehouse) -> None:
    bank.ingest(HEADER + CHARGE.format("SUCCEED", "02:00:00", "r1,h1"))
    bank.tick("2026-03-03 06:59:59.999999")
    assert charges(bank, "progress") == ("pending",)
    assert bank.rows("job_run", "run_key") == []
    bank.tick("2026-03-03 07:00")
    assert charges(bank, "progress", "outcome") == ("complete", "on_time")


def test_an_unregistered_job_has_its_runs_and_touches_nothing_else(bank: Warehouse) -> None:
    bank.ingest(
        HEADER
        + "overdrafts,unheard-of,SUCCEED,2026-03-03T01:00:00,2026-03-02,r1,\n"
        + "nobody,charge,SUCCEED,2026-03-03T06:00:00Z,2026-03-02,r1,\n"
    )
    bank.tick("2026-03-03 08:00")
    assert bank.rows("job_run", "application_id", "job_id", "ended_at") == [
        ("nobody", "charge", "2026-03-03 06:00"), ("overdrafts", "unheard-of", "2026-03-03 06:00"),
    ]  # fmt: skip
    assert charges(bank, "progress") == ("pending",)


def test_a_tick_before_the_last_one_needs_a_rebuild(bank: Warehouse) -> None:
    bank.ingest(
        HEADER + CHARGE.format("START", "00:31:00", "r1,h1") + CHARGE.format("SUCCEED", "02:00:00", "r1,h1")
    )
    bank.tick("2026-03-03 06:00")
    then = bank.marts()
    bank.tick("2026-03-03 08:00")
    with pytest.raises(TickRefusedError, match="later than 2026-03-03T06:00:00"):
        bank.tick("2026-03-03 06:00")
    assert charges(bank, "progress") == ("complete",)
    bank.tick("2026-03-03 06:00", rebuild=True)
    assert bank.marts() == then
    # From there it goes on as if the other had never been.
    bank.tick("2026-03-03 07:30")
    assert charges(bank, "progress", "outcome") == ("complete", "on_time")


def test_an_instant_without_offset_is_refused(bank: Warehouse) -> None:
    with pytest.raises(TickRefusedError, match="has no offset"):
        tick(bank.project, datetime(2026, 3, 3, 8))  # noqa: DTZ001


def test_ticks_are_single(bank: Warehouse) -> None:
    with (
        connect(bank.settings, autocommit=True) as other,
        held(other, Lock.TICK),
        pytest.raises(
            TickRefusedError, match=r"Another tick is under way: duemark .+process \d+ .+ since \d{4}-"
        ),
    ):
        tick(bank.project, wait=False)
