"""Exceptions and what is given up, from the catalog's files and from the command to the marts."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipelines.catalog.exceptions import excepted, waive, withdraw
from pipelines.catalog.models import time_of_day_text
from pipelines.errors import DuemarkError
from pipelines.landing.unload import unload
from pipelines.transform.waiting import waiting
from tests.transform.conftest import deployed, warehouse
from tests.transform.support import Documents, Warehouse, utc

__all__ = ["deployed", "warehouse"]

HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
STATUS = "bank,load,{},{},{},,\n"


def catalog(*exceptions: dict[str, Any], **slo: Any) -> Documents:
    """An SLO due at 03:00 of the day after, one with windows, and exceptions."""
    return {
        "applications": [{"id": "bank", "timezone": "America/New_York"}],
        "calendars": [
            {"id": "every_day", "weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]},
            {"id": "mondays", "weekdays": ["mon"]},
        ],
        "jobs": [{"id": job, "application": "bank"} for job in ("load", "post")],
        "slos": [
            {"id": "loaded", "application": "bank", "calendar": "every_day", "effective_from": "2026-03-02",
             "jobs": [{"job": "load", "end": "03:00", "day_offset": 1}], **slo},
            {"id": "posted", "application": "bank", "calendar": "mondays", "effective_from": "2026-03-02",
             "every": {"minutes": 60, "from": "06:00", "to": "08:00", "due_after": "10m"},
             "jobs": [{"job": "post"}]},
        ],
        "exceptions": list(exceptions),
    }  # fmt: skip


def loaded(bank: Warehouse, *columns: str, slo: str = "loaded") -> list[tuple[Any, ...]]:
    return bank.rows("slo_performance", "business_date", *columns, where=f"slo_id = '{slo}'")


def assert_as_rebuilt(bank: Warehouse, as_of: str) -> None:
    found = bank.marts()
    bank.tick(as_of, rebuild=True)
    assert bank.marts() == found


def test_overdue_until_the_next_one_falls_due_then_missed(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog())
    # 03:00 in New York is 08:00 UTC.
    warehouse.tick("2026-03-03 08:01")
    assert loaded(warehouse, "outcome", "gives_up_at")[0] == ("2026-03-02", "overdue", "2026-03-04 08:00")
    warehouse.tick("2026-03-04 08:00")
    assert [row[1] for row in loaded(warehouse, "outcome")][:2] == ["overdue", "not_due"]
    warehouse.tick("2026-03-04 08:00:00.000001")
    assert [row[1] for row in loaded(warehouse, "outcome")][:2] == ["missed", "overdue"]
    assert warehouse.rows("slo_late", "business_date", where="slo_id = 'loaded'") == [("2026-03-03",)]
    warehouse.ingest(HEADER + STATUS.format("SUCCEED", "2026-03-04T09:00:00Z", "2026-03-02"))
    warehouse.tick("2026-03-04 09:01")
    assert loaded(warehouse, "outcome", "late_by")[0] == ("2026-03-02", "late", 25 * 60.0)
    assert_as_rebuilt(warehouse, "2026-03-04 09:01")


def test_time_alone_gives_up_and_a_tick_is_due_then(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(gives_up_after="90m"))
    warehouse.tick("2026-03-03 08:30")
    assert loaded(warehouse, "outcome", "gives_up_at")[0] == ("2026-03-02", "overdue", "2026-03-03 09:30")
    assert waiting(warehouse.settings, utc("2026-03-03 09:29")).since is None
    assert waiting(warehouse.settings, utc("2026-03-03 09:31")).since == utc("2026-03-03 09:30")
    warehouse.tick("2026-03-03 09:31")
    assert loaded(warehouse, "outcome")[0] == ("2026-03-02", "missed")
    assert_as_rebuilt(warehouse, "2026-03-03 09:31")


def test_of_a_weekly_slo_seven_days_at_most(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog(calendar="mondays", jobs=[{"job": "load", "end": "03:00"}]))
    warehouse.tick("2026-03-12 12:00")
    # Sunday the 8th is the night in which clocks go forward: the next one is due an hour sooner.
    assert loaded(warehouse, "outcome", "gives_up_at") == [
        ("2026-03-02", "missed", "2026-03-09 07:00"),
        ("2026-03-09", "overdue", "2026-03-16 07:00"),
    ]
    windows = warehouse.rows(
        "slo_performance", "slot", "gives_up_at", where="slo_id = 'posted' and business_date < '2026-03-09'"
    )
    # Of all windows of a date, with the first one of the next.
    assert windows == [(slot, "2026-03-09 10:10") for slot in ("06:00", "07:00", "08:00")]


def test_what_is_due_on_the_same_day_ends_nothing(warehouse: Warehouse) -> None:
    """Every work of the week is due on Friday: given up a week later, and not at once."""
    warehouse.store_catalog(catalog(jobs=[{"job": "load", "end": "18:00", "due_weekday": "fri"}]))
    warehouse.tick("2026-03-04 12:00")
    rows = loaded(warehouse, "expected_end_at", "gives_up_at")
    assert rows[:2] == [
        ("2026-03-02", "2026-03-06 23:00", "2026-03-13 22:00"),
        ("2026-03-03", "2026-03-06 23:00", "2026-03-13 22:00"),
    ]


def test_exceptions_of_the_files_come_and_go(warehouse: Warehouse) -> None:
    closed = {"slo": "loaded", "from": "2026-03-02", "to": "2026-03-03", "reason": "Closed", "by": "ann"}
    warehouse.store_catalog(catalog())
    warehouse.ingest(HEADER + STATUS.format("SUCCEED", "2026-03-03T09:00:00Z", "2026-03-02"))
    warehouse.tick("2026-03-04 09:00")
    before = warehouse.marts()
    columns = ("outcome", "is_waived", "late_by", "progress")
    assert loaded(warehouse, *columns)[:2] == [
        ("2026-03-02", "late", False, 60.0, "complete"),
        ("2026-03-03", "overdue", False, None, "pending"),
    ]
    warehouse.store_catalog(catalog(closed))
    warehouse.tick("2026-03-04 09:00")
    assert loaded(warehouse, *columns)[:2] == [
        ("2026-03-02", "not_due", True, None, "complete"),
        ("2026-03-03", "not_due", True, None, "pending"),
    ]
    assert warehouse.rows("slo_late", "business_date") == [("2026-03-02",)] * 3, "the windows"
    (said,) = warehouse.rows(
        "slo_performance", "explanation", where="business_date = '2026-03-03' and slo_id = 'loaded'"
    )
    assert said[0] == (
        "Waived by ann (Closed): nothing reported, waiting for bank/load, was due 2026-03-04 03:00:00"
        " America/New_York."
    )
    assert_as_rebuilt(warehouse, "2026-03-04 09:00")
    warehouse.store_catalog(catalog())
    warehouse.tick("2026-03-04 09:00")
    assert warehouse.marts() == before
    assert_as_rebuilt(warehouse, "2026-03-04 09:00")


def test_put_off_is_due_later_and_given_up_accordingly(warehouse: Warehouse) -> None:
    later = {"application": "bank", "from": "2026-03-02", "due": "28:00", "reason": "Year end"}
    warehouse.store_catalog(catalog(later, gives_up_after="2h"))
    warehouse.tick("2026-03-03 20:00")
    assert loaded(warehouse, "outcome", "expected_end_at", "gives_up_at")[0] == (
        "2026-03-02", "not_due", "2026-03-04 09:00", "2026-03-04 11:00",
    )  # fmt: skip
    # 28:00 is 04:00 of the day after that on which it was to be due; the windows, at 06:10 and later, of the same.
    assert {row[1] for row in loaded(warehouse, "expected_end_at", slo="posted")} == {"2026-03-03 09:00"}
    for as_of, outcome in (
        ("2026-03-04 09:00", "not_due"),
        ("2026-03-04 09:01", "overdue"),
        ("2026-03-04 11:01", "missed"),
    ):
        warehouse.tick(as_of)
        assert loaded(warehouse, "outcome")[0][1] == outcome
    (said,) = warehouse.rows(
        "slo_performance", "explanation", where="business_date = '2026-03-02' and slo_id = 'loaded'"
    )
    assert said[0].endswith(
        "due 2026-03-04 04:00:00 America/New_York, put off from 2026-03-03 03:00:00 (Year end);"
        " cause: bank/load has not started."
    )
    assert_as_rebuilt(warehouse, "2026-03-04 11:01")


def test_a_window_by_itself(warehouse: Warehouse) -> None:
    one = {"slo": "posted", "from": "2026-03-02", "slot": "07:00", "reason": "New disks"}
    warehouse.store_catalog(catalog(one))
    warehouse.tick("2026-03-02 16:00")
    assert warehouse.rows("slo_performance", "slot", "outcome", where="slo_id = 'posted'") == [
        ("06:00", "overdue"), ("07:00", "not_due"), ("08:00", "overdue"),
    ]  # fmt: skip


def test_known_at_hides_an_exception_that_was_loaded_later(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog())
    warehouse.tick("2026-03-03 09:00")
    (before,) = warehouse.query("select max(received_at) as at from raw.load")
    waive(warehouse.settings, excepted("loaded", date(2026, 3, 2), None, None, None, "Closed", "ann"))
    (between,) = warehouse.query("select max(received_at) as at from raw.load")
    withdraw(warehouse.settings, excepted("loaded", date(2026, 3, 2), None, None, None, "Open", "ann"))
    warehouse.tick("2026-03-03 09:00")

    def known(at: Any) -> list[tuple[Any, ...]]:
        rows = warehouse.query(
            "select outcome, is_waived from marts.slo_performance_at(%s, %s, 'loaded', '2026-03-02', '2026-03-02')",
            utc("2026-03-03 09:00"),
            at,
        )
        return [tuple(row.values()) for row in rows]

    assert known(before["at"]) == [("overdue", False)]
    assert known(between["at"]) == [("not_due", True)]
    assert known(None) == [("overdue", False)]
    assert loaded(warehouse, "outcome")[0] == ("2026-03-02", "overdue")


# The clocks of a due time that was put off


ZONES = ("America/New_York", "Australia/Lord_Howe", "Europe/Berlin", "Asia/Singapore")
# Before nights in which clocks change in one of them.
DAYS = ("2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31")


def test_put_off_by_the_clock_is_as_all_local_times_are(warehouse: Warehouse) -> None:
    """Every quarter of an hour until 04:00 of these nights, each an SLO of its own, due at 20:00 as promised."""
    documents = dict(catalog())
    slos, exceptions, wanted = [], [], {}
    for zone, day, quarter in product(ZONES, DAYS, range(17)):
        minutes = 24 * 60 + quarter * 15
        slo_id = f"{zone} {day} {time_of_day_text(minutes)}"
        slos.append({
            "id": slo_id, "application": "bank", "calendar": "every_day", "timezone": zone, "effective_from": day,
            "effective_to": day, "jobs": [{"job": "load", "end": "20:00"}],
        })  # fmt: skip
        exceptions.append(
            {"slo": slo_id, "from": day, "due": time_of_day_text(minutes), "reason": "Year end"}
        )
        # Of a time that comes twice the first, of one in a gap by the offset before it: as Python has it.
        local = datetime.combine(date.fromisoformat(day), time.min, ZoneInfo(zone)) + timedelta(
            minutes=minutes
        )
        wanted[slo_id] = local.astimezone(UTC)
    warehouse.store_catalog({**documents, "slos": slos, "exceptions": exceptions})
    warehouse.tick("2026-11-02 00:00")
    rows = warehouse.query("select slo_id, expected_end_at from marts.slo_performance")
    assert {row["slo_id"]: row["expected_end_at"] for row in rows} == wanted


# The command


def run(bank: Warehouse, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments],
        env=bank.settings.as_env(), capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_waive_says_what_it_did_and_withdraw_takes_it_back(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog())
    warehouse.tick("2026-03-04 09:00")
    before = warehouse.marts()
    command = ("waive", "loaded", "--from", "2026-03-02", "--to", "2026-03-03")
    done = run(warehouse, *command, "--reason", "Closed", "--by", "ann")
    assert (done.returncode, done.stderr) == (0, "")
    (load,) = warehouse.query("select max(load_id) as id from raw.load")
    assert done.stdout == (
        "loaded is waived for 2026-03-02 to 2026-03-03 (2 occurrences of 2 business dates), by load"
        f" {load['id']}; the next tick shows it\n"
    )
    warehouse.tick("2026-03-04 09:00")
    assert loaded(warehouse, "is_waived")[:2] == [("2026-03-02", True), ("2026-03-03", True)]
    assert_as_rebuilt(warehouse, "2026-03-04 09:00")
    again = run(warehouse, *command, "--reason", "Closed")
    assert again.returncode == 2
    assert again.stderr.splitlines()[0] == f"duemark: That stands already, by load {load['id']}: Closed"
    done = run(warehouse, *command, "--withdraw", "--reason", "open after all")
    assert done.stdout == (
        "loaded is promised again for 2026-03-02 to 2026-03-03: 1 exception withdrawn; the next tick shows it\n"
    )
    warehouse.tick("2026-03-04 09:00")
    assert warehouse.marts() == before


def test_what_a_command_said_outlives_a_change_of_the_files(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog())
    waive(warehouse.settings, excepted("loaded", date(2026, 3, 2), None, None, "05:00", "Slow", None))
    warehouse.store_catalog(catalog({"slo": "posted", "from": "2026-03-02", "reason": "Closed"}))
    warehouse.tick("2026-03-03 09:00")
    assert loaded(warehouse, "expected_end_at", "outcome")[0] == ("2026-03-02", "2026-03-03 10:00", "not_due")
    assert {row[1] for row in loaded(warehouse, "is_waived", slo="posted")} == {True}


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ({"slo": "laoded"}, "The catalog has no SLO 'laoded'.", "did you mean `loaded`?"),
        ({"slot": "06:00"}, "--slot: the SLO `loaded` has no windows.", "It is due once a date: remove `slot`."),
        ({"slo": "posted", "slot": "06:30"}, "--slot: the SLO `posted` has no window `06:30`.", "06:00"),
        ({"due": "02:30"}, "--due: 02:30 is not later than the promise, which is due at 03:00.", '"26:30"'),
        ({"due": "noon"}, '--due: "noon" is no time of day.', "HH:MM"),
        ({"last": date(2026, 3, 1)}, "--to: `to` 2026-03-01 is before `from` 2026-03-02.", "last business date"),
        ({"reason": " "}, "--reason: a reason without words.", "Say why"),
    ],
)  # fmt: skip
def test_what_waive_refuses(warehouse: Warehouse, arguments: dict[str, Any], message: str, hint: str) -> None:
    warehouse.store_catalog(catalog())
    given_ = {
        "slo": "loaded",
        "first": date(2026, 3, 2),
        "last": None,
        "slot": None,
        "due": None,
        "reason": "Closed",
    }
    loads = warehouse.query("select count(*) from raw.load")
    with pytest.raises(DuemarkError) as refused:
        waive(warehouse.settings, excepted(**{**given_, **arguments}, by="ann"))
    assert refused.value.message == message
    assert hint in refused.value.hint
    assert warehouse.query("select count(*) from raw.load") == loads


def test_withdraw_and_unload_say_what_there_is(warehouse: Warehouse) -> None:
    warehouse.store_catalog(catalog())
    done = waive(warehouse.settings, excepted("loaded", date(2026, 3, 2), None, None, None, "Closed", "ann"))
    with pytest.raises(DuemarkError, match=r"Nothing was waived of loaded for 2026-03-03") as refused:
        withdraw(warehouse.settings, excepted("loaded", date(2026, 3, 3), None, None, None, "Open", "ann"))
    assert refused.value.hint == "By command there is: 2026-03-02."
    with pytest.raises(DuemarkError, match="but an exception: waive loaded") as refused:
        unload(warehouse.settings, str(done.load_id), "a test")
    assert refused.value.hint == "`duemark waive … --withdraw` takes it back."
