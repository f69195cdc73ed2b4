"""The one list of subjects. Importing it hands the list in to the layers below."""

from __future__ import annotations

import functools
import os
from pkgutil import resolve_name

from pipelines.copies.subject import COPIES
from pipelines.errors import DuemarkError
from pipelines.kpi.subject import KPI
from pipelines.metrics.subject import METRICS
from pipelines.slo.subject import SLO
from pipelines.subject import Subject, Subjects, hand_in

PLUGINS = "DUEMARK_PLUGINS"

# In the order in which they prepare, publish and forget. Copies and indicators come before promises, which look no
# further than at the loads there are by then; KPIs forget what metrics have purged.
HOUSE = (COPIES, METRICS, SLO, KPI)


@functools.cache
def subjects() -> Subjects:
    """Those of the house, and those that DUEMARK_PLUGINS names. Raises DuemarkError where one of these can't be had."""
    return Subjects((*HOUSE, *plugins(os.environ.get(PLUGINS, ""))))


def plugins(names: str) -> list[Subject]:
    """The subjects at `package.module:NAME`, separated by commas."""
    return [_plugin(name.strip()) for name in names.split(",") if name.strip()]


def _plugin(name: str) -> Subject:
    try:
        found = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise DuemarkError(
            f"{PLUGINS} names {name!r}, which cannot be imported: {error}",
            "Write package.module:NAME of a Subject that is installed, or take it out.",
        ) from error
    if not isinstance(found, Subject):
        raise DuemarkError(
            f"{PLUGINS} names {name!r}, which is no Subject but {type(found).__name__}.",
            "Write package.module:NAME of a pipelines.subject.Subject.",
        )
    return found


hand_in(subjects)
