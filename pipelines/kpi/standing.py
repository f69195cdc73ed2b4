"""Whether a KPI is well: statuses and thresholds, and for how long a closed period still tells of now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from pipelines.kpi.grains import LENGTHS

# A period that ended longer ago says nothing of now: that of a member that is no more, of a source that stopped.
RECENT = timedelta(days=3)
TOTAL = ""
"""The dimension key of the total."""
TROUBLE = {"critical": 0, "warning": 1}
"""Statuses that need attention, the worst first."""


def is_recent(grain: str, end: datetime, as_of: datetime) -> bool:
    """Whether a closed period that ended then still tells how things stand."""
    return end > as_of - max(RECENT, 2 * LENGTHS.get(grain, RECENT))


@dataclass(frozen=True)
class Threshold:
    """Bounds as the definition has them; `band` has pairs."""

    direction: str
    warning: tuple[Decimal, ...] = ()
    critical: tuple[Decimal, ...] = ()

    @classmethod
    def from_json(cls, given: Any) -> Threshold | None:
        """Of `kpi_definition.thresholds`: a direction, and of each level a number or several; None where is none."""
        if not isinstance(given, Mapping) or not given:
            return None
        return cls(
            str(given.get("direction") or "higher"),
            _numbers(given.get("warning")),
            _numbers(given.get("critical")),
        )


def _numbers(given: Any) -> tuple[Decimal, ...]:
    many = given if isinstance(given, list) else [] if given is None else [given]
    return tuple(Decimal(str(bound)) for bound in many)


def dimensions_said(dimensions: Any) -> str:
    """`plan none, region north` of {"region": "north", "plan": null}; empty for the total."""
    if not isinstance(dimensions, Mapping):
        return ""
    return ", ".join(
        f"{name} {'none' if value is None else value}" for name, value in sorted(dimensions.items())
    )
