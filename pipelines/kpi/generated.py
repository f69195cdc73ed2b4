"""The generated part of the dbt project: written from the catalog's KPIs when they or the core project changed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import orjson

from pipelines.catalog.documents import CatalogFolderError, add_files, yaml_files
from pipelines.copies.kept import columns_file
from pipelines.errors import DuemarkError
from pipelines.logs import get_logger
from pipelines.transform.project import target_folder
from pipelines.warehouse import homes
from pipelines.warehouse.homes import Slot
from pipelines.warehouse.settings import Settings

log = get_logger(__name__)

# Raised when the compiler says other things of the same definitions.
FORM = 10

# The models that were made last, with the digest of what they were made of.
MADE: Slot[tuple[str, Mapping[str, str]] | None] = Slot(lambda _: None)
REFUSED: Slot[DuemarkError | None] = Slot(lambda _: None)


def generated(settings: Settings, core: str) -> Mapping[str, str]:
    """Models and plan of the catalog's KPIs, by path within the dbt project; empty without any.

    `core` is the fingerprint of the core project. Where the definitions have problems, those made before stand: the
    catalog tells of the problems when it is read.
    """
    digest = hashlib.sha256(f"{FORM} {core}".encode())
    try:
        files = yaml_files(settings.catalog / "kpis")
        databases = yaml_files(settings.catalog / "databases")
    except CatalogFolderError as error:
        # Not the same as none: those made before stand.
        files, databases = [settings.catalog / "kpis"], []
        digest.update(str(error.problem).encode())
    if not files:
        homes.of(settings).put(REFUSED, None)
        return {}
    add_files(
        digest, settings.catalog, [*files, *sorted([*settings.catalog.glob("databases.yml"), *databases])]
    )
    # Definitions are checked against the columns of copies.
    with contextlib.suppress(FileNotFoundError):
        digest.update(b"\0" + columns_file(settings).read_bytes())
    key = digest.hexdigest()
    home = homes.of(settings)
    made = home.get(MADE)
    if made is not None and made[0] == key:
        return made[1]
    home.put(REFUSED, None)
    found = _kept(settings, key) or _compiled(settings, key)
    home.put(MADE, (key, found))
    return found


def refused(settings: Settings) -> DuemarkError | None:
    """What is wrong with the catalog's KPIs as they were last read; those before stand."""
    return homes.of(settings).get(REFUSED)


def _store(settings: Settings) -> Path:
    return target_folder(settings) / "kpis_generated.json"


def _read(settings: Settings) -> dict[str, object]:
    with contextlib.suppress(FileNotFoundError, orjson.JSONDecodeError):
        return cast("dict[str, object]", orjson.loads(_store(settings).read_bytes()))
    return {}


def _kept(settings: Settings, key: str) -> Mapping[str, str] | None:
    kept = _read(settings)
    return cast("dict[str, str]", kept["files"]) if kept.get("key") == key else None


def _compiled(settings: Settings, key: str) -> Mapping[str, str]:
    from pipelines.catalog.read import CatalogError
    from pipelines.kpi.compile.files import compile_kpis
    from pipelines.kpi.definitions import check

    try:
        files = compile_kpis(check.resolved(settings))
    except CatalogError as error:
        homes.of(settings).put(REFUSED, error)
        log.warning("KPIs refused, those before stand", problems=[str(problem) for problem in error.problems])
        before = _read(settings)
        if before.get("form") == FORM or not before:
            return cast("dict[str, str]", before.get("files", {}))
        # What an earlier version wrote no longer fits: all that is sound stands, and not what was refused.
        return compile_kpis(check.sound_kpis(settings))
    store = _store(settings)
    store.parent.mkdir(parents=True, exist_ok=True)
    written = store.with_suffix(".part")
    written.write_bytes(orjson.dumps({"key": key, "form": FORM, "files": files}))
    written.replace(store)
    return files
