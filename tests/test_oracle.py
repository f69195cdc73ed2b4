"""The oracle against cases worked out by hand, one for every rule."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.oracle import Exception_, Row, judge

MONDAY = date(2026, 3, 2)


def at(clock: str, day: int = 3) -> datetime:
    """An instant of March 2026, UTC; the work for Monday the 2nd is done on Tuesday the 3rd."""
    return datetime.fromisoformat(f"2026-03-{day:02d}T{clock}").replace(tzinfo=UTC)


@dataclass(frozen=True)
class PromisedJob:
    application: str
    job: str
    expected_start_at: datetime | None
    expected_end_at: datetime
    upstream_rank: int = 0


@dataclass(frozen=True)
class Promised:
    slo_id: str
    business_date: date
    slot: str
    opens_at: datetime
    claims_from: datetime | None
    expected_start_at: datetime | None
    expected_end_at: datetime
    jobs: tuple[PromisedJob, ...]
    application: str = "overdrafts"
    timezone: str = "UTC"


def daily(*jobs: PromisedJob, slo_id: str = "charges", business_date: date = MONDAY) -> Promised:
    starts = [job.expected_start_at for job in jobs if job.expected_start_at is not None]
    opens_at = datetime(business_date.year, business_date.month, business_date.day, tzinfo=UTC)
    due = max(job.expected_end_at for job in jobs)
    return Promised(slo_id, business_date, "00:00", opens_at, None, min(starts, default=None), due, jobs)


CHARGE = PromisedJob("overdrafts", "charge", at("00:30"), at("03:00"))
LOAD = PromisedJob("support", "load", at("03:00"), at("05:00"), 1)
CHARGES = daily(CHARGE)
CHAIN = daily(CHARGE, LOAD, slo_id="chain")


def half_hours(*slots: str) -> list[Promised]:
    """Windows on Tuesday, due after 10 minutes, with a tolerance of 5."""
    made = []
    for place, slot in enumerate(slots):
        start, end = at(slot), at(slot) + timedelta(minutes=10)
        claims = None if place == 0 else start - timedelta(minutes=5)
        job = PromisedJob("deposits", "summarize", start, end)
        made.append(Promised("activity", date(2026, 3, 3), slot, at("00:00"), claims, start, end, (job,)))
    return made


def sent(
    code: str,
    when: datetime,
    run_id: str | None = "r1",
    *,
    job: PromisedJob | str = CHARGE,
    host_id: str | None = "h1",
    business_date: date = MONDAY,
    received_at: datetime | None = None,
) -> dict[str, Any]:
    if isinstance(job, str):
        job = PromisedJob("deposits", job, None, when)
    return {
        "application_id": job.application,
        "job_id": job.job,
        "status_code": code,
        "status_at": when,
        "business_date": business_date,
        "run_id": run_id,
        "host_id": host_id,
        "received_at": received_at or when,
    }


def only(
    statuses: Sequence[dict[str, Any]], promise: Promised = CHARGES, as_of: datetime | None = None
) -> Row:
    rows = judge(statuses, [promise], as_of or at("12:00")).slo_performance
    assert len(rows) == 1
    return rows[0]


def shown(row: Row, *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


# Occurrences and outcomes


def test_absence_is_data() -> None:
    row = only([])
    assert row == {
        "slo_id": "charges",
        "business_date": MONDAY,
        "slot": "00:00",
        "expected_start_at": at("00:30"),
        "expected_end_at": at("03:00"),
        "gives_up_at": at("03:00", 10),
        "is_waived": False,
        "actual_start_at": None,
        "actual_end_at": None,
        "progress": "pending",
        "outcome": "overdue",
        "late_by": None,
        "revisions": 0,
        "last_success_at": None,
        "last_status": None,
        "blocking_job": "overdrafts/charge",
    }


@pytest.mark.parametrize(
    ("as_of", "outcome"),
    [
        (at("02:59:59"), "not_due"),
        # Overdue only once the due time has passed.
        (at("03:00"), "not_due"),
        (at("03:00") + timedelta(microseconds=1), "overdue"),
    ],
)
def test_due_time_passes(as_of: datetime, outcome: str) -> None:
    assert only([sent("START", at("00:30"))], as_of=as_of)["outcome"] == outcome


NEXT = daily(PromisedJob("overdrafts", "charge", None, at("03:00", 4)), business_date=date(2026, 3, 3))


@pytest.mark.parametrize(
    ("as_of", "outcome"),
    [
        (at("03:00", 4), "overdue"),
        # Given up only once the next business date has fallen due.
        (at("03:00", 4) + timedelta(microseconds=1), "missed"),
    ],
)
def test_given_up_when_the_next_business_date_falls_due(as_of: datetime, outcome: str) -> None:
    assert judge([], [CHARGES, NEXT], as_of).slo_performance[0]["outcome"] == outcome


def test_given_up_after_seven_days_or_as_the_slo_says() -> None:
    monthly = replace(NEXT, business_date=date(2026, 4, 2))
    monthly = replace(monthly, expected_end_at=at("03:00") + timedelta(days=31))
    week = at("03:00") + timedelta(days=7)
    assert judge([], [CHARGES, monthly], week).slo_performance[0]["gives_up_at"] == week
    row = judge(
        [], [CHARGES, NEXT], at("12:00"), gives_up_after={"charges": timedelta(hours=6)}
    ).slo_performance[0]
    assert shown(row, "gives_up_at", "outcome") == (at("09:00"), "missed")


def test_what_comes_after_it_was_given_up_is_late() -> None:
    came = sent("SUCCEED", at("10:00", 4))
    assert judge([came], [CHARGES, NEXT], at("12:00", 4)).slo_performance[0]["outcome"] == "late"


def excepted(due: str | None, **more: Any) -> Exception_:
    hours, _, minutes = (due or "00:00").partition(":")
    keys = {"slo": "charges", "application": None, "first": MONDAY, "last": MONDAY, "slot": None, **more}
    return Exception_(**keys, due=None if due is None else int(hours) * 60 + int(minutes))


def with_exceptions(*exceptions: Exception_, as_of: datetime | None = None) -> Row:
    came = sent("SUCCEED", at("04:00"))
    (row,) = judge([came], [CHARGES], as_of or at("12:00"), exceptions=exceptions).slo_performance
    return row


def test_waived_is_not_due_whatever_came() -> None:
    columns = ("outcome", "is_waived", "late_by", "progress")
    waived = ("not_due", True, None, "complete")
    assert shown(with_exceptions(excepted(None)), *columns) == waived
    assert shown(with_exceptions(excepted(None), excepted("05:00")), *columns) == waived
    of_application = excepted(None, slo=None, application="overdrafts")
    assert shown(with_exceptions(of_application), *columns) == waived
    for other in ({"slot": "06:00"}, {"first": date(2026, 3, 3), "last": date(2026, 3, 3)}, {"slo": "chain"}):
        assert not with_exceptions(excepted(None, **other))["is_waived"]


def test_put_off_is_due_later_and_never_sooner() -> None:
    assert shown(with_exceptions(excepted("05:00")), "expected_end_at", "outcome") == (at("05:00"), "on_time")
    assert with_exceptions(excepted("28:00"))["expected_end_at"] == at("04:00", 4)
    assert with_exceptions(excepted("04:30"), excepted("03:30"))["expected_end_at"] == at("04:30")
    assert shown(with_exceptions(excepted("02:00")), "expected_end_at", "outcome") == (at("03:00"), "late")


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [(at("02:50"), "on_time"), (at("03:00"), "on_time"), (at("03:00") + timedelta(microseconds=1), "late")],
)
def test_complete_on_time_or_late(ended: datetime, outcome: str) -> None:
    row = only([sent("START", at("00:30")), sent("SUCCEED", ended)])
    assert shown(row, "progress", "outcome", "late_by") == ("complete", outcome, ended - at("03:00"))


def test_judged_as_of_an_instant_nothing_after_it_is_seen() -> None:
    statuses = [sent("START", at("00:30")), sent("SUCCEED", at("02:50"))]
    before = only(statuses, as_of=at("02:49:59"))
    assert shown(before, "progress", "outcome", "actual_end_at") == ("running", "not_due", None)
    assert only(statuses, as_of=at("02:50"))["progress"] == "complete"


def test_known_at_hides_what_was_received_later() -> None:
    statuses = [
        sent("START", at("00:30")),
        sent("SUCCEED", at("02:50"), received_at=at("09:00")),
    ]
    early = judge(statuses, [CHARGES], at("12:00"), at("08:59")).slo_performance[0]
    assert shown(early, "progress", "outcome") == ("running", "overdue")
    late = judge(statuses, [CHARGES], at("12:00"), at("09:00")).slo_performance[0]
    assert shown(late, "progress", "outcome") == ("complete", "on_time")


def test_exists_from_the_start_of_its_business_date() -> None:
    tuesday = daily(CHARGE, business_date=date(2026, 3, 3))
    assert judge([], [tuesday], at("23:59:59", 2)).slo_performance == []
    assert len(judge([], [tuesday], at("00:00", 3)).slo_performance) == 1


def test_exists_as_soon_as_one_of_its_jobs_reports() -> None:
    tuesday = daily(CHARGE, LOAD, business_date=date(2026, 3, 3))
    early = sent("START", at("23:50", 2), business_date=date(2026, 3, 3))
    assert [row["progress"] for row in judge([early], [tuesday], at("23:55", 2)).slo_performance] == [
        "running"
    ]
    # It is the business date that counts, and the job.
    other_date = sent("START", at("23:50", 2))
    other_job = sent("START", at("23:50", 2), job="summarize", business_date=date(2026, 3, 3))
    assert judge([other_date, other_job], [tuesday], at("23:55", 2)).slo_performance == []


def test_all_windows_of_a_date_appear_together() -> None:
    windows = half_hours("06:00", "06:30", "07:00")
    early = sent("START", at("23:58", 2), job="summarize", business_date=date(2026, 3, 3))
    rows = judge([early], windows, at("23:59", 2)).slo_performance
    assert [shown(row, "slot", "progress") for row in rows] == [
        ("06:00", "running"),
        ("06:30", "pending"),
        ("07:00", "pending"),
    ]


def test_without_a_first_date_it_starts_with_the_first_status_of_its_jobs() -> None:
    promises = [daily(CHARGE, LOAD, business_date=date(2026, 3, day)) for day in (2, 3, 4)]
    seen = sent("START", at("01:00", 4), job=LOAD, business_date=date(2026, 3, 3))

    def dates(statuses: Sequence[dict[str, Any]], open_start: Sequence[str]) -> list[int]:
        rows = judge(statuses, promises, at("12:00", 5), open_start=open_start).slo_performance
        return [row["business_date"].day for row in rows]

    assert dates([seen], ["charges"]) == [3, 4]
    assert dates([seen], []) == [2, 3, 4]
    assert dates([], ["charges"]) == []
    # A date that is not in its calendar starts it too.
    sunday = sent("START", at("01:00", 2), business_date=date(2026, 3, 1))
    assert dates([sunday], ["charges"]) == [2, 3, 4]


# Completion of a job


def test_failed_restarted_under_another_run_id_is_complete_at_that_success() -> None:
    row = only(
        [
            sent("START", at("00:31"), "r1"),
            sent("FAIL", at("01:00"), "r1"),
            sent("START", at("01:30"), "r2"),
            sent("SUCCEED", at("03:20"), "r2"),
        ]
    )
    assert shown(row, "actual_start_at", "actual_end_at") == (at("00:31"), at("03:20"))
    assert shown(row, "progress", "outcome", "late_by") == ("complete", "late", timedelta(minutes=20))
    assert row["revisions"] == 0


def test_success_without_a_start_is_complete_with_no_start() -> None:
    row = only([sent("SUCCEED", at("02:00"))])
    assert shown(row, "progress", "actual_start_at", "actual_end_at") == ("complete", None, at("02:00"))


def test_a_start_after_the_first_success_is_not_its_start() -> None:
    row = only([sent("SUCCEED", at("02:00")), sent("START", at("02:30"), "r2")])
    assert shown(row, "actual_start_at", "revisions", "last_status") == (None, 1, "START")


def test_a_start_at_the_instant_of_the_success_is_its_start() -> None:
    row = only([sent("SUCCEED", at("02:00")), sent("START", at("02:00"))])
    assert shown(row, "actual_start_at", "actual_end_at", "revisions") == (at("02:00"), at("02:00"), 0)


def test_what_comes_after_the_first_success_is_a_revision() -> None:
    row = only(
        [
            sent("START", at("00:30")),
            sent("SUCCEED", at("02:00")),
            sent("START", at("04:00"), "r2"),
            sent("SUCCEED", at("05:00"), "r2"),
            sent("FAIL", at("06:00"), "r3"),
        ]
    )
    assert shown(row, "progress", "outcome", "actual_end_at") == ("complete", "on_time", at("02:00"))
    assert shown(row, "revisions", "last_success_at", "last_status") == (3, at("05:00"), "FAIL")


def test_revisions_are_counted_by_job() -> None:
    # The load's own first success is at 04:00: what the charge job sends between is a revision of the charges only.
    row = only(
        [
            sent("SUCCEED", at("02:00")),
            sent("SUCCEED", at("02:30")),
            sent("START", at("03:00"), job=LOAD),
            sent("SUCCEED", at("04:00"), job=LOAD),
            sent("SUCCEED", at("04:30"), job=LOAD),
        ],
        CHAIN,
    )
    assert shown(row, "revisions", "last_success_at") == (2, at("04:30"))


@pytest.mark.parametrize(
    ("codes", "progress"),
    [
        (["START"], "running"),
        (["START", "FAIL"], "failed"),
        (["START", "FAIL", "START"], "running"),
        (["FAIL"], "failed"),
        (["SUCCEED", "FAIL"], "complete"),
    ],
)
def test_progress_by_the_last_status(codes: list[str], progress: str) -> None:
    assert only([sent(code, at(f"01:{n:02d}")) for n, code in enumerate(codes)])["progress"] == progress


def test_at_one_instant_start_then_fail_then_succeed() -> None:
    both = [sent("FAIL", at("01:00")), sent("START", at("01:00"), "r2")]
    assert shown(only(both), "progress", "last_status") == ("failed", "FAIL")
    assert only([*both, sent("SUCCEED", at("01:00"), "r3")])["last_status"] == "SUCCEED"


# Several jobs


def test_complete_only_when_all_jobs_are() -> None:
    charge = [sent("START", at("00:40")), sent("SUCCEED", at("02:00"))]
    row = only(charge, CHAIN)
    assert shown(row, "progress", "actual_start_at", "actual_end_at") == ("running", at("00:40"), None)
    assert shown(row, "last_success_at", "last_status") == (at("02:00"), "SUCCEED")
    row = only([*charge, sent("SUCCEED", at("05:30"), job=LOAD)], CHAIN)
    assert shown(row, "progress", "outcome", "actual_end_at") == ("complete", "late", at("05:30"))


def test_failed_when_some_job_is() -> None:
    statuses = [sent("FAIL", at("01:00")), sent("START", at("04:00"), job=LOAD)]
    assert only(statuses, CHAIN)["progress"] == "failed"
    # A failure that was made good is none.
    assert only([*statuses, sent("SUCCEED", at("04:30"))], CHAIN)["progress"] == "running"


def test_one_job_may_serve_many_slos() -> None:
    verdict = judge([sent("SUCCEED", at("02:00"))], [CHARGES, CHAIN], at("12:00"))
    assert [shown(row, "slo_id", "progress") for row in verdict.slo_performance] == [
        ("chain", "running"),
        ("charges", "complete"),
    ]
    assert [shown(row, "slo_id", "run_key") for row in verdict.slo_job_run] == [
        ("chain", "r1"),
        ("charges", "r1"),
    ]
    assert len(verdict.job_run) == 1


def test_blocking_job_is_the_incomplete_one_with_the_latest_end() -> None:
    assert only([], CHAIN)["blocking_job"] == "support/load"
    assert only([sent("SUCCEED", at("02:00"), job=LOAD)], CHAIN)["blocking_job"] == "overdrafts/charge"


def test_blocking_job_among_equals_is_the_most_upstream_then_the_first_id() -> None:
    def job(application: str, name: str, rank: int) -> PromisedJob:
        return PromisedJob(application, name, None, at("03:00"), rank)

    assert only([], daily(job("a", "x", 2), job("b", "y", 1)))["blocking_job"] == "b/y"
    # Code points, so capitals and the hyphen come first; and application before job.
    assert only([], daily(job("a", "a", 1), job("Z", "z", 1)))["blocking_job"] == "Z/z"
    assert only([], daily(job("a", "z", 1), job("a-b", "a", 1)))["blocking_job"] == "a/z"
    assert only([], daily(job("a", "x_y", 1), job("a", "x-z", 1)))["blocking_job"] == "a/x-z"


def test_blocking_job_of_a_complete_one_is_the_last_to_end() -> None:
    ends = [sent("SUCCEED", at("02:00")), sent("SUCCEED", at("01:59"), job=LOAD)]
    assert only(ends, CHAIN)["blocking_job"] == "overdrafts/charge"
    together = [sent("SUCCEED", at("02:00")), sent("SUCCEED", at("02:00"), job=LOAD)]
    assert only(together, CHAIN)["blocking_job"] == "overdrafts/charge"
    # Not the last success: the first is when the data was there.
    assert only([*together, sent("SUCCEED", at("09:00"))], CHAIN)["blocking_job"] == "overdrafts/charge"


def test_no_expected_start() -> None:
    assert only([], daily(PromisedJob("a", "b", None, at("03:00"))))["expected_start_at"] is None


# Windows


def windows_of(
    *statuses: dict[str, Any], slots: Sequence[str] = ("09:30", "10:00", "10:30")
) -> dict[str, Row]:
    verdict = judge(statuses, half_hours(*slots), at("12:00"))
    return {row["slot"]: row for row in verdict.slo_performance}


def summary(code: str, clock: str, run_id: str | None) -> dict[str, Any]:
    return sent(code, at(clock), run_id, job="summarize", business_date=date(2026, 3, 3))


def test_a_ten_o_clock_run_that_starts_at_10_32_is_the_10_30_run() -> None:
    rows = windows_of(
        summary("START", "09:30", "a"),
        summary("SUCCEED", "09:33", "a"),
        summary("START", "10:32", "b"),
        summary("SUCCEED", "10:36", "b"),
        summary("START", "10:37", "c"),
        summary("SUCCEED", "10:41", "c"),
    )
    assert shown(rows["09:30"], "progress", "outcome") == ("complete", "on_time")
    assert shown(rows["10:00"], "progress", "outcome", "actual_start_at") == ("pending", "overdue", None)
    assert shown(rows["10:30"], "actual_start_at", "actual_end_at") == (at("10:32"), at("10:36"))
    assert shown(rows["10:30"], "outcome", "revisions") == ("on_time", 2)


@pytest.mark.parametrize(
    ("clock", "slot"),
    [
        ("02:00", "09:30"),
        ("09:29:59", "09:30"),
        ("09:54:59", "09:30"),
        ("09:55", "10:00"),
        ("10:00", "10:00"),
        ("10:25", "10:30"),
        ("11:59", "10:30"),
    ],
)
def test_a_run_belongs_to_the_last_window_begun_at_its_first_status(clock: str, slot: str) -> None:
    rows = windows_of(summary("START", clock, "a"), summary("SUCCEED", "12:00", "a"))
    assert [name for name, row in rows.items() if row["actual_end_at"] == at("12:00")] == [slot]


def test_the_whole_run_goes_where_its_first_status_is() -> None:
    rows = windows_of(
        summary("START", "10:01", "a"),
        summary("FAIL", "10:02", "a"),
        summary("START", "10:40", "a"),
        summary("SUCCEED", "10:41", "a"),
    )
    assert shown(rows["10:00"], "progress", "outcome", "actual_end_at") == ("complete", "late", at("10:41"))
    assert rows["10:30"]["progress"] == "pending"


def test_a_restart_under_a_new_run_id_in_the_next_window_is_of_the_next() -> None:
    rows = windows_of(
        summary("START", "10:01", "a"),
        summary("FAIL", "10:02", "a"),
        summary("START", "10:31", "b"),
        summary("SUCCEED", "10:33", "b"),
    )
    assert shown(rows["10:00"], "progress", "outcome") == ("failed", "overdue")
    assert shown(rows["10:30"], "progress", "outcome") == ("complete", "on_time")


def test_runs_without_ids_are_told_apart_by_their_starts() -> None:
    rows = windows_of(
        summary("SUCCEED", "09:40", None),
        summary("START", "10:00", None),
        summary("START", "10:30", None),
        summary("SUCCEED", "10:30", None),
        summary("SUCCEED", "10:35", None),
    )
    # Before the first START: a run by itself. At the instant of a START a SUCCEED closes the run before.
    assert shown(rows["09:30"], "actual_start_at", "actual_end_at") == (None, at("09:40"))
    assert shown(rows["10:00"], "actual_start_at", "actual_end_at") == (at("10:00"), at("10:30"))
    assert shown(rows["10:30"], "actual_start_at", "actual_end_at") == (at("10:30"), at("10:35"))


def test_statuses_without_an_id_never_join_a_run_that_has_one() -> None:
    rows = windows_of(summary("START", "10:01", "a"), summary("SUCCEED", "10:33", None))
    assert rows["10:00"]["progress"] == "running"
    assert shown(rows["10:30"], "progress", "actual_start_at") == ("complete", None)


def test_the_bridge_says_which_run_served_which_window() -> None:
    verdict = judge(
        [summary("START", "10:01", "a"), summary("SUCCEED", "10:04", "a"), summary("START", "10:31", None)],
        half_hours("10:00", "10:30"),
        at("12:00"),
    )
    assert [
        shown(row, "slo_id", "business_date", "slot", "job_id", "run_key") for row in verdict.slo_job_run
    ] == [
        ("activity", date(2026, 3, 3), "10:00", "summarize", "a"),
        ("activity", date(2026, 3, 3), "10:30", "summarize", "~1"),
    ]


# Identity


def test_the_same_status_twice_is_one_row() -> None:
    once = [sent("START", at("00:30")), sent("SUCCEED", at("02:00")), sent("SUCCEED", at("02:30"))]
    assert judge(once * 3, [CHARGES], at("12:00")) == judge(once, [CHARGES], at("12:00"))
    assert only(once * 3)["revisions"] == 1


@pytest.mark.parametrize(
    ("copies", "kept"),
    [
        ([("r2", "h1"), ("r1", "h9")], ("r1", "h9")),
        ([("r1", "h2"), ("r1", "h1")], ("r1", "h1")),
        ([(None, "h1"), ("r9", None)], ("r9", None)),
        ([("r1", None), ("r1", "h1")], ("r1", "h1")),
        # Code points: capitals before small letters, both before é.
        ([("a", None), ("B", None)], ("B", None)),
        ([("é", None), ("z", None)], ("z", None)),
        ([(None, None), (None, "h1")], (None, "h1")),
    ],
)
def test_of_copies_the_least_run_id_and_host_is_the_status(
    copies: list[tuple[str | None, str | None]], kept: tuple[str | None, str | None]
) -> None:
    for turn in (copies, copies[::-1]):
        statuses = [sent("START", at("00:30"), run_id, host_id=host_id) for run_id, host_id in turn]
        runs = judge(statuses, [], at("12:00")).job_run
        assert [shown(run, "run_id", "host_id") for run in runs] == [kept]


def test_the_copy_is_chosen_among_those_known() -> None:
    statuses = [
        sent("START", at("00:30"), "r2", received_at=at("01:00")),
        sent("START", at("00:30"), "r1", received_at=at("09:00")),
    ]
    assert judge(statuses, [], at("12:00"), at("08:00")).job_run[0]["run_id"] == "r2"
    assert judge(statuses, [], at("12:00"), at("09:00")).job_run[0]["run_id"] == "r1"


def test_order_of_arrival_never_matters() -> None:
    statuses = [
        summary("START", "10:01", "a"),
        summary("FAIL", "10:02", "a"),
        summary("START", "10:31", None),
        summary("SUCCEED", "10:31", None),
        summary("SUCCEED", "10:33", None),
    ]
    promises = half_hours("10:00", "10:30")
    wanted = judge(statuses, promises, at("12:00"))
    for permuted in itertools.permutations(statuses):
        assert judge(permuted, promises, at("12:00")) == wanted
    doubled = statuses * 2
    random.Random(1).shuffle(doubled)
    assert judge(doubled, promises[::-1], at("12:00")) == wanted


# Runs


def test_a_run_that_succeeded() -> None:
    (row,) = judge(
        [sent("START", at("00:30")), sent("SUCCEED", at("02:00"), host_id=None)], [], at("12:00")
    ).job_run
    assert row == {
        "application_id": "overdrafts",
        "job_id": "charge",
        "business_date": MONDAY,
        "run_key": "r1",
        "run_id": "r1",
        "started_at": at("00:30"),
        "ended_at": at("02:00"),
        "duration": timedelta(minutes=90),
        "final_status": "SUCCEED",
        # Of the last status that names one.
        "host_id": "h1",
        "first_status_at": at("00:30"),
        "attempt": 1,
    }


@pytest.mark.parametrize(
    ("codes", "started", "ended", "final"),
    [
        (["START"], 0, None, "START"),
        (["START", "FAIL"], 0, 1, "FAIL"),
        (["START", "FAIL", "START"], 0, None, "START"),
        (["START", "FAIL", "START", "SUCCEED"], 0, 3, "SUCCEED"),
        (["FAIL", "FAIL"], None, 1, "FAIL"),
        (["START", "SUCCEED", "FAIL"], 0, 1, "SUCCEED"),
        (["SUCCEED", "START"], None, 0, "SUCCEED"),
    ],
)
def test_start_end_and_final_status_of_a_run(
    codes: list[str], started: int | None, ended: int | None, final: str
) -> None:
    times = [at(f"01:{n:02d}") for n in range(len(codes))]
    statuses = [sent(code, when) for code, when in zip(codes, times, strict=True)]
    (row,) = judge(statuses, [], at("12:00")).job_run
    assert row["started_at"] == (None if started is None else times[started])
    assert row["ended_at"] == (None if ended is None else times[ended])
    assert row["final_status"] == final
    is_whole = started is not None and ended is not None
    assert row["duration"] == (row["ended_at"] - row["started_at"] if is_whole else None)


def test_attempts_are_counted_by_first_status() -> None:
    statuses = [
        sent("START", at("02:00"), "a"),
        sent("START", at("01:00"), "b"),
        sent("START", at("01:00", 4), "a", business_date=date(2026, 3, 3)),
        # At one instant by run id, those without last.
        sent("FAIL", at("01:00"), None),
        sent("SUCCEED", at("01:00"), "c"),
    ]
    rows = judge(statuses, [], at("12:00", 4)).job_run
    assert [shown(row, "business_date", "run_key", "attempt") for row in rows] == [
        (MONDAY, "a", 4),
        (MONDAY, "b", 1),
        (MONDAY, "c", 2),
        (MONDAY, "~0", 3),
        (date(2026, 3, 3), "a", 1),
    ]


def test_runs_without_ids_have_numbers_for_keys() -> None:
    statuses = [
        sent("FAIL", at("00:10"), None),
        sent("START", at("00:30"), None),
        sent("FAIL", at("00:40"), None),
        sent("START", at("00:40"), None),
        sent("SUCCEED", at("01:00"), None),
        sent("FAIL", at("01:10"), None),
    ]
    rows = judge(statuses, [], at("12:00")).job_run
    assert [shown(row, "run_key", "run_id", "final_status", "ended_at", "attempt") for row in rows] == [
        ("~0", None, "FAIL", at("00:10"), 1),
        ("~1", None, "FAIL", at("00:40"), 2),
        ("~2", None, "SUCCEED", at("01:00"), 3),
    ]


def test_the_host_is_that_of_the_last_status_that_names_one() -> None:
    statuses = [
        sent("START", at("00:30"), host_id="a"),
        sent("FAIL", at("00:40"), host_id="b"),
        sent("SUCCEED", at("00:40"), host_id="c"),
        sent("SUCCEED", at("00:50"), host_id=None),
    ]
    assert judge(statuses, [], at("12:00")).job_run[0]["host_id"] == "c"
