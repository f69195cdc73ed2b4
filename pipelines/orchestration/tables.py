"""Tables of the warehouse as assets: what dbt's yml says of a source, and rows as a short table in markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

# Where tables stand that are only steps between what lands and the marts. By its name it is the last group of every
# list: applications of the catalog, the landing and the subjects of the marts come before it.
INTERNALS = "z_internals"
# So many rows of a table are shown in metadata: it is stored with every event.
MOST_ROWS = 20
# Dagster's web interface hides longer markdown behind a link.
INLINE_CHARACTERS = 1000


def table_spec(
    manifest: Mapping[str, Any],
    schema: str,
    table: str,
    *,
    group: str,
    kinds: set[str],
    deps: Iterable[Sequence[str]] = (),
    owners: Sequence[str] = (),
    skippable: bool = False,
) -> dg.AssetSpec:
    """Spec of the asset [schema, table], described and typed as the dbt source of that name is.

    `skippable`: a run that computes it may leave it as it was.
    """
    sources: Iterable[Mapping[str, Any]] = manifest["sources"].values()
    source = next((one for one in sources if (one["source_name"], one["name"]) == (schema, table)), {})
    metadata: dict[str, Any] = {"dagster/table_name": f"{schema}.{table}"}
    if columns := source.get("columns"):
        metadata["dagster/column_schema"] = dg.TableSchema(
            [
                dg.TableColumn(name, column.get("data_type") or "text", column.get("description") or None)
                for name, column in columns.items()
            ]
        )
    return dg.AssetSpec(
        [schema, table],
        deps=[dg.AssetKey(dep) for dep in deps],
        description=source.get("description") or None,
        metadata=metadata,
        group_name=group,
        kinds=kinds,
        owners=list(owners),
        skippable=skippable,
    )


def markdown_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    total: int | None = None,
    *,
    is_short: bool = False,
) -> str:
    """A table in markdown: the first rows, and how many more of `total` (default: of `rows`) there are.

    `is_short` keeps it so short that the web interface shows it without a click.
    """
    if not rows:
        return "none"
    count = len(rows) if total is None else total
    shown = [f"| {' | '.join(map(_cell, row))} |" for row in rows[:MOST_ROWS]]
    while True:
        more = [] if len(shown) >= count else ["", f"… and {count - len(shown)} more"]
        text = "\n".join([f"| {' | '.join(headers)} |", "|---" * len(headers) + "|", *shown, *more])
        if not is_short or len(text) < INLINE_CHARACTERS or len(shown) == 1:
            return text
        shown.pop()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    text = re.sub(r"\s+", " ", str(value)).replace("|", "\\|")
    return text if len(text) <= 200 else f"{text[:199]}…"


def valid_owners(*owners: str | None) -> list[str]:
    """Those of `owners` that Dagster takes: `team:…` or an e-mail address; others stay in the catalog."""
    return [
        owner
        for owner in dict.fromkeys(owners)
        if owner and re.fullmatch(r"team:.+|[\w.%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", owner, flags=re.ASCII)
    ]
