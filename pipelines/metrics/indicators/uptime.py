"""Minutes of the hour in which the watched service lived, 0 to 60."""

from pipelines.metrics.registry import Indicator

INDICATORS = (Indicator(1004, "Uptime", ("heartbeat",), "count(distinct minute)"),)
