"""Migrations are one row, each with a number of its own: two that were written side by side must not share one."""

from __future__ import annotations

import re
from pathlib import Path

VERSIONS = Path(__file__).resolve().parents[2] / "pipelines" / "warehouse" / "migrations" / "versions"


def test_each_follows_the_one_before_it() -> None:
    found = []
    for path in sorted(VERSIONS.glob("v*.py")):
        text = path.read_text("utf-8")
        number = re.search(r'^revision = "(\d{4})"$', text, re.MULTILINE)
        before = re.search(r'^down_revision(?:: str \| None)? = (?:"(\d{4})"|None)$', text, re.MULTILINE)
        assert number is not None, path.name
        assert before is not None, path.name
        assert path.name.startswith(f"v{number[1]}_")
        found.append((before[1], number[1]))
    numbers = [f"{number:04}" for number in range(1, len(found) + 1)]
    assert found == list(zip([None, *numbers], numbers, strict=False))
