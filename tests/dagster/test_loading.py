"""What loading the definitions costs: no parse, no connection, nothing heavy that only a run needs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.catalog.graph import job_graph
from pipelines.definitions import build_defs
from pipelines.transform.project import manifest_json, target_folder
from pipelines.warehouse.settings import Settings

PROGRAM = """
import json, sys
import pipelines.definitions
print(json.dumps(sorted(sys.modules)))
"""
# dbt's command line and parser, and what reads files: runs need them.
ONLY_RUNS = {
    "dbt.cli.main",
    "dbt.parser.manifest",
    "pandas",
    "pyarrow",
    "holidays",
    "fsspec",
    "alembic.command",
}


def test_importing_the_definitions_parses_nothing_and_connects_to_nothing(
    nowhere: Callable[..., Settings],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        settings = nowhere(database_url=f"postgresql://nobody@127.0.0.1:{server.getsockname()[1]}/duemark")
        manifest_json(settings)
        job_graph(settings)
        written = (target_folder(settings) / "manifest.json").stat().st_mtime_ns
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | settings.as_env(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        with pytest.raises(BlockingIOError):
            server.accept()
    assert ONLY_RUNS & set(json.loads(run.stdout.splitlines()[-1])) == set()
    assert (target_folder(settings) / "manifest.json").stat().st_mtime_ns == written


def test_a_changed_project_is_parsed_again(nowhere: Callable[..., Settings], tmp_path: Path) -> None:
    project = tmp_path / "dbt_project"
    source = nowhere().dbt_project
    for path in source.rglob("*"):
        if path.is_file() and not {"target", "logs"} & set(path.relative_to(source).parts):
            copy = project / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    settings = nowhere(dbt_project=project)
    assert "model.duemark.extra" not in manifest_json(settings)["nodes"]
    (project / "models" / "staging" / "slo" / "extra.sql").write_text("select 1 as one\n")
    assert "model.duemark.extra" in manifest_json(settings)["nodes"]


def catalog_of(folder: Path, jobs: int) -> Path:
    """A chain of jobs in each of ten applications, with an SLO for every fifth."""
    applications = [f"app-{number}" for number in range(10)]
    texts = {
        "applications": [
            f"  - {{id: {name}, timezone: Europe/Rome, owner: 'team:{name}'}}" for name in applications
        ],
        "calendars": ["  - {id: daily, weekdays: [mon, tue, wed, thu, fri, sat, sun]}"],
        "jobs": [
            f"  - {{id: job-{number}, application: app-{number % 10}"
            + (f", depends_on: [job-{number - 10}]" if number >= 10 else "")
            + "}"
            for number in range(jobs)
        ],
        "slos": [
            f"  - {{id: slo-{number}, application: app-{number % 10}, calendar: daily,"
            f" jobs: [{{job: job-{number}, end: '05:00'}}]}}"
            for number in range(0, jobs, 5)
        ],
    }
    for kind, lines in texts.items():
        (folder / kind).mkdir(parents=True)
        (folder / kind / "all.yml").write_text("\n".join([f"{kind}:", *lines]) + "\n")
    return folder


def test_thousands_of_tracked_jobs_load_as_ten_do(nowhere: Callable[..., Settings], tmp_path: Path) -> None:
    for jobs in (10, 5000):
        settings = nowhere(catalog=catalog_of(tmp_path / str(jobs), jobs), home=tmp_path / f"home-{jobs}")
        build_defs(settings)
        graph = build_defs(settings).resolve_asset_graph()
        tracked = [key for key in graph.get_all_asset_keys() if key.path[0] in ("jobs", "slos")]
        assert len(tracked) == jobs + jobs // 5


def test_a_broken_catalog_shows_the_last_good_one(nowhere: Callable[..., Settings], tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path / "catalog", 10)
    settings = nowhere(catalog=catalog)
    assert len(job_graph(settings).jobs) == 10
    (catalog / "jobs" / "more.yml").write_text("jobs:\n  - {id: x, application: nobody}\n")
    graph = job_graph(settings)
    assert len(graph.jobs) == 10
    assert "there is no application `nobody`" in graph.problem
    assert ["jobs", "app-0", "job-0"] in [
        key.path for key in build_defs(settings).resolve_asset_graph().get_all_asset_keys()
    ]


def test_a_catalog_that_was_never_good_shows_no_jobs(
    nowhere: Callable[..., Settings], tmp_path: Path
) -> None:
    graph = job_graph(nowhere(catalog=tmp_path / "nothing"))
    assert graph.jobs == []
    assert "there is no catalog folder here" in graph.problem
