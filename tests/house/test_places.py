"""CONTRIBUTING says where things are decided: each of these places exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PLACE = re.compile(r"`((?:pipelines|sensors|dbt_project|tests|docs)(?:/[\w.]+)+)(?::(\w+))?`")


def places() -> list[tuple[str, str]]:
    """(path, name within it or empty) of every place that the page names."""
    return sorted(set(PLACE.findall(PAGE)))


@pytest.mark.parametrize(("path", "name"), places(), ids=lambda text: text or "-")
def test_a_place_that_is_named_exists(path: str, name: str) -> None:
    place = ROOT / path
    assert place.exists()
    if name:
        tree = ast.parse(place.read_text("utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for node in tree.body:
            if isinstance(node, ast.Assign):
                defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                defined.add(node.target.id)
        assert name in defined


def test_the_page_answers_what_is_asked_most() -> None:
    """Where is late decided, an alert's text made, a KPI's SQL; how to add a feed, a mart, an incident, a subject."""
    for words in (
        "What is late?",
        "Where is an alert's text made?",
        "Where is a KPI's SQL?",
        "### A feed",
        "### A mart",
        "### A kind of incident",
        "### A subject",
    ):
        assert words in PAGE
