"""What each role may do: the state that all migrations and a deploy come to. A test holds a database against it.

Nothing is granted from here: a migration grants, and what it changes is changed here with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.warehouse.connect import Role

Privileges = frozenset[str]

READ: Privileges = frozenset({"select"})
# KPIs log what changes by triggers, which `transform` makes.
WATCH: Privileges = READ | {"trigger"}
# A lock is taken by who may update the table.
LOCK: Privileges = frozenset({"update"})

# None of them may be a superuser, make databases or roles, replicate, or pass by row security. Only `analyst` may log
# in, and only to the embedded server.
ROLES: tuple[Role, ...] = ("ingest", "transform", "operate", "analyst")
# Role -> those whose rights it has as well. Who runs Duemark has all four.
MEMBER_OF: Mapping[Role, frozenset[Role]] = {"operate": frozenset({"analyst"})}


@dataclass(frozen=True)
class Schema:
    """Who may do what in a schema; the owner may do everything, and no other role creates anything in it.

    `users`: who may name what is in it; `tables`: privileges on every table and view, on those too that are yet to be
    made; `besides`: further privileges on single ones. Nobody but the owner has any on sequences, or on columns.

    Functions run with the rights of who calls them, and everybody may who uses the schema, but for `definers`, which
    run with those of their owner. `foreign`: functions that belong to who runs the migrations.
    """

    owner: Role
    users: frozenset[Role] = frozenset()
    tables: Mapping[Role, Privileges] = field(default_factory=dict)
    besides: Mapping[str, Mapping[Role, Privileges]] = field(default_factory=dict)
    definers: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()


SCHEMAS: Mapping[str, Schema] = {
    "raw": Schema(
        "ingest",
        users=frozenset({"transform", "operate"}),
        tables={"transform": WATCH, "operate": READ},
    ),
    "catalog": Schema(
        "ingest",
        users=frozenset({"transform", "operate"}),
        tables={"transform": READ, "operate": READ},
    ),
    "copies": Schema(
        "ingest",
        users=frozenset({"transform", "operate"}),
        tables={"transform": WATCH},
        besides={"state": {"operate": READ}},
    ),
    "control": Schema(
        "transform",
        users=frozenset({"ingest", "operate"}),
        tables={"ingest": READ, "operate": READ},
        besides={
            "lock_load": {"ingest": LOCK, "operate": LOCK},
            "lock_tick": {"ingest": LOCK, "operate": LOCK},
            "lock_incidents": {"ingest": LOCK, "operate": LOCK},
            "lock_follow": {"ingest": LOCK, "operate": LOCK},
            "lock_report": {"ingest": LOCK, "operate": LOCK},
            "lock_copy": {"ingest": LOCK | {"insert"}},
        },
    ),
    "staging": Schema("transform"),
    "intermediate": Schema("transform"),
    "work": Schema("transform", definers=frozenset({"int_kpi_period_at"})),
    "kpi": Schema(
        "transform",
        users=frozenset({"operate"}),
        tables={"operate": READ},
        definers=frozenset({"log_touched"}),
        foreign=frozenset({"hours", "clock_change", "local_time", "hour_start", "hour_end"}),
    ),
    "forecast": Schema("transform", users=frozenset({"operate"}), tables={"operate": READ}),
    "marts": Schema(
        "transform",
        users=frozenset({"analyst", "operate", "ingest"}),
        tables={"analyst": READ, "operate": READ},
        definers=frozenset({"slo_performance_at"}),
    ),
    "access": Schema("operate"),
    "ops": Schema(
        "operate",
        users=frozenset({"transform", "analyst"}),
        tables={"transform": READ},
        besides={
            "incident": {"analyst": READ},
            "open_incident": {"analyst": READ},
            "silence": {"analyst": READ},
            "notice": {"analyst": READ},
        },
    ),
}
# The record of migrations, in the schema `public`, belongs to who runs them. Nobody else has anything there.
MIGRATIONS: Mapping[Role, Privileges] = {"ingest": READ, "transform": READ, "operate": READ}
