"""What `duemark kpi …` answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.catalog.changes import KPI
from pipelines.catalog.kpis import KpiEntry as Entry
from pipelines.catalog.models import duration_text
from pipelines.catalog.read import CatalogError, Problem, read_kpis
from pipelines.console import as_table
from pipelines.errors import DuemarkError, nearest
from pipelines.kpi.compile.places import MODELS
from pipelines.kpi.definitions.check import Checked, check, told
from pipelines.kpi.grains import GRAINS
from pipelines.kpi.model import Kpi, Kpis, Threshold, Variable
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

WORSE = {"higher": "≥", "lower": "≤"}


@dataclass(frozen=True)
class Validation:
    """What was found: problems by file and line, what could not be checked, and how many KPIs there are."""

    problems: list[Problem]
    warnings: list[str]
    count: int


def validate(settings: Settings, path: Path | None = None) -> Validation:
    """Check the catalog's KPIs, those of another catalog's folder, or one file beside those of the catalog."""
    if path is None or path.is_dir():
        if path is not None and path.name == "kpis" and not (path / "kpis").is_dir():
            path = path.absolute().parent
        if path is not None and not (path / "kpis").is_dir():
            raise DuemarkError(
                f"{path} has no folder kpis.", "Name a file of KPIs, or the folder of a catalog."
            )
        checked = check(settings, path)
        return Validation(checked.problems, checked.warnings, len(checked.declared))
    if not path.is_file():
        raise DuemarkError(f"{path} does not exist.", "Name a file of KPIs, or the folder of a catalog.")
    checked = check(settings, file=path)
    problems = [one for one in checked.problems if Path(one.file).resolve() == path.resolve()]
    warnings = told([one for one in checked.unseen if Path(one.file).resolve() == path.resolve()])
    entries, _, _ = read_kpis(settings.catalog, path)
    count = sum(Path(one.document.file).resolve() == path.resolve() for one in entries)
    return Validation(problems, warnings, count)


def listed(settings: Settings) -> str:
    """All KPIs as a table, with the first letter of each grain. Raises CatalogError."""
    checked = _sound(check(settings))
    rows = [
        [
            entry.id + (f" ({entry.number})" if entry.number else ""),
            entry.title,
            entry.unit or "",
            " ".join(grain[0] for grain in GRAINS if grain in entry.aggregations),
            ", ".join(entry.dimensions),
            _short(checked.kpis[entry.id].thresholds) if entry.id in checked.kpis else "not reached",
        ]
        for entry in _in_order(checked.declared.values())
    ]
    heads = ["id", "name", "unit", "grains", "dimensions", "thresholds"]
    return as_table(heads, rows)


def shown(settings: Settings, kpi_id: str) -> str:
    """One KPI, all of it, by its id or number. Raises DuemarkError where there is none."""
    kpi = _one(_sound(check(settings)), kpi_id)
    lines = [
        ("id", kpi.id + (f" ({kpi.number})" if kpi.number else "")),
        ("name", kpi.name),
        ("description", kpi.description),
        ("category", kpi.category),
        ("owner", kpi.owner),
        ("unit", kpi.unit),
        ("formula", f"{kpi.formula_text}  ({kpi.formula})"),
        *((f"  {one.name}", _variable(one, kpi.dimensions)) for one in kpi.variables),
        ("grains", f"{', '.join(kpi.grains)}, in {kpi.timezone}"),
        ("dimensions", ", ".join(kpi.dimensions)),
        ("thresholds", _thresholds(kpi.thresholds)),
        ("stable within", f"{kpi.tolerance:%}".replace(".000000", "")),
        ("kept", ", ".join(f"{count} × {grain}" for grain, count in kpi.retention) or "all"),
        ("closed", f"{duration_text(kpi.allow_late)} after the end" if kpi.allow_late else "at the end"),
        ("waits for", ", ".join(kpi.slos)),
        ("metadata", json.dumps(dict(kpi.metadata), ensure_ascii=False, default=str) if kpi.metadata else ""),
        ("version", kpi.version),
        ("file", f"{kpi.file}:{kpi.line}"),
    ]
    query = f"select * from kpi_value where kpi_id = '{kpi.id}' order by period_start desc limit 20"  # noqa: S608 # shown
    width = max(len(name) for name, _ in lines)
    text = "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines if value)
    return f'{text}\n\nIts newest values: duemark sql "{query}"\n'


def compiled(settings: Settings, kpi_id: str | None = None) -> str:
    """SQL of the generated dbt models, formatted, of all KPIs or of one; what a tick is about stands as `%(name)s`.

    A model of values is several statements, each with its name above.
    """
    from pipelines.kpi.compile.files import compile_kpis
    from pipelines.kpi.compile.readable import readable

    checked = _sound(check(settings))
    kpis = checked.kpis if kpi_id is None else {(one := _one(checked, kpi_id)).id: one}
    files = compile_kpis(Kpis(kpis))
    names = sorted(name for name in files if name.startswith(MODELS) and name.endswith(".sql"))
    texts = readable(settings.dbt_project, {Path(name).name: files[name] for name in names})
    models = [
        f"-- {name}\n"
        + "\n\n".join(f"-- {each}\n{text};" if each else f"{text};" for each, text in statements.items())
        for name, statements in texts.items()
    ]
    return "\n\n".join(models) + "\n"


def _sound(checked: Checked) -> Checked:
    if checked.problems:
        raise CatalogError(checked.problems)
    return checked


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Those with a number first."""
    return sorted(entries, key=lambda one: (one.number is None, one.number or 0, one.id))


