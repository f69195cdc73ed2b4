"""The demonstration as somebody sees it who tries Duemark for the first time, with fewer days."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from ruamel.yaml import YAML

from pipelines.simulator.business import DATABASE
from pipelines.warehouse.connect import with_database
from pipelines.warehouse.settings import ROOT
from tests.conftest import _drop
from tests.waiting import HUNG

RUN = """
import pipelines.subjects
from pipelines import demo
from pipelines.warehouse.settings import Settings
demo.DAYS = 12
demo.run(Settings.from_env())
"""


@pytest.fixture
def environment(server_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Of a warehouse that is not there yet; what was on the server stays."""
    name = f"test_demo_{os.getpid()}"
    with psycopg.connect(with_database(server_url, "postgres")) as connection:
        found = connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone()
    rest = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("DUEMARK_") and "_DB_URL" not in key
    }
    yield {
        **rest,
        "DUEMARK_HOME": str(tmp_path),
        "DUEMARK_DATABASE_URL": with_database(server_url, name),
        "DUEMARK_DAGSTER_DATABASE": f"{name}_dagster",
    }
    for each in (name, f"{name}_dagster", *([DATABASE] if found is None else [])):
        _drop(server_url, each)


def demo(environment: dict[str, str]) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HUNG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_the_demonstration_shows_what_is_late_and_every_kpi(environment: dict[str, str]) -> None:
    out, steps = demo(environment)
    # The steps and how long each took, and nothing that somebody logs.
    assert [line for line in steps.splitlines() if not re.fullmatch(r".* …|  [\d.]+ s", line)] == []
    assert f"a business in a second database, {DATABASE}" in steps
    late, _, rest = out.partition("\nKPIs, ")
    table, _, following = rest.partition("\nNext:\n")
    assert re.match(r"\nLate as of \d{4}-\d\d-\d\d \d\d:\d\d UTC, ", late)
    wanted = {
        entry["id"]
        for path in (ROOT / "catalog" / "kpis").glob("*.yml")
        for entry in YAML(typ="safe").load(path.read_text("utf-8"))["kpis"]
    }
    rows = [re.split(r" {2,}", line) for line in table.splitlines()[4:] if line and not line.startswith("(")]
    assert {row[0] for row in rows} == wanted
    assert [row for row in rows if row[2] == "—"] == []
    assert max(map(len, (late + table).splitlines())) <= 160
    assert ".venv/bin/duemark board\n" in following
    assert "from kpi_value where kpi_id = " in following

    # Where the page says that files land.
    assert len(list((Path(environment["DUEMARK_HOME"]) / "landing" / "job_status").iterdir())) > 12

    again, steps = demo(environment)
    assert again == out
    assert "everything is built already" in steps
