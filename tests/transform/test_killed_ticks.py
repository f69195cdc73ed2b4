"""Ticks whose process is really killed: the marts are as they were, and the next tick does it all."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import psycopg
import pytest

from pipelines.errors import DuemarkError
from pipelines.transform.project import DbtError
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import ROOT
from tests.transform.support import MARTS, Warehouse, held, utc, waiting_backend
from tests.transform.test_golden import CATALOG, CHARGE, HEADER
from tests.waiting import HUNG

CHILD = """
import sys
from datetime import datetime
import pipelines.subjects
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.settings import Settings
tick(Project(Settings.from_env()), datetime.fromisoformat(sys.argv[1]))
"""


@pytest.fixture
def bank(warehouse: Warehouse) -> Warehouse:
    """A first tick, and something for the second one to do in every mart."""
    warehouse.store_catalog(CATALOG)
    warehouse.ingest(HEADER + CHARGE.format("START", "00:31:00", "r1,h1"))
    warehouse.tick("2026-03-03 07:00")
    warehouse.ingest(
        HEADER + CHARGE.format("SUCCEED", "02:30:00", "r1,h1") + CHARGE.format("START", "02:40:00", "r2,h1")
    )
    return warehouse


def published(connection: psycopg.Connection[tuple[object, ...]]) -> list[object]:
    """What readers see: all marts, and up to where they stand."""
    rows = [
        connection.execute(f"select * from marts.{name} as mart order by mart::text".encode()).fetchall()
        for name in MARTS
    ]
    return [rows, connection.execute("select published_high, published_as_of from control.tick").fetchall()]


def assert_done_by_the_next(bank: Warehouse) -> None:
    bank.tick("2026-03-03 08:30")
    found = bank.marts()
    assert bank.rows("slo_performance", "outcome", "revisions", where="slo_id = 'charges'") == [
        ("on_time", 1)
    ]
    bank.tick("2026-03-03 08:30", rebuild=True)
    assert bank.marts() == found


@pytest.mark.parametrize(
    "relation",
    [
        pytest.param("work.int_job_run", id="between-work-tables"),
        pytest.param("marts.slo_performance", id="while-publishing"),
    ],
)
def test_a_tick_killed_by_the_system(bank: Warehouse, relation: str) -> None:
    with held(bank.settings, relation) as connection:
        before = published(connection)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, "2026-03-03T08:15:00Z"],
            env={**os.environ, **bank.settings.as_env(), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            waiting_backend(bank.settings, relation)
        finally:
            child.kill()
            child.wait()
        assert published(connection) == before
    # Its backends live on for a moment: the next tick bears with them.
    assert_done_by_the_next(bank)


@pytest.mark.parametrize(
    "relation", ["work.scope_job_date", "work.int_job_run", "marts.slo_job_run", "marts.slo_performance"]
)
def test_a_tick_whose_connection_is_cut(bank: Warehouse, relation: str) -> None:
    failures: list[Exception] = []

    def run() -> None:
        try:
            bank.tick("2026-03-03 08:15")
        except (DuemarkError, psycopg.Error) as error:
            failures.append(error)

    with held(bank.settings, relation) as connection:
        before = published(connection)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            backend = waiting_backend(bank.settings, relation)
            with connect(bank.settings, autocommit=True) as other:
                other.execute("select pg_terminate_backend(%s)", [backend])
        finally:
            thread.join(HUNG)
        assert published(connection) == before
    assert len(failures) == 1
    assert isinstance(failures[0], DbtError), failures[0]
    assert_done_by_the_next(bank)


def test_a_tick_that_dies_again_and_again_loses_nothing(bank: Warehouse) -> None:
    moments = ["2026-03-03 07:10", "2026-03-03 07:31", "2026-03-03 08:00", "2026-03-03 08:20"]
    for point, moment in zip(("publish", "begin", "scope", "dbt"), moments, strict=True):
        bank.killed_tick(utc(moment), point)
    assert bank.query("select published_as_of from control.tick") == [
        {"published_as_of": utc("2026-03-03 07:00")}
    ]
    assert_done_by_the_next(bank)


def test_a_rebuild_that_died_is_done_by_the_next_tick(bank: Warehouse) -> None:
    message = "slo_job_performance was not published"
    with bank.refusing_inserts("slo_job_performance"), pytest.raises(DbtError, match=message):
        bank.tick("2026-03-03 06:00", rebuild=True)
    report = bank.tick("2026-03-03 08:30")
    assert (report.low, report.is_rebuild) == (0, True)
    assert_done_by_the_next(bank)
