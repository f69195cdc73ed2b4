"""Versions of a KPI: hashes of what is said of it, and of what its values are made of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from pipelines.kpi.model import Kpi


def version(kpi: Kpi) -> str:
    """Hash of all that is said of the KPI."""
    content = dataclasses.asdict(kpi)
    for key in ("file", "line", "version", "value_version"):
        content.pop(key)
    return _hash(content)


def value_version(kpi: Kpi) -> str:
    """Hash of what its values are made of: where only a name or a threshold changed, they are the same."""
    keys = (
        "formula",
        "expression",
        "variables",
        "grains",
        "dimensions",
        "timezone",
        "fills_gaps",
        "retention",
    )
    content = dataclasses.asdict(kpi)
    return _hash({key: content[key] for key in keys})


def _hash(content: dict[str, Any]) -> str:
    for variable in content["variables"]:
        # Another column of the table is no other KPI.
        variable["source"].pop("columns")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
