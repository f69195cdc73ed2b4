"""From a file that lands, while `duemark up` runs, to the mart that shows it: warm, and through a Dagster run."""

from __future__ import annotations

import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.scale import Scale
from bench.table import Row
from bench.warehouse import Bank, Workshop
from pipelines.processes.running import running_supervisor
from pipelines.simulator.files import COLUMNS
from pipelines.warehouse.connect import connect

JOBS, DAYS = 40, 20
DROPS, DROPS_QUICK = 50, 2
START_SECONDS, LOST_SECONDS = 240, 300
LOOK_SECONDS, MOST_CONNECTIONS = 0.5, 15
OURS = "set application_name = 'bench'"
CONNECTIONS = (
    "select from pg_stat_activity where backend_type = 'client backend' and application_name <> 'bench'"
)
# What DUEMARK_WARM_BYTES has to be, and the goal for the slowest of twenty.
PATHS = {"in the sensor's evaluation": ("", 15.0), "through a Dagster run": ("0", 30.0)}


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """The whole house runs, with nothing else to do than this."""
    bank = shop.bank("visible", JOBS, DAYS)
    for path, (warm_bytes, goal) in PATHS.items():
        with _up(bank, warm_bytes):
            # The first one waits for what every process does once.
            list(_seconds(bank, 1))
            with _counted(bank) as counts:
                found = sorted(_seconds(bank, DROPS if scale.is_full else DROPS_QUICK))
        what = f"landed to visible {path}"
        yield Row(f"{what}, p50 of {len(found)}", _percentile(found, 50))
        yield Row(f"{what}, p95", _percentile(found, 95), goal=goal, limits="value")
        minutes = len(counts) * LOOK_SECONDS / 60
        yield Row(
            f"connections to the server meanwhile, most of {len(counts)} looks in {minutes:.0f} min",
            max(counts), "connections", goal=MOST_CONNECTIONS, limits="value",
        )  # fmt: skip


@contextlib.contextmanager
def _counted(bank: Bank) -> Iterator[list[int]]:
    """How many connections the server has, but for those of the bench, again and again while the block runs."""
    counts: list[int] = []
    is_over = threading.Event()

    def look() -> None:
        with connect(bank.settings, autocommit=True) as connection:
            connection.execute(OURS)
            while not is_over.wait(LOOK_SECONDS):
                counts.append(len(connection.execute(CONNECTIONS).fetchall()))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield counts
    finally:
        is_over.set()
        looking.join()


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """The least that so many percent do not exceed."""
    return ordered[max(-(-len(ordered) * percent // 100) - 1, 0)]


@contextlib.contextmanager
def _up(bank: Bank, warm_bytes: str) -> Iterator[None]:
    home = bank.settings.home
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.out").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from pipelines.cli import main; main()", "up", "--port", "0"],
            env={**bank.environment(), "DUEMARK_WARM_BYTES": warm_bytes}, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_up(bank) or _waits(bank):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((home / "up.out").read_text())
            time.sleep(0.5)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _is_up(bank: Bank) -> bool:
    parts = (running_supervisor(bank.settings) or {"parts": {}})["parts"]
    return bool(parts) and all(part["state"] == "up" for part in parts.values())


def _waits(bank: Bank) -> bool:
    """Whether the simulated history is still to be built."""
    with connect(bank.settings, "transform") as connection:
        row = connection.execute(
            "select not needs_rebuild and published_high >= (select coalesce(max(load_id), 0) from raw.load)"
            " and exists (select from raw.load where feed = 'job_status') from control.tick"
        ).fetchone()
    return not (row and row[0])


def _seconds(bank: Bank, count: int) -> Iterator[float]:
    """Drop so many files, one after the other, at moments that have nothing to do with any clock of ours."""
    with (bank.folder / "truth" / "jobs.csv").open(encoding="utf-8") as lines:
        jobs = list(csv.DictReader(lines))
    folder = Path(bank.settings.landing) / "job_status"
    with connect(bank.settings, "analyst", autocommit=True) as connection:
        connection.execute(OURS)
        for number in range(count):
            time.sleep(random.uniform(0, 15))
            run_id = f"drop-{os.getpid()}-{time.time_ns()}"
            draft = folder / f"{run_id}.csv.part"
            _write(draft, jobs[number % len(jobs)], run_id)
            landed = time.monotonic()
            draft.rename(draft.with_suffix(""))
            while connection.execute(SHOWN, [run_id]).fetchone() is None:
                if time.monotonic() - landed > LOST_SECONDS:
                    raise RuntimeError(f"{run_id} did not become visible")
                time.sleep(0.1)
            yield time.monotonic() - landed


# Marts change together: what shows the run shows what became of its SLO.
SHOWN = "select from marts.job_run where run_id = %s"


def _write(path: Path, job: dict[str, str], run_id: str) -> None:
    now = datetime.now(UTC)
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(COLUMNS)
        for code, before in (("START", 2), ("SUCCEED", 1)):
            at = (now - timedelta(seconds=before)).isoformat()
            writer.writerow([job["application_id"], job["job_id"], code, at, now.date(), run_id, ""])
