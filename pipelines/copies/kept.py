"""What this home keeps in files of what is copied, so that what is made of the catalog needs no database."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import psycopg

from pipelines.warehouse.settings import Settings


def columns_file(settings: Settings) -> Path:
    """The columns of copies by relation, as this home knows them: what is made of the catalog needs no database."""
    return settings.home / "copies.json"


def noted(settings: Settings) -> dict[str, list[tuple[str, str]]]:
    """Columns of the copies that this home has made: name and type of each, by relation."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        noted: dict[str, list[tuple[str, str]]] = json.loads(columns_file(settings).read_text("utf-8"))
        return noted
    return {}


def note(settings: Settings, connection: psycopg.Connection[Any]) -> None:
    """Write down the columns of the copies, as `copies.state` has them now."""
    rows = connection.execute(
        "select relation, columns from copies.state where columns <> '[]' order by relation"
    ).fetchall()
    text = json.dumps({str(relation): columns for relation, columns in rows}, indent=1) + "\n"
    write_if_other(columns_file(settings), text)


def write_if_other(path: Path, text: str) -> None:
    """Write a file as a whole, where it does not hold this text already."""
    if not path.is_file() or path.read_text("utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(text, "utf-8")
        part.replace(path)
