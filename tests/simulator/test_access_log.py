"""Simulated logs: the same bytes every time, and the records that come of them are the truth beside them."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.cli import main
from pipelines.landing.ingest import ingest
from pipelines.simulator import simulate
from pipelines.transform.tick import tick
from pipelines.warehouse.settings import ROOT
from tests.transform.conftest import deployed as deployed
from tests.transform.support import Warehouse


@pytest.mark.parametrize("catalog", [None, ROOT / "catalog"])
def test_the_truth_is_what_comes_of_it(deployed: Warehouse, tmp_path: Path, catalog: Path | None) -> None:
    deployed.reset()
    summary = simulate(tmp_path, 3, 6, 7, catalog=catalog, requests=150, bad_records=0)
    with (tmp_path / "truth" / "indicator_record.csv").open(encoding="utf-8") as lines:
        truth = {
            (int(row["indicator_id"]), datetime.fromisoformat(row["hour_at"]), row["dimension"]): int(
                row["value"]
            )
            for row in csv.DictReader(lines)
        }
    assert {key[0] for key in truth} == {1001, 1003, 1004, 1005, 1006}
    settings = replace(
        deployed.settings, catalog=catalog or tmp_path / "catalog", landing=str(tmp_path / "landing")
    )
    report = ingest(settings, feeds=["metric_log", "uptime"])
    assert sum(outcome.rejected_count for outcome in report.files) > 0
    deployed.project.settings = settings
    try:
        tick(deployed.project, datetime.fromisoformat(summary.as_of))
    finally:
        deployed.project.settings = deployed.settings
    rows = deployed.query("select indicator_id, hour_at, dimension_key, value from marts.indicator_record")
    found = {
        (row["indicator_id"], row["hour_at"].astimezone(UTC), row["dimension_key"]): row["value"]
        for row in rows
    }
    assert found == truth


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    files: list[dict[str, bytes]] = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        simulate(folder, 2, 3, 5, requests=40)
        files.append(
            {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file()
            }
        )
    assert files[0] == files[1]
    assert any(name.endswith(".json.gz") for name in files[0])
    # A smaller one leaves nothing of the bigger one behind.
    simulate(tmp_path / "a", 2, 2, 5)
    assert not list((tmp_path / "a").rglob("metric_log/*"))


def test_requests_on_the_command_line(tmp_path: Path) -> None:
    shown = CliRunner().invoke(
        main, ["simulate", str(tmp_path), "--jobs", "2", "--days", "2", "--requests", "30"]
    )
    assert shown.exit_code == 0, shown.output
    logs = [path.name for path in (tmp_path / "landing" / "metric_log").iterdir()]
    assert "access.json" in logs
    assert len(list((tmp_path / "landing" / "uptime").iterdir())) == len(logs)
