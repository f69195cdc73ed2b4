"""docs/marts.md is what the yml of the marts says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.errors import DuemarkError
from pipelines.reference import BEGIN, END, PAGE, renewed
from pipelines.transform.project import manifest_json
from pipelines.warehouse.settings import ROOT, Settings


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8")
    manifest = manifest_json(replace(Settings.from_env({}), home=tmp_path))
    assert renewed(text, manifest) == text, "renew it: .venv/bin/python -m pipelines.reference"


def test_every_public_mart_has_its_chapter_and_is_in_the_overview() -> None:
    overview, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    made = rest.partition(END)[0]
    chapters = set(re.findall(r"^### (\w+)$", made, re.MULTILINE))
    assert chapters == {path.stem for path in (ROOT / "dbt_project" / "models" / "marts").rglob("*.yml")}
    assert {name for name in chapters if f"](#{name})" not in overview} == set()


def test_a_page_that_lost_a_mark_is_refused() -> None:
    with pytest.raises(DuemarkError, match="has lost a mark"):
        renewed(f"{BEGIN}\nno end", {"nodes": {}})
    assert (
        renewed(f"before\n{BEGIN}\nold\n{END}\nafter\n", {"nodes": {}})
        == f"before\n{BEGIN}\n\n\n\n{END}\nafter\n"
    )
