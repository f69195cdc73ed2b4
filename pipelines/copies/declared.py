"""Which tables of which databases are to be copied, as the catalog says it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.catalog.documents import CatalogFolderError, add_files, yaml_files
from pipelines.catalog.kpis import Database
from pipelines.catalog.read import kept_folder, read_kpis
from pipelines.copies.kept import noted, write_if_other
from pipelines.warehouse import homes
from pipelines.warehouse.homes import Slot
from pipelines.warehouse.settings import Settings

DECLARED: Slot[Declared | None] = Slot(lambda _: None)


@dataclass(frozen=True)
class Declared:
    """What is to be copied. `key`: of the files that say so; `raw`: as they say it, by id."""

    key: str
    is_faultless: bool
    databases: tuple[Database, ...]
    raw: Mapping[str, Any]


def declared_file(settings: Settings) -> Path:
    """The databases as they were last read without a fault: while they have one, what stood before stands."""
    return settings.home / "databases.json"


def declared_databases(settings: Settings) -> list[Database]:
    """The databases of which tables are to be copied."""
    return list(read_declared(settings).databases)


def is_idle(settings: Settings, declared: Declared) -> bool:
    """Whether nothing is to be copied, nor anything forgotten."""
    return not declared.databases and not noted(settings) and not declared_file(settings).is_file()


def read_declared(settings: Settings) -> Declared:
    """The databases of the catalog, read again only when their files changed."""
    folder = settings.catalog
    files = [path for path in (folder / "databases.yml",) if path.is_file()]
    digest = hashlib.sha256()
    try:
        files += yaml_files(folder / "databases")
    except CatalogFolderError as error:
        # Who reads it tells what is wrong; those that stood before stand.
        digest.update(str(error.problem).encode())
    add_files(digest, folder, files)
    key = digest.hexdigest() if folder.is_dir() else ""
    found = homes.of(settings).get(DECLARED)
    if found is not None and found.key == key and (files or declared_file(settings).is_file()):
        return found
    before = _stood(settings)
    if before is not None and before.key == key and before.is_faultless:
        found = before
    elif not files and before is None:
        # Those without any are not to have a file that says so.
        return Declared(key, is_faultless=folder.is_dir(), databases=(), raw={})
    else:
        found = _as_declared(settings, key, before)
        write_if_other(
            declared_file(settings),
            json.dumps({"key": key, "is_faultless": found.is_faultless, "databases": found.raw}, default=str),
        )
    homes.of(settings).put(DECLARED, found)
    return found


def _stood(settings: Settings) -> Declared | None:
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        told = json.loads(declared_file(settings).read_text("utf-8"))
        databases = []
        for raw in told["databases"].values():
            with contextlib.suppress(ValidationError):
                databases.append(Database.model_validate(raw))
        # One that is not valid any more makes the file one to be read again.
        is_faultless = told["is_faultless"] and len(databases) == len(told["databases"])
        return Declared(told["key"], is_faultless, tuple(databases), told["databases"])
    return None


def _as_declared(settings: Settings, key: str, before: Declared | None) -> Declared:
    """What the files say now; where they have a fault, what has one as it was `before`, and nothing is gone."""
    folder = settings.catalog
    stood = {one.id: one for one in before.databases} if before is not None else {}
    found: dict[str, Database] = {}
    raw: dict[str, Any] = {}
    is_faultless = bool(key)
    if is_faultless:
        _, items, problems = read_kpis(folder, kept=kept_folder(settings))
        own = ((folder / "databases.yml").as_posix(), f"{(folder / 'databases').as_posix()}/")
        is_faultless = not any(problem.file.startswith(own) for problem in problems)
        taken: dict[str, str] = {}
        # Of two that do not go together, the one that stood before.
        for item in sorted(
            items, key=lambda item: item.model is None or stood.get(item.model.id) != item.model
        ):
            model = item.model
            relations = [] if model is None else [model.relation(table) for table in model.tables]
            if model is None or model.id in found or any(one in taken for one in relations):
                continue
            found[model.id], raw[model.id] = model, dict(item.raw)
            taken |= dict.fromkeys(relations, model.id)
    if not is_faultless and before is not None:
        for name, database in stood.items():
            if name not in found:
                found[name], raw[name] = database, before.raw[name]
    return Declared(key, is_faultless, tuple(found.values()), raw)
