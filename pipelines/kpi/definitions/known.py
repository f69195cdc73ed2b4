"""What is known of a catalog while its definitions are checked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipelines.catalog import kpis as entries
from pipelines.catalog.read import (
    Declared,
    Problem,
)
from pipelines.kpi.definitions.relations import Relation, contracts
from pipelines.kpi.model import WAREHOUSE, Kpi
from pipelines.warehouse.settings import Settings


@dataclass(frozen=True)
class Unseen:
    """A KPI that cannot be checked now, for nobody can tell what its source has."""

    file: str
    line: int
    kpi: str
    database: str
    reason: str
    hint: str


@dataclass
class Known:
    """A catalog's definitions while they are checked: what is declared, what was found wrong, what tables have."""

    settings: Settings
    items: Sequence[Declared[entries.KpiEntry]]
    database_items: Sequence[Declared[entries.Database]]
    problems: list[Problem]
    ask: bool
    resolve: Callable[[Known, Declared[entries.KpiEntry], entries.KpiEntry], Kpi | None]
    unseen: list[Unseen] = field(default_factory=list)
    _resolved: dict[str, Kpi | None] = field(default_factory=dict)
    _relations: dict[tuple[str, str], Relation | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_id: dict[str, Declared[entries.KpiEntry]] = {}
        for item in self.items:
            if item.model is not None:
                self.by_id.setdefault(item.model.id, item)
        self.declared_ids = {item.text("id") for item in self.items}
        self.databases = {item.model.id: item.model for item in self.database_items if item.model is not None}
        self.declared_databases = {item.text("id") for item in self.database_items}

    def resolved(self, kpi_id: str) -> Kpi | None:
        """A KPI that is in no cycle; None after telling, once, why not."""
        if kpi_id not in self._resolved:
            item = self.by_id[kpi_id]
            self._resolved[kpi_id] = None if item.model is None else self.resolve(self, item, item.model)
        return self._resolved[kpi_id]

    def relation(self, database: str, table: str) -> Relation | None:
        """What `table` has; None where there is no such table. Warnings are told by whoever misses the columns."""
        key = (database, table)
        if key not in self._relations:
            if database == WAREHOUSE:
                self._relations[key] = self.contracts.get(table)
            else:
                self._relations[key] = self._foreign(self.databases[database], table)
        return self._relations[key]

    @functools.cached_property
    def contracts(self) -> dict[str, Relation]:
        return contracts(self.settings.dbt_project)

    def _foreign(self, database: entries.Database, table: str) -> Relation:
        from pipelines.copies.known import known_columns

        found = known_columns(self.settings, database, table, ask=self.ask)
        return Relation(None, reason=found) if isinstance(found, str) else Relation(found)
