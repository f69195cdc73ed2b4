"""Problems of one definition, told where they stand in its file."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.catalog import kpis as entries
from pipelines.catalog.read import Declared
from pipelines.kpi.definitions.known import Known, Unseen
from pipelines.kpi.expressions import ExpressionError

At = tuple[str | int, ...]
"""A place in a definition: keys, and numbers of list items."""


@dataclass
class Definition:
    """A definition that is looked at, and what is told of it by its places."""

    known: Known
    item: Declared[entries.KpiEntry]
    entry: entries.KpiEntry
    is_sound: bool = True
    is_complete: bool = True
    unread: tuple[str, ...] = ()
    """Variables that stand in the file and are told to be wrong already."""

    def _problem(self, at: At, message: str, hint: str = "") -> None:
        self.is_sound = False
        self.known.problems.append(self.item.problem(at, message, hint))

    def _problems_within(self, at: At, error: ExpressionError) -> None:
        self.is_sound = False
        for offset, message, hint in error.faults:
            self.known.problems.append(self.item.problem_within(at, offset, message, hint))

    def _unseen(self, at: At, database: str, reason: str, hint: str) -> None:
        self.is_complete = False
        line = self.item.document.line((*self.item.at, *at))
        self.known.unseen.append(Unseen(self.item.document.file, line, self.entry.id, database, reason, hint))
