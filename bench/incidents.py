"""A look of the sensor of incidents at a large catalog with much that is open: after new statuses, and after none."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from bench.measure import Cost, best
from bench.scale import Scale
from bench.table import Row
from bench.warehouse import Bank, Workshop
from pipelines.catalog.store import store_catalog
from pipelines.landing.ingest import ingest
from pipelines.simulator.files import COLUMNS
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import connect

STEP = timedelta(minutes=5)
JOBS, OPEN, DAYS = (5_000, 200), (2_500, 40), 4


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """Jobs that nobody heard of for hours; then some statuses in each tick."""
    jobs, most = (JOBS[0], OPEN[0]) if scale.is_full else (JOBS[1], OPEN[1])
    bank = shop.bank("incidents", jobs, DAYS)
    new, nothing, open_count, written = _looks(shop, scale, bank, most)
    what = f"look of incidents after {2 * scale.tick_jobs} statuses, {jobs:,} jobs, {open_count:,} open"
    yield Row(f"{what}, all CPU", best(new, _whole), goal=0.2, limits="value")
    yield Row(f"{what}, wall", best(new, lambda cost: cost.wall))
    yield Row(
        "the same after a tick with nothing new, all CPU", best(nothing, _whole), goal=0.2, limits="value"
    )
    yield Row("rows of incidents that it writes", written, unit="rows", goal=0, limits="value")


def _whole(cost: Cost) -> float:
    return cost.whole


def _looks(shop: Workshop, scale: Scale, bank: Bank, most: int) -> tuple[list[Cost], list[Cost], int, float]:
    from sensors.oncall.incidents.judge import look

    settings = bank.settings
    store_catalog(settings)
    ingest(settings)
    project = Project(settings)
    tick(project, bank.as_of)
    with connect(settings, autocommit=True) as connection:
        connection.execute("vacuum (analyze)")
        row = connection.execute(
            "select expected_end_at from catalog.promise where expected_end_at > %s"
            " order by expected_end_at offset %s limit 1",
            [bank.as_of, most],
        ).fetchone()
    assert row is not None
    now = datetime.fromisoformat(str(row[0])) + timedelta(seconds=1)
    tick(project, now)
    look(settings, now, seconds=600)
    with connect(settings, autocommit=True) as connection:
        connection.execute("vacuum (analyze)")
    new: list[Cost] = []
    nothing: list[Cost] = []
    written = 0
    for number in range(scale.repeats + 1):
        now += STEP
        _land(bank, scale.tick_jobs, number, now)
        ingest(settings)
        tick(project, now)
        new.append(shop.meter.measure(lambda: look(settings, now)))  # noqa: B023
        before = _versions(bank)
        now += timedelta(seconds=1)
        tick(project, now)
        nothing.append(shop.meter.measure(lambda: look(settings, now)))  # noqa: B023
        written = len(_versions(bank) ^ before)
    with connect(settings) as connection:
        (count,) = connection.execute(
            "select count(*) from ops.incident where resolved_at is null"
        ).fetchone() or (0,)
    return new[1:], nothing[1:], int(str(count)), float(written)


def _versions(bank: Bank) -> set[tuple[object, ...]]:
    """The rows of incidents, as far as they were written: each write makes another."""
    with connect(bank.settings) as connection:
        return set(connection.execute("select incident_id, xmin::text from ops.incident").fetchall())


def _land(bank: Bank, count: int, number: int, now: datetime) -> None:
    with (bank.folder / "truth" / "jobs.csv").open(encoding="utf-8") as lines:
        jobs = list(csv.DictReader(lines))
    path = Path(bank.settings.landing) / "job_status" / f"look-{number}.csv"
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(COLUMNS)
        for position in range(count):
            job = jobs[(number * count + position) % len(jobs)]
            for code, before in (("START", 4), ("SUCCEED", 1)):
                at = (now - timedelta(minutes=before)).isoformat()
                writer.writerow(
                    [job["application_id"], job["job_id"], code, at, now.date(), f"look-{number}", ""]
                )
