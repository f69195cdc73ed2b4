"""Self-proof: what stands is computed from the sources again, and a cell that differs is found and told of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pipelines.kpi.model import Window
from pipelines.kpi.proof import prove
from pipelines.warehouse.connect import connect
from tests.kpi.test_engine import MEDIAN, ON_TIME, ROLLING, define, kpi, run, variable
from tests.transform.support import Warehouse

__all__ = ["define"]

SO_FAR = replace(
    kpi(
        "so-far",
        '"n"',
        replace(variable("n", "sum", column="completed_job_count"), window=Window(to_date="month")),
    ),
    grains=("day",),
)
STANDING = kpi("standing", '"s"', replace(variable("s"), kind="snapshot"))


@pytest.fixture
def proved(warehouse: Warehouse, define: Callable[..., None]) -> Warehouse:
    """A warehouse with KPIs of every kind, whose proof is without fault."""
    define(ON_TIME, ROLLING, MEDIAN, SO_FAR, STANDING)
    run(warehouse, (1, "START"), (4, "SUCCEED"))
    warehouse.tick("2026-03-03 06:30")
    warehouse.tick("2026-03-06 12:00")
    return warehouse


def spoil(warehouse: Warehouse, statement: str) -> None:
    with connect(warehouse.settings, "transform", autocommit=True) as connection:
        assert connection.execute(statement.encode()).rowcount == 1, statement


def test_everything_that_stands_is_proved_and_noted(proved: Warehouse) -> None:
    proof = prove(proved.settings, periods=None)
    assert (proof.wrong, proof.wrong_count, proof.skipped) == ([], 0, {})
    counts = proved.query("select kpi_id, count(*)::integer as n from marts.kpi_value group by kpi_id")
    assert proof.cells == {row["kpi_id"]: row["n"] for row in counts}
    assert set(proof.cells) == {"on-time", "rolling", "median", "so-far", "standing"}
    row = proved.query(
        "select as_of::text, cells, wrong, detail from kpi.proof order by proof_id desc limit 1"
    )[0]
    assert (row["as_of"], row["cells"], row["wrong"]) == (
        "2026-03-06 12:00:00+00",
        sum(proof.cells.values()),
        0,
    )
    assert row["detail"]["cells"] == proof.cells


CHANGED = """
update kpi.period_value set value = value + 1 where kpi_id = 'on-time' and grain = 'month' and dimension_key = ''
"""
MISSING = (
    "delete from kpi.period_value where kpi_id = 'median' and period = '2026-03-02' and dimension_key = ''"
)
TOO_MANY = """
insert into kpi.period_value (kpi_id, grain, period_start, dimension_key, period_end, start_date, period, dimensions,
    components, value, definition_version, computed_load_id)
select kpi_id, grain, period_start, member::text, period_end, start_date, period, member, components, value,
    definition_version, computed_load_id
from kpi.period_value, jsonb_build_object('application', 'nobody') as member
where kpi_id = 'standing' and grain = 'month' and dimension_key = ''
"""
EMPTIED = "update kpi.period_value set value = null where kpi_id = 'rolling' and period = '2026-03-02'"


@pytest.mark.parametrize(
    ("statement", "kpi_id", "stands", "proves"),
    [
        (CHANGED, "on-time", True, True),
        (MISSING, "median", False, True),
        (TOO_MANY, "standing", True, False),
        (EMPTIED, "rolling", False, True),
    ],
)
def test_a_cell_that_is_wrong_is_found(
    proved: Warehouse, statement: str, kpi_id: str, stands: bool, proves: bool
) -> None:
    spoil(proved, statement)
    proof = prove(proved.settings, periods=None)
    assert (proof.wrong_count, [one.kpi_id for one in proof.wrong]) == (1, [kpi_id])
    wrong = proof.wrong[0]
    assert (wrong.stands is not None, wrong.proved is not None) == (stands, proves)
    assert proved.query("select wrong, detail from kpi.proof order by proof_id desc limit 1")[0]["wrong"] == 1


def test_a_state_that_is_wrong_is_found_by_its_values(proved: Warehouse) -> None:
    # The log of what was touched is bypassed: as if a trigger had been off.
    with connect(proved.settings) as connection:
        connection.execute("alter table marts.slo_performance disable trigger user")
        connection.execute("update marts.slo_performance set completed_job_count = completed_job_count + 1")
        connection.execute("alter table marts.slo_performance enable trigger user")
    proof = prove(proved.settings, periods=None)
    assert {one.kpi_id for one in proof.wrong} == {"so-far"}
    sample = prove(proved.settings)
    assert sample.wrong_count > 0


def test_what_was_touched_since_is_no_fault(proved: Warehouse) -> None:
    with connect(proved.settings) as connection:
        connection.execute(
            "update marts.slo_performance set completed_job_count = completed_job_count + 1"
            " where business_date = '2026-03-02'"
        )
    proof = prove(proved.settings, periods=None)
    assert proof.wrong_count == 0
    assert proof.cells["on-time"] > 0
    assert "rolling" not in proof.cells
