"""Trends of jobs in the marts, by real ticks: incremental equals full, and only what changed is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest

from pipelines.catalog.store import restate
from pipelines.landing.unload import unload
from pipelines.warehouse.connect import connect
from tests.transform.support import Row, Status, Warehouse

FIRST = date(2025, 10, 1)
DATES = [FIRST + timedelta(days=place) for place in range(120)]
JOBS = ("slow", "steady", "sends-ends", "windows", "retried", "new")
CATALOG: dict[str, list[dict[str, Any]]] = {
    "applications": [{"id": "bank", "timezone": "UTC"}],
    "calendars": [{"id": "every_day", "weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}],
    "jobs": [{"id": name, "application": "bank"} for name in JOBS],
    "slos": [
        {
            "id": f"{name}-slo",
            "application": "bank",
            "calendar": "every_day",
            "effective_from": FIRST.isoformat(),
            "jobs": [{"job": name, "end": "04:00"}],
        }
        for name in ("slow", "sends-ends")
    ]
    + [
        {
            "id": "windows-slo",
            "application": "bank",
            "calendar": "every_day",
            "effective_from": FIRST.isoformat(),
            "every": {"minutes": 60, "from": "06:00", "to": "08:00", "due_after": "30m"},
            "jobs": [{"job": "windows"}],
        }
    ],
}


def runs(days: Iterable[date]) -> list[Status]:
    """`slow` grows from 60 to 120 minutes; the others stay as they are, but for the ends of `sends-ends`."""
    made: list[Status] = []
    for day in days:
        chance = Random(day.toordinal())
        place = (day - FIRST).days
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)

        def run(
            job: str, begin: float, took: float, key: str = "r", codes: Sequence[str] = ("START", "SUCCEED"),
            midnight: datetime = midnight, day: date = day, place: int = place,
        ) -> None:  # fmt: skip
            for code in codes:
                minutes = begin if code == "START" else begin + took
                made.append(
                    {
                        "application_id": "bank", "job_id": job, "status_code": code, "business_date": day,
                        "status_at": midnight + timedelta(seconds=round(60 * minutes)), "run_id": f"{key}{place}",
                    }
                )  # fmt: skip

        spread = chance.uniform(0.95, 1.05)
        run("slow", 60, 60 * (1 + place / 120) * spread)
        run("steady", 60, 60 * spread)
        run("sends-ends", 60, 40 + 0.4 * place + 5 * chance.random(), codes=["SUCCEED"])
        for hour in (6, 7, 8):
            run("windows", 60 * hour + 1, 5 * spread + hour, key=f"w{hour}-")
        run("retried", 60, 3, key="first", codes=["START", "FAIL"])
        run("retried", 70, 30 * spread)
        run("retried", 300, 2, key="again")
        if place > 110:
            run("new", 60, 10)
    return made


def trends(warehouse: Warehouse) -> dict[str, Row]:
    return {row["job_id"]: row for row in warehouse.query("select * from marts.job_duration_trend")}


def kept(warehouse: Warehouse) -> list[Row]:
    return warehouse.query("select * from forecast.job_trend order by application_id, job_id")


def as_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


@pytest.fixture
def grown(warehouse: Warehouse) -> Warehouse:
    """A bank that was loaded in parts, the last of which came late."""
    warehouse.store_catalog(CATALOG)
    for part in (DATES[:40], DATES[50:100], DATES[40:50], DATES[100:119]):
        warehouse.ingest(runs(part))
        warehouse.tick(as_of(max(part[-1], DATES[99]) if part[0] == DATES[40] else part[-1]))
    warehouse.ingest(runs(DATES[119:]))
    warehouse.tick(as_of(DATES[119]))
    return warehouse


def test_slowing_is_told_of_the_job_that_slows(grown: Warehouse) -> None:
    found = trends(grown)
    assert set(found) == {"slow", "steady", "sends-ends", "windows", "retried"}, "ten dates are too few"
    assert {name for name, row in found.items() if row["is_slowing"]} == {"slow", "sends-ends"}
    slow = found["slow"]
    assert (slow["basis"], slow["date_count"], slow["last_date"]) == ("duration", 90, DATES[119])
    assert slow["first_date"] == slow["changed_on"] == DATES[30]
    assert slow["level_at_first"] / timedelta(minutes=1) == pytest.approx(75, abs=3)
    assert slow["grew_by"] / timedelta(minutes=1) == pytest.approx(44.5, abs=4)
    assert slow["slope_per_date"] / timedelta(minutes=1) == pytest.approx(0.5, abs=0.05)
    # It begins at one, takes two hours, a twentieth more at times, and half a minute more each date; due at four.
    assert slow["days_until_due"] == pytest.approx(108, abs=12)
    assert slow["evidence"].startswith("bank/slow takes 4")
    assert found["sends-ends"]["basis"] == "end"
    assert found["windows"]["level_at_first"] / timedelta(minutes=1) == pytest.approx(12, abs=1)
    # Neither the try that failed nor what was done again later.
    assert found["retried"]["level_at_first"] / timedelta(minutes=1) == pytest.approx(30, abs=1)


def test_incremental_equals_full(grown: Warehouse) -> None:
    before = kept(grown)
    grown.tick(as_of(DATES[119]), rebuild=True)
    assert kept(grown) == before

    # A file is taken out, a promise moves for all dates, and an SLO is taken out.
    load_id = grown.ingest(runs([DATES[119] + timedelta(days=1)])).files[0].load_id
    grown.tick(as_of(DATES[119]) + timedelta(days=1))
    assert kept(grown) != before
    unload(grown.settings, str(load_id), "a test")
    grown.tick(as_of(DATES[119]) + timedelta(days=1))
    assert kept(grown) == before
    moved = [{**slo, "jobs": [{"job": "slow", "end": "05:00"}]} for slo in CATALOG["slos"][:1]]
    grown.store_catalog({**CATALOG, "slos": [*moved, *CATALOG["slos"][2:]]})
    restate(grown.settings, "slow-slo", FIRST)
    grown.tick(as_of(DATES[119]) + timedelta(days=2))
    after = kept(grown)
    ends = [{row["job_id"]: row["p90_end"] for row in rows}["slow"] for rows in (before, after)]
    assert ends[0] - ends[1] == pytest.approx(60)
    grown.tick(as_of(DATES[119]) + timedelta(days=2), rebuild=True)
    assert kept(grown) == after


def test_only_what_changed_is_computed(grown: Warehouse) -> None:
    def written(moment: datetime) -> int:
        report = grown.tick(moment)
        return sum(one.inserted for one in report.publications if one.name == "forecast.job_trend")

    noon = as_of(DATES[119])
    assert written(noon + timedelta(minutes=1)) == 0
    # Dates open and fall due.
    assert written(noon + timedelta(days=1)) == 0
    grown.ingest([one for one in runs([DATES[119] + timedelta(days=1)]) if one["job_id"] == "steady"])
    assert written(noon + timedelta(days=1, minutes=1)) == 1
    with connect(grown.settings, autocommit=True) as connection:
        connection.execute("update forecast.job_trend set method = 0 where job_id = 'slow'")
    assert written(noon + timedelta(days=1, minutes=2)) == 5
