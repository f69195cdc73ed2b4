"""Punctuality and error budgets against the same counted in plain Python, by ticks that each bring a part."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from random import Random
from typing import Any

from pipelines.landing.unload import unload
from tests.transform.support import Row, Status, Warehouse

FIRST = date(2025, 11, 3)
DATES = [FIRST + timedelta(days=place) for place in range(120)]
SLOS = {"punctual": 0.95, "early": 0.9, "late": 0.95, "gone": 0.95, "windows": 0.8, "young": 0.95}


def catalog(**objectives: float) -> dict[str, list[dict[str, Any]]]:
    """Daily SLOs due at 26:30 in New York, and one with windows."""
    slos: list[dict[str, Any]] = [
        {
            "id": name,
            "application": "bank",
            "calendar": "weekdays",
            "effective_from": (DATES[-15] if name == "young" else FIRST).isoformat(),
            "objective": objective,
            "jobs": [{"job": name} if name == "windows" else {"job": name, "end": "26:30"}],
        }
        for name, objective in (SLOS | objectives).items()
    ]
    (windows,) = [one for one in slos if one["id"] == "windows"]
    windows["every"] = {"minutes": 60, "from": "06:00", "to": "09:00", "due_after": "30m"}
    return {
        "applications": [{"id": "bank", "timezone": "America/New_York"}],
        "calendars": [{"id": "weekdays", "weekdays": ["mon", "tue", "wed", "thu", "fri"]}],
        "jobs": [{"id": name, "application": "bank"} for name in SLOS],
        "slos": slos,
    }


def statuses(days: list[date]) -> list[Status]:
    made: list[Status] = []
    for day in days:
        chance = Random(f"shares {day}")
        # New York is at UTC-5 on all of these days.
        midnight = datetime(day.year, day.month, day.day, 5, tzinfo=UTC)
        for name in SLOS:
            if chance.random() < 0.03 or (name == "gone" and chance.random() < 0.3):
                continue
            late = {"early": -120, "late": -5, "gone": -10}.get(name, -30)
            moments: list[float] = (
                [6 * 60 + hour * 60 + 10 for hour in range(4)] if name == "windows" else [26.5 * 60 + late]
            )
            for number, minute in enumerate(moments):
                end = midnight + timedelta(minutes=minute + chance.gauss(0, 12))
                made.append(
                    {
                        "application_id": "bank", "job_id": name, "status_code": "SUCCEED", "status_at": end,
                        "business_date": day, "run_id": f"{day}-{number}",
                    }
                )  # fmt: skip
    return made


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The roots of (p - x)² = z² x (1 - x) / n."""
    z2 = 1.959963984540054**2
    share = hits / total
    a, b, c = 1 + z2 / total, -(2 * share + z2 / total), share**2
    root = math.sqrt(b * b - 4 * a * c)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def counted(warehouse: Warehouse, as_of: datetime) -> dict[str, list[list[Row]]]:
    """By SLO the dates that were due, the newest first; each with its occurrences."""
    found: dict[str, dict[date, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in warehouse.query("select * from marts.slo_performance"):
        if row["expected_end_at"] < as_of and row["outcome"] != "not_due":
            found[row["slo_id"]][row["business_date"]].append(row)
    return {slo: [dates[day] for day in sorted(dates, reverse=True)] for slo, dates in found.items()}


def assert_as_counted(warehouse: Warehouse, as_of: datetime, objectives: dict[str, float]) -> None:
    by_slo = counted(warehouse, as_of)
    budgets = {
        (row["slo_id"], row["window_dates"]): row
        for row in warehouse.query("select * from marts.slo_error_budget")
    }
    assert set(budgets) == {(slo, window) for slo in by_slo for window in (28, 90)}
    for (slo, window), row in budgets.items():
        rows = [one for dates in by_slo[slo][:window] for one in dates]
        missed = [one for one in rows if one["outcome"] != "on_time"]
        allowed = math.floor((1 - Fraction(str(objectives[slo]))) * len(rows))
        assert row == {
            "slo_id": slo,
            "window_dates": window,
            "objective": row["objective"],
            "first_date": by_slo[slo][:window][-1][0]["business_date"],
            "last_date": by_slo[slo][0][0]["business_date"],
            "date_count": len(by_slo[slo][:window]),
            "occurrence_count": len(rows),
            "misses_allowed": allowed,
            "misses_spent": len(missed),
            "misses_left": allowed - len(missed),
            "never_ended_count": sum(one["late_by"] is None for one in missed),
            "recent_misses": sum(one["outcome"] != "on_time" for dates in by_slo[slo][:5] for one in dates),
            "late_by_total": sum((one["late_by"] or timedelta() for one in missed), timedelta()),
            "waived_count": 0,
        }
        assert float(row["objective"]) == objectives[slo]
    punctuality = {row["slo_id"]: row for row in warehouse.query("select * from marts.slo_punctuality")}
    assert set(punctuality) == set(by_slo)
    for slo, row in punctuality.items():
        rows = [one for dates in by_slo[slo][:90] for one in dates]
        on_time = sum(one["outcome"] == "on_time" for one in rows)
        low, high = wilson(on_time, len(rows))
        late = sorted(timedelta.max if one["late_by"] is None else one["late_by"] for one in rows)
        assert (row["occurrence_count"], row["on_time_count"]) == (len(rows), on_time)
        assert [float(row[name]) for name in ("on_time_share", "share_low", "share_high")] == [
            round(value, 6) for value in (on_time / len(rows), max(low, 0), min(high, 1))
        ]
        for name, level in (("median_late_by", 0.5), ("p90_late_by", 0.9)):
            value = late[math.ceil(level * len(late)) - 1]
            assert row[name] == (None if value == timedelta.max else value)
        if len(rows) < 20:
            assert (row["verdict"], row["proposed_shift"], row["expected_miss_rate"]) == (
                "too_few",
                None,
                None,
            )
            continue
        allowed = max(math.floor((1 - Fraction(str(objectives[slo]))) * (len(rows) + 1)) - 1, 0)
        kept = late[len(late) - allowed - 1]
        shift = None if kept == timedelta.max else -(-kept // timedelta(minutes=5)) * timedelta(minutes=5)
        assert row["proposed_shift"] == shift
        if shift is None:
            assert row["proposed_due_time"] is row["expected_miss_rate"] is None
        else:
            rate = Fraction(1 + sum(one > shift for one in late), len(late) + 1)
            assert float(row["expected_miss_rate"]) == round(float(rate), 6)
            minutes = round((timedelta(hours=26, minutes=30) + shift) / timedelta(minutes=1))
            due = None if slo == "windows" else f"{minutes // 60:02}:{minutes % 60:02}"
            assert row["proposed_due_time"] == due
        is_early = shift is not None and shift <= timedelta(minutes=-30)
        if float(row["share_high"]) < objectives[slo]:
            assert row["verdict"] == "routinely_late"
        else:
            assert row["verdict"] == ("routinely_early" if is_early else "fine")


def shares(warehouse: Warehouse) -> list[list[Row]]:
    return [
        warehouse.query(f"select * from marts.{name} as mart order by mart::text")
        for name in ("slo_error_budget", "slo_punctuality")
    ]


def test_shares_are_those_of_a_plain_count_at_every_tick(warehouse: Warehouse) -> None:
    objectives = dict(SLOS)
    warehouse.stored_at = datetime(2025, 11, 1, tzinfo=UTC)
    warehouse.store_catalog(catalog())
    noon = datetime(2025, 11, 3, 12, tzinfo=UTC)
    as_of = noon
    # Ten dates come late, and are overdue until then.
    for part, days in ((DATES[:60], 60), (DATES[70:110], 110), (DATES[60:70], 110), (DATES[110:117], 117)):
        warehouse.ingest(statuses(part))
        as_of = noon + timedelta(days=days)
        warehouse.tick(as_of)
        assert_as_counted(warehouse, as_of, objectives)
    assert {row["verdict"] for row in warehouse.query("select verdict from marts.slo_punctuality")} == {
        "routinely_late", "routinely_early", "fine", "too_few"
    }  # fmt: skip

    # At six in New York windows fall due, and dates have opened of which nothing is due.
    as_of += timedelta(hours=19)
    warehouse.tick(as_of)
    assert_as_counted(warehouse, as_of, objectives)
    load_id = warehouse.ingest(statuses(DATES[117:])).files[0].load_id
    as_of += timedelta(days=3)
    warehouse.tick(as_of)
    assert_as_counted(warehouse, as_of, objectives)
    unload(warehouse.settings, str(load_id), "a test")
    warehouse.tick(as_of)
    assert_as_counted(warehouse, as_of, objectives)

    # Another objective, and an SLO that is taken out.
    warehouse.stored_at = as_of
    without = catalog(late=0.5)
    without["slos"] = [one for one in without["slos"] if one["id"] != "gone"]
    warehouse.store_catalog(without)
    as_of += timedelta(minutes=1)
    warehouse.tick(as_of)
    found = {row["slo_id"]: row for row in warehouse.query("select * from marts.slo_punctuality")}
    assert set(found) == set(SLOS) - {"gone"}
    assert float(found["late"]["objective"]) == 0.5
    grown = shares(warehouse)
    warehouse.tick(as_of, rebuild=True)
    assert shares(warehouse) == grown
    warehouse.stored_at = None
