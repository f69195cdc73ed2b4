"""A tick of few new statuses, on a long history and on a short one."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from bench.measure import Cost, best
from bench.scale import Scale
from bench.table import Row
from bench.warehouse import Bank, Workshop
from pipelines.catalog.store import store_catalog
from pipelines.landing.ingest import ingest
from pipelines.simulator.files import COLUMNS
from pipelines.transform.project import Project
from pipelines.transform.tick import TickReport, tick
from pipelines.warehouse.connect import connect

STEP = timedelta(minutes=5)
# The first ticks of a process import, parse and fill caches.
WARM_UP = 2


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """Statuses of the day under way; what the clock alone changes meanwhile is in it."""
    few_days, many_days = scale.history_days
    bank = shop.bank("tick_many", scale.jobs, many_days)
    banks = [shop.bank("tick_few", scale.jobs, few_days), bank]
    few, many = _costs(shop, scale, [(one, _built(one)) for one in banks])
    size = f"{bank.summary.statuses / 1e6:.2g} M"
    what = f"tick of {2 * scale.tick_jobs} new statuses in {size}"
    share = f"in {few_days / many_days:g} of the history"
    whole, database = (lambda cost: cost.whole), (lambda cost: cost.database)
    yield Row(f"{what}, all CPU", best(many, whole), goal=3.0, limits="value")
    yield Row(f"{what}, CPU of the database", best(many, database), goal=0.2, limits="value")
    for name, by in (("all CPU", whole), ("CPU of the database", database)):
        yield Row(f"the same, {name}", best(many, by), yardstick=best(few, by), yardstick_is=share, goal=1.3)
    yield Row(f"{what}, wall", best(many, lambda cost: cost.wall))
    idle, busy = _alone(shop, scale, bank)
    idle_cpu, busy_cpu = (best(costs, lambda cost: cost.cpu) for costs in (idle, busy))
    yield Row("a new process, `duemark tick` with nothing to do, CPU", idle_cpu, goal=1.5, limits="value")
    yield Row(
        "the same",
        idle_cpu,
        yardstick=busy_cpu,
        yardstick_is=f"with {2 * scale.tick_jobs} new statuses",
        goal=0.4,
    )


def _alone(shop: Workshop, scale: Scale, bank: Bank) -> tuple[list[Cost], list[Cost]]:
    """Ticks in processes of their own, as from cron: with nothing to do, and with new statuses."""
    idle: list[Cost] = []
    busy: list[Cost] = []
    for number in range(WARM_UP + scale.ticks + 1, WARM_UP + scale.ticks + 1 + scale.repeats):
        land_statuses(bank, scale.tick_jobs, number)
        ingest(bank.settings)
        as_of = bank.as_of + number * STEP
        busy.append(shop.meter.measure(partial(_tick_process, bank, as_of)))
        # What is due at the very moment is overdue a microsecond later; after that nothing is left to do.
        _tick_process(bank, as_of + timedelta(microseconds=1))
        idle.append(shop.meter.measure(partial(_tick_process, bank, as_of + timedelta(microseconds=2))))
    return idle, busy


def _tick_process(bank: Bank, as_of: datetime) -> None:
    subprocess.run(
        [sys.executable, "-c", "from pipelines.cli import main; main()", "tick", "--as-of", as_of.isoformat()],
        env=os.environ | bank.settings.as_env(), check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _built(bank: Bank) -> Project:
    store_catalog(bank.settings)
    ingest(bank.settings)
    project = Project(bank.settings)
    tick(project, bank.as_of)
    with connect(bank.settings, autocommit=True) as connection:
        # As autovacuum and the checkpointer leave it some minutes after a bulk load.
        connection.execute("vacuum (analyze)")
        connection.execute("checkpoint")
    return project


def _costs(shop: Workshop, scale: Scale, banks: Sequence[tuple[Bank, Project]]) -> list[list[Cost]]:
    """Ticks of each bank in turn, so that what disturbs the machine for a while disturbs them alike."""
    costs: list[list[Cost]] = [[] for _ in banks]
    for number in range(1, WARM_UP + scale.ticks + 1):
        for (bank, project), found in zip(banks, costs, strict=True):
            land_statuses(bank, scale.tick_jobs, number)
            ingest(bank.settings)
            reports: list[TickReport] = []
            cost = shop.meter.measure(partial(_tick, project, bank, number, reports))
            assert not reports[0].is_rebuild
            inserted = {one.name: one.inserted for one in reports[0].publications}
            assert inserted["job_run"] >= scale.tick_jobs
            if number > WARM_UP:
                found.append(cost)
    return costs


def _tick(project: Project, bank: Bank, number: int, reports: list[TickReport]) -> None:
    reports.append(tick(project, bank.as_of + number * STEP))


def land_statuses(bank: Bank, count: int, number: int) -> None:
    """Land a file in which `count` jobs start and succeed, on the date after the last simulated one."""
    with (bank.folder / "truth" / "jobs.csv").open(encoding="utf-8") as lines:
        jobs = list(csv.DictReader(lines))
    # Others each time, as it is in life: the runs of one job's day do not pile up.
    jobs = [jobs[(number * count + position) % len(jobs)] for position in range(count)]
    now = bank.as_of + number * STEP
    day = bank.summary.last_date + timedelta(days=1)
    path = Path(bank.settings.landing) / "job_status" / f"tick-{number}.csv"
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(COLUMNS)
        for job in jobs:
            for code, before in (("START", 4), ("SUCCEED", 1)):
                at = (now - timedelta(minutes=before)).isoformat()
                writer.writerow([job["application_id"], job["job_id"], code, at, day, f"tick-{number}", ""])
