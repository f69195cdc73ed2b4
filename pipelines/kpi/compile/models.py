"""What is said of a model: states of a source, the pieces that are taken of them, and what KPIs have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.catalog.names import joined_name
from pipelines.kpi.model import Kpi, Source, Window

HOUR, QUARTER, DAY = 60, 15, 1440
# How the names of generated models begin.
STATE, VALUES = "kpi_state_", "kpi_values_"
LONGEST = 63


@dataclass(frozen=True)
class Aggregate:
    """A column of states: `part` (sum, count, min, max, or odd: how many are no number) over a source's column.

    `column` None: rows. `condition`: which rows, '' for all. `way`: the aggregate by which it adds up.
    """

    part: str
    column: str | None
    condition: str
    may_be_odd: bool

    @property
    def way(self) -> str:
        return self.part if self.part in {"min", "max"} else "sum"


@dataclass
class StateModel:
    """States of a source by base bucket (minutes) and members; `is_standing`: its rows come, and go."""

    name: str
    source: Source
    time_column: str
    until_column: str | None
    is_date: bool
    is_standing: bool
    minutes: int
    dimensions: tuple[str, ...]
    columns: dict[str, Aggregate] = field(default_factory=dict)

    @property
    def clocks(self) -> list[str]:
        """Time columns of the source, as the log of what was touched names them."""
        return [f"{self.source.relation}:{column}" for column in self.time_columns]

    @property
    def time_columns(self) -> list[str]:
        return [column for column in (self.time_column, self.until_column) if column is not None]


@dataclass(frozen=True)
class Piece:
    """States as a variable takes them: of the period, of a window, or all before the period's end (snapshot)."""

    state: str
    window: Window | None
    is_snapshot: bool


@dataclass(frozen=True)
class Group:
    """What KPIs have in common that one values model computes; `own` is the id of a KPI that shares with no other."""

    timezone: str
    dimensions: tuple[str, ...]
    pieces: tuple[Piece, ...]
    fills_gaps: bool
    retention: tuple[tuple[str, int], ...]
    own: str


def hashed(*parts: object) -> str:
    """Eight hexadecimal digits that tell these parts from others."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:8]


def state_name(
    source: Source,
    time_column: str,
    until_column: str | None,
    minutes: int,
    members: Sequence[str],
    *,
    is_snapshot: bool,
) -> str:
    """`marts__slo_performance__business_date__application_id`: the source, by which time, and the members."""
    kind = ["quarters"] if minutes == QUARTER else []
    kind += ["standing"] if is_snapshot else []
    parts = [*source.relation.split("."), *kind, time_column, *members]
    return STATE + joined_name(parts, (kind, until_column) if kind else None, longest=LONGEST - len(STATE))


def values_name(group: Group, kpis: Sequence[Kpi], states: Mapping[str, StateModel]) -> str:
    """Of one KPI its id; what several share has the name of their sources and dimensions, and a hash of all it is."""
    if len(kpis) == 1:
        kpi_id = kpis[0].id
        # `a-b` and `a_b` are two.
        whole = kpi_id if "_" in kpi_id else None
        return VALUES + joined_name([kpi_id.replace("-", "_")], whole, longest=LONGEST - len(VALUES))
    relations = sorted({states[piece.state].source.relation for piece in group.pieces})
    parts = [part for relation in relations for part in relation.split(".")]
    return VALUES + joined_name([*parts, "by", *group.dimensions], group, longest=LONGEST - len(VALUES))


def member(column: str) -> str:
    """The column of a state that has the members of a source's column."""
    # PostgreSQL cuts names at 63 bytes, and then two long ones could be one.
    return f"d_{column}" if len(column) <= 61 else f"d_{column[:50]}_{hashed(column)}"
