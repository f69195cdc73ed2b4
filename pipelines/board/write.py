"""Pages to files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipelines.board.model import Board
from pipelines.board.read import read
from pipelines.board.render import render, render_single
from pipelines.errors import DuemarkError
from pipelines.warehouse.settings import Settings

# What a page of the board has in its head: only such files are ours to remove.
MARK = '<meta name="generator" content="Duemark board">'
# It stands among the first bytes.
HEAD_BYTES = 1024
# Pages of things that may be gone the next time.
OF_THINGS = ("application-*.html", "job-*.html", "kpi-*.html", "kpis.html", "slo-*.html")


def write(pages: Mapping[str, str], folder: Path) -> None:
    """Write all pages to a folder, and remove those of things that are no more. A reader never sees half a page.

    Raises:
        DuemarkError: it is a file, or the folder holds a page of that name that is not the board's.
    """
    if folder.exists() and not folder.is_dir():
        raise DuemarkError(
            f"{folder} is a file.", "Name a folder, or a file that ends in .html for one page."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in pages:
        _not_foreign(folder / name)
    for name, text in pages.items():
        _write(folder / name, text)
    for path in [path for pattern in OF_THINGS for path in folder.glob(pattern)]:
        if path.name not in pages and _is_ours(path):
            path.unlink()


def write_single(page: str, path: Path) -> None:
    """The same for the one page of `render_single`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _not_foreign(path)
    _write(path, page)


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
    board = read(settings, timezone)
    if output.suffix.lower() in {".html", ".htm"} and not output.is_dir():
        write_single(render_single(board), output)
    else:
        write(render(board), output)
    return board


def _not_foreign(path: Path) -> None:
    if path.exists() and not _is_ours(path):
        raise DuemarkError(
            f"{path} was not made by the board.", "Move it away, or name another place with --output."
        )


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return MARK.encode() in file.read(HEAD_BYTES)


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, "utf-8", newline="\n")
    part.replace(path)