def _one(checked: Checked, wanted: str) -> Kpi:
    for entry in checked.declared.values():
        if wanted in (entry.id, str(entry.number)):
            found = checked.kpis.get(entry.id)
            if found is None:
                reasons = [one for one in checked.unseen if one.kpi == entry.id] or checked.unseen
                hint = "".join(
                    f"The database {one.database!r}: {one.reason}; {one.hint}." for one in reasons[:1]
                )
                raise DuemarkError(f"The KPI {entry.id!r} cannot be looked at now.", hint)
            return found
    raise DuemarkError(f"There is no KPI {wanted!r}.", nearest(wanted, checked.declared, "It has"))


def _variable(one: Variable, dimensions: tuple[str, ...]) -> str:
    database = "" if one.source.database == "warehouse" else f"{one.source.database}."
    text = f"{one.aggregation}({one.column or '*'}) of {database}{one.source.table}, "
    if one.kind == "snapshot":
        text += f"that stand from {one.time_column}" + (
            f" until {one.until_column}" if one.until_column else ""
        )
    else:
        text += f"by {one.time_column}"
    if one.window is not None:
        text += f", last {one.window.days} days" if one.window.days else f", {one.window.to_date} to date"
    if one.condition:
        text += f", where {one.condition}"
    if one.default is not None:
        text += f", else {one.default}"
    missing = [name for name in dimensions if name not in dict(one.dimensions)]
    return text + (f"; the same for every {', '.join(missing)}" if missing else "")


def _thresholds(thresholds: Threshold | None) -> str:
    if thresholds is None:
        return ""
    parts = []
    for name in ("warning", "critical"):
        bounds = getattr(thresholds, name)
        if thresholds.direction == "band" and bounds:
            parts.append(f"{name} outside {bounds[0]} to {bounds[1]}")
        elif bounds:
            parts.append(f"{name} {WORSE[thresholds.direction]} {bounds[0]}")
    return ", ".join(parts)


def _short(thresholds: Threshold | None) -> str:
    """Both bounds in a few characters: `≤ 0.95, 0.9`."""
    if thresholds is None:
        return ""
    sign = WORSE.get(thresholds.direction, "outside")
    bounds = [bounds for bounds in (thresholds.warning, thresholds.critical) if bounds]
    return f"{sign} {', '.join('–'.join(map(str, one)) for one in bounds)}"


def stored(settings: Settings) -> dict[str, dict[str, None]]:
    """The ids of the KPIs that the warehouse computes, as `pipelines.catalog.changes` takes them."""
    with connect(settings, "transform") as connection:
        rows = connection.execute("select kpi_id from kpi.definition where valid_to is null").fetchall()
    return {KPI: dict.fromkeys(str(kpi_id) for (kpi_id,) in rows)}
