"""The grains, and how long a period is at the most; SQL of periods stands in `dbt_project/macros/kpi/grains.sql`."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, get_args

Grain = Literal["hour", "day", "week", "month", "quarter", "year"]
GRAINS: tuple[Grain, ...] = get_args(Grain)
"""From the finest to the coarsest."""

LENGTHS: dict[str, timedelta] = {
    "hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=31),
    "quarter": timedelta(days=92), "year": timedelta(days=366),
}  # fmt: skip
"""How long a period of each grain is at the most."""
