"""A sound catalog: what is read, what is left alone, and what references mean."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from pipelines.catalog.models import OWN_APPLICATION, WEEKDAYS, Application, Every, Job, Slo
from pipelines.catalog.read import find_job, read_catalog

Write = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]


def test_sound(write: Write) -> None:
    catalog = read_catalog(write())
    assert set(catalog.applications) == {"overdrafts", "deposits"}
    assert catalog.upstream == {
        ("overdrafts", "charge"): (),
        ("deposits", "summarize"): (("overdrafts", "charge"),),
    }
    (slo,) = catalog.slos["charges"]
    assert (slo.jobs[0].start, slo.jobs[0].end, slo.jobs[0].day_offset) == (30, 180, 1)
    assert slo.objective == 0.95
    assert catalog.slo_jobs(slo) == (("overdrafts", "charge"),)
    assert catalog.packages == ()


def test_empty_folder(write: Write) -> None:
    catalog = read_catalog(write(sound=False))
    assert (catalog.applications, catalog.jobs, catalog.slos) == ({}, {}, {})


def test_which_files(write: Write) -> None:
    catalog = read_catalog(
        write(
            {
                "applications/a.yaml": "applications: [{id: yaml, timezone: UTC}]\n",
                "applications/asia/b.yml": "applications: [{id: below, timezone: UTC}]\n",
                "applications/.hidden.yml": "applications: [{id: hidden, timezone: UTC}]\n",
                "applications/.git/c.yml": "applications: [{id: hidden, timezone: UTC}]\n",
                "applications/notes.txt": "not YAML: [\n",
                "applications/empty.yml": "",
                "applications/comment.yml": "# nothing yet\n",
                "applications/none.yml": "applications:\n",
                "applications/bom.yml": "\ufeffapplications: [{id: bom, timezone: UTC}]\n",
                "routes/r.yml": "not YAML: [\n",
                "frameworks/f.yml": "not YAML: [\n",
                "own-notes/x.yml": "not YAML: [\n",
                "other.yml": "not YAML: [\n",
            }
        )
    )
    assert set(catalog.applications) == {"overdrafts", "deposits", "yaml", "below", "bom"}


def test_keys_without_a_value_are_left_out(write: Write) -> None:
    catalog = read_catalog(
        write(
            {"applications/a.yml": "applications:\n  - id: a\n    timezone: UTC\n    senders:\n    owner:\n"}
        )
    )
    assert catalog.applications["a"] == Application.model_validate({"id": "a", "timezone": "UTC"})
    assert catalog.applications["a"].title == "a"


def test_anchors_and_merges(write: Write) -> None:
    catalog = read_catalog(
        write(
            {
                "slos/a.yml": """\
                    slos:
                      - &base
                        id: a
                        application: overdrafts
                        calendar: every_day
                        objective: 0.9
                        jobs: &jobs [{job: charge, end: "03:00"}]
                      - {<<: *base, id: b, objective: 0.5}
                      - {id: c, application: overdrafts, calendar: every_day, jobs: *jobs}
                    """
            }
        )
    )
    assert [catalog.slos[key][0].objective for key in "abc"] == [0.9, 0.5, 0.95]


def test_entries_in_order_of_their_dates(write: Write) -> None:
    entry = "  - {id: a, application: overdrafts, calendar: every_day, jobs: [{job: charge, end: '03:00'}]"
    catalog = read_catalog(
        write(
            {
                "slos/1.yml": f"slos:\n{entry}, effective_from: 2026-05-01}}\n{entry}}}\n",
                "slos/0.yml": f"slos:\n{entry}, effective_from: 2026-03-01, effective_to: 2026-03-01}}\n",
            }
        )
    )
    assert [one.effective_from for one in catalog.slos["a"]] == [None, date(2026, 3, 1), date(2026, 5, 1)]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("load", ("own", "load")),
        ("other/load", ("other", "load")),
        ("other/deep/load", ("other", "deep/load")),
        # A job's own slashes are no application …
        ("reports/daily", ("own", "reports/daily")),
        # … unless there is one that has such a job.
        ("other/daily", ("other", "daily")),
        ("other/missing", None),
        ("nothing", None),
        ("/load", None),
    ],
)
def test_references(reference: str, expected: tuple[str, str] | None) -> None:
    jobs = {
        *(("own", job) for job in ("load", "reports/daily", "other/daily")),
        *(("other", job) for job in ("load", "deep/load", "daily")),
    }
    assert find_job({"own", "other"}, jobs, "own", reference) == expected


def test_unknown_reference_is_a_key_error(write: Write) -> None:
    catalog = read_catalog(write())
    with pytest.raises(KeyError, match="nothing"):
        catalog.job_key("overdrafts", "nothing")


def test_ranks_are_longest_paths(write: Write) -> None:
    catalog = read_catalog(
        write(
            {
                "jobs/r.yml": """\
                    jobs:
                      - {id: d, application: deposits, depends_on: [a, c, c]}
                      - {id: c, application: deposits, depends_on: [b]}
                      - {id: b, application: deposits, depends_on: [a]}
                      - {id: a, application: deposits}
                    """
            }
        )
    )
    assert {job: catalog.upstream_rank["deposits", job] for job in "abcd"} == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert catalog.upstream["deposits", "d"] == (("deposits", "a"), ("deposits", "c"))


def test_a_long_chain_is_no_recursion(write: Write) -> None:
    rows = "".join(f"  - {{id: j{n}, application: deposits, depends_on: [j{n + 1}]}}\n" for n in range(1500))
    catalog = read_catalog(write({"jobs/r.yml": f"jobs:\n{rows}  - {{id: j1500, application: deposits}}\n"}))
    assert catalog.upstream_rank["deposits", "j0"] == 1500


def test_models_are_written_as_they_are_read() -> None:
    every = Every.model_validate({"minutes": 30, "from": "6:00", "to": "25:30", "due_after": "90s"})
    assert every.canonical() == (
        '{"day_offset":0,"due_after":"90s","early_tolerance":"0s","from":"06:00","minutes":30,"to":"25:30"}'
    )
    assert Every.model_validate_json(every.canonical()) == every
    assert every.due_after == timedelta(seconds=90)
    slo = Slo.model_validate(
        {
            "id": "a",
            "application": "b",
            "calendar": "c",
            "warn_before": "120m",
            "effective_from": "2026-01-31",
            "jobs": [{"job": "d", "end": "00:00", "due_weekday": "FRI"}],
        }
    )
    assert Slo.model_validate_json(slo.canonical()) == slo
    assert '"warn_before":"2h"' in slo.canonical()
    assert slo.jobs[0].due_weekday == "fri"


def test_zones_do_not_come_from_the_machine(tmp_path: Path) -> None:
    import importlib.resources

    zones = tmp_path / "America"
    zones.mkdir()
    utc = importlib.resources.files("tzdata.zoneinfo").joinpath("UTC").read_bytes()
    (zones / "New_York").write_bytes(utc)
    program = """
