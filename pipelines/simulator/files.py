"""The landing files of a simulation: rows to CSV, NDJSON or Parquet, streamed, byte for byte the same every time."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any

from pipelines.simulator.plan import SECOND, Sender

COLUMNS = ("application_id", "job_id", "status_code", "status_at", "business_date", "run_id", "host_id")
_CAMEL = ("applicationId", "jobId", "jobStatusCode", "jobStatusTimestamp", "businessDate", "runId", "hostId")
# Whoever sends the camelCase names also has an order of columns of their own.
_CAMEL_ORDER = (1, 0, 5, 6, 4, 2, 3)

Row = tuple[str, str, str, int, str, str, str]
"""application, job, code, instant, business date, run id ('' for none), host id ('' for none)."""


def stamp(at: int, sender: Sender) -> str:
    """A status time as the sender writes it: in UTC, with the offset of its zone, or by the wall clock alone."""
    seconds, rest = divmod(at, SECOND)
    if sender.stamp == "utc":
        text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
        return f"{text}.{rest:03d}Z" if rest else f"{text}Z"
    local = datetime.fromtimestamp(seconds, sender.zone)
    text = local.isoformat()
    # The second pass of an autumn hour has no name without an offset.
    offset = "" if sender.stamp == "local" and not local.fold else text[19:]
    return f"{text[:19]}.{rest:03d}{offset}" if rest else f"{text[:19]}{offset}"


@dataclass(slots=True)
class Written:
    """One file, and the instant at which it appeared."""

    path: Path
    records: int
    appeared: int


class StatusFile:
    """One file that grows; `sender` decides its columns, `form` its format."""

    def __init__(self, path: Path, sender: Sender, form: str) -> None:
        self.path, self.sender, self.form = path, sender, form
        self.records = 0
        self._rows: list[Row] = []
        if form == "parquet":
            return
        raw: IO[bytes] = path.open("wb")
        self._raw = raw
        # No name and no time inside: the same rows are the same bytes.
        self._binary: Any = gzip.GzipFile("", "wb", 5, raw, mtime=0) if form.endswith(".gz") else raw
        if form.startswith("csv"):
            self._text = io.TextIOWrapper(self._binary, "utf-8", newline="", write_through=False)
            self._csv = csv.writer(self._text, lineterminator="\n")
            if sender.is_camel_case:
                self._csv.writerow([_CAMEL[n] for n in _CAMEL_ORDER])
            else:
                self._csv.writerow(COLUMNS)

    def add(self, rows: Sequence[Row], senders: dict[str, Sender]) -> None:
        """Append rows in the given order; each is written as its own application writes them."""
        self.records += len(rows)
        if self.form == "parquet":
            self._rows += rows
            return
        shown = []
        for application, job, code, at, day, run_id, host in rows:
            sender = senders[application]
            text = code.lower() if sender.is_lower_case else code
            shown.append((application, job, text, stamp(at, sender), day, run_id, host))
        if self.form.startswith("csv"):
            if self.sender.is_camel_case:
                self._csv.writerows([[row[n] for n in _CAMEL_ORDER] for row in shown])
            else:
                self._csv.writerows(shown)
            return
        import orjson

        names = _CAMEL if self.sender.is_camel_case else COLUMNS
        for values in shown:
            record = {name: value for name, value in zip(names, values, strict=True) if value}
            self._binary.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    def add_raw(self, lines: Sequence[Sequence[str]]) -> None:
        """Append CSV records as they are, good or not."""
        self.records += len(lines)
        self._csv.writerows(lines)

    def close(self) -> None:
        """Write what is held back, and close."""
        if self.form == "parquet":
            self._write_parquet()
            return
        if self.form.startswith("csv"):
            self._text.flush()
            self._text.detach()
        if self._binary is not self._raw:
            self._binary.close()
        self._raw.close()

    def _write_parquet(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        instants = pa.timestamp("us", tz=self.sender.zone.key)
        columns: dict[str, Any] = {
            name: pa.array([row[n] or None for row in self._rows], pa.string())
            for n, name in enumerate(COLUMNS)
            if name not in ("status_at", "business_date")
        }
        columns["status_at"] = pa.array([row[3] * 1000 for row in self._rows], pa.int64()).cast(instants)
        columns["business_date"] = pa.array([date.fromisoformat(row[4]) for row in self._rows], pa.date32())
        pq.write_table(pa.table({name: columns[name] for name in COLUMNS}), self.path, compression="snappy")
