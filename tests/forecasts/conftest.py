"""The deployed warehouse of the transform's tests."""

from tests.transform.conftest import deployed, warehouse

__all__ = ["deployed", "warehouse"]
