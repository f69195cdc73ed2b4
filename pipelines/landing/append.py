"""Rows that come without a file: the same contract as those of files, the same rejections, a load for each source.

A row is what a line of NDJSON would be, and is read and checked as one: so it can bring nothing that a file could not.
"""

from __future__ import annotations

import itertools
import json
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import orjson
import pyarrow as pa
from psycopg import sql

from pipelines.errors import DuemarkError
from pipelines.landing import known_feeds
from pipelines.landing.feed import Checked, Feed, Rejected
from pipelines.landing.formats.lines import BLOCK_BYTES, MOST_LINES
from pipelines.landing.formats.read import chunk_of_lines
from pipelines.landing.formats.records import Chunk, Warnings
from pipelines.landing.limits import Limits
from pipelines.landing.write import Part, Writer, part_of
from pipelines.logs import get_logger
from pipelines.warehouse.connect import connect
from pipelines.warehouse.loads import NO_INSTANT, begin_load, end_load, standing
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[object, ...]]
    Cursor = psycopg.Cursor[tuple[object, ...]]

log = get_logger(__name__)

# A row by the names of its feed's columns, or their aliases: what JSON has, and dates and times.
Row = Mapping[str, object]

# Types of a feed's columns, as SQL names them.
SQL_TYPES = {
    pa.string(): "text",
    pa.large_string(): "text",
    pa.date32(): "date",
    pa.timestamp("us", "UTC"): "timestamptz",
}
# Whoever may report for some applications only may send a row that belongs to none.
OWNER = "application_id"


@dataclass(frozen=True)
class Appended:
    """What became of rows: the load (None: there were none), and how many were accepted and rejected.

    `warnings`: what is worth a word, as that of a file; the line of a row is its place, from 1.
    """

    load_id: int | None = None
    record_count: int = 0
    rejected_count: int = 0
    warnings: tuple[dict[str, str | int | None], ...] = ()


@dataclass(frozen=True)
class Delivery:
    """Lines that are answered together, one JSON object each as it was sent, none of them blank.

    `source` says who sent them; `applications` are those that it may report for, None: any.
    """

    source: str
    lines: Sequence[bytes]
    applications: Collection[str] | None = None


@dataclass
class Receipt:
    """What became of a delivery. `known`: rows equal to one that stands, which were not stored again.

    `rejected`: each with its place in the delivery, from 1; of these `forbidden` were rejected for nothing but that the
    sender may not report for their application.
    """

    stored: int = 0
    known: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    forbidden: int = 0


def append(
    settings: Settings, feed: str, rows: Sequence[Row], *, source: str, context: Any = None
) -> Appended:
    """Load rows into the table of a feed, in one transaction: all that the feed's check accepts, or none.

    Those that it rejects go to raw.rejected_record, with `source` as their path and their place, from 1, as their line.
    Nothing tells the same rows from others alike: who calls again appends again. `context` is what the check knows
    besides them; without one the feed reads its own.

    Raises DuemarkError when there is no such feed, or when it is one of logs, which are read on; TypeError when a row
    holds what JSON has no word for; what the check or the database raises. Nothing is loaded then.
    """
    contract = feed_of_rows(feed)
    if not rows:
        return Appended()
    context = contract.context(settings) if context is None else context
    checked = _Checked(contract, source, [Delivery(source, [_line(row) for row in rows])], context)
    with (
        connect(settings, "ingest", autocommit=True) as connection,
        connection.transaction(),
        connection.cursor() as cursor,
    ):
        load_id = begin_load(cursor)
        checked.write(cursor, load_id, Limits.of(settings))
    checked.tell()
    return Appended(load_id, checked.rows.num_rows, len(checked.rejected), tuple(checked.warnings.entries))


def append_within(
    cursor: Cursor,
    load_id: int,
    feed: str,
    rows: Sequence[Row],
    *,
    source: str,
    context: Any,
    limits: Limits,
    taken_out_months: Collection[date] = (),
) -> list[int]:
    """`append` in the caller's transaction, as the load that it began; writes the load's entry, so call it last.

    Returns the places in `rows`, from 0, of those that were accepted, in the order of their `seq`. `taken_out_months`:
    first days of months in which the load takes rows out.
    """
    if not rows:
        end_load(cursor, load_id, feed, source, 0, months=set(taken_out_months), latest_at=NO_INSTANT)
        return []
    checked = _Checked(feed_of_rows(feed), source, [Delivery(source, [_line(row) for row in rows])], context)
    checked.write(cursor, load_id, limits, taken_out_months)
    checked.tell()
    return [int(line) - 1 for line in checked.rows.column("line_no").to_pylist()]


