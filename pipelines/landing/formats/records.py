"""What every format gives: chunks of records, with the line number of every one, and what is no record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipelines.landing.feed import Feed, Note, Rejected

Positions = npt.NDArray[np.int64]
TEXT = pd.StringDtype("pyarrow")

MOST_WARNINGS = 50
# More rejected lines than any file has.
ALL = 1 << 62
NUL = "A NUL character stands in the value."
NUL_HINT = "Remove it at the sender; the database cannot keep it."


@dataclass(frozen=True)
class Chunk:
    """Some consecutive records.

    `frame`: text columns, the index is the line number; `record(position)` is the record as it came; `rejected` are
    the lines among them that are no records, `only_counted` how many more there are after these.
    """

    frame: pd.DataFrame
    record: Callable[[int], str]
    rejected: list[Rejected]
    only_counted: int = 0


class Warnings:
    """What is worth a word but stops nothing: one entry at most for each column or `key`, with line and way out."""

    def __init__(self) -> None:
        self.entries: list[dict[str, str | int | None]] = []
        self._seen: set[str] = set()

    def add(self, line: int, column: str | None, message: str, hint: str, key: str | None = None) -> None:
        key = key or (message if column is None else column)
        if not self.are_wanted(key):
            return
        self._seen.add(key)
        self.entries.append(
            {"line": line, "column": column and column[:200], "message": message, "hint": hint}
        )

    def note(self, line: int, note: Note) -> None:
        """What a check notes of the record on a line."""
        self.add(line, note.field, note.message, note.hint, f"{note.field}: {note.kind}")

    def no_line_end(self, line: int) -> None:
        self.add(
            line,
            None,
            "The last line has no line end.",
            "If the file was cut off there, deliver it again; else end every line with a line feed.",
        )

    def are_wanted(self, key: str) -> bool:
        """Whether another word of this column would be kept."""
        return key not in self._seen and len(self.entries) < MOST_WARNINGS


def only_rejected(feed: Feed, rejected: list[Rejected]) -> Chunk:
    """A chunk of what is no record, and no other."""
    frame = pd.DataFrame({name: pd.Series([], dtype=TEXT) for name in feed.frame_columns})
    return Chunk(frame, str, rejected)


def text_of(line: bytes) -> str:
    """The line as text that the database keeps: what is not UTF-8, and NUL bytes, are written out."""
    return line.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
