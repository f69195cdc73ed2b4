"""What the engine is told of a model, and where the tick stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from pipelines.kpi.statements import statements_of
from pipelines.kpi.text import literal

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
    """What is to be done of a values model: KPIs to compute as a whole, others over what was touched or has begun."""

    changed: list[str]
    others: list[str]
    has_begun: bool


@dataclass(frozen=True)
class ValuesQuery:
    """The compiled statements of a model of values, for a tick."""

    text: str
    tick: TickWindow

    def statement(self, name: str, kpis: Sequence[str] = (), **given: str | bool) -> str:
        """One of them, with its other parameters `given` as SQL; empty where the model has none of this name."""
        parameters = {
            "as_of": f"timestamptz {literal(self.tick.as_of)}",
            "before": f"timestamptz {literal(self.tick.before)}",
            "kpis": f"array[{', '.join(map(literal, kpis))}]::text[]",
            "states": STATES,
        }
        parameters |= {
            key: each if isinstance(each, str) else str(each).lower() for key, each in given.items()
        }
        return statements_of(self.text, parameters).get(name, "")


def query_of(connection: Connection, name: str) -> str:
    """The compiled SQL of a deployed model; empty where it could not be made."""
    row = connection.execute("select query from kpi.model where name = %s", [name]).fetchone()
    return str(row[0]) if row else ""
