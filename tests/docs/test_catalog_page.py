"""docs/catalog.md and docs/kpis.md name every key with its default; their examples are a catalog without a fault."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from pipelines.catalog.kpis import (
    Database,
    DatabaseTable,
    KpiEntry,
    KpiFormula,
    KpiSchedule,
    KpiSource,
    KpiThresholds,
    KpiVariable,
)
from pipelines.catalog.models import (
    Application,
    BusinessDateRule,
    Calendar,
    Duration,
    Every,
    Excepted,
    Holidays,
    Job,
    Package,
    Sender,
    Slo,
    SloJob,
)
from pipelines.catalog.read import read_catalog
from pipelines.landing.known_feeds import feed
from sensors.oncall.incidents.routes import Escalation, Route, RuleSettings, check_routes
from tests.docs.conftest import blocks, page

TEXT = page("docs/catalog.md") + page("docs/kpis.md")
# Each model, the chapter that describes it, and how its table begins.
MODELS = [
    (Application, "applications", "key"),
    (BusinessDateRule, "applications", "key of `business_date`"),
    (Calendar, "calendars", "key"),
    (Holidays, "calendars", "key of `holidays`"),
    (Job, "jobs", "key"),
    (Slo, "slos", "key"),
    (SloJob, "slos", "key of `jobs`"),
    (Every, "slos", "key of `every`"),
    (Excepted, "exceptions", "key"),
    (Sender, "senders", "key"),
    (Package, "packages", "key"),
    (Route, "routes", "key"),
    (RuleSettings, "routes", "key of `rules`"),
    (KpiEntry, "kpis", "key"),
    (KpiFormula, "kpis", "key of `formula`"),
    (KpiVariable, "kpis", "key of a variable"),
    (KpiSource, "kpis", "key of `source`"),
    (KpiSchedule, "kpis", "key of `schedule`"),
    (KpiThresholds, "kpis", "key of `thresholds`"),
    (Database, "databases", "key"),
    (DatabaseTable, "databases", "key of `tables`"),
]


def chapter(name: str) -> str:
    return TEXT.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def rows(text: str, head: str) -> dict[str, list[str]]:
    """Cells of a table's rows by key; a row may describe several keys."""
    table = text.partition(f"\n| {head} |")[2].partition("\n\n")[0]
    found = {}
    for line in table.splitlines()[2:]:
        keys, *cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        found.update(dict.fromkeys(re.findall(r"`(\w+)`", keys), cells))
    return found


@pytest.mark.parametrize(("model", "name", "head"), MODELS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_key_is_described_with_its_default(model: type[BaseModel], name: str, head: str) -> None:
    described = rows(chapter(name), head)
    fields = {info.alias or key: info for key, info in model.model_fields.items()}
    assert set(described) == set(fields)
    for key, info in fields.items():
        default = described[key][1]
        assert default.startswith("required") == (
            info.default is PydanticUndefined or _is_required_here(model, key)
        )
        if isinstance(info.default, bool):
            assert default == f"`{str(info.default).lower()}`"
        elif isinstance(info.default, timedelta):
            value = re.fullmatch(r"`(\d+[smhd])`", default)
            assert value is not None
            assert TypeAdapter(Duration).validate_python(value[1]) == info.default
        elif isinstance(info.default, int | float | str):
            assert default == f"`{info.default}`"


def _is_required_here(model: type[BaseModel], key: str) -> bool:
    """Keys that only their company makes required."""
    return (model, key) in {
        (SloJob, "end"),
        (Package, "ident"),
        (KpiVariable, "source"),
        (KpiVariable, "time_column"),
    }


def test_an_escalation_and_a_market_have_the_keys_that_are_shown() -> None:
    assert set(Escalation.model_fields) == {"after", "to"}
    assert "`{after: duration, to: id of a route}`" in chapter("routes")


def test_the_examples_are_a_catalog_without_a_fault(tmp_path: Path) -> None:
    for number, block in enumerate(blocks(TEXT, "yaml")):
        kind = next(iter(YAML(typ="safe").load(block)))
        folder = tmp_path / kind
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.yml").write_text(block, "utf-8")
    catalog = read_catalog(tmp_path)
    assert check_routes(tmp_path) == []
    assert catalog.applications
    assert catalog.packages
    assert catalog.kpis
    assert catalog.databases


def test_the_columns_of_a_status_are_those_of_the_feed() -> None:
    described = rows(chapter("Job statuses"), "column")
    columns = {column.name: column for column in feed("job_status").columns}
    assert set(described) == set(columns)
    for name, column in columns.items():
        assert re.findall(r"`(\w+)`", described[name][0]) == list(column.aliases)
