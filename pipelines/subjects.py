"""The one list of subjects. Importing it hands the list in to the layers below."""

from __future__ import annotations

import functools

from pipelines import plugins
from pipelines.copies.subject import COPIES
from pipelines.errors import DuemarkError
from pipelines.forecasts.subject import FORECASTS
from pipelines.kpi.subject import KPI
from pipelines.metrics.subject import METRICS
from pipelines.slo.subject import SLO
from pipelines.subject import Subject, Subjects, hand_in

# In the order in which they prepare, publish and forget. Copies and indicators come before promises, which look no
# further than at the loads there are by then; KPIs forget what metrics have purged. Forecasts stand on SLOs.
HOUSE = (COPIES, METRICS, SLO, FORECASTS, KPI)


def subjects() -> Subjects:
    """Those of the house and those of plugins. Raises DuemarkError where one of these cannot be had."""
    return _subjects(plugins.named())


@functools.lru_cache(maxsize=4)
def _subjects(names: tuple[str, ...]) -> Subjects:
    return Subjects((*HOUSE, *(subject for name in names for subject in _of_plugin(name))))


def _of_plugin(name: str) -> list[Subject]:
    found = getattr(plugins.module(name), "SUBJECT", None)
    if found is None:
        # It brings something else.
        return []
    if not isinstance(found, Subject):
        raise DuemarkError(
            f"{name}.SUBJECT is no Subject but {type(found).__name__}.",
            "See pipelines.subject for what it has to be.",
        )
    return [found]


hand_in(subjects)
