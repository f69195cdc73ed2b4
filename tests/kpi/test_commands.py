"""`duemark kpi …` and `duemark check`, as processes: what they print, where, and their exit codes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlglot

from pipelines.warehouse.settings import ROOT
from tests.kpi.test_definitions import OF_OTHERS, SOUND

Run = Callable[..., subprocess.CompletedProcess[str]]
BROKEN = """\
kpis:
  - id: late-hours
    categroy: performance
    description: How long deliveries kept their readers waiting.
    formula:
      type: composite
      expression: coalesce(lat, 0) / 3600 + sqrt(late)
      variables:
        late:
          source: {table: marts.slo_perfomance, column: late_by, aggregation: sum}
          time_column: business_date
    aggregations: [day, weak]
    schedule: {timezone: Amerika/New_York}
    thresholds: {warning: 4, critical: 1, direction: higher}
"""


@pytest.fixture
def duemark(tmp_path: Path) -> Run:
    """Run a command with the demonstration's catalog, in a home without a server."""
    shutil.copytree(ROOT / "catalog", tmp_path / "catalog")
    env = {key: value for key, value in os.environ.items() if not key.endswith("_DB_URL")} | {
        "DUEMARK_HOME": str(tmp_path / "home"),
        "DUEMARK_CATALOG": str(tmp_path / "catalog"),
        "DUEMARK_DATABASE_URL": "",
        "DUEMARK_DBT_PROJECT": str(ROOT / "dbt_project"),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "120",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


def test_all_are_listed_within_120_columns(duemark: Run) -> None:
    done = duemark("kpi", "list")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[0].split() == ["id", "name", "unit", "grains", "dimensions", "thresholds"]
    # Those with a number come first.
    assert lines[2].startswith("package-popularity (2001)  Package popularity")
    (share,) = (line for line in lines if line.startswith("on-time-share (2101)"))
    assert re.split(r"  +", share)[2:] == ["share", "d w m q y", "application", "≤ 0.95, 0.9"]
    (mrr,) = (line for line in lines if line.startswith("mrr "))
    # There is no server, so nobody can tell whether the columns exist.
    assert mrr.endswith("not reached")
    assert lines[-1] == "(16 rows)"


def test_one_is_shown_by_its_id_or_number(duemark: Run) -> None:
    done = duemark("kpi", "show", "2101")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == duemark("kpi", "show", "on-time-share").stdout
    shown = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in done.stdout.splitlines()[:-2])
    assert shown["formula"] == "on_time / due  (composite)"
    assert (
        shown["due"]
        == "count(*) of marts.slo_performance, by business_date, where (\"outcome\" <> 'not_due')"
    )
    assert shown["grains"] == "day, week, month, quarter, year, in America/New_York"
    assert shown["thresholds"] == "warning ≤ 0.95, critical ≤ 0.9"
    assert re.fullmatch(r".*/catalog/kpis/timeliness\.yml:3", shown["file"])
    assert "where kpi_id = 'on-time-share'" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "on-time-shar"), "There is no KPI 'on-time-shar'.\n  did you mean `on-time-share`?"),
        (("compile", "2002"), "There is no KPI '2002'."),
        (("show", "mrr"), "cannot be looked at now.\n  The database 'payments': PAYMENTS_DB_URL is not set"),
        (("validate", "none.yml"), "none.yml does not exist.\n  Name a file of KPIs, or the folder of a catalog."),
        (("validate", "home"), "home has no folder kpis."),
    ],
)  # fmt: skip
def test_what_there_is_not(duemark: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "home").mkdir()
    done = duemark("kpi", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_models_are_compiled_of_all_or_of_one(duemark: Run) -> None:
    names = re.compile(r"^-- (kpi_\w+)\.sql$", re.MULTILINE)
    every = duemark("kpi", "compile")
    one = duemark("kpi", "compile", "on-time-share")
    assert every.returncode == one.returncode == 0
    found = names.findall(one.stdout)
    assert found == [
        "kpi_state_marts__slo_performance__business_date__application_id",
        "kpi_values_on_time_share",
    ]
    assert re.findall(r"^-- (\w+)$", one.stdout, re.MULTILINE) == ["values", "periods", "needs"]
    # All KPIs over the occurrences share one scan of them.
    assert names.findall(every.stdout).count(found[0]) == 1
    assert every.stdout.count("FROM marts.slo_performance\n") == 1
    # Formatted, and SQL.
    assert "\nFROM marts.slo_performance\n" in one.stdout.replace("\n  ", "\n")
    assert all(sqlglot.parse(one.stdout, dialect="postgres"))


def test_a_file_outside_of_the_catalog_is_judged_beside_it(duemark: Run, tmp_path: Path) -> None:
    before = sorted(path for path in (tmp_path / "catalog").rglob("*"))
    file = tmp_path / "new.yml"
    file.write_text(
        SOUND + OF_OTHERS.format(id="more", expression="x", variables="x: {kpi: on-time-share}"), "utf-8"
    )
    done = duemark("kpi", "validate", "new.yml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 KPIs: no problems\n", "")
    file.write_text(SOUND.replace("id: share", "id: uptime").replace("{timezone", "{timezone"), "utf-8")
    done = duemark("kpi", "validate", "new.yml")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"new\.yml:2: kpis\[0\]\.id: the KPI `uptime` is declared twice, first in .*numbered\.yml:\d+\n"
        r"    remove one of them, or give it another id\n1 problem\n",
        done.stderr,
    )
    assert sorted(path for path in (tmp_path / "catalog").rglob("*")) == before


