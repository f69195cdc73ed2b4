"""Small files, and bad ones: how many files a second, what a look at loaded ones costs, the memory that bombs take."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.scale import Scale
from bench.table import Row
from bench.warehouse import Bank, Workshop
from pipelines.catalog.store import store_catalog
from pipelines.landing.ingest import ingest
from pipelines.landing.ledger import pending
from pipelines.warehouse.connect import connect

NAMES = ("application_id", "job_id", "status_code", "status_at", "business_date", "run_id", "host_id")
HEADER = ",".join(NAMES) + "\n"
CHILD = """
import sys
from bench.measure import peak_memory
from pipelines.landing.ingest import ingest
from pipelines.warehouse.settings import Settings
ingest(Settings.from_env(), [sys.argv[1]], feed="job_status")
print(peak_memory())
"""


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """The yardstick of small files is one file with the same records."""
    bank = shop.bank("small", scale.jobs, 10)
    store_catalog(bank.settings)
    landing = shop.folder / "small-landing"
    folder = landing / "job_status"
    folder.mkdir(parents=True)
    settings = replace(bank.settings, landing=str(landing))
    count = 20_000 if scale.is_full else 50
    for n in range(count):
        (folder / f"{n:06}.csv").write_text(HEADER + _line(n))
    one = shop.folder / "one.csv"
    one.write_text(HEADER + "".join(map(_line, range(count))))
    _empty(bank)
    small = shop.meter.measure(lambda: ingest(settings))
    looks = []
    for _ in range(3):
        began = time.process_time()
        pending(settings)
        looks.append(time.process_time() - began)
    _empty(bank)
    single = shop.meter.measure(lambda: ingest(settings, [str(one)], feed="job_status"))
    _empty(bank)
    yield Row(
        f"1,000 small files of {count:,}, CPU with the database",
        small.whole * 1000 / count,
        yardstick=single.whole * 1000 / count,
        yardstick_is="their records in one file",
        goal=1,
        limits="value",
    )
    yield Row(
        f"1,000 small files of {count:,}, wall",
        small.wall * 1000 / count,
        yardstick=single.wall * 1000 / count,
        yardstick_is="the same",
    )
    yield Row(
        "a look at 1,000 files that are loaded, CPU", looks[-1] * 1000 / count, goal=0.02, limits="value"
    )
    peaks = {name: _peak(shop, bank, name, make, scale) for name, make in BOMBS.items()}
    worst = max(peaks, key=lambda name: peaks[name])
    yield Row(
        f"peak memory of the worst of {len(peaks)} bombs ({worst})",
        peaks[worst],
        "MB",
        peaks["plain.csv"],
        "of a file of one record",
        goal=1000,
        limits="value",
    )


def _line(n: int) -> str:
    return f"deposits,load,START,2026-03-02T05:31:07Z,2026-03-01,r{n},h\n"


def _empty(bank: Bank) -> None:
    with connect(bank.settings, autocommit=True) as connection:
        connection.execute("truncate raw.job_status, raw.landed_file, raw.rejected_record")
        connection.execute("delete from raw.load where feed <> 'catalog'")


def _peak(shop: Workshop, bank: Bank, name: str, make: Callable[[Path, int], None], scale: Scale) -> float:
    path = shop.folder / name
    make(path, 1 if scale.is_full else 100)
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)],
        env=bank.environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    path.unlink()
    _empty(bank)
    return int(result.stdout.split()[-1]) / 1e6


# Each writes its file, in full or a part of it.


def _plain(path: Path, _: int) -> None:
    path.write_text(HEADER + _line(0))


def _gzip(path: Path, part: int) -> None:
    with gzip.open(path, "wb") as file:
        file.write(HEADER.encode())
        for _ in range(2000 // part):
            file.write(b"x\n" * 50_000)


def _members(path: Path, part: int) -> None:
    member = gzip.compress((_line(0) * 10_000).encode())
    path.write_bytes(gzip.compress(HEADER.encode()) + member * (200 // part))


def _short_lines(path: Path, part: int) -> None:
    path.write_bytes(HEADER.encode() + b"x\n" * (3_000_000 // part))


def _one_line(path: Path, part: int) -> None:
    path.write_text(HEADER + "x" * 20_000)
    # Sparse: it takes no disk.
    os.truncate(path, (2 << 30) // part)


def _columns(path: Path, part: int) -> None:
    path.write_text(",".join(f"c{n}" for n in range(150_000)) + "\n" + "," * (900_000 // part) + "\n")


def _wide(path: Path, part: int) -> None:
    names = ",".join([*NAMES, *(f"c{n}" for n in range(9_000))])
    path.write_text(names + "\n" + ("," * 9_006 + "\n") * (3_000 // part))


def _nested(path: Path, part: int) -> None:
    line = '{"application_id": ' + "[" * 1000 + "]" * 1000 + "}\n"
    path.write_text(line * (30_000 // part))


def _keys(path: Path, part: int) -> None:
    lines = ("{" + ", ".join(f'"k{n}-{m}": 1' for m in range(20_000)) + "}\n" for n in range(200 // part))
    path.write_text("".join(lines))


def _fields(path: Path, part: int) -> None:
    path.write_text(HEADER + ('"' + "x" * 1_000_000 + '",j,START,t,d,r,h\n') * (200 // part))


def _dictionary(path: Path, part: int) -> None:
    indices = pa.array([0] * (450_000 // part), pa.int32())
    _parquet(path, pa.DictionaryArray.from_arrays(indices, ["x" * 5000]))


def _long_text(path: Path, part: int) -> None:
    _parquet(path, pa.array(["x" * (60_000_000 // part)] * 3))


def _nothing(path: Path, part: int) -> None:
    _parquet(path, pa.nulls(100_000_000 // part, pa.string()))


def _parquet(path: Path, values: pa.Array) -> None:
    table = pa.table(
        {name: values if name == "run_id" else pa.nulls(len(values), pa.string()) for name in NAMES}
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    path.write_bytes(sink.getvalue())


BOMBS: dict[str, Callable[[Path, int], None]] = {
    "plain.csv": _plain,
    "gzip.csv.gz": _gzip,
    "members.csv.gz": _members,
    "short-lines.csv": _short_lines,
    "one-line.csv": _one_line,
    "columns.csv": _columns,
    "wide.csv": _wide,
    "nested.ndjson": _nested,
    "keys.ndjson": _keys,
    "fields.csv": _fields,
    "dictionary.parquet": _dictionary,
    "long-text.parquet": _long_text,
    "nothing.parquet": _nothing,
}
