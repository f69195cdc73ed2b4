"""dbt's own tests: unit tests beside the models, and data tests on marts that hold something."""

from __future__ import annotations

from pipelines.warehouse.connect import connect
from tests.grants import differences
from tests.transform.support import Warehouse


def test_unit_tests_of_the_models(deployed: Warehouse) -> None:
    results = deployed.project.test(unit=True)
    assert len(results) >= 9
    assert {result.unique_id: result.message for result in results if result.status != "pass"} == {}


def test_data_tests_of_the_marts(warehouse: Warehouse) -> None:
    results = warehouse.project.test()
    assert len(results) >= 1
    assert {result.unique_id: result.message for result in results if result.status != "pass"} == {}


def test_a_deploy_grants_what_is_said(deployed: Warehouse) -> None:
    with connect(deployed.settings) as connection:
        assert differences(connection) == []
