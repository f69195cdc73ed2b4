"""What the tables have that KPIs may read, from where they are declared."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from pipelines.catalog.read import yaml_files
from pipelines.kpi.definitions.words import Columns

_MADE_AS = re.compile(r"""materialized\s*=\s*["'](\w+)["']""")


@dataclass(frozen=True)
class Relation:
    """What is known of a table; `columns` None: it is there, but not what it has, for a reason."""

    columns: Columns | None
    is_table: bool = True
    reason: str = ""


@functools.lru_cache(maxsize=4)
def _contracts(project: Path, stamp: tuple[tuple[str, int], ...]) -> dict[str, Relation]:  # noqa: ARG001
    """Marts and raw tables by `schema.table`, from the files of the dbt project."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    found: dict[str, Relation] = {}
    for path in yaml_files(project / "models" / "marts"):
        for model in (yaml.load(path.read_text("utf-8")) or {}).get("models", []):
            query = path.with_name(f"{model['name']}.sql")
            made = _MADE_AS.search(query.read_text("utf-8")) if query.is_file() else None
            columns = {str(one["name"]): str(one.get("data_type", "")) for one in model.get("columns", [])}
            is_table = made is None or made[1] not in ("view", "table_function")
            found[f"marts.{model['name']}"] = Relation(columns, is_table)
    for path in sorted((project / "models").glob("sources*.yml")):
        for source in (yaml.load(path.read_text("utf-8")) or {}).get("sources", []):
            if source["name"] != "raw":
                continue
            for table in source.get("tables", []):
                columns = {str(one["name"]): str(one["data_type"]) for one in table.get("columns", [])}
                found[f"raw.{table['name']}"] = Relation(columns or None)
    return found


def contracts(project: Path) -> dict[str, Relation]:
    """Marts and raw tables by `schema.table`, as the dbt project declares them."""
    files = [*yaml_files(project / "models" / "marts"), *sorted((project / "models").glob("sources*.yml"))]
    return _contracts(project, tuple((str(path), path.stat().st_mtime_ns) for path in files))
