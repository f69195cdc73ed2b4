"""Pages from what was read: a pure function, so the same data give the same bytes, and tests need no database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.board import svg
from pipelines.board.attention import attention
from pipelines.board.frame import Links, application_page, template
from pipelines.board.index_page import MOST_CARDS, index_page, kpis_page
from pipelines.board.kpi_page import kpi_page
from pipelines.board.model import Board
from pipelines.board.script import MAKES, script, script_hash
from pipelines.board.slos_page import application_pages, slos_page
from pipelines.board.style import sheet, sheet_name, style_of
from pipelines.board.today import today_page
from pipelines.board.tracked_pages import Page, tracked_names, tracked_pages
from pipelines.catalog.names import page_name


def render(board: Board) -> dict[str, str]:
    """Every file by its name: the style sheet, `index.html`, `today.html`, `slos.html`, a page for each thing."""
    names = {kpi.id: page_name("kpi", kpi.id) for kpi in board.kpis}
    links = Links(pages=frozenset(_names(board, names)))
    frame = template("page")
    # The sheet first: no page is written before what it looks like.
    files = {sheet_name(): sheet()}
    for page in _pages(board, names, links):
        values = _frame(board, [page])
        files[links(page.name)] = frame.render(title=page.title, bodies=[page], sheet=sheet_name(), **values)
    return files


def render_single(board: Board) -> str:
    """The same in one page, for a mail."""
    names = {kpi.id: page_name("kpi", kpi.id) for kpi in board.kpis}
    links = Links(is_single=True, pages=frozenset(_names(board, names)))
    pages = list(_pages(board, names, links))
    values = _frame(board, pages)
    bodies = [values["signs"], *(page.body for page in pages)]
    style = style_of([*bodies, MAKES] if values["script"] else bodies)
    return str(template("page").render(title="Board", bodies=pages, sheet="", style=style, **values))


def _names(board: Board, kpis: Mapping[str, str]) -> Iterable[str]:
    """The names of all pages that `_pages` makes."""
    yield from ("index", "today", "slos")
    yield from (application_page(one.id) for one in board.applications)
    yield from tracked_names(board)
    yield from kpis.values()
    if len(kpis) > MOST_CARDS:
        yield "kpis"


def _pages(board: Board, kpis: Mapping[str, str], links: Links) -> Iterable[Page]:
    zone, found = board.timezone, attention(board, kpis)
    yield Page("index", "Board", template("index").render(index_page(board, found, kpis, links)), zone)
    yield Page("today", "Today", template("today").render(today_page(board, links)), zone)
    yield Page("slos", "SLOs", template("slos").render(slos_page(board, links)), zone)
    if "kpis" in links.pages:
        yield Page("kpis", "KPIs", template("kpis").render(kpis_page(board, kpis, links)), zone)
    of_application = template("application")
    for application, values in application_pages(board, found, links):
        yield Page(application_page(application.id), application.name, of_application.render(values), zone)
    yield from tracked_pages(board, links)
    of_kpi = template("kpi")
    for kpi in board.kpis:
        body = of_kpi.render(kpi_page(board, kpi, kpis, links))
        yield Page(kpis[kpi.id], kpi.definition.name, body, kpi.definition.timezone)


def _frame(board: Board, pages: list[Page]) -> dict[str, Any]:
    bodies = [page.body for page in pages]
    has_script = any(" find" in body for body in bodies)
    return {
        "as_of": board.as_of,
        "timezone": pages[0].timezone,
        "signs": svg.signs_of(bodies),
        "script": script() if has_script else "",
        "script_hash": script_hash(),
    }
