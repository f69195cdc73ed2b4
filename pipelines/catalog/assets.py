"""The catalog as assets: the tables of its versions, and the tracked jobs and SLOs that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from pipelines.catalog.graph import JobGraph
from pipelines.catalog.names import ASSET_PART, LAST_ASSET_PART, distinct_words, safe_name
from pipelines.orchestration.tables import INTERNALS, table_spec, valid_owners

OWNERS = ["team:platform"]
# What the keys of tracked jobs and of SLOs begin with.
TRACKED = ("jobs", "slos")


def catalog_specs(manifest: Mapping[str, Any]) -> list[dg.AssetSpec]:
    """Tables of versions; the tick writes them when a file of the catalog changed."""
    deps: dict[str, list[str]] = {
        "application_version": [],
        "calendar_version": [],
        "job_version": ["application_version"],
        "slo_entry_version": ["application_version", "calendar_version", "job_version"],
        "slo_version": ["application_version", "calendar_version", "job_version"],
        "slo_job": ["slo_version"],
        "exception_version": ["application_version", "slo_version"],
    }
    return [
        table_spec(
            manifest,
            "catalog",
            table,
            group=INTERNALS,
            kinds={"yaml", "postgres"},
            owners=OWNERS,
            deps=[["catalog", upstream] for upstream in upstreams],
            skippable=True,
        )
        for table, upstreams in deps.items()
    ]


def job_key(application: str, job: str) -> dg.AssetKey:
    """Asset key of a tracked job."""
    return dg.AssetKey(["jobs", safe_name(application, ASSET_PART), safe_name(job, LAST_ASSET_PART)])


def slo_key(slo: str) -> dg.AssetKey:
    """Asset key of an SLO."""
    return dg.AssetKey(["slos", safe_name(slo, ASSET_PART)])


def tracked_specs(graph: JobGraph) -> list[dg.AssetSpec]:
    """Tracked jobs and SLOs as external assets: other schedulers run them, and we hear of it.

    A job depends on the jobs it waits for, an SLO on the jobs that must be complete; grouped by application.
    """
    groups = distinct_words(
        [*(job.application for job in graph.jobs), *(slo.application for slo in graph.slos)]
    )
    jobs = [
        dg.AssetSpec(
            job_key(node.application, node.job),
            deps=[job_key(*upstream) for upstream in node.upstream],
            description=f"{node.title}\n\n{node.description}".strip(),
            group_name=groups[node.application],
            kinds={"job"},
            owners=valid_owners(node.owner),
        )
        for node in graph.jobs
    ]
    slos = [
        dg.AssetSpec(
            slo_key(node.slo),
            deps=[job_key(*job) for job in node.jobs],
            description=f"{node.title}\n\n{node.description}".strip(),
            metadata={
                "due": f"{node.due} {node.timezone}",
                "calendar": node.calendar,
                "objective": node.objective,
            },
            group_name=groups[node.application],
            kinds={"slo"},
            owners=valid_owners(node.owner),
        )
        for node in graph.slos
    ]
    return jobs + slos
