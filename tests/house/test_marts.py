"""What every mart promises in its contract; dbt-bouncer checks constraints of dbt's own materialisations only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

MARTS = Path(__file__).resolve().parents[2] / "dbt_project" / "models" / "marts"


def contract(page: Path) -> dict[str, Any]:
    (model,) = YAML(typ="safe").load(page.read_text("utf-8"))["models"]
    assert model["name"] == page.stem
    return dict(model)


def has_no_rows(page: Path, model: dict[str, Any]) -> bool:
    """A view, or a function: nothing is stored that a key could hold."""
    sql = page.with_suffix(".sql").read_text("utf-8")
    given = model.get("config", {}).get("materialized")
    return any(given == kind or f'materialized="{kind}"' in sql for kind in ("view", "table_function"))


def constraints(model: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """(type, columns) of every constraint, of the model and of its columns."""
    found = [(each["type"], list(each.get("columns", []))) for each in model.get("constraints", [])]
    for column in model["columns"]:
        found += [(each["type"], [column["name"]]) for each in column.get("constraints", [])]
    return found


@pytest.mark.parametrize("page", sorted(MARTS.rglob("*.yml")), ids=lambda page: page.stem)
def test_a_mart_has_one_primary_key_that_is_never_null(page: Path) -> None:
    model = contract(page)
    if has_no_rows(page, model):
        return
    found = constraints(model)
    keys = [columns for kind, columns in found if kind == "primary_key"]
    assert len(keys) == 1, "a mart table has exactly one primary key"
    not_null = {column for kind, columns in found if kind == "not_null" for column in columns}
    assert set(keys[0]) <= not_null, "what identifies a row is not_null in the contract too"
    # One mart may be rebuilt without the other: the pipeline keeps references, the database does not.
    assert "foreign_key" not in {kind for kind, _ in found}


@pytest.mark.parametrize("page", sorted(MARTS.rglob("*.yml")), ids=lambda page: page.stem)
def test_a_mart_describes_itself_and_each_column(page: Path) -> None:
    model = contract(page)
    silent = [column["name"] for column in model["columns"] if not str(column.get("description", "")).strip()]
    assert model["description"].strip()
    assert silent == []


def test_every_mart_has_its_page() -> None:
    assert {path.stem for path in MARTS.rglob("*.sql")} == {path.stem for path in MARTS.rglob("*.yml")}
