"""Pages to files."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipelines.board.compact import compact
from pipelines.board.model import Board
from pipelines.board.read import read
from pipelines.board.render import render, render_single
from pipelines.board.style import MARK as SHEET_MARK
from pipelines.errors import DuemarkError
from pipelines.warehouse.settings import Settings

# What a page of the board has in its head: only such files are ours to remove.
MARK = '<meta name="generator" content="Duemark board">'
# It stands among the first bytes.
HEAD_BYTES = 1024
# Pages of things that may be gone the next time.
OF_THINGS = ("application-*.html", "job-*.html", "kpi-*.html", "kpis.html", "slo-*.html", "style-*.css")


def write(pages: Mapping[str, str], folder: Path) -> None:
    """Write pages and their style sheet to a folder, in the order given, and remove those of things that are no more.

    A reader never sees half a page.

    Raises:
        DuemarkError: it is a file, or the folder holds a page of that name that is not the board's.
    """
    if folder.exists() and not folder.is_dir():
        raise DuemarkError(
            f"{folder} is a file.", "Name a folder, or a file that ends in .html for one page."
        )
    folder.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in folder.iterdir()}
    for name in there & pages.keys():
        _not_foreign(folder / name)
    for name, text in pages.items():
        _write(f"{folder}", name, text)
    for name in there - pages.keys():
        if any(fnmatchcase(name, pattern) for pattern in OF_THINGS) and _is_ours(folder / name):
            (folder / name).unlink()


def write_single(page: str, path: Path) -> None:
    """The same for the one page of `render_single`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _not_foreign(path)
    _write(f"{path.parent}", path.name, page)


def make(settings: Settings, output: Path, timezone: str | None = None) -> Board:
    """Read the marts and write the board: a folder of pages, or one page where `output` ends in `.html`.

    `timezone` is that of `read`.

    Raises:
        DuemarkError: there is no such zone, or something is in the way.
    """
    try:
        ZoneInfo(timezone or "UTC")
    except (ValueError, ZoneInfoNotFoundError, IsADirectoryError) as error:
        raise DuemarkError(
            f"There is no zone {timezone!r}.", "Name one of IANA's: America/New_York."
        ) from error
    with _few_collections():
        board = read(settings, timezone)
        # What was read stays until the end: it need not be looked through again and again.
        gc.freeze()
        _put(board, output)
    return board


def _put(board: Board, output: Path) -> None:
    if output.suffix.lower() in {".html", ".htm"} and not output.is_dir():
        write_single(render_single(board), output)
    else:
        write(render(board), output)


@contextmanager
def _few_collections() -> Iterator[None]:
    """Collect garbage seldom: to look through hundreds of thousands of objects that are none is a fifth of the work."""
    usual = gc.get_threshold()
    gc.set_threshold(100_000, *usual[1:])
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)


def _not_foreign(path: Path) -> None:
    if not _is_ours(path):
        raise DuemarkError(
            f"{path} was not made by the board.", "Move it away, or name another place with --output."
        )


def _is_ours(path: Path) -> bool:
    mark = SHEET_MARK if path.suffix == ".css" else MARK
    with path.open("rb") as file:
        return mark.encode() in file.read(HEAD_BYTES)


def _write(folder: str, name: str, text: str) -> None:
    """Of thousands of pages, so without a Path for each."""
    part = f"{folder}/.{name}.part"
    with open(part, "wb", buffering=0) as file:  # noqa: PTH123 - a third of the time
        file.write((text if name.endswith(".css") else compact(text)).encode())
    os.replace(part, f"{folder}/{name}")  # noqa: PTH105
