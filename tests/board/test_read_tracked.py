"""SLOs and jobs with their past, read from real marts."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from pipelines.board.model import Board
from pipelines.board.read import read
from pipelines.board.render import render
from pipelines.board.tracked import Day, TrackedJob, TrackedSlo
from pipelines.catalog.exceptions import excepted, waive
from sensors.oncall.incidents.evaluate import evaluate
from tests.transform.support import Warehouse, utc
from tests.transform.test_golden import CATALOG

CHARGE = ("overdrafts", "charge")
LOAD = ("support", "load")
FIRST = date(2026, 2, 20)


def done(
    day: date, started: int, ended: int | None, run: str = "r", code: str = "SUCCEED"
) -> list[dict[str, Any]]:
    """A run of `charge` for a date: minutes after midnight of the next day in New York."""
    midnight = utc(f"{day} 05:00") + timedelta(days=1)
    common = {
        "application_id": CHARGE[0],
        "job_id": CHARGE[1],
        "business_date": day,
        "run_id": run,
        "host_id": "h1",
    }
    statuses = [{**common, "status_code": "START", "status_at": midnight + timedelta(minutes=started)}]
    if ended is not None:
        statuses.append({**common, "status_code": code, "status_at": midnight + timedelta(minutes=ended)})
    return statuses


@pytest.fixture
def bank(no_incidents: Warehouse) -> Warehouse:
    """Ten dates of the charges, one late after a failure, one missed, one waived; the last is under way."""
    catalog: dict[str, list[dict[str, Any]]] = {
        kind: [dict(one) for one in many] for kind, many in CATALOG.items()
    }
    (charges,) = [slo for slo in catalog["slos"] if slo["id"] == "charges"]
    charges |= {
        "calendar": "every_day",
        "effective_from": FIRST.isoformat(),
        "name": "Charges ready",
        "description": "By three.",
        "objective": 0.9,
    }
    catalog["slos"].append({**charges, "effective_from": "2026-02-25", "objective": 0.8})
    catalog["jobs"][0] |= {"description": "Charges.", "restartable": False, "owner": "team:charges"}
    no_incidents.store_catalog(catalog)
    statuses = []
    for number in range(10):
        day = FIRST + timedelta(number)
        if number == 3:
            statuses += done(day, 30, 60, "r1", "FAIL") + done(day, 100, 200, "r2")
        elif number not in {5, 6}:
            statuses += done(day, 30, 90 + number)
    statuses += done(FIRST + timedelta(10), 30, None)
    no_incidents.ingest(statuses)
    waive(no_incidents.settings, excepted("charges", FIRST + timedelta(6), None, None, None, "moving", "ann"))
    no_incidents.tick(utc("2026-03-03 06:00"))
    return no_incidents


def slo_of(board: Board, slo_id: str = "charges") -> TrackedSlo:
    return next(slo for slo in board.tracked if slo.id == slo_id)


def job_of(board: Board, key: tuple[str, str] = CHARGE) -> TrackedJob:
    return next(job for job in board.jobs if job.key == key)


def test_slos_and_jobs_are_read_with_their_past(bank: Warehouse) -> None:
    board = read(bank.settings)
    assert_past_of_slo(slo_of(board))
    assert_past_of_job(job_of(board))
    assert job_of(board, LOAD).upstream == (CHARGE,)
    pages = render(board)
    assert {"slo-charges.html", "job-overdrafts.charge.html", "job-support.load.html"} <= set(pages)
    assert 'href="job-support.load.html"' in pages["slo-charges.html"]
    assert 'href="slo-charges.html"' in pages["job-overdrafts.charge.html"]
    assert pages == render(read(bank.settings))


def assert_past_of_slo(slo: TrackedSlo) -> None:
    assert (slo.name, slo.timezone, slo.objective, slo.description) == (
        "Charges ready", "America/New_York", 0.8, "By three.",
    )  # fmt: skip
    assert [day.outcome for day in slo.days] == [
        "on_time", "on_time", "on_time", "late", "on_time", "missed", "waived", "on_time", "on_time", "on_time",
        "not_due", "not_due",
    ]  # fmt: skip
    assert slo.days[0] == Day(FIRST, on_time=1, worst=-90 * 60)
    assert slo.days[3].worst == 20 * 60
    # By how many days a date lies before 3 March.
    assert slo.year == {11: "o", 10: "o", 9: "o", 8: "b", 7: "o", 6: "m", 5: "w", 4: "o", 3: "o", 2: "o"}
    assert [(one.business_date.isoformat(), one.outcome, one.culprit) for one in slo.misses] == [
        ("2026-02-25", "missed", "overdrafts/charge"),
        ("2026-02-23", "late", "overdrafts/charge"),
    ]
    assert slo.miss_count == 2
    assert slo.ended is not None
    assert (slo.ended.business_date, slo.ended.late_by) == (date(2026, 3, 1), timedelta(minutes=-81))
    assert [one.business_date for one in slo.expected][:2] == [date(2026, 3, 2), date(2026, 3, 3)]
    assert [(one.applies_from, one.applies_to, one.objective) for one in slo.promises] == [
        (date(2026, 2, 25), None, 0.8),
        (FIRST, date(2026, 2, 24), 0.9),
    ]
    assert [(one.from_date, one.due_minutes, one.reason, one.by) for one in slo.waivers] == [
        (date(2026, 2, 26), None, "moving", "ann")
    ]
    assert [(one.window_dates, one.spent) for one in slo.budgets] == [(28, 2), (90, 2)]
    assert slo.punctuality is not None
    assert slo.punctuality.verdict == "too_few"


def test_windows_are_counted_by_date(bank: Warehouse) -> None:
    bank.tick(utc("2026-03-03 15:05"))
    (day,) = slo_of(read(bank.settings), "activity").days
    assert (day.overdue, day.not_due, day.outcome) == (1, 2, "overdue")


def assert_past_of_job(job: TrackedJob) -> None:
    assert (job.owner, job.restartable, job.timezone) == ("team:charges", False, "America/New_York")
    # A date that is waived expects nothing.
    assert [(day.business_date.day, day.outcome, day.run_count, day.fail_count) for day in job.days] == [
        (20, "on_time", 1, 0), (21, "on_time", 1, 0), (22, "on_time", 1, 0), (23, "late", 2, 1), (24, "on_time", 1, 0),
        (25, "overdue", 0, 0), (27, "on_time", 1, 0), (28, "on_time", 1, 0), (1, "on_time", 1, 0), (2, "not_due", 1, 0),
        (3, "not_due", 0, 0),
    ]  # fmt: skip
    assert (job.days[0].duration, job.days[0].late_by) == (3600, -5400)
    assert job.days[3].duration == 6000
    assert [(one.business_date.day, one.attempt, one.final_status) for one in job.tries] == [
        (2, 1, "START"), (1, 1, "SUCCEED"), (28, 1, "SUCCEED"), (27, 1, "SUCCEED"), (24, 1, "SUCCEED"),
        (23, 2, "SUCCEED"),
    ]  # fmt: skip
    assert [one.slo_id for one in job.slos] == ["charges", "decisions"]


def test_incidents_stand_on_the_page_of_their_slo(bank: Warehouse) -> None:
    bank.tick(utc("2026-03-03 08:30"))
    evaluate(bank.settings, utc("2026-03-03 08:30"))
    (told,) = [one for one in slo_of(read(bank.settings)).incidents if one.kind == "overdue"]
    assert (told.severity, told.resolved_at) == ("critical", None)
    assert told.title in render(read(bank.settings))["slo-charges.html"]


def test_what_was_taken_out_keeps_its_past(bank: Warehouse) -> None:
    rest = {**CATALOG, "slos": [slo for slo in CATALOG["slos"] if slo["id"] != "charges"]}
    bank.store_catalog(rest)
    bank.tick(utc("2026-03-03 06:05"))
    slo = slo_of(read(bank.settings))
    assert (slo.is_retired, slo.jobs) == (True, ())
    assert slo.promises[0].is_retired
    assert "taken out of the catalog" in render(read(bank.settings))["slo-charges.html"]
