"""Rows and rejected records of a load, into its transaction: partitions by month, numbers, COPY."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.landing.records import Rejected
from pipelines.warehouse.copy import copy_csv, copy_table, csv_of

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[tuple[object, ...]]


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
    """A chunk, checked: rows of the table less load_id and seq, and what was rejected."""

    rows: pa.Table
    rejected: list[Rejected]

    @property
    def size(self) -> int:
        return cast("int", self.rows.nbytes) + sum(len(record.record) for record in self.rejected)


@dataclass(frozen=True)
class Batch:
    """A part as it is sent: its rows as text, how many of them are of which month, and the latest instant."""

    count: int
    columns: tuple[str, ...] = ()
    csv: memoryview | None = None
    by_month: dict[date, int] = field(default_factory=dict)
    latest_at: datetime | None = None
    rejected: list[Rejected] = field(default_factory=list)


class Writer:
    """Rows and rejected records of one load, into the caller's transaction."""

    def __init__(self, cursor: Cursor, feed: Target, path: str, load_id: int) -> None:
        self.record_count = 0
        self.rejected_count = 0
        self.gained: dict[str, int] = {}
        self._cursor = cursor
        self._feed = feed
        self._path = path
        self._load_id = load_id
        self._months: set[tuple[str, date]] = set()
        self.latest_at: datetime | None = None

    @property
    def months(self) -> set[date] | None:
        """Months of the feed's table that got rows; None where it has none."""
        if self._feed.partition_by is None:
            return None
        return {month for table, month in self._months if table == self._feed.table}

    def ready(self, parts: Iterable[Part]) -> Iterator[Batch]:
        """What can be done of each part while the database takes the one before."""
        start = 0
        for part in parts:
            rows, count = part.rows, part.rows.num_rows
            if not count:
                yield Batch(0, rejected=part.rejected)
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
            yield Batch(count, tuple(rows.column_names), csv_of(rows), by_month, latest_at, part.rejected)

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
        self._write_rejected(batch.rejected)

    def _write_rejected(self, rejected: list[Rejected]) -> None:
        if not rejected:
            return
        now = cast("datetime", (self._cursor.execute("select clock_timestamp()").fetchone() or (None,))[0])
        self._ensure_partition("raw.rejected_record", now.date())
        rejected = sorted(rejected, key=lambda record: record.line_no)
        reasons = [
            orjson.dumps([reason.as_dict() for reason in record.reasons]).decode() for record in rejected
        ]
        count = len(rejected)
        rows = {
            "load_id": pa.array([self._load_id] * count),
            "feed": pa.array([self._feed.name] * count),
            "path": pa.array([self._path] * count),
            "line_no": pa.array([record.line_no for record in rejected]),
            "record": pa.array([record.record for record in rejected], pa.large_string()),
            "reasons": pa.array(reasons, pa.large_string()),
            "rejected_at": pa.array([now] * count, pa.timestamp("us", "UTC")),
        }
        copy_table(self._cursor, "raw.rejected_record", pa.table(rows))
        self.rejected_count += count

    def _ensure_partition(self, table: str, day: date) -> str:
        month = day.replace(day=1)
        if (table, month) not in self._months:
            self._cursor.execute("select raw.ensure_partition(%s, %s)", [table.removeprefix("raw."), month])
            self._months.add((table, month))
        return f"{table}_before_1990" if month.year < 1990 else f"{table}_p{month:%Y_%m}"
