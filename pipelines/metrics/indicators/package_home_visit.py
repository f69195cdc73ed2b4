"""How often the home of each package was visited."""

from pipelines.metrics.registry import Indicator

INDICATORS = (
    Indicator(1001, "PackageHomeVisit", ("package_home_visit",), "sum(amount)", is_by_dimension=True),
)
