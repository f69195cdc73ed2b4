"""SLOs and jobs made by hand, with a past, and all that their pages have to cope with."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from pipelines.board.model import Application, Board, Late
from pipelines.board.tracked import (
    Budget,
    Day,
    Deadline,
    Ended,
    Expected,
    JobDay,
    JobKey,
    JobOfSlo,
    Miss,
    Promise,
    Punctuality,
    Told,
    TrackedJob,
    TrackedSlo,
    Trend,
    Try,
    Waiver,
)
from tests.board import samples

AS_OF = samples.AS_OF
TODAY = AS_OF.date()
ZONE = "America/New_York"
REPORT: JobKey = ("decision-support", "overdraft-report")
CHARGE: JobKey = ("overdrafts", "charge-overdrafts")
LOAD: JobKey = ("decision-support", "load-overdrafts")
POST: JobKey = ("deposits", "post-transactions")
LONG: JobKey = ("overdrafts", "a/very-long/job-name-of-a-scheduler-that-has-no-mercy-with-who-reads-it")


def days(count: int = 60) -> tuple[Day, ...]:
    """So many dates to yesterday: early but for two that were late, one missed, one waived, and the last overdue."""
    found = []
    for back in range(count, 0, -1):
        day, early = TODAY - timedelta(back), round(-900 + 300 * math.sin(back / 4))
        if back in {9, 21}:
            found.append(Day(day, late=1, worst=60 * back * 5))
        elif back == 30:
            found.append(Day(day, missed=1))
        elif back == 40:
            found.append(Day(day, not_due=1, is_waived=True))
        elif back == 1:
            found.append(Day(day, overdue=1))
        else:
            found.append(Day(day, on_time=1, worst=early))
    return tuple(found)


def promise(first: date | None, last: date | None, end: str, objective: float = 0.95) -> Promise:
    return Promise(
        first, last, False, ZONE, objective,
        {
            "calendar": {"id": "business_days"},
            "jobs": [{"application": "decision-support", "job": "overdraft-report", "end": end, "day_offset": 1}],
        },
    )  # fmt: skip


def overdue() -> Late:
    return replace(samples.late()[0], affected=("deposit-activity", "risk-digest"))


def overdraft_report() -> TrackedSlo:
    """Overdue now, with a past of every kind."""
    due = datetime(2026, 3, 10, 8, tzinfo=UTC)
    year = {back: "o" for back in range(1, 371) if (TODAY - timedelta(back)).weekday() < 5}
    year |= {1: "v", 30: "m", 40: "w", 9: "b", 21: "c", 100: "a", 128: "m", 129: "m"}
    tomorrow = due + timedelta(days=1)
    return TrackedSlo(
        id="overdraft-report",
        name="Overdraft report in the inbox of the back office",
        application_id="decision-support",
        timezone=ZONE,
        objective=0.95,
        owner="team:risk",
        description="What the back office calls customers by, at 04:00.",
        runbook="https://runbooks.example/overdraft-report",
        days=days(),
        year=year,
        expected=(
            Expected(
                date(2026, 3, 9), "00:00", due, True, AS_OF + timedelta(minutes=20), AS_OF + timedelta(minutes=45),
                AS_OF + timedelta(hours=3), 1.0, False, "longer than ever seen",
            ),
            Expected(
                date(2026, 3, 10), "00:00", tomorrow, False, tomorrow - timedelta(minutes=25),
                tomorrow - timedelta(minutes=15), tomorrow + timedelta(minutes=5), 0.12, False, "past dates",
            ),
        ),
        ended=Ended(date(2026, 3, 8), "00:00", "on_time", due - timedelta(days=1, minutes=14), timedelta(minutes=-14)),
        misses=(
            Miss(
                date(2026, 3, 9), "00:00", "overdue", due, None, "decision-support/overdraft-report",
                overdue().explanation,
            ),
            Miss(
                date(2026, 3, 1), "00:00", "late", due - timedelta(days=8), timedelta(minutes=45),
                "overdrafts/charge-overdrafts", "Late by 45 minutes: overdrafts/charge-overdrafts took longer.",
            ),
        ),
        miss_count=11,
        promises=(promise(date(2026, 2, 1), None, "04:00"), promise(None, date(2026, 1, 31), "05:00", 0.9)),
        budgets=(
            Budget(28, 28, 28, 1, 3, -2, 1, timedelta(hours=2, minutes=30)),
            Budget(90, 60, 60, 3, 4, -1, 1, timedelta()),
        ),
        punctuality=Punctuality(
            59, 0.932, 0.84, 0.973, timedelta(minutes=-15), timedelta(minutes=-9), "routinely_late", "28:20",
            timedelta(minutes=20), 0.049,
        ),
        incidents=(
            Told(12, "overdue", "critical", "Overdue: Overdraft report", due, None, None, None),
            Told(9, "late", "warning", "Late: Overdraft report", due - timedelta(days=8), "ann", due, "late"),
        ),
        waivers=(
            Waiver(date(2026, 1, 29), date(2026, 1, 29), None, None, "The mainframe moves.", "team:risk"),
            Waiver(date(2026, 12, 24), date(2026, 12, 31), None, 330, "Holiday shifts.", None),
        ),
        jobs=(
            JobOfSlo(
                "overdraft-report", REPORT, date(2026, 3, 9), "00:00", due - timedelta(hours=1), due, None, None,
                "pending",
            ),
        ),
    )  # fmt: skip


def deposit_activity() -> TrackedSlo:
    """Windows: each date has several, and those of today are partly open."""
    moment = AS_OF.replace(minute=10)
    return TrackedSlo(
        id="deposit-activity",
        name="Checking and savings activity on the dashboards",
        application_id="deposits",
        timezone=ZONE,
        objective=0.9,
        days=(
            Day(TODAY - timedelta(1), on_time=24, late=1, worst=720),
            Day(TODAY, on_time=6, not_due=19, worst=-200),
        ),
        year={1: "a", 0: "o"},
        expected=tuple(
            Expected(
                TODAY, f"{hour}:00", moment.replace(hour=hour), True, moment.replace(hour=hour, minute=4),
                moment.replace(hour=hour, minute=6), moment.replace(hour=hour, minute=9), 0.001, False, "past dates",
            )
            for hour in (15, 16, 17)
        ),
        ended=Ended(TODAY, "14:00", "on_time", moment - timedelta(minutes=4), timedelta(minutes=-4)),
        promises=(
            Promise(
                None, None, False, ZONE, 0.9,
                {
                    "calendar": {"id": "business_days"},
                    "every": {"minutes": 30, "from": "06:00", "to": "18:00", "due_after": "10m"},
                    "jobs": [{"application": "deposits", "job": "post-transactions"}],
                },
            ),
        ),
        jobs=(JobOfSlo("deposit-activity", POST, TODAY, "14:00", None, moment, None, moment, "complete"),),
    )  # fmt: skip


def job_days(slower: float = 0) -> tuple[JobDay, ...]:
    return tuple(
        JobDay(
            TODAY - timedelta(back),
            "late" if back == 9 else "failed" if back == 30 else "on_time",
            run_count=2 if back in {9, 30} else 1,
            fail_count={9: 1, 30: 2}.get(back, 0),
            duration=None if back == 30 else round(720 + 60 * math.sin(back) + slower * (60 - back)),
            late_by=None if back == 30 else 2700 if back == 9 else -800,
        )
        for back in range(60, 0, -1)
    )


def charge_overdrafts() -> TrackedJob:
    """Gets slower, and was restarted."""
    started = datetime(2026, 3, 10, 4, 30, tzinfo=UTC)
    return TrackedJob(
        key=CHARGE,
        name="Charge overdrafts",
        timezone=ZONE,
        owner="team:overdrafts",
        description="Half a charge must be undone by hand.",
        runbook="https://runbooks.example/charge",
        restartable=False,
        upstream=(POST,),
        days=job_days(slower=9),
        tries=(
            Try(
                date(2026, 3, 9), 2, "r-77", started, started + timedelta(minutes=21), timedelta(minutes=21), "SUCCEED",
                "mvs1",
            ),
            Try(date(2026, 3, 9), 1, "r-76", started - timedelta(hours=1), started, timedelta(hours=1), "FAIL", None),
        ),
        deadlines=(
            Deadline(
                date(2026, 3, 10), "pending", timedelta(minutes=20), started + timedelta(days=1),
                started + timedelta(days=1, minutes=9), started + timedelta(days=1, hours=1),
                started + timedelta(days=1, hours=2), "overdraft-report",
            ),
        ),
        trend=Trend(
            "duration", 60, 700.0, 9.0, True, date(2026, 1, 12), 33,
            "overdrafts/charge-overdrafts takes 9 minutes longer since 2026-01-12.",
        ),
    )  # fmt: skip


def jobs() -> tuple[TrackedJob, ...]:
    serves = [job for slo in (overdraft_report(), deposit_activity()) for job in slo.jobs]
    plain = TrackedJob(POST, "Post the day's transactions", ZONE, owner="team:deposits", days=job_days())
    ends = tuple(day._replace(duration=None, late_by=day.late_by) for day in job_days())
    return (
        replace(
            plain, key=LOAD, name="Load overdrafts into decision support", upstream=(CHARGE, POST), days=ends
        ),
        replace(plain, key=REPORT, name="Overdraft report", upstream=(LOAD,), slos=(serves[0],), days=()),
        replace(plain, slos=(serves[1],)),
        replace(plain, key=LONG, name=LONG[1], upstream=(CHARGE,), days=()),
        charge_overdrafts(),
    )


def hostile() -> tuple[TrackedSlo, TrackedJob]:
    """Everything that a person may write holds markup."""
    bad = samples.HOSTILE
    slo = replace(
        overdraft_report(), id=bad, name=bad, application_id=bad, owner=bad, description=bad,
        misses=(replace(overdraft_report().misses[0], culprit=f"{bad}/{bad}", explanation=bad),),
        waivers=(replace(overdraft_report().waivers[0], reason=bad, by=bad),),
        incidents=(replace(overdraft_report().incidents[0], title=bad, acknowledged_by=bad),),
        jobs=(JobOfSlo(bad, (bad, bad)),),
    )  # fmt: skip
    job = replace(
        charge_overdrafts(), key=(bad, bad), name=bad, owner=bad, description=bad,
        tries=(replace(charge_overdrafts().tries[0], run_id=bad, host_id=bad),),
        trend=replace(charge_overdrafts().trend or Trend("", 0, 0, 0, False, None, None, ""), evidence=bad),
    )  # fmt: skip
    return slo, job


def board() -> Board:
    """One SLO overdue, one with windows, and what they wait for."""
    return Board(
        AS_OF,
        ZONE,
        late=(overdue(),),
        applications=tuple(
            Application(one, one.capitalize(), ZONE) for one in ("decision-support", "deposits", "overdrafts")
        ),
        tracked=(deposit_activity(), overdraft_report()),
        jobs=jobs(),
    )
