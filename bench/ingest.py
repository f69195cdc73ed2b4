"""Bulk ingest of one CSV against COPY of the same rows into the same table; memory by the size of a file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Cost, best
from bench.scale import Scale
from bench.table import Row
from bench.warehouse import Bank, Workshop
from pipelines.catalog.store import store_catalog
from pipelines.landing.ingest import ingest
from pipelines.warehouse import embedded
from pipelines.warehouse.connect import connect, database_url

COLUMNS = (
    "load_id, seq, line_no, application_id, job_id, status_code, status_at, business_date, run_id, host_id,"
    " is_ambiguous"
)
CHILD = """
import sys
from bench.measure import peak_memory
from pipelines.landing.ingest import ingest
from pipelines.warehouse.settings import Settings
report = ingest(Settings.from_env(), [sys.argv[1]], feed="job_status")
assert [outcome.status for outcome in report.files] == ["loaded"], report
print(peak_memory())
"""


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """Ours is all that `ingest` does: reading, checking, fingerprint, ledger, COPY, statistics."""
    bank = shop.bank("ingest", scale.jobs, scale.days)
    store_catalog(bank.settings)
    file = bank.files[0]
    ours = [_empty_then(shop, bank, lambda: ingest(bank.settings, [str(file)])) for _ in range(scale.repeats)]
    ready = shop.folder / "ready.csv"
    _psql(
        bank, f"\\copy (select {COLUMNS} from raw.job_status order by load_id, seq) to '{ready}' (format csv)"
    )
    copy = [
        _empty_then(
            shop, bank, lambda: _psql(bank, f"\\copy raw.job_status ({COLUMNS}) from '{ready}' (format csv)")
        )
        for _ in range(scale.repeats)
    ]
    ready.unlink()
    count = f"{_count(file) / 1e6:.2g} M" if scale.is_full else "some"
    yield Row(
        f"bulk ingest of {count} statuses, wall",
        best(ours, lambda cost: cost.wall),
        yardstick=best(copy, lambda cost: cost.wall),
        yardstick_is="psql \\copy of the checked rows into the same table",
        goal=2.5,
    )
    yield Row(
        f"bulk ingest of {count} statuses, CPU with the database",
        best(ours, lambda cost: cost.whole),
        yardstick=best(copy, lambda cost: cost.whole),
        yardstick_is="the same",
    )
    yield _memory(shop, bank, file, scale.growth)


def _memory(shop: Workshop, bank: Bank, file: Path, growth: int) -> Row:
    big = shop.folder / "big.csv"
    with file.open("rb") as source, big.open("wb") as target:
        shutil.copyfileobj(source, target)
        header = file.open("rb").readline()
        for _ in range(growth - 1):
            source.seek(len(header))
            shutil.copyfileobj(source, target)
    size = big.stat().st_size / 1e6
    small_peak, big_peak = (_peak(bank, path) for path in (file, big))
    big.unlink()
    return Row(
        f"peak memory of an ingest of {size:,.0f} MB",
        big_peak,
        "MB",
        small_peak,
        f"of {size / growth:,.0f} MB",
        goal=1000,
        limits="value",
    )


def _peak(bank: Bank, path: Path) -> float:
    """Megabytes, of a process of its own."""
    _empty(bank)
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)],
        env=bank.environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    _empty(bank)
    return int(result.stdout.split()[-1]) / 1e6


def _empty_then(shop: Workshop, bank: Bank, work: object) -> Cost:
    _empty(bank)
    assert callable(work)
    return shop.meter.measure(work)


def _empty(bank: Bank) -> None:
    """Nothing loaded, partitions as they are, nothing left to be written by the checkpointer."""
    with connect(bank.settings, autocommit=True) as connection:
        connection.execute("truncate raw.job_status, raw.landed_file")
        connection.execute("delete from raw.load where feed <> 'catalog'")
        connection.execute("checkpoint")


def _psql(bank: Bank, command: str) -> None:
    subprocess.run(
        [
            embedded.binaries() / "psql",
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            command,
            database_url(bank.settings),
        ],
        check=True,
    )


def _count(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines) - 1
