"""All definitions of a catalog checked: those that are sound, all that is wrong, and what could not be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.catalog import kpis as entries
from pipelines.catalog.read import (
    CatalogError,
    Declared,
    Problem,
    kept_folder,
    read_kpis,
    read_slo_ids,
    unknown_slos,
)
from pipelines.kpi.definitions.cycles import cycles
from pipelines.kpi.definitions.formula import WithFormula
from pipelines.kpi.definitions.known import Known, Unseen
from pipelines.kpi.definitions.remains import look_at_remains
from pipelines.kpi.model import Kpi, Kpis
from pipelines.logs import get_logger
from pipelines.warehouse import homes
from pipelines.warehouse.homes import Slot
from pipelines.warehouse.settings import Settings

log = get_logger(__name__)

# What was logged by this process: KPIs that wait for a database wait for longer than until the next tick.
TOLD: Slot[set[tuple[str, tuple[str, ...]]]] = Slot(lambda _: set())


def told(unseen: Sequence[Unseen]) -> list[str]:
    """What could not be checked, a text for each database."""
    texts = []
    for name in dict.fromkeys(one.database for one in unseen):
        of_it = [one for one in unseen if one.database == name]
        ids = ", ".join(dict.fromkeys(one.kpi for one in of_it))
        first = of_it[0]
        texts.append(
            f"{first.file}:{first.line}: {ids} of the database `{name}`: {first.reason}\n"
            f"    left out until it can be read; {first.hint}"
        )
    return texts


@dataclass
class Checked:
    """The outcome: what is sound, what is wrong, and what could not be looked at."""

    kpis: dict[str, Kpi]
    problems: list[Problem]
    unseen: list[Unseen]
    declared: dict[str, entries.KpiEntry]

    @property
    def warnings(self) -> list[str]:
        """What could not be looked at, for people."""
        return told(self.unseen)


def resolved(settings: Settings) -> Kpis:
    """All KPIs of the catalog. Raises CatalogError with every problem.

    Asks no other database; KPIs that wait for one are logged, once.
    """
    checked = check(settings, ask=False)
    if checked.problems:
        raise CatalogError(checked.problems)
    logged = homes.of(settings).get(TOLD)
    for name in dict.fromkeys(one.database for one in checked.unseen):
        of_it = [one for one in checked.unseen if one.database == name]
        ids = tuple(dict.fromkeys(one.kpi for one in of_it))
        if (name, ids) not in logged:
            logged.add((name, ids))
            hint = "they are computed once it can be read; duemark check says what is wrong with it"
            log.warning("KPIs wait for a database", database=name, kpis=list(ids), hint=hint)
    return Kpis(checked.kpis)


def sound_kpis(settings: Settings) -> Kpis:
    """The KPIs of the catalog that nothing is wrong with."""
    return Kpis(check(settings, ask=False).kpis)


def check(
    settings: Settings, folder: Path | None = None, *, file: Path | None = None, ask: bool = True
) -> Checked:
    """Read and check the definitions of `folder` (default: the catalog's); neither raises nor logs.

    `file`: one more file of KPIs, from wherever it lies. `ask`: databases whose tables were not copied yet are asked
    for their columns.
    """
    kept = kept_folder(settings) if folder is None else None
    kpis, databases, problems = read_kpis(folder or settings.catalog, file, kept)
    if any(item.model is not None and item.model.slos for item in kpis):
        slo_ids = read_slo_ids(folder or settings.catalog, kept)
        problems = [*problems, *(unknown_slos(kpis, slo_ids) if slo_ids is not None else ())]
    known = Known(settings, kpis, databases, list(problems), ask, _resolved)
    cyclic = cycles(known)
    found = {
        kpi_id: kpi
        for kpi_id in sorted(set(known.by_id) - cyclic)
        if (kpi := known.resolved(kpi_id)) is not None
    }
    for item in kpis:
        if item.model is None:
            look_at_remains(known, item)
    declared = {kpi_id: item.model for kpi_id, item in known.by_id.items() if item.model is not None}
    return Checked(found, sorted(set(known.problems)), list(dict.fromkeys(known.unseen)), declared)


def _resolved(known: Known, item: Declared[entries.KpiEntry], entry: entries.KpiEntry) -> Kpi | None:
    return WithFormula(known, item, entry).kpi()
