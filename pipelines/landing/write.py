"""Rows and rejected records of a load, into its transaction: partitions by month, numbers, COPY."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.landing.feed import Checked, Rejected
from pipelines.landing.formats.records import Chunk
from pipelines.warehouse.copy import copy_csv, copy_table, csv_of

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[tuple[object, ...]]


# What a rejected record takes in memory besides its text.
REJECTED_BYTES = 1000


class Target(Protocol):
    """What a writer knows of a feed."""

    @property
    def name(self) -> str: ...
    @property
    def table(self) -> str: ...
    @property
    def partition_by(self) -> str | None: ...
    @property
    def instant(self) -> str | None: ...


@dataclass(frozen=True)
class Part:
    """A chunk, checked: rows of the table less load_id and seq, what was rejected, and what is only counted of it."""

    rows: pa.Table
    rejected: list[Rejected]
    only_counted: int = 0

    @property
    def size(self) -> int:
        return cast("int", self.rows.nbytes) + sum(
            len(record.record) + REJECTED_BYTES for record in self.rejected
        )


def part_of(chunk: Chunk, checked: Checked, most: int) -> Part:
    """The chunk with its first `most` rejected records; the others are counted."""
    good = checked.breaches.good
    line_numbers = chunk.frame.index.to_numpy(dtype=np.int64)
    refused = np.flatnonzero(~good)
    rejected = chunk.rejected[:most] + [
        Rejected(int(line_numbers[position]), chunk.record(position), checked.breaches.reasons(position))
        for position in refused[:most].tolist()
    ]
    rejected = sorted(rejected, key=lambda record: record.line_no)[:most]
    count = len(chunk.rejected) + chunk.only_counted + len(refused)
    rows = checked.rows.append_column("line_no", pa.array(line_numbers[good]))
    return Part(rows, rejected, count - len(rejected))


@dataclass(frozen=True)
class Batch:
    """A part as it is sent: its rows as text, how many of them are of which month, and the latest instant."""

    count: int
    columns: tuple[str, ...] = ()
    csv: memoryview | None = None
    by_month: dict[date, int] = field(default_factory=dict)
    latest_at: datetime | None = None
    rejected: list[Rejected] = field(default_factory=list)
    only_counted: int = 0


class Writer:
    """Rows and rejected records of one load, into the caller's transaction."""

    def __init__(self, cursor: Cursor, feed: Target, path: str, load_id: int) -> None:
        self.record_count = 0
        self.rejected_count = 0
        self._kept = 0
        self.gained: dict[str, int] = {}
        self._cursor = cursor
        self._feed = feed
        self._path = path
        self._load_id = load_id
        self._months: set[tuple[str, date]] = set()
        self.latest_at: datetime | None = None

    @property
    def kept(self) -> int | None:
        """How many of the rejected records are kept; None: all."""
        return None if self._kept == self.rejected_count else self._kept

    @property
    def months(self) -> set[date] | None:
        """Months of the feed's table that got rows; None where it has none."""
        if self._feed.partition_by is None:
            return None
        return {month for table, month in self._months if table == self._feed.table}

    def ready(self, parts: Iterable[Part]) -> Generator[Batch]:
        """What can be done of each part while the database takes the one before."""
        start = 0
        for part in parts:
            rows, count = part.rows, part.rows.num_rows
            if not count:
                yield Batch(0, rejected=part.rejected, only_counted=part.only_counted)
                continue
            by_month: dict[date, int] = {}
            if self._feed.partition_by is not None:
                days = rows.column(self._feed.partition_by).combine_chunks().to_numpy(zero_copy_only=False)
                months, counts = np.unique(days.astype("datetime64[M]"), return_counts=True)
                first_days = months.astype("datetime64[D]").tolist()
                by_month = dict(zip(first_days, counts.tolist(), strict=True))
            latest_at = pc.max(rows.column(self._feed.instant)).as_py() if self._feed.instant else None
            numbers = np.arange(start, start + count, dtype=np.int64)
            rows = rows.append_column("load_id", pa.array(np.full(count, self._load_id, dtype=np.int64)))
            rows = rows.append_column("seq", pa.array(numbers))
            start += count
            yield Batch(
                count,
                tuple(rows.column_names),
                csv_of(rows),
                by_month,
                latest_at,
                part.rejected,
                part.only_counted,
            )

    def write(self, batch: Batch) -> None:
        table = self._feed.table
        if self._feed.partition_by is None:
            self.gained[table] = self.gained.get(table, 0) + batch.count
        for month, count in batch.by_month.items():
            partition = self._ensure_partition(table, month)
            self.gained[partition] = self.gained.get(partition, 0) + count
        if batch.latest_at is not None:
            self.latest_at = max(self.latest_at or batch.latest_at, batch.latest_at)
        if batch.csv is not None:
            copy_csv(self._cursor, table, batch.columns, batch.csv)
        self.record_count += batch.count
        self.rejected_count += batch.only_counted
        rejected = sorted(batch.rejected, key=lambda record: record.line_no)
        self.write_rejected(rejected, [self._path] * len(rejected))

    def write_rejected(self, rejected: list[Rejected], paths: list[str]) -> None:
        """Add rejected records, each with the path of its file."""
        if not rejected:
            return
        now = cast("datetime", (self._cursor.execute("select clock_timestamp()").fetchone() or (None,))[0])
        self._ensure_partition("raw.rejected_record", now.date())
        reasons = [
            orjson.dumps([reason.as_dict() for reason in record.reasons]).decode() for record in rejected
        ]
        count = len(rejected)
        rows = {
            "load_id": pa.array([self._load_id] * count),
            "feed": pa.array([self._feed.name] * count),
            "path": pa.array(paths),
            "line_no": pa.array([record.line_no for record in rejected]),
            "record": pa.array([record.record for record in rejected], pa.large_string()),
            "reasons": pa.array(reasons, pa.large_string()),
            "rejected_at": pa.array([now] * count, pa.timestamp("us", "UTC")),
        }
        copy_table(self._cursor, "raw.rejected_record", pa.table(rows))
        self.rejected_count += count
        self._kept += count

    def _ensure_partition(self, table: str, day: date) -> str:
        month = day.replace(day=1)
        if (table, month) not in self._months:
            self._cursor.execute("select raw.ensure_partition(%s, %s)", [table.removeprefix("raw."), month])
            self._months.add((table, month))
        return f"{table}_before_1990" if month.year < 1990 else f"{table}_p{month:%Y_%m}"
