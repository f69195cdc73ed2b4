"""The steps of grains: how far it is from a period to the next one. What else has to know takes it from here."""

from __future__ import annotations

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