from datetime import datetime
from zoneinfo import ZoneInfo
early = ZoneInfo("America/New_York")
assert datetime(2026, 1, 1, tzinfo=early).utcoffset().total_seconds() == 0
from pipelines.catalog.zones import zone
for found in (zone("America/New_York"), ZoneInfo("America/New_York")):
    assert datetime(2026, 1, 1, tzinfo=found).utcoffset().total_seconds() == -5 * 3600
"""
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONTZPATH": str(tmp_path), "TZ": "Asia/Tokyo"},
    )


# The demonstration catalog


def test_demonstration_catalog() -> None:
    catalog = read_catalog(ROOT / "catalog")
    assert {"every_day", "business_days", "back_office_days"} <= set(catalog.calendars)
    assert {job for application, job in catalog.jobs if application == OWN_APPLICATION} == {"tick"}
    due = {
        slo_id: (
            slo.application,
            slo.calendar,
            [(job.job, job.start, job.end, job.day_offset) for job in slo.jobs],
        )
        for slo_id in ("overdraft-charges", "decision-support-load", "overdraft-report")
        for slo in catalog.slos[slo_id]
    }
    assert due == {
        "overdraft-charges": ("overdrafts", "every_day", [("charge-overdrafts", 30, 180, 1)]),
        "decision-support-load": ("decision-support", "business_days", [("load-overdrafts", 180, 300, 1)]),
        "overdraft-report": ("decision-support", "back_office_days", [("overdraft-report", 330, 480, 1)]),
    }
    (activity,) = catalog.slos["deposit-activity"]
    assert activity.every == Every.model_validate(
        {"minutes": 30, "from": "06:00", "to": "18:00", "due_after": "10m", "early_tolerance": "5m"}
    )
    assert [job.job for job in activity.jobs] == ["summarize-activity", "load-dashboards"]
    chain = [
        ("overdrafts", "charge-overdrafts"),
        ("decision-support", "load-overdrafts"),
        ("decision-support", "overdraft-report"),
    ]
    for upstream, downstream in pairwise(chain):
        assert upstream in catalog.upstream[downstream]
    assert [catalog.upstream_rank[key] for key in chain] == [1, 2, 3]


def test_month_ends_are_back_office_days() -> None:
    from pipelines.catalog.calendars import business_dates

    catalog = read_catalog(ROOT / "catalog")
    days = business_dates(catalog.calendars["back_office_days"], date(2025, 1, 1), date(2028, 12, 31))
    last = {(day.year, day.month): day for day in days}
    assert sorted(last.values()) == list(catalog.calendars["month_ends"].include)


def test_weekdays_are_those_of_python() -> None:
    assert [date(2026, 3, 2 + n).strftime("%a").lower() for n in range(7)] == list(WEEKDAYS)


def test_job_defaults() -> None:
    job = Job.model_validate({"id": "a", "application": "b"})
    assert (job.restartable, job.streaming, job.depends_on, job.owner) == (True, False, (), None)
