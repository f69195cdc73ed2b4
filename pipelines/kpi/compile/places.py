"""Where what is generated stands in the effective dbt project."""

from __future__ import annotations

MODELS = "models/generated/kpi"
# What the engine has to know of the models, beside them.
PLAN = f"{MODELS}/kpis.json"
# Which models of values there are, for the lineage of the marts: in place of the core's, which names none.
LINEAGE = "macros/kpi/models.sql"


def model_file(name: str) -> str:
    """Where the text of a generated model stands."""
    return f"{MODELS}/{name}.sql"
