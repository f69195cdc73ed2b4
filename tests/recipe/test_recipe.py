"""The recipe of CONTRIBUTING, followed by a subject from outside of the package: it lands, ticks, rebuilds, tells."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import pipelines.subjects
from pipelines.errors import DuemarkError
from pipelines.landing.ingest import ingest
from pipelines.subject import Subject, Subjects, hand_in, using
from pipelines.transform.deploy import deploy_alone
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.evaluate import evaluate

OUTSIDE = Path(__file__).parent / "outside"
HEADER = "article,counted_at,quantity\n"
Row = tuple[Any, ...]


@pytest.fixture
def subjects(monkeypatch: pytest.MonkeyPatch) -> Iterator[Subjects]:
    """Those of the house, and the one from outside."""
    monkeypatch.syspath_prepend(str(OUTSIDE))
    all_of_them = Subjects((*pipelines.subjects.HOUSE, import_module("stock.subject").SUBJECT))
    with using(all_of_them):
        yield all_of_them


@pytest.fixture
def home(settings: Settings, tmp_path: Path) -> Settings:
    """A home without a catalog."""
    (tmp_path / "catalog").mkdir()
    return replace(settings, catalog=tmp_path / "catalog")


@pytest.fixture
def drop(home: Settings) -> Callable[[str, str], Path]:
    """Land a file of counts."""
    folder = Path(home.landing) / "stock_count"
    folder.mkdir()

    def land(name: str, lines: str) -> Path:
        path = folder / name
        path.write_text(HEADER + lines, "utf-8")
        return path

    return land


def rows(settings: Settings, query: str) -> list[Row]:
    with connect(settings, "analyst") as connection:
        return connection.execute(query.encode()).fetchall()


LEVELS = "select article, quantity, counted_at from marts.stock_level order by article"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_subject_from_outside_lands_ticks_and_rebuilds(
    home: Settings, subjects: Subjects, drop: Callable[[str, str], Path]
) -> None:
    project = Project(home)
    deploy_alone(project)
    drop("1.csv", "nuts,2026-03-02T06:00Z,5\nbolts,2026-03-02T06:00Z,7\nnails,yesterday,7\n")
    (first,) = ingest(home).files
    assert (first.record_count, first.rejected_count) == (2, 1)
    report = tick(project, at("2026-03-02 07:00"), subjects=subjects)
    assert "stock_level" in {one.name for one in report.publications}
    assert [row[:2] for row in rows(home, LEVELS)] == [("bolts", 7), ("nuts", 5)]
    # A late count, an early one, one of a moment to come, and a file that is taken out again.
    drop("2.csv", "nuts,2026-03-02T05:00Z,9\nbolts,2026-03-02T08:00Z,0\nnuts,2026-03-02T12:00Z,1\n")
    ingest(home)
    tick(project, at("2026-03-02 09:00"), subjects=subjects)
    assert [row[:2] for row in rows(home, LEVELS)] == [("bolts", 0), ("nuts", 5)]
    tick(project, at("2026-03-02 13:00"), subjects=subjects)
    told = rows(home, LEVELS)
    assert [row[:2] for row in told] == [("bolts", 0), ("nuts", 1)]
    tick(project, at("2026-03-02 13:00"), rebuild=True, subjects=subjects)
    assert rows(home, LEVELS) == told


@pytest.mark.usefixtures("subjects")
def test_its_incidents_open_and_end(home: Settings, drop: Callable[[str, str], Path]) -> None:
    project = Project(home)
    deploy_alone(project)
    drop("1.csv", "bolts,2026-03-02T06:00Z,0\nnuts,2026-03-02T06:00Z,5\n")
    ingest(home)
    tick(project, at("2026-03-02 07:00"))
    assert evaluate(home, at("2026-03-02 07:01")).opened == 1
    query = "select kind, subject, message, resolution, resolved_at is null from ops.incident order by incident_id"
    assert rows(home, query) == [
        ("out_of_stock", "bolts", "There was no bolts when it was last counted. Order some.", None, True)
    ]
    assert evaluate(home, at("2026-03-02 07:02")).opened == 0
    drop("2.csv", "bolts,2026-03-02T08:00Z,3\n")
    ingest(home)
    tick(project, at("2026-03-02 09:00"))
    assert evaluate(home, at("2026-03-02 09:01")).resolved == 1
    assert rows(home, query)[0][3:] == ("in_stock", False)


def test_its_assets_are_in_the_definitions(home: Settings, subjects: Subjects) -> None:
    from pipelines.definitions import build_defs

    try:
        defs = build_defs(home, subjects=subjects)
    finally:
        hand_in(pipelines.subjects.subjects)
    keys = defs.resolve_all_asset_keys()
    for key in (["raw", "stock_count"], ["work", "scope_article"], ["marts", "stock_level"]):
        assert dg.AssetKey(key) in keys
    assert dg.AssetKey(["marts", "slo_performance"]) in keys


def test_a_plugin_is_named_by_a_setting(home: Settings, drop: Callable[[str, str], Path]) -> None:
    drop("1.csv", "nuts,2026-03-02T06:00Z,5\n")
    environment = {
        **home.as_env(), "PATH": "", "PYTHONPATH": str(OUTSIDE), "DUEMARK_PLUGINS": "stock.subject",
    }  # fmt: skip

    def duemark(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        program = "from pipelines.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", program, *arguments], env={**environment, **changes}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    assert duemark("deploy").returncode == 0
    assert duemark("ingest").returncode == 0
    ticked = duemark("tick", "--as-of", "2026-03-02T07:00:00Z")
    assert ticked.returncode == 0, ticked.stderr
    answer = duemark("sql", "select article, quantity from marts.stock_level", "--format", "json")
    assert json.loads(answer.stdout) == [{"article": "nuts", "quantity": 5}]
    refused = duemark("tick", DUEMARK_PLUGINS="stock.nothing")
    assert refused.returncode != 0
    assert "DUEMARK_PLUGINS names 'stock.nothing', which cannot be imported: " in refused.stderr
    assert "Traceback" not in refused.stderr


def test_no_two_of_one_name() -> None:
    with pytest.raises(DuemarkError, match="Two subjects are called slo"):
        Subjects((*pipelines.subjects.HOUSE, Subject("slo")))
