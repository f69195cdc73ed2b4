"""Active minutes: ten for each slot of ten minutes, counted from the first request of the hour, that has a request."""

from pipelines.metrics.registry import Indicator

ACTIVE_MINUTES = "10 * count(distinct (minute - first_minute) / 10)"

INDICATORS = (
    Indicator(1005, "TotalUsageOverall", ("package_request",), ACTIVE_MINUTES),
    Indicator(1006, "TotalUsageByPackage", ("package_request",), ACTIVE_MINUTES, is_by_dimension=True),
)