def receive(
    connection: Connection, feed: Feed, deliveries: Sequence[Delivery], context: Any, limits: Limits
) -> list[Receipt]:
    """Load what was delivered, in one transaction of `connection` (which is in autocommit), a load for each source.

    What the feed's check rejects, and what its sender may not report, goes to raw.rejected_record. Rows that are equal
    to one that stands, in all columns of `feed.known_by`, are not stored again, so that who got no answer may send
    again; what was taken out again does not stand.

    Raises what the check or the database raises; nothing is loaded then.
    """
    order = sorted(range(len(deliveries)), key=lambda position: deliveries[position].source)
    groups = [
        (source, list(positions))
        for source, positions in itertools.groupby(order, key=lambda position: deliveries[position].source)
    ]
    found = [
        _Checked(feed, source, [deliveries[position] for position in positions], context)
        for source, positions in groups
    ]
    receipts = [Receipt() for _ in deliveries]
    with connection.transaction(), connection.cursor() as cursor:
        for checked, (_, positions) in zip(found, groups, strict=True):
            load_id = begin_load(cursor)
            known = checked.leave_out_known(cursor)
            if checked.rows.num_rows or checked.rejected:
                checked.write(cursor, load_id, limits)
            checked.answer(known, [receipts[position] for position in positions])
    for checked in found:
        checked.tell()
    return receipts


def feed_of_rows(name: str) -> Feed:
    """The feed of that name, which takes rows without a file. Raises DuemarkError where there is none."""
    if known_feeds.entry(name).followed:
        raise DuemarkError(
            f"The feed {name} has files that grow; rows cannot be appended to it.",
            f"Write lines to a file in landing/{name}.",
        )
    return known_feeds.feed(name)


class _Checked:
    """Deliveries of one source, checked; their lines are numbered through, from 1."""

    def __init__(self, feed: Feed, source: str, deliveries: Sequence[Delivery], context: Any) -> None:
        self.feed, self.source = feed, source
        self.warnings = Warnings()
        self.rejected: list[Rejected] = []
        self.load_id: int | None = None
        self._forbidden: set[int] = set()
        self._deliveries = deliveries
        # The number of the first line of each delivery.
        self._firsts = list(itertools.accumulate((len(one.lines) for one in deliveries[:-1]), initial=1))
        tables = []
        for chunk in _chunks(feed, [line for one in deliveries for line in one.lines], self.warnings):
            checked = self._permitted(chunk, feed.check(chunk.frame, context))
            for note in checked.notes:
                self.warnings.note(int(chunk.frame.index[note.position]), note)
            part = part_of(chunk, checked, len(chunk.rejected) + len(chunk.frame))
            tables.append(part.rows)
            self.rejected += part.rejected
        self.rows = pa.concat_tables(tables)

    def leave_out_known(self, cursor: Cursor) -> list[int]:
        """Take the rows out that are known by now, or that come twice; returns their lines."""
        names = self.feed.known_by
        if not names or not self.rows.num_rows:
            return []
        columns = [self.rows.column(name).to_pylist() for name in names]
        found = cursor.execute(_known(self.feed, self.rows.schema), columns)
        places = {cast("int", place) - 1 for (place,) in found}
        seen: set[tuple[object, ...]] = set()
        for place, key in enumerate(zip(*columns, strict=True)):
            if key in seen:
                places.add(place)
            seen.add(key)
        if not places:
            return []
        is_known = np.zeros(self.rows.num_rows, dtype=bool)
        is_known[list(places)] = True
        lines = self.rows.column("line_no").to_numpy()[is_known].tolist()
        self.rows = self.rows.filter(pa.array(~is_known))
        return [int(line) for line in lines]

    def write(
        self, cursor: Cursor, load_id: int, limits: Limits, taken_out_months: Collection[date] = ()
    ) -> None:
        """Write rows and rejected records into the caller's transaction, and the load's entry.

        `taken_out_months`: months of rows that the load takes out.
        """
        self.load_id = load_id
        writer = Writer(cursor, self.feed, self.source, load_id)
        kept = self.rejected[: limits.rejected_kept]
        for batch in writer.ready([Part(self.rows, kept, len(self.rejected) - len(kept))]):
            writer.write(batch)
        end_load(
            cursor,
            load_id,
            self.feed.name,
            self.source,
            writer.record_count,
            writer.rejected_count,
            months=None if writer.months is None else writer.months | set(taken_out_months),
            # Without rows there is none that is held.
            latest_at=writer.latest_at if self.rows.num_rows else NO_INSTANT,
        )

    def answer(self, known: list[int], receipts: Sequence[Receipt]) -> None:
        """Fill in what became of each delivery."""
        for line in self.rows.column("line_no").to_pylist():
            receipts[self._delivery(line)].stored += 1
        for line in known:
            receipts[self._delivery(line)].known += 1
        for record in self.rejected:
            place = self._delivery(record.line_no)
            receipt = receipts[place]
            receipt.rejected.append(replace(record, line_no=record.line_no - self._firsts[place] + 1))
            receipt.forbidden += record.line_no in self._forbidden

    def tell(self) -> None:
        """Log what was done."""
        if self.load_id is None:
            return
        facts = {"feed": self.feed.name, "source": self.source, "load": self.load_id}
        log.info("appended", **facts, records=self.rows.num_rows, rejected=len(self.rejected))
        for warning in self.warnings.entries:
            log.warning("warning", **facts, message=warning["message"], hint=warning["hint"])

    def _delivery(self, line: int) -> int:
        return bisect_right(self._firsts, line) - 1

    def _permitted(self, chunk: Chunk, checked: Checked) -> Checked:
        """The same, where what a sender may not report is a breach."""
        if all(one.applications is None for one in self._deliveries):
            return checked
        positions = np.flatnonzero(checked.breaches.good)
        lines = chunk.frame.index.to_numpy(dtype=np.int64)[positions].tolist()
        is_permitted = np.ones(len(positions), dtype=bool)
        names = checked.rows.column(OWNER).to_pylist()
        for place, (line, name) in enumerate(zip(lines, names, strict=True)):
            applications = self._deliveries[self._delivery(line)].applications
            if applications is not None and name is not None and name not in applications:
                is_permitted[place] = False
                self._forbidden.add(line)
        if is_permitted.all():
            return checked
        refused = dict(zip(positions.tolist(), names, strict=True))
        where = np.zeros(len(chunk.frame), dtype=bool)
        where[positions[~is_permitted]] = True
        checked.breaches.add(
            where,
            OWNER,
            lambda position: f"This client may not report for the application {refused[position]!r}.",
            "Who may is said in the catalog: senders/, or `senders` of the application.",
        )
        return replace(checked, rows=checked.rows.filter(pa.array(is_permitted)))


