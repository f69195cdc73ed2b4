"""The asset graph: loading thousands of tracked jobs, and telling Dagster what a tick changed of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

from bench.measure import Cost, best
from bench.scale import Scale
from bench.table import Row
from bench.tick import STEP, land_statuses
from bench.warehouse import Bank, Workshop
from pipelines.catalog.store import store_catalog
from pipelines.landing.ingest import ingest
from pipelines.simulator.bank import make_bank, write_catalog
from pipelines.transform.project import Project
from pipelines.transform.tick import tick

FEW_JOBS, MANY_JOBS = 10, 5_000


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """Definitions of two catalogs; then looks of the sensor `report` after ticks of some statuses, and of none."""
    bank = shop.bank("graph", scale.jobs, scale.history_days[0])
    few, many = (best(_loads(shop, scale, bank, jobs), _whole) for jobs in (FEW_JOBS, MANY_JOBS))
    yield Row(f"definitions with {MANY_JOBS:,} tracked jobs, all CPU", many)
    yield Row(f"the same, more than with {FEW_JOBS}", max(many - few, 0.0), goal=2.0, limits="value")
    told, nothing = _reports(shop, scale, bank)
    size = f"{bank.summary.statuses / 1e6:.2g} M"
    yield Row(
        f"Dagster told of {scale.tick_jobs} completions in {size} statuses, wall",
        best(told, lambda cost: cost.wall),
        goal=20.0,
        limits="value",
    )
    yield Row(
        "the same when nothing changed, wall", best(nothing, lambda cost: cost.wall), goal=0.5, limits="value"
    )


def _whole(cost: Cost) -> float:
    return cost.whole


def _loads(shop: Workshop, scale: Scale, bank: Bank, jobs: int) -> list[Cost]:
    """As a code server loads them: the catalog was read before, by whoever checked it."""
    from pipelines.definitions import build_defs

    folder = bank.folder / f"catalog_{jobs}"
    write_catalog(make_bank(jobs, date(2026, 1, 1), date(2026, 3, 31), 1), folder)
    settings = replace(bank.settings, catalog=folder, home=bank.folder / f"home_{jobs}")
    build_defs(settings)
    return [
        shop.meter.measure(lambda: build_defs(settings).get_repository_def()) for _ in range(scale.repeats)
    ]


def _reports(shop: Workshop, scale: Scale, bank: Bank) -> tuple[list[Cost], list[Cost]]:
    from pipelines.orchestration.instance import load_instance
    from sensors.ticks.report import Reported, report

    settings = bank.settings
    store_catalog(settings)
    ingest(settings)
    project = Project(settings)
    tick(project, bank.as_of)
    told: list[Cost] = []
    nothing: list[Cost] = []
    with load_instance(settings) as instance:
        # History: each job's newest completion.
        while report(settings, instance, seconds=600).waiting:
            pass
        for number in range(1, scale.repeats + 2):
            as_of = bank.as_of + number * STEP
            land_statuses(bank, scale.tick_jobs, number)
            ingest(settings)
            tick(project, as_of)
            found: list[Reported] = []
            cost = shop.meter.measure(lambda: found.append(report(settings, instance, seconds=600)))  # noqa: B023
            # After so much history the rest of a job's day may come along, once; SLOs come on top.
            assert scale.tick_jobs <= found[0].jobs < 2 * scale.tick_jobs, found
            while report(settings, instance, seconds=600).waiting:
                pass
            tick(project, as_of + timedelta(seconds=1))
            while report(settings, instance, seconds=600).events:
                pass
            if number > 1:
                told.append(cost)
                nothing.append(shop.meter.measure(lambda: report(settings, instance)))
    return told, nothing
