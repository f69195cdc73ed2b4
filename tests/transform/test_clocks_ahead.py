"""A sender whose clock is ahead: what was done in time looks late, and the verdict says why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.slo import receipt
from pipelines.transform.project import Project, core_fingerprint
from sensors.oncall.incidents.model import Rules
from tests.transform.support import Warehouse
from tests.transform.test_open_start import CATALOG, done

HOUR = timedelta(hours=1)


def test_an_explanation_says_that_a_status_came_from_the_future_of_its_receipt(warehouse: Warehouse) -> None:
    (slo,) = CATALOG["slos"]
    now = datetime.now(UTC).replace(microsecond=0)
    # Due in half an hour, or, where that is another day, at the end of this one; judged when all is over.
    today = {"effective_from": now.date().isoformat(), "effective_to": now.date().isoformat()}
    jobs = [{"job": name, "end": "00:00"} for name in ("load", "report")]
    warehouse.store_catalog({**CATALOG, "slos": [{**slo, **today, "jobs": jobs}]})
    right, wrong = now - HOUR, now + HOUR
    date = now.date()
    warehouse.ingest(
        [
            done(0, "load", status_code="START", status_at=wrong - timedelta(seconds=1), business_date=date),
            done(0, "load", status_at=wrong, business_date=date),
            # Within what clocks differ by.
            done(0, "report", status_at=now + Rules().future_status / 2, business_date=date),
        ]
    )
    # Held until its time comes, and then it counts.
    warehouse.tick(wrong - timedelta(seconds=2))
    (held,) = warehouse.query("select progress, explanation from marts.slo_performance")
    assert held["progress"] == "running"
    assert "ahead" not in held["explanation"]
    as_of = wrong + HOUR
    warehouse.tick(as_of)
    (row,) = warehouse.query("select outcome, explanation from marts.slo_performance")
    assert row["outcome"] == "late"
    said = f"; a clock is ahead: the status of bank/load at {wrong:%Y-%m-%d %H:%M:%S} was received more than"
    assert row["explanation"].count(said) == 1
    jobs_ahead = warehouse.rows("slo_job_performance", "job_id", "is_ahead")
    assert jobs_ahead == [("load", True), ("report", False)]
    at = warehouse.query("select explanation from marts.slo_performance_at(%s)", as_of)
    assert at == [{"explanation": row["explanation"]}]

    # An earlier SUCCEED that becomes known counts instead, and no clock matters any more.
    warehouse.ingest([done(0, "load", status_at=right, business_date=right.date())])
    warehouse.ingest([done(0, "load", status_at=now, business_date=date)])
    warehouse.tick(as_of)
    (mended,) = warehouse.query(
        "select explanation from marts.slo_performance where business_date = %s", date
    )
    assert "ahead" not in mended["explanation"]


def test_the_threshold_of_the_marts_is_that_of_the_incident(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = core_fingerprint(warehouse.settings)
    monkeypatch.setattr(receipt, "FUTURE_STATUS", timedelta(minutes=7))
    assert core_fingerprint(warehouse.settings) != before, "what is deployed would stay as it is"
    folder = warehouse.settings.home / "seven"
    project = Project(replace(warehouse.settings, dbt_target=folder))
    (compiled,) = project.run("compile", "--select", "slo_performance_at")
    assert "interval '7 minutes'" in compiled.sql
    assert "received more than 7 minutes before" in compiled.sql
    assert "5 minutes" not in compiled.sql
