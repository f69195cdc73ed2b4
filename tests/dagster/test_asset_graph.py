"""The whole asset graph as a text that is reviewed: a change of lineage shows as a change of `asset_graph.txt`.

To renew it after a change that is meant: DUEMARK_RENEW=1 make test T=tests/dagster/test_asset_graph.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from pipelines.definitions import build_defs
from pipelines.warehouse.settings import Settings

SNAPSHOT = Path(__file__).with_name("asset_graph.txt")


def graph(defs: dg.Definitions) -> str:
    """One line for each asset (key, group, kinds), with its checks and what it depends on below."""
    lines = []
    specs = {spec.key: spec for spec in defs.resolve_all_asset_specs()}
    checks = defs.resolve_asset_graph().asset_check_keys
    computed = defs.resolve_asset_graph().materializable_asset_keys
    for key in sorted(specs):
        spec = specs[key]
        external = "" if key in computed else ", external"
        lines.append(f"{key.to_user_string()}  [{spec.group_name}; {' '.join(sorted(spec.kinds))}{external}]")
        lines += [f"    check {check.name}" for check in sorted(checks) if check.asset_key == key]
        lines += [f"    <- {dep}" for dep in sorted(dep.asset_key.to_user_string() for dep in spec.deps)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def defs(nowhere: Callable[..., Settings]) -> dg.Definitions:
    return build_defs(nowhere())


def test_the_graph_is_as_reviewed(defs: dg.Definitions) -> None:
    found = graph(defs)
    if os.environ.get("DUEMARK_RENEW"):
        SNAPSHOT.write_text(found, "utf-8")
    assert found == SNAPSHOT.read_text("utf-8"), (__doc__ or "").splitlines()[-1]


def test_every_asset_of_ours_is_described_grouped_and_owned(defs: dg.Definitions) -> None:
    for spec in defs.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.group_name not in (None, "default"), spec.key
        if spec.key in defs.resolve_asset_graph().materializable_asset_keys:
            assert spec.owners, spec.key
        if spec.key.path[0] == "marts" or spec.key.path == ["raw", "job_status"]:
            schema = spec.metadata["dagster/column_schema"]
            columns = schema.columns if isinstance(schema, dg.TableSchema) else schema.value.columns
            assert all(column.description and column.type != "?" for column in columns), spec.key


def test_feeds_and_marts_are_one_lineage(defs: dg.Definitions) -> None:
    upstream = dg.AssetSelection.assets("marts/slo_performance").upstream()
    keys = {key.to_user_string() for key in upstream.resolve(defs.resolve_asset_graph())}
    assert {"raw/job_status", "catalog/promise", "catalog/slo_version", "catalog/calendar_version"} <= keys


def test_ticks_wait_for_each_other(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def("tick")
    assert {node.name: node.definition.pools for node in job.nodes} == {
        "ingest": set(),
        "transform": {"tick"},
    }
    assert job.executor_def is dg.in_process_executor


def test_runs_may_go_elsewhere(nowhere: Callable[..., Settings]) -> None:
    defs = build_defs(nowhere(), executor=dg.multiprocess_executor)
    assert defs.executor is dg.multiprocess_executor
