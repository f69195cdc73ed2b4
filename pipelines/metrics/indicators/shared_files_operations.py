"""Files created and deleted."""

from pipelines.metrics.registry import Indicator

INDICATORS = (
    Indicator(1003, "SharedFilesOperations", ("file_operation",), "sum(amount)", is_by_dimension=True),
)
