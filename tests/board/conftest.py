"""The warehouse of tests/transform, with KPIs as tests/kpi defines them."""

from __future__ import annotations

import pytest

from pipelines.warehouse.connect import connect
from tests.kpi.test_engine import define
from tests.transform.conftest import deployed, warehouse
from tests.transform.support import Warehouse

__all__ = ["define", "deployed", "no_incidents", "warehouse"]


@pytest.fixture
def no_incidents(warehouse: Warehouse) -> Warehouse:
    """The same, and nothing was ever judged."""
    with connect(warehouse.settings) as connection:
        connection.execute("truncate ops.incident, ops.alert_outbox, ops.notice")
        connection.execute("delete from ops.evaluation")
        connection.execute("insert into ops.evaluation default values")
    return warehouse
