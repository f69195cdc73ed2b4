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
from pipelines.subject import Subject, Subjects, using
from pipelines.transform.deploy import deploy_alone
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.evaluate import evaluate
from tests.conftest import fresh_home

OUTSIDE = Path(__file__).parent / "outside"
HEADER = "article,counted_at,quantity\n"
Row = tuple[Any, ...]


@pytest.fixture(scope="module")
def subjects() -> Iterator[Subjects]:
    """Those of the house, and the one from outside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(OUTSIDE))
        all_of_them = Subjects((*pipelines.subjects.HOUSE, import_module("stock.subject").SUBJECT))
        with using(all_of_them):
            yield all_of_them


@pytest.fixture(scope="module")
def project(
    server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory, subjects: Subjects
) -> Iterator[Project]:
    """A home without a catalog, deployed with the subject's tables and models."""
    assert subjects
    folder = tmp_path_factory.mktemp("recipe")
    with fresh_home(server_url, template, folder) as settings:
        for inner in ("catalog", "landing/stock_count"):
            (folder / inner).mkdir()
        project = Project(replace(settings, catalog=folder / "catalog"))
        deploy_alone(project)
        yield project


@pytest.fixture
def drop(project: Project) -> Callable[[str, str], None]:
    """Land a file of counts, and load it."""

    def land(name: str, lines: str) -> None:
        path = Path(project.settings.landing) / "stock_count" / name
        path.write_text(HEADER + lines, "utf-8")
        ingest(project.settings)

    return land


def rows(settings: Settings, query: str) -> list[Row]:
    with connect(settings, "analyst") as connection:
        return connection.execute(query.encode()).fetchall()


LEVELS = "select article, quantity, counted_at from marts.stock_level order by article"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_subject_from_outside_lands_ticks_and_rebuilds(
    project: Project, subjects: Subjects, drop: Callable[[str, str], None]
) -> None:
    home = project.settings
    drop("1.csv", "nuts,2026-03-02T06:00Z,5\nbolts,2026-03-02T06:00Z,7\nnails,yesterday,7\n")
    assert rows(home, "select record_count, rejected_count from marts.landed_file") == [(2, 1)]
    report = tick(project, at("2026-03-02 07:00"), subjects=subjects)
    assert "stock_level" in {one.name for one in report.publications}
    assert [row[:2] for row in rows(home, LEVELS)] == [("bolts", 7), ("nuts", 5)]
    # A late count, and one of a moment to come.
    drop("2.csv", "nuts,2026-03-02T05:00Z,9\nbolts,2026-03-02T08:00Z,0\nnuts,2026-03-02T12:00Z,1\n")
    tick(project, at("2026-03-02 09:00"), subjects=subjects)
    assert [row[:2] for row in rows(home, LEVELS)] == [("bolts", 0), ("nuts", 5)]
    tick(project, at("2026-03-02 13:00"), subjects=subjects)
    told = rows(home, LEVELS)
    assert [row[:2] for row in told] == [("bolts", 0), ("nuts", 1)]
    tick(project, at("2026-03-02 13:00"), rebuild=True, subjects=subjects)
    assert rows(home, LEVELS) == told


def test_its_incidents_open_and_end(project: Project, drop: Callable[[str, str], None]) -> None:
    home = project.settings
    drop("3.csv", "screws,2026-03-02T13:30Z,0\n")
    tick(project, at("2026-03-02 14:00"))
    evaluate(home, at("2026-03-02 14:01"))
    query = (
        "select kind, message, resolution, resolved_at is null from ops.incident where subject = 'screws'"
        " order by incident_id"
    )
    message = "There was no screws when it was last counted. Order some."
    assert rows(home, query) == [("out_of_stock", message, None, True)]
    assert evaluate(home, at("2026-03-02 14:02")).opened == 0
    drop("4.csv", "screws,2026-03-02T14:30Z,3\n")
    tick(project, at("2026-03-02 15:00"))
    assert evaluate(home, at("2026-03-02 15:01")).resolved == 1
    assert rows(home, query) == [("out_of_stock", "It is in stock again.", "in_stock", False)]


def test_its_assets_are_in_the_definitions(project: Project, subjects: Subjects) -> None:
    from pipelines.definitions import build_defs

    with using(subjects):
        defs = build_defs(project.settings, subjects=subjects)
    keys = defs.resolve_all_asset_keys()
    for key in (["raw", "stock_count"], ["work", "scope_article"], ["marts", "stock_level"]):
        assert dg.AssetKey(key) in keys
    assert dg.AssetKey(["marts", "slo_performance"]) in keys


def test_a_plugin_is_named_by_a_setting(project: Project) -> None:
    home = project.settings
    path = Path(home.landing) / "stock_count" / "5.csv"
    path.write_text(HEADER + "washers,2026-03-02T15:30Z,2\n", "utf-8")
    environment = {
        **home.as_env(), "PATH": "", "PYTHONPATH": str(OUTSIDE), "DUEMARK_PLUGINS": "stock.subject",
    }  # fmt: skip

    def duemark(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        program = "from pipelines.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", program, *arguments], env={**environment, **changes}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    assert duemark("ingest").returncode == 0
    ticked = duemark("tick", "--as-of", "2026-03-02T16:00:00Z")
    assert ticked.returncode == 0, ticked.stderr
    question = "select quantity from marts.stock_level where article = 'washers'"
    answer = duemark("sql", question, "--format", "json")
    assert json.loads(answer.stdout) == [{"quantity": 2}]
    refused = duemark("tick", DUEMARK_PLUGINS="stock.nothing")
    assert refused.returncode != 0
    assert "DUEMARK_PLUGINS names 'stock.nothing', which cannot be imported: " in refused.stderr
    assert "Traceback" not in refused.stderr


def test_no_two_of_one_name() -> None:
    with pytest.raises(DuemarkError, match="Two subjects are called slo"):
        Subjects((*pipelines.subjects.HOUSE, Subject("slo")))
