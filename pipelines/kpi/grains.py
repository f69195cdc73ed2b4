"""The grains, and how far it is from one of their periods to the next one. What else has to know takes it from here."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, get_args

Grain = Literal["hour", "day", "week", "month", "quarter", "year"]
GRAINS: tuple[Grain, ...] = get_args(Grain)
"""From the finest to the coarsest."""

STEPS = {
    "hour": "1 hour",
    "day": "1 day",
    "week": "7 days",
    "month": "1 month",
    "quarter": "3 months",
    "year": "1 year",
}


def step_of(grain: str) -> str:
    """SQL interval from a period's start to the next one's."""
    return f"interval '{STEPS[grain]}'"


def step_by(column: str) -> str:
    """The same, by a column that holds the grain."""
    cases = " ".join(f"when '{grain}' then {step_of(grain)}" for grain in STEPS)
    return f"case {column} {cases} end"


def step_for_dbt() -> str:
    """`step_by` for a macro, which puts the column in place of `:grain`."""
    return step_by(":grain")


LENGTHS: dict[str, timedelta] = {
    "hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=31),
    "quarter": timedelta(days=92), "year": timedelta(days=366),
}  # fmt: skip
"""How long a period of each grain is at the most."""
