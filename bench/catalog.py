"""The catalog: checking thousands of dated entries in a new process, first read and read before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

from bench.measure import Cost, best
from bench.scale import Scale
from bench.table import Row
from bench.warehouse import Workshop
from pipelines.warehouse.settings import ROOT

APPLICATIONS, JOBS, SLOS = 10, 181, 251
MOST_ENTRIES = 11_470
FIRST = date(2026, 1, 1)
CHECK = "from pipelines.cli import main; main()"
# The least that anybody pays for the values: libyaml's own loader, with Python's collector off.
BY_HAND = """
import gc, sys, yaml
gc.disable()
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        yaml.load(file, yaml.CSafeLoader)
"""


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """`duemark check`, all CPU of the process; then again with what the first kept."""
    entries = min(MOST_ENTRIES, scale.jobs * 20)
    folder, home = shop.folder / "entries", shop.folder / "entries_home"
    files = write(folder, entries)
    env = {**os.environ, "DUEMARK_HOME": str(home), "DUEMARK_CATALOG": str(folder), "PYTHONPATH": str(ROOT)}

    def run(*arguments: str) -> Cost:
        command = [sys.executable, "-c", *arguments]
        return shop.meter.measure(lambda: subprocess.run(command, env=env, check=True, capture_output=True))

    first, again = [], []
    for _ in range(scale.repeats):
        shutil.rmtree(home, ignore_errors=True)
        first.append(run(CHECK, "check"))
        again.append(run(CHECK, "check"))
    by_hand = [run(BY_HAND, *map(str, files)) for _ in range(scale.repeats)]
    yardstick = best(by_hand, lambda cost: cost.cpu)
    for what, costs, goal in (("", first, 2.5), (", read before", again, 1.5)):
        yield Row(
            f"`duemark check` of {entries:,} SLO entries{what}, all CPU",
            best(costs, lambda cost: cost.cpu),
            yardstick=yardstick,
            yardstick_is="libyaml's loader by itself",
            goal=goal,
            limits="value",
        )


def write(folder: Path, entries: int) -> Sequence[Path]:
    """A catalog whose SLOs have a new entry every day."""
    contents = {
        "applications": "".join(
            f"  - {{id: app-{number}, timezone: America/New_York}}\n" for number in range(APPLICATIONS)
        ),
        "calendars": "  - {id: daily, weekdays: [mon, tue, wed, thu, fri, sat, sun]}\n",
        "jobs": "".join(
            f"  - id: job-{number}\n    application: app-{number % APPLICATIONS}\n" for number in range(JOBS)
        ),
        "slos": "".join(_entry(number) for number in range(entries)),
    }
    files = []
    for kind, text in contents.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        files.append(folder / kind / "all.yml")
        files[-1].write_text(f"{kind}:\n{text}", "utf-8")
    return files


def _entry(number: int) -> str:
    slo, day = number % SLOS, FIRST + timedelta(days=number // SLOS)
    job = slo % JOBS
    return (
        f"  - id: slo-{slo}\n    name: Promise number {slo}\n    application: app-{job % APPLICATIONS}\n"
        f"    calendar: daily\n    objective: 0.95\n    effective_from: {day}\n    jobs:\n"
        f'      - job: job-{job}\n        start: "00:30"\n        end: "03:{number % 60:02}"\n        day_offset: 1\n'
    )
