"""The contract of a feed: what a subject declares, and all that the loader knows of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.errors import DuemarkError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from pipelines.warehouse.settings import Settings

# How a file of a feed is read: "columns": CSV with a header, NDJSON or Parquet, one text column for each declared
# one; "document": NDJSON, each object whole, as text, in the one column `document`; "line": any text file, each line
# in the one column `line`.
Shape = Literal["columns", "document", "line"]

# Bytes of a line, and of a value of a format without lines.
LONGEST_LINE = 1 << 20

Mask = npt.NDArray[np.bool_]


class FileError(DuemarkError):
    """A whole file that cannot be taken: it is quarantined, nothing of it is loaded."""


@dataclass(frozen=True)
class Column:
    """A column of a feed's files. Names and aliases match without regard to case and surrounding blanks."""

    name: str
    aliases: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True)
class Reason:
    """Why a record was rejected: the field (None: the record as a whole), what is wrong, and the way out."""

    field: str | None
    message: str
    hint: str = ""

    def as_dict(self) -> dict[str, str | None]:
        return {"field": self.field, "message": self.message, "hint": self.hint}


@dataclass(frozen=True)
class Rejected:
    """A record that is none: where it stood, the whole of it, and why."""

    line_no: int
    record: str
    reasons: list[Reason]


class NotYetError(DuemarkError):
    """What a feed has to know before it reads is not there yet: its files wait, and are told of."""


class Breaches:
    """The breaches of a frame's records, collected: every one of a record, not just the first."""

    def __init__(self, count: int) -> None:
        self.good: Mask = np.ones(count, dtype=bool)
        self._found: list[tuple[Mask, str | None, Callable[[int], str], str]] = []

    def add(self, where: Mask, name: str | None, message: str | Callable[[int], str], hint: str = "") -> None:
        """Record a breach of the field `name` for the positions that are true in `where`.

        `message` may be a function of the position, called for the rejected records only.
        """
        if not where.any():
            return
        text = message if callable(message) else (lambda _: message)
        self._found.append((where, name, text, hint))
        self.good &= ~where

    def reasons(self, position: int) -> list[Reason]:
        """All breaches of the record at `position`, in the order in which they were added."""
        return [
            Reason(name, text(position), hint) for where, name, text, hint in self._found if where[position]
        ]


@dataclass(frozen=True)
class Note:
    """What is odd about a field of the record at `position`, and stops nothing: told once by file and `kind`."""

    position: int
    field: str
    kind: str
    message: str
    hint: str


@dataclass(frozen=True)
class Checked:
    """The answer of a check.

    `rows` has the table's columns less `load_id`, `seq` and `line_no`, and one row for each record that `breaches`
    finds good, in the order of the frame.
    """

    rows: pa.Table
    breaches: Breaches
    notes: Sequence[Note] = ()


def knows_nothing(_: Settings) -> None:
    """The context of a feed that has to know nothing besides its records."""


@dataclass(frozen=True)
class Feed:
    """A feed: the folder `landing/<name>/`, the table its records go to, and what a record must be.

    `context` reads, once for an ingest, what `check` has to know besides the records.
    `check` gets a frame with the declared columns (or `document`, or `line`), text or missing, whose index is
    the line number (of Parquet: the row), free of NUL characters; it looks at whole columns and raises nothing.
    `table` has, besides what `check` returns, the columns `load_id`, `seq` (from 0, by line) and `line_no`.
    `partition_by` is the date column by whose month the table is partitioned, `instant` the column of the instant
    before which a record is not looked at. `known_by` are columns of the table: a record that comes without a file,
    and is equal to one that stands in all of them, is not stored again; an index has to lead to such.
    `longest_line`: bytes of a line of NDJSON.
    """

    name: str
    table: str
    check: Callable[[pd.DataFrame, Any], Checked]
    columns: tuple[Column, ...] = ()
    shape: Shape = "columns"
    partition_by: str | None = None
    instant: str | None = None
    known_by: tuple[str, ...] = ()
    longest_line: int = LONGEST_LINE
    context: Callable[[Settings], Any] = knows_nothing

    def __post_init__(self) -> None:
        if (self.shape == "columns") != bool(self.columns):
            raise ValueError(f"feed {self.name}: columns are declared for shape 'columns', and only there")

    @property
    def frame_columns(self) -> tuple[str, ...]:
        """Names of the columns of the frame that `check` gets."""
        return tuple(column.name for column in self.columns) or (self.shape,)


class LogReader(Protocol):
    """Sums up lines of one log. What is rejected must hold nothing that the feed does not want to be stored."""

    def take(self, block: bytes, line_no: int) -> tuple[int, list[Rejected]]:
        """Take whole lines, each with its newline, of which the first is number `line_no` (from 1).

        Returns how many were accepted, and those that were rejected. Blank lines are neither.
        """

    def rows(self) -> pa.Table:
        """What came of the lines since the last call: the table's columns less `load_id` and `seq`."""

    @property
    def row_count(self) -> int:
        """About how many rows that would be now."""


@dataclass(frozen=True)
class LogFeed:
    """A feed of files that grow and rotate: each line once, in batches, whatever the file is called by then.

    `context` reads, once for an ingest, what a reader has to know; it raises NotYetError where lines, which are read
    once, have to wait for that. `table`, `partition_by` and `instant` as those of a `Feed`.
    """

    name: str
    table: str
    reader: Callable[[Any], LogReader]
    partition_by: str | None = None
    instant: str | None = None
    context: Callable[[Settings], Any] = knows_nothing
