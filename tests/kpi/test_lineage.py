"""From the facts to the mart of KPIs: one lineage, in the graphs of dbt and of Dagster, by names one can read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from pipelines.kpi.compile.files import compile_kpis
from pipelines.kpi.model import Kpi, Kpis, Window
from pipelines.orchestration.tables import INTERNALS
from pipelines.transform.assets import model_specs
from pipelines.transform.project import manifest_json
from tests.kpi.test_engine import MEDIAN, ON_TIME, define, kpi, variable
from tests.kpi.test_engine_ticks import STATUSES
from tests.transform.support import Warehouse

__all__ = ["define"]

STATE = "kpi_state_marts__slo_performance__business_date__application_id"


def ancestors(manifest: dict[str, Any], name: str) -> set[str]:
    parents: dict[str, list[str]] = manifest["parent_map"]
    ahead, seen = [name], set[str]()
    while ahead:
        for parent in parents[ahead.pop()]:
            if parent not in seen:
                seen.add(parent)
                ahead.append(parent)
    return seen


def test_a_value_is_downstream_of_its_source_in_both_graphs(
    warehouse: Warehouse, define: Callable[..., None]
) -> None:
    define(ON_TIME, STATUSES)
    manifest = manifest_json(warehouse.settings)
    upstream = {
        "source.duemark.raw.job_status", "model.duemark.slo_performance", f"model.duemark.{STATE}",
        "model.duemark.kpi_values_on_time", "source.duemark.kpi.kpi",
    }  # fmt: skip
    for mart in ("kpi_value", "kpi_current", "kpi_restatement"):
        assert upstream - {"source.duemark.kpi.kpi"} <= ancestors(manifest, f"model.duemark.{mart}")
    assert upstream <= ancestors(manifest, "model.duemark.kpi_value")
    computed, shown = model_specs(manifest)
    specs = {spec.key.to_user_string(): spec for spec in shown}
    assert not {spec.key.to_user_string() for spec in computed} & set(specs)

    def reads(name: str) -> set[str]:
        return {dep.asset_key.to_user_string() for dep in specs[name].deps}

    assert reads(f"kpi/{STATE}") == {"marts/slo_performance"}
    assert f"kpi/{STATE}" in reads("kpi/kpi_values_on_time")
    assert {"kpi/kpi_values_on_time", "kpi/kpi_values_statuses", "kpi/period_value", "kpi/kpi"} <= reads(
        "marts/kpi_value"
    )
    for name in (f"kpi/{STATE}", "kpi/kpi_values_on_time"):
        assert specs[name].group_name == INTERNALS
        assert specs[name].description
        assert specs[name].owners
    dg.Definitions(assets=[*computed, *shown]).resolve_asset_graph()
    define(STATUSES)
    assert "model.duemark.kpi_values_on_time" not in ancestors(
        manifest_json(warehouse.settings), "model.duemark.kpi_value"
    )


def names_of(*kpis: Kpi) -> list[str]:
    files = compile_kpis(Kpis({each.id: each for each in kpis}))
    return sorted(
        name.rpartition("/")[2].removesuffix(".sql")
        for name in files
        if "/generated/" in name and name.endswith("sql")
    )


def test_names_can_be_read_and_stay() -> None:
    rolling = replace(kpi("rolling", '"c"', replace(variable("c"), window=Window(days=30))), grains=("day",))
    alone = names_of(ON_TIME)
    assert alone == [STATE, "kpi_values_on_time"]
    # Others by the same states leave their name as it is.
    assert names_of(ON_TIME, rolling) == [*alone, "kpi_values_rolling"]
    shared = names_of(ON_TIME, MEDIAN)
    assert shared[0] == STATE
    assert shared[1].startswith("kpi_values_marts__slo_performance__by__applicati___")


def test_every_kpi_has_a_name_of_its_own() -> None:
    zones = ("UTC", "Asia/Tokyo", "Asia/Kolkata", "America/New_York")
    ids = ("a-b", "a_b", "a", "a" * 80, "a" * 81)
    kpis = [
        replace(kpi(f"{kpi_id}", '"c"', variable("c")), timezone=zone)
        for kpi_id, zone in zip(ids, (*zones, "Europe/Paris"), strict=True)
    ]
    names = names_of(*kpis)
    assert len(names) == len(set(names)) == 1 + len(kpis)
    assert all(len(name.encode()) <= 63 for name in names)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "UTC"])
def test_a_snapshot_and_a_flow_have_states_of_their_own(zone: str) -> None:
    instants = tuple(replace(each, dimensions=()) for each in STATUSES.variables[:1])
    standing = tuple(replace(each, kind="snapshot") for each in instants)
    flow = replace(STATUSES, id="flow", variables=instants, expression='"n"', dimensions=(), timezone=zone)
    names = names_of(flow, replace(flow, id="stock", variables=standing))
    assert len(names) == 4
    assert any("job_status__standing" in name or "job_status__quarters__standing" in name for name in names)
