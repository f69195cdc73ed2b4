"""Due times and statuses in the gap and in the overlap of clock changes, end to end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.transform.support import Warehouse

ZONES = {"york": "America/New_York", "london": "Europe/London", "howe": "Australia/Lord_Howe"}
# Zone, business date, due on the wall clock, due instant. RFC 5545: in a gap with the offset before it, and of two
# instants in an overlap the first. Lord Howe shifts its clocks by half an hour, at 02:00.
DUE = [
    ("york", "2025-03-09", "02:30", "2025-03-09 07:30"),  # UTC-5 before: it is 03:30 then
    ("york", "2025-11-02", "01:30", "2025-11-02 05:30"),  # UTC-4 first
    ("london", "2025-03-30", "01:30", "2025-03-30 01:30"),  # UTC before: it is 02:30 then
    ("london", "2025-10-26", "01:30", "2025-10-26 00:30"),  # UTC+1 first
    ("howe", "2025-10-05", "02:15", "2025-10-04 15:45"),  # UTC+10:30 before: it is 02:45 then
    ("howe", "2025-04-06", "01:45", "2025-04-05 14:45"),  # UTC+11 first
]


def catalog(slos: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {
        "applications": [{"id": name, "timezone": zone} for name, zone in ZONES.items()],
        "calendars": [{"id": "every_day", "weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}],
        "jobs": [{"id": "job", "application": name} for name in ZONES],
        "slos": slos,
    }


@pytest.fixture
def bank(warehouse: Warehouse) -> Warehouse:
    """An SLO for each of DUE, on that date only."""
    warehouse.store_catalog(
        catalog(
            [
                {
                    "id": f"{zone} {day}",
                    "application": zone,
                    "calendar": "every_day",
                    "effective_from": day,
                    "effective_to": day,
                    "jobs": [{"job": "job", "end": due}],
                }
                for zone, day, due, _ in DUE
            ]
        )
    )
    return warehouse


def test_due_times_are_read_as_the_standard_says(bank: Warehouse) -> None:
    bank.tick("2025-12-01 00:00")
    assert bank.rows("slo_performance", "slo_id", "expected_end_at", "outcome") == sorted(
        (f"{zone} {day}", due_at, "missed") for zone, day, _, due_at in DUE
    )


@pytest.mark.parametrize(
    ("with_offset", "ended", "late_by"),
    [
        # Without an offset a status is read as the due time is: at the very instant, so on time.
        (False, ["02:30", "01:30", "01:30", "01:30", "02:15", "01:45"], [0, 0, 0, 0, 0, 0]),
        # With one it says which of the two it is; the clocks went on by an hour or by half of one.
        (
            True,
            ["03:30-04:00", "01:30-05:00", "02:30+01:00", "01:30+00:00", "02:45+11:00", "01:45+10:30"],
            [0, 60, 0, 60, 0, 30],
        ),
    ],
)
def test_statuses_in_the_gap_and_the_overlap(
    bank: Warehouse, with_offset: bool, ended: list[str], late_by: list[int]
) -> None:
    lines = ["application_id,job_id,status_code,status_at,business_date"]
    lines += [
        f"{zone},job,SUCCEED,{day}T{clock[:5]}:00{clock[5:]},{day}"
        for (zone, day, _, _), clock in zip(DUE, ended, strict=True)
    ]
    report = bank.ingest("\n".join(lines) + "\n")
    assert report.files[0].rejected_count == 0
    # Only in an overlap the time alone does not tell the instant.
    overlaps = bank.query(
        "select business_date from raw.job_status where is_ambiguous order by business_date"
    )
    assert [str(row["business_date"]) for row in overlaps] == (
        [] if with_offset else ["2025-04-06", "2025-10-26", "2025-11-02"]
    )
    bank.tick("2025-12-01 00:00")
    assert bank.rows("slo_performance", "slo_id", "late_by", "outcome") == sorted(
        (f"{zone} {day}", minutes, "late" if minutes else "on_time")
        for (zone, day, _, _), minutes in zip(DUE, late_by, strict=True)
    )


def test_windows_over_the_gap_and_the_overlap(warehouse: Warehouse) -> None:
    windows = {"minutes": 30, "from": "01:00", "to": "03:00", "due_after": "10m"}
    warehouse.store_catalog(
        catalog(
            [
                {
                    "id": f"{zone} {day}",
                    "application": zone,
                    "calendar": "every_day",
                    "effective_from": day,
                    "effective_to": day,
                    "every": windows,
                    "jobs": [{"job": "job"}],
                }
                for zone, day in [
                    ("york", "2025-03-09"), ("york", "2025-11-02"), ("howe", "2025-10-05"), ("howe", "2025-04-06"),
                ]
            ]
        )
    )  # fmt: skip
    warehouse.ingest(
        "application_id,job_id,status_code,status_at,business_date,run_id\n"
        # The second pass of the hour still belongs to its last window.
        "york,job,SUCCEED,2025-11-02T01:05:00-05:00,2025-11-02,second\n"
        "york,job,SUCCEED,2025-03-09T03:05:00-04:00,2025-03-09,after the gap\n"
    )
    warehouse.tick("2025-12-01 00:00")

    def slots(slo_id: str) -> list[str]:
        """Each window's name, and when it begins in UTC."""
        rows = warehouse.rows("slo_performance", "slot", "expected_start_at", where=f"slo_id = '{slo_id}'")
        return [f"{slot} {begins_at[-5:]}" for slot, begins_at in rows]

    # Windows that fall on one instant are one, the first; times are of the day before in UTC where Lord Howe is.
    assert slots("york 2025-03-09") == ["01:00 06:00", "01:30 06:30", "02:00 07:00", "02:30 07:30"]
    assert slots("york 2025-11-02") == [
        "01:00 05:00",
        "01:30 05:30",
        "02:00 07:00",
        "02:30 07:30",
        "03:00 08:00",
    ]
    assert slots("howe 2025-10-05") == ["01:00 14:30", "01:30 15:00", "02:00 15:30", "03:00 16:00"]
    assert slots("howe 2025-04-06") == [
        "01:00 14:00",
        "01:30 14:30",
        "02:00 15:30",
        "02:30 16:00",
        "03:00 16:30",
    ]
    assert warehouse.rows("slo_job_run", "business_date", "slot", "run_key") == [
        ("2025-03-09", "02:00", "after the gap"), ("2025-11-02", "01:30", "second"),
    ]  # fmt: skip
