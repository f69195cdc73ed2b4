"""What the engine is told of a model, and where the tick stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]

# SQL of the schema of the states that stand.
STATES = '"kpi"'


@dataclass
class TickWindow:
    """Where the tick stands: judged as of `as_of`; time has been looked at up to `before`; loads up to `load_id`."""

    as_of: str
    before: str
    load_id: int
    is_rebuild: bool


@dataclass
class Model:
    """A deployed model; `needs_full`: all of it is to be computed."""

    name: str
    kind: str
    spec: Mapping[str, Any]
    needs_full: bool
    query_is_made: bool


@dataclass(frozen=True)
class Work:
    """What is to be done of a values model: KPIs to compute as a whole, and others over what was touched or begun."""

    changed: list[str]
    others: list[str]
    is_touched: bool
    begun: list[str]


def query_of(connection: Connection, name: str) -> str:
    """The compiled SQL of a deployed model; empty where it could not be made."""
    row = connection.execute("select query from kpi.model where name = %s", [name]).fetchone()
    return str(row[0]) if row else ""


def is_bounded(spec: Mapping[str, Any]) -> bool:
    """Whether its periods go up to as_of's and no further, and open by time alone."""
    return bool(spec["fills_gaps"]) or any(
        piece["is_snapshot"] or piece["days"] is not None or piece["to_date"] is not None
        for piece in spec["pieces"]
    )