def test_a_broken_file_is_told_everything_at_once(duemark: Run, tmp_path: Path) -> None:
    (tmp_path / "new.yml").write_text(BROKEN, "utf-8")
    done = duemark("kpi", "validate", "new.yml")
    assert (done.returncode, done.stdout) == (1, "")
    places = re.findall(r"^new\.yml:([\d:]+): kpis\[0\]\.(\S+): ", done.stderr, re.MULTILINE)
    assert places == [
        ("2", "category"), ("3", "categroy"), ("7:28", "formula.expression"), ("7:45", "formula.expression"),
        ("10", "formula.variables.late.source.table"), ("12", "aggregations[1]"), ("13", "schedule.timezone"),
        ("14", "thresholds.critical"),
    ]  # fmt: skip
    assert done.stderr.endswith("\n8 problems\n")
    for hint in ("`category`?", "`late`?", "`marts.slo_performance`?", "`week`?", "`America/New_York`?"):
        assert f"did you mean {hint}" in done.stderr


def test_a_folder_is_that_of_a_catalog(duemark: Run, tmp_path: Path) -> None:
    for path in ("catalog", "catalog/kpis"):
        done = duemark("kpi", "validate", path)
        assert (done.returncode, done.stdout) == (0, "16 KPIs: no problems\n")


def test_the_whole_catalog_is_checked_with_its_kpis(duemark: Run, tmp_path: Path) -> None:
    done = duemark("check")
    assert done.returncode == 0
    assert done.stdout.endswith(" 16 KPIs: no problems\n")
    # One text for each database of KPIs and each question to the warehouse; no server was started to ask them.
    assert done.stderr.count("not checked: ") == 3 + 2
    assert "not checked: which SLOs can never be judged" in done.stderr
    assert (
        "active-subscriptions, mrr, arpu of the database `payments`: PAYMENTS_DB_URL is not set"
        in done.stderr
    )
    assert not (tmp_path / "home" / "postgres").exists()
    text = SOUND.replace("    dimensions: [application]", "    slos: [nope]\n    dimensions: [application]")
    (tmp_path / "catalog" / "kpis" / "new.yml").write_text(text.replace("good / due", "good"), "utf-8")
    problems = [
        f"{tmp_path}/catalog/kpis/new.yml:14: kpis[0].formula.variables.due: the variable `due` is not used",
        f"{tmp_path}/catalog/kpis/new.yml:19: kpis[0].slos[0]: there is no SLO `nope`",
    ]
    for command in (("check",), ("kpi", "validate"), ("kpi", "list")):
        done = duemark(*command)
        assert (done.returncode, done.stdout) == (2 if "list" in command else 1, "")
        assert [line.strip() for line in done.stderr.splitlines() if "/new.yml:" in line] == problems
