"""The warehouse of tests/transform, for copies."""

from tests.transform.conftest import deployed, warehouse

__all__ = ["deployed", "warehouse"]
