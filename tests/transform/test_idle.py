"""Ticks with nothing to do: no dbt, and yet the marts stand as of then; and what makes a tick do something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.transform.project import DbtError, ModelResult, Project
from pipelines.transform.tick import TickReport, tick
from pipelines.warehouse.connect import connect
from tests.house.test_imports import heavy
from tests.transform.support import Warehouse, utc

ROOT = Path(__file__).resolve().parents[2]
HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
CATALOG: dict[str, list[dict[str, Any]]] = {
    "applications": [{"id": "cards", "timezone": "UTC"}],
    "calendars": [{"id": "one_day", "weekdays": ["mon"], "until": "2026-03-02"}],
    "jobs": [{"id": "settle", "application": "cards"}],
    "slos": [
        {
            "id": "settled",
            "application": "cards",
            "calendar": "one_day",
            "effective_from": "2026-03-02",
            "jobs": [{"job": "settle", "end": "12:00"}],
        }
    ],
}
NOT_FOR_AN_IDLE_TICK = {"alembic", "dagster", "dbt", "holidays", "pandas", "sqlalchemy"}


class Counted(Project):
    """The project, and how often dbt was run."""

    runs = 0

    def run(self, *args: str) -> list[ModelResult]:
        self.runs += 1
        return super().run(*args)


class Overtaken(Project):
    """While dbt runs, the connection that holds the lock is lost, and another tick begins."""

    def run(self, *args: str) -> list[ModelResult]:
        results = super().run(*args)
        with connect(self.settings, "transform") as other:
            other.execute("update control.tick set begun_by = 'another'")
        return results


@pytest.fixture
def bank(warehouse: Warehouse) -> Warehouse:
    warehouse.write_catalog(CATALOG)
    warehouse.tick("2026-03-02 08:00")
    return warehouse


def outcome(bank: Warehouse) -> list[tuple[Any, ...]]:
    return bank.rows("slo_performance", "progress", "outcome")


def counted(bank: Warehouse, as_of: str) -> tuple[TickReport, int]:
    project = Counted(bank.settings)
    return tick(project, utc(as_of)), project.runs


def test_dbt_is_asked_only_when_a_row_may_change(bank: Warehouse) -> None:
    before = bank.marts()
    done, runs = counted(bank, "2026-03-02 11:59")
    assert (runs, done.models, bank.marts()) == (0, [], before)
    assert bank.rows("tick", "as_of", "is_rebuild_due") == [("2026-03-02 11:59", False)]

    _, runs = counted(bank, "2026-03-02 12:01")
    assert (runs, outcome(bank)) == (1, [("pending", "overdue")]), "a due time passed"

    bank.ingest(HEADER + "cards,settle,SUCCEED,2026-03-02T12:30:00Z,2026-03-02,r,h\n")
    _, runs = counted(bank, "2026-03-02 12:40")
    assert (runs, outcome(bank)) == (1, [("complete", "late")]), "a load waits, wherever its time lies"
    _, runs = counted(bank, "2026-03-02 12:41")
    assert runs == 0

    bank.write_catalog(
        {**CATALOG, "jobs": [{"id": "settle", "application": "cards", "name": "The settlement"}]}
    )
    _, runs = counted(bank, "2026-03-02 12:42")
    assert runs == 1, "the catalog changed"

    with connect(bank.settings, "transform") as connection:
        connection.execute("update control.tick set needs_rebuild = true")
    done, runs = counted(bank, "2026-03-02 12:43")
    assert (runs, done.is_rebuild) == (1, True), "a deploy asks for a rebuild"

    then = bank.marts()
    bank.tick("2026-03-02 12:43", rebuild=True)
    assert bank.marts() == then


def test_an_idle_tick_imports_little(bank: Warehouse) -> None:
    """A new process each minute, from cron: its budget is in modules, which no busy machine can break."""
    program = (
        "import json, sys\nfrom pipelines.cli import main\n"
        "try:\n    main(['tick', '--as-of', '2026-03-02T09:00:00Z'])\n"
        "finally:\n    print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=bank.settings.as_env(), capture_output=True, text=True, check=False,
        cwd=ROOT,
    )  # fmt: skip
    said, modules = done.stdout.splitlines()
    assert said == "published as of 2026-03-02T09:00:00+00:00: nothing new came in; no row changed"
    assert heavy(set(json.loads(modules)), NOT_FOR_AN_IDLE_TICK) == []


def test_a_tick_that_was_overtaken_publishes_nothing(bank: Warehouse) -> None:
    before = bank.marts()
    with pytest.raises(DbtError, match="Another tick has begun meanwhile"):
        tick(Overtaken(bank.settings), utc("2026-03-02 12:01"))
    assert bank.marts() == before
    bank.tick("2026-03-02 12:01")
    assert outcome(bank) == [("pending", "overdue")]
