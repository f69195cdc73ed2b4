"""What is sound of a definition that is not: looked at too, so that all that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from pipelines.catalog import kpis as entries
from pipelines.catalog.read import Declared
from pipelines.kpi.definitions.formula import WithFormula
from pipelines.kpi.definitions.known import Known


def look_at_remains(known: Known, item: Declared[entries.KpiEntry]) -> None:
    """Tell what is wrong with the formula, beyond what kept the definition from being read."""
    raw = item.raw.get("formula")
    if not isinstance(raw, dict) or raw.get("type") not in ("simple", "composite"):
        return
    text, given = raw.get("expression"), raw.get("variables")
    if isinstance(given, list):
        given = {
            one["name"]: {k: v for k, v in one.items() if k != "name"} for one in given if _is_named(one)
        }
    if not isinstance(text, str) or not text or not isinstance(given, dict):
        return
    variables = {str(name): dict(one) for name, one in given.items() if _reads(entries.KpiVariable, one)}
    sound = {
        key: item.raw[key]
        for key in ("id", "dimensions", "shared_dimensions", "filters", "aggregations")
        if key in item.raw and _reads(entries.KpiEntry, _bare({key: item.raw[key]}), key)
    }
    # Dimensions of a variable that are none of the KPI's are told already.
    own = sound.get("dimensions")
    for one in variables.values():
        named = one.get("dimensions") or {}
        one["dimensions"] = {k: v for k, v in named.items() if isinstance(own, list) and k in own}
    kind = "simple" if raw["type"] == "simple" and len(given) == 1 else "composite"
    content = _bare(sound) | {"formula": {"type": kind, "expression": text, "variables": variables}}
    try:
        model = entries.KpiEntry.model_validate(content)
    except ValueError:
        return
    unread = tuple(str(name) for name in given if str(name) not in variables)
    WithFormula(known, item, model, unread=unread).resolved()


def _is_named(one: object) -> bool:
    return isinstance(one, dict) and isinstance(one.get("name"), str)


def _bare(keys: Mapping[str, Any]) -> dict[str, Any]:
    """A definition that is sound but for these keys, and the formula's."""
    return {
        "id": "x", "category": "custom", "description": "x", "aggregations": ["day"],
        "formula": {"type": "simple", "expression": "x", "variables": {"x": {"kpi": "x"}}},
    } | dict(keys)  # fmt: skip


def _reads(model: type[BaseModel], content: object, key: str = "") -> bool:
    """Whether it is sound, or at least what stands under `key`."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        return bool(key) and not any(key in fault["loc"] for fault in error.errors())
    return True
