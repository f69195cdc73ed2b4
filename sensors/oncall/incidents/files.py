"""Files that routes write to: in the home, or below a folder that the environment names, and nowhere else.

Who may edit the catalog is not therefore one who may write wherever Duemark can.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

from pipelines.errors import DuemarkError
from pipelines.warehouse.settings import Settings


def file_fault(name: str) -> tuple[str, str] | None:
    """What is wrong with the path of a `file:` route as it is written, as (message, hint)."""
    if not name or name.endswith("/"):
        return "a file without a path", "write file:alerts.jsonl"
    path = Path(name)
    if "\0" in name or ".." in path.parts:
        return "the path of a file leads up", "write it without `..`: a relative one lies in DUEMARK_HOME"
    if path.parts[0].startswith("~"):
        return "the path of a file begins with `~`", "write an absolute path, or one in DUEMARK_HOME"
    if path.is_absolute() and not any(path.is_relative_to(one) for one in Settings.file_routes.now()):
        setting = Settings.file_routes.name
        hint = f"name a folder above it in {setting}, or write a relative path, for a file in DUEMARK_HOME"
        return "an absolute path outside of the folders for routes", hint
    return None


def open_route(home: Path, name: str) -> IO[str]:
    """Open the file of a route to add lines, with the folders that it needs.

    Raises DuemarkError where it may not be written, also because a link leads out; OSError where it cannot be.
    """
    if fault := file_fault(name):
        raise DuemarkError(f"{name}: {fault[0]}", fault[1])
    absolute = Path(name).is_absolute()
    bases = (
        [one for one in Settings.file_routes.now() if Path(name).is_relative_to(one)] if absolute else [home]
    )
    # Whether a link leads out is asked before a folder is made, and once more of what was opened.
    path = _inside(home / name, bases)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW, 0o666)
    file = os.fdopen(descriptor, "a", encoding="utf-8")
    try:
        if _inside(home / name, bases) != path or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DuemarkError(f"{name}: this is no file.", "Name a file, or one that is yet to be made.")
    except BaseException:
        file.close()
        raise
    return file


def _inside(path: Path, bases: list[Path]) -> Path:
    """Where `path` leads, which has to be in one of these folders."""
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(os.path.realpath(base)) for base in bases):
        raise DuemarkError(
            f"{path}: a link leads out of the folder.", "Remove the link, or name the place itself."
        )
    return real
