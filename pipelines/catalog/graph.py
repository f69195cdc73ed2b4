"""The catalog as a graph: tracked jobs, SLOs and what depends on what, quick to read.

Reading thousands of jobs from YAML with their line numbers takes seconds, and every process that loads the assets
needs them: the graph is kept beside dbt's target, and made anew when a file of the catalog changes.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pipelines.catalog.store import fingerprint
from pipelines.logs import get_logger
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from pipelines.catalog.read import Catalog

log = get_logger(__name__)

# Of the file's own form; a graph of another one is made anew.
FORM = 1


@dataclass(frozen=True)
class JobNode:
    """A tracked job; `upstream` are the jobs it waits for, as [application, job]."""

    application: str
    job: str
    title: str
    description: str
    owner: str
    upstream: list[list[str]]


@dataclass(frozen=True)
class SloNode:
    """An SLO as its last entry says; `jobs` must be complete, as [application, job]."""

    slo: str
    title: str
    description: str
    application: str
    owner: str
    calendar: str
    timezone: str
    objective: float
    due: str
    jobs: list[list[str]]


@dataclass(frozen=True)
class JobGraph:
    """All tracked jobs and SLOs. `problem` tells why it is not the catalog as it is now."""

    jobs: list[JobNode] = field(default_factory=list)
    slos: list[SloNode] = field(default_factory=list)
    problem: str = ""


def job_graph(settings: Settings) -> JobGraph:
    """The graph of the catalog; needs no database and raises nothing.

    A catalog with problems must not take down whoever shows it: then the graph of the last good one is returned, or
    an empty one, with the problem.
    """
    path = settings.home / "target" / "catalog_graph.json"
    source = f"{FORM} {fingerprint(settings)}"
    kept = _kept(path)
    if kept.get("source") == source:
        return _graph(kept)
    from pipelines.catalog.read import CatalogError, kept_folder, read_catalog

    try:
        graph = _of(read_catalog(settings.catalog, kept_folder(settings)))
    except CatalogError as error:
        log.warning(
            "catalog refused, its last good graph is shown", problems=[str(one) for one in error.problems]
        )
        return _graph(kept, problem=error.message)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_bytes(orjson.dumps({"source": source} | asdict(graph)))
    draft.replace(path)
    return graph


def _kept(path: Path) -> dict[str, Any]:
    try:
        kept = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    is_ours = isinstance(kept, dict) and str(kept.get("source", "")).startswith(f"{FORM} ")
    return kept if is_ours else {}


def _graph(kept: dict[str, Any], problem: str = "") -> JobGraph:
    return JobGraph(
        jobs=[JobNode(**one) for one in kept.get("jobs", [])],
        slos=[SloNode(**one) for one in kept.get("slos", [])],
        problem=problem,
    )


def _of(catalog: Catalog) -> JobGraph:
    applications = catalog.applications
    jobs = [
        JobNode(
            application=job.application,
            job=job.id,
            title=job.title,
            description=job.description or "",
            owner=job.owner or applications[job.application].owner or "",
            upstream=[list(key) for key in catalog.upstream[job.application, job.id]],
        )
        for job in catalog.jobs.values()
    ]
    slos = []
    for entries in catalog.slos.values():
        slo = entries[-1]
        application = applications[slo.application]
        slos.append(
            SloNode(
                slo=slo.id,
                title=slo.title,
                description=slo.description or "",
                application=slo.application,
                owner=application.owner or "",
                calendar=slo.calendar,
                timezone=slo.timezone or application.timezone,
                objective=slo.objective,
                due=_due(slo.model_dump(mode="json", by_alias=True, exclude_none=True)),
                jobs=[list(key) for key in catalog.slo_jobs(slo)],
            )
        )
    return JobGraph(jobs, slos)


def _due(slo: dict[str, Any]) -> str:
    """When it is due, as the catalog says it: `06:30 +1d`, `every 30 minutes, 06:00 to 18:00, due after 10m`."""
    if every := slo.get("every"):
        return f"every {every['minutes']} minutes, {every['from']} to {every['to']}, due after {every['due_after']}"
    ends = []
    for job in slo["jobs"]:
        offset = job.get("day_offset")
        after = f" next {job['due_weekday']}" if "due_weekday" in job else f" +{offset}d" if offset else ""
        ends.append(f"{job['end']}{after}")
    return ", ".join(dict.fromkeys(ends))