def _chunks(feed: Feed, lines: Sequence[bytes], warnings: Warnings) -> Iterator[Chunk]:
    """The lines in chunks of some megabytes."""
    start = size = 0
    for end, line in enumerate(lines, start=1):
        size += len(line) + 1
        if size < BLOCK_BYTES and end - start < MOST_LINES and end < len(lines):
            continue
        data = b"\n".join(lines[start:end]) + b"\n"
        chunk = chunk_of_lines("ndjson", b"", data, feed, warnings, start + 1)
        if chunk is not None:
            yield chunk
        start, size = end, 0


def _known(feed: Feed, schema: pa.Schema) -> sql.Composed:
    """Places, from 1, of the given rows that stand in the table already.

    A look into an index for each, whatever the planner thinks of their number.
    """
    # What is taken from documents, and tells them apart, is never missing.
    required = {column.name for column in feed.columns if column.required} or set(feed.known_by)
    types = {name: SQL_TYPES[schema.field(name).type] for name in feed.known_by}
    conditions = sql.SQL(" and ").join(
        sql.SQL("kept.{name} {equals} given.{name}{collation}").format(
            name=sql.Identifier(name),
            equals=sql.SQL("=" if name in required else "is not distinct from"),
            collation=sql.SQL(' collate "C"' if types[name] == "text" else ""),
        )
        for name in feed.known_by
    )
    return sql.SQL(
        "select given.place::int from unnest({arrays}) with ordinality as given ({names}, place)"
        " cross join lateral (select 1 from {table} as kept where {conditions}"
        " and {standing} limit 1) as found"
    ).format(
        arrays=sql.SQL(", ").join(sql.SQL(f"%s::{types[name]}[]") for name in feed.known_by),
        names=sql.SQL(", ").join(map(sql.Identifier, feed.known_by)),
        table=sql.Identifier(*feed.table.split(".")),
        conditions=conditions,
        standing=sql.SQL(standing("kept")),
    )


def _line(row: Row) -> bytes:
    try:
        return orjson.dumps(dict(row))
    except orjson.JSONEncodeError:
        # Half a character and a longer number can be written: whoever reads them says what is wrong.
        return json.dumps(dict(row), default=_time).encode()


def _time(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"A row holds a {type(value).__name__}, which JSON has no word for.")
