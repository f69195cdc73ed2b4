"""Tracked jobs and SLOs as external assets."""

from __future__ import annotations

import dagster as dg

from pipelines.catalog.assets import tracked_specs
from pipelines.catalog.graph import JobGraph, JobNode, SloNode

JOBS = [
    JobNode("core-banking", "post", "Post", "", "ann@bank.example", []),
    JobNode(
        "core-banking", "load/balances", "load/balances", "Twice a day.", "Ann", [["core-banking", "post"]]
    ),
]
SLOS = [
    SloNode(
        "balances", "Balances there", "", "core-banking", "team:core", "daily", "Europe/Rome", 0.95, "05:00 +1d",
        [["core-banking", "load/balances"]],
    )
]  # fmt: skip


def test_edges_go_from_what_is_waited_for_to_jobs_and_slos() -> None:
    specs = {spec.key: spec for spec in tracked_specs(JobGraph(JOBS, SLOS))}
    post = dg.AssetKey(["jobs", "core-banking", "post"])
    load = dg.AssetKey(["jobs", "core-banking", "load/balances"])
    slo = dg.AssetKey(["slos", "balances"])
    assert {key: [dep.asset_key for dep in spec.deps] for key, spec in specs.items()} == {
        post: [], load: [post], slo: [load],
    }  # fmt: skip
    assert specs[slo].metadata["due"] == "05:00 +1d Europe/Rome"
    assert dg.Definitions(assets=list(specs.values())).resolve_asset_graph().get(slo).is_external


def test_groups_and_owners_are_such_as_dagster_takes() -> None:
    post, load, slo = tracked_specs(JobGraph(JOBS, SLOS))
    assert {spec.group_name for spec in (post, load, slo)} == {"core_banking"}
    assert [list(spec.owners) for spec in (post, load, slo)] == [["ann@bank.example"], [], ["team:core"]]
