"""The SQL of generated models: people are shown what is deployed; who runs it by hand is told what does the whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlglot

from pipelines.kpi.compile.files import compile_kpis
from pipelines.kpi.compile.places import MODELS
from pipelines.kpi.compile.readable import readable
from pipelines.kpi.model import Kpis
from pipelines.kpi.statements import statements_of
from pipelines.transform.project import environment, project_folder
from tests.kpi.test_engine import MEDIAN, ON_TIME, ROLLING, define, kpi, run, values, variable
from tests.kpi.test_engine_ticks import STATUSES
from tests.transform.support import Warehouse

__all__ = ["define"]

Define = Callable[..., None]
STATE = "kpi_state_marts__slo_performance__business_date__application_id"


def without_comments(text: str) -> str:
    return sqlglot.parse_one(text, dialect="postgres").sql(dialect="postgres", pretty=True, comments=False)


def test_what_is_shown_is_what_is_deployed(warehouse: Warehouse, define: Define) -> None:
    remainder = replace(
        kpi("remainder", '"n" % 7', variable("n", condition="outcome like 'o%'")), grains=("day",)
    )
    kpis = (ON_TIME, ROLLING, MEDIAN, STATUSES, remainder)
    define(*kpis)
    run(warehouse, (1, "START"), (4, "SUCCEED"))
    warehouse.tick("2026-03-06 12:00")
    files = compile_kpis(Kpis({each.id: each for each in kpis}))
    models = {
        Path(name).stem: text
        for name, text in files.items()
        if name.startswith(MODELS) and name.endswith(".sql")
    }
    shown = readable(warehouse.settings.dbt_project, models)
    deployed = {row["name"]: row["query"] for row in warehouse.query("select name, query from kpi.model")}
    assert shown.keys() == deployed.keys()
    statements = {
        (name, each): text
        for name, query in deployed.items()
        for each, text in statements_of(query, {"states": "kpi", "once": "offset 0"}).items()
    }
    assert {key for key, _ in statements} == shown.keys()
    for (name, each), plain in statements.items():
        tree = sqlglot.parse_one(plain, dialect="postgres")
        for table in tree.find_all(sqlglot.exp.Table):
            # dbt names the database too, and quotes all of it.
            table.set("catalog", None)
            if table.db:
                table.set("db", sqlglot.exp.to_identifier(table.db))
                quoted = table.db == "kpi"
                table.set("this", sqlglot.exp.to_identifier(table.name, quoted=quoted))
        assert tree.sql(dialect="postgres", pretty=True, comments=False) == without_comments(
            shown[name][each]
        ), (name, each)
    counted = "select count(*) as n from marts.slo_performance where outcome like 'o%%'"
    total = sum(int(value or 0) for (_, key), value in values(warehouse, "remainder").items() if not key)
    assert total == warehouse.query(counted)[0]["n"]


def by_hand(warehouse: Warehouse, *arguments: str) -> subprocess.CompletedProcess[str]:
    """dbt as a person runs it, with what `duemark dbt-env` says."""
    settings = warehouse.settings
    dbt = str(Path(sys.executable).with_name("dbt"))
    return subprocess.run(
        [
            dbt, "run", *arguments, "--project-dir", str(project_folder(settings)), "--profiles-dir",
            str(settings.dbt_project), "--target-path", str(settings.home / "by_hand"),
            "--log-path", str(settings.home / "by_hand"),
        ],
        env={**os.environ, **environment(settings)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (STATE, ()),
        ("kpi_values_on_time", ()),
        ("slo_performance", ()),
        ("slo_performance", ("--full-refresh",)),
    ],
)
def test_a_run_of_dbt_by_hand_leaves_nothing_half_done(
    warehouse: Warehouse, define: Define, model: str, options: tuple[str, ...]
) -> None:
    define(ON_TIME)
    run(warehouse, (1, "START"), (4, "SUCCEED"))
    warehouse.tick("2026-03-06 12:00")
    looked_at = (
        f"select * from kpi.{STATE} order by 1, 2",
        "select xmin::text, * from marts.slo_performance order by 2, 3",
        "select xmin::text, * from kpi.period_value order by 2, 3, 4, 5",
    )
    before = [warehouse.query(query) for query in looked_at]
    assert all(before)
    done = by_hand(warehouse, "--select", model, *options)
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert f"{model} was left as it is" in said
    assert "duemark tick --rebuild" in said
    assert [warehouse.query(query) for query in looked_at] == before
