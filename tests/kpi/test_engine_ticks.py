"""KPIs through whole ticks: sources of raw and of marts, a definition that is edited, ticks that are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pipelines.kpi.model import Source, Variable
from pipelines.processes.status import report
from pipelines.warehouse.settings import ROOT
from tests.kpi.test_engine import MEDIAN, ON_TIME, define, kpi, run, values, variable
from tests.transform.support import Warehouse, held, waiting_backend
from tests.transform.test_golden import CATALOG, CHARGE, HEADER
from tests.transform.test_killed_ticks import CHILD, published

__all__ = ["define"]

Define = Callable[..., None]
STATUS = Source(
    "warehouse", "raw.job_status", "raw.job_status",
    (("status_at", "timestamptz"), ("status_code", "text"), ("host_id", "text")),
)  # fmt: skip
STATUSES = replace(
    kpi(
        "statuses", '"n" + "hosts"',
        *(
            Variable(name, STATUS, how, column, "status_at", is_date=False, dimensions=(("code", "status_code"),))
            for name, how, column in (("n", "count", None), ("hosts", "count_distinct", "host_id"))
        ),
    ),
    grains=("hour", "day"), dimensions=("code",),
)  # fmt: skip
YAML = """\
kpis:
  - id: done
    category: performance
    description: Occurrences that are done.
    formula:
      type: simple
      expression: done
      variables:
        done:
          source: {table: marts.slo_performance, aggregation: count}
          time_column: business_date
          filters: ["outcome in ('on_time', 'late')"]
          dimensions: {application: application_id}
    aggregations: [day, month]
    dimensions: [application]
"""


def cells(warehouse: Warehouse, kpi_id: str) -> list[dict[str, Any]]:
    """With the row's own transaction: what is not written again is the same row."""
    return warehouse.query(
        "select xmin::text, * from kpi.period_value where kpi_id = %s order by grain, period_start, dimension_key",
        kpi_id,
    )


def test_raw_rows_are_known_by_triggers(warehouse: Warehouse, define: Define) -> None:
    define(STATUSES)
    warehouse.tick("2026-03-04 12:00")
    for steps in ([(1, "START"), (4, "SUCCEED")], [(1, "START"), (2, "FAIL"), (3, "START")]):
        run(warehouse, *steps)
        touched = warehouse.query("select distinct clock from kpi.touched where clock like 'raw.%%'")
        assert touched == [{"clock": "raw.job_status:status_at"}]
        warehouse.tick("2026-03-04 12:00")
        by_hand = warehouse.query(
            """
            select to_char(status_at, 'YYYY-MM-DD"T"HH24') || '+00:00' as period,
                case when grouping(status_code) = 1 then '' else '{"code": "' || status_code || '"}' end as key,
                count(*) + count(distinct host_id) as value
            from raw.job_status group by 1, rollup (status_code)
            """
        )
        assert values(warehouse, "statuses", "hour") == {
            (row["period"], row["key"]): row["value"] for row in by_hand
        }


def test_an_edit_fills_itself_at_the_next_tick_and_touches_nothing_else(
    warehouse: Warehouse, define: Define
) -> None:
    define(ON_TIME, MEDIAN, STATUSES)
    run(warehouse, (1, "START"), (4, "SUCCEED"))
    warehouse.tick("2026-03-06 12:00")
    marts = "select xmin::text, slo_id, business_date from marts.slo_performance order by 2, 3"
    before = {name: cells(warehouse, name) for name in ("on-time", "median", "statuses")}
    rows = warehouse.query(marts)
    edited = kpi("on-time", '"good" * 100 / nullif("due", 0)', *ON_TIME.variables, version="v2")
    define(replace(edited, value_version="v2"), MEDIAN, STATUSES)
    report = warehouse.tick("2026-03-06 12:01")
    assert not report.is_rebuild
    assert warehouse.query(marts) == rows
    for name in ("median", "statuses"):
        assert cells(warehouse, name) == before[name]
    after = cells(warehouse, "on-time")
    assert [row["value"] and row["value"] / 100 for row in after] == [
        row["value"] for row in before["on-time"]
    ]
    assert {row["definition_version"] for row in after} == {"v2"}
    # Another name computes nothing.
    define(replace(edited, version="v3", value_version="v2", name="New"), MEDIAN, STATUSES)
    warehouse.tick("2026-03-06 12:02")
    assert cells(warehouse, "on-time") == after


def test_a_model_that_cannot_be_made_is_told_and_stops_no_other(warehouse: Warehouse, define: Define) -> None:
    wrong = replace(
        kpi("wrong", '"n"', replace(variable("n"), condition='"no_such_column" = 1')), timezone="Asia/Tokyo"
    )
    source = replace(STATUS, table="raw.nowhere", relation="copies.nowhere")
    lost = replace(STATUSES, id="lost", variables=(replace(STATUSES.variables[0], source=source),))
    define(ON_TIME, replace(wrong, dimensions=()), lost)
    run(warehouse, (1, "START"), (4, "SUCCEED"))
    with capture_logs() as logged:
        warehouse.tick("2026-03-06 12:00")
    assert values(warehouse, "on-time")
    problems = warehouse.query("select name, problem from kpi.model where problem is not null")
    text = " ".join(row["problem"] for row in problems)
    assert "no_such_column" in text
    assert "copies.nowhere" in text
    (part,) = [part for part in report(warehouse.settings).parts if part.name == "kpis"]
    assert not part.is_ready
    assert part.facts["failed"] == ["lost", "wrong"]
    assert "a KPI model could not be made" in {line["event"] for line in logged}
    define(ON_TIME)
    warehouse.tick("2026-03-06 12:01")
    assert warehouse.query("select name from kpi.model where problem is not null") == []


@pytest.fixture
def bank(warehouse: Warehouse) -> Iterator[Warehouse]:
    """A first tick with a KPI of the catalog, and something for the second one to do in it."""
    warehouse.store_catalog(CATALOG)
    path = Path(warehouse.settings.catalog) / "kpis" / "done.yml"
    path.parent.mkdir()
    path.write_text(YAML, "utf-8")
    warehouse.ingest(HEADER + CHARGE.format("START", "00:31:00", "r1,h1"))
    warehouse.tick("2026-03-03 07:00")
    warehouse.ingest(HEADER + CHARGE.format("SUCCEED", "02:30:00", "r1,h1"))
    yield warehouse
    path.unlink()
    warehouse.tick("2026-03-09 00:00", rebuild=True)


def test_a_tick_killed_while_kpis_are_computed(bank: Warehouse) -> None:
    before = cells(bank, "done")
    with held(bank.settings, "kpi.period_value") as connection:
        marts = published(connection)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, "2026-03-03T08:15:00Z"],
            env={**os.environ, **bank.settings.as_env(), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            waiting_backend(bank.settings, "kpi.period_value")
        finally:
            child.kill()
            child.wait()
        assert published(connection) == marts
    assert cells(bank, "done") == before
    bank.tick("2026-03-03 08:30")
    found = [{**row, "xmin": "", "computed_load_id": 0} for row in cells(bank, "done")]
    assert sum(row["value"] for row in found if row["grain"] == "day" and row["dimension_key"] == "") == 1
    bank.tick("2026-03-03 08:30", rebuild=True)
    assert [{**row, "xmin": "", "computed_load_id": 0} for row in cells(bank, "done")] == found
