"""The warehouse of tests/transform, for KPIs."""

from tests.transform.conftest import deployed, warehouse

__all__ = ["deployed", "warehouse"]
