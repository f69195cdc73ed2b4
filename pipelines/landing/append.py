"""Rows that come without a file: the same contract as those of files, the same rejections, one load.

A row is what a line of NDJSON would be, and is read and checked as one: so it can bring nothing that a file could not.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import orjson

from pipelines.errors import DuemarkError
from pipelines.landing import known_feeds
from pipelines.landing.feed import Feed
from pipelines.landing.formats.compressed import Unpacked
from pipelines.landing.formats.read import read_chunks
from pipelines.landing.formats.records import Warnings
from pipelines.landing.limits import Limits
from pipelines.landing.write import Part, Writer, part_of
from pipelines.logs import get_logger
from pipelines.warehouse.connect import connect
from pipelines.warehouse.loads import begin_load, end_load
from pipelines.warehouse.settings import Settings

log = get_logger(__name__)

# A row by the names of its feed's columns, or their aliases: what JSON has, and dates and times.
Row = Mapping[str, object]


@dataclass(frozen=True)
class Appended:
    """What became of rows: the load (None: there were none), and how many were accepted and rejected.

    `warnings`: what is worth a word, as that of a file; the line of a row is its place, from 1.
    """

    load_id: int | None = None
    record_count: int = 0
    rejected_count: int = 0
    warnings: tuple[dict[str, str | int | None], ...] = ()


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
    if known_feeds.entry(feed).followed:
        raise DuemarkError(
            f"The feed {feed} has files that grow; rows cannot be appended to it.",
            f"Write lines to a file in landing/{feed}.",
        )
    if not rows:
        return Appended()
    contract = known_feeds.feed(feed)
    warnings = Warnings()
    parts = _checked(
        contract,
        rows,
        contract.context(settings) if context is None else context,
        Limits.of(settings),
        warnings,
    )
    with (
        connect(settings, "ingest", autocommit=True) as connection,
        connection.transaction(),
        connection.cursor() as cursor,
    ):
        load_id = begin_load(cursor)
        writer = Writer(cursor, contract, source, load_id)
        for batch in writer.ready(parts):
            writer.write(batch)
        end_load(
            cursor,
            load_id,
            feed,
            source,
            writer.record_count,
            writer.rejected_count,
            months=writer.months,
            latest_at=writer.latest_at,
        )
    appended = Appended(load_id, writer.record_count, writer.rejected_count, tuple(warnings.entries))
    facts = {"feed": feed, "source": source, "load": load_id}
    log.info("appended", **facts, records=appended.record_count, rejected=appended.rejected_count)
    for warning in appended.warnings:
        log.warning("warning", **facts, message=warning["message"], hint=warning["hint"])
    return appended


def _checked(feed: Feed, rows: Sequence[Row], context: Any, limits: Limits, warnings: Warnings) -> list[Part]:
    lines = b"".join(_line(row) for row in rows)
    most = limits.rejected_kept
    parts: list[Part] = []
    for chunk in read_chunks(io.BytesIO(lines), "rows.ndjson", feed, warnings, Unpacked(len(lines), limits)):
        checked = feed.check(chunk.frame, context)
        for note in checked.notes:
            warnings.note(int(chunk.frame.index[note.position]), note)
        part = part_of(chunk, checked, most)
        most -= len(part.rejected)
        parts.append(part)
    return parts


def _line(row: Row) -> bytes:
    try:
        return orjson.dumps(dict(row), option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # Half a character and a longer number can be written: whoever reads them says what is wrong.
        return json.dumps(dict(row), default=_time).encode() + b"\n"


def _time(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"A row holds a {type(value).__name__}, which JSON has no word for.")
