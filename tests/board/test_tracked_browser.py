"""The pages of SLOs and jobs in a real browser: narrow and wide, light and dark, on paper."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator

from pipelines.board.render import render
from pipelines.board.write import write
from tests.board import pasts
from tests.board.test_browser import NARROW, WIDE, browser, pytestmark, visit

__all__ = ["browser", "pytestmark"]

SLO, WINDOWS, JOB = "slo-overdraft-report", "slo-deposit-activity", "job-overdrafts.charge-overdrafts"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tracked")
    slo, job = pasts.hostile()
    board = pasts.board()
    write(render(replace(board, tracked=(*board.tracked, slo), jobs=(*board.jobs, job))), made)
    return made


@pytest.mark.parametrize("name", [SLO, WINDOWS, JOB])
def test_a_page_fits_and_asks_for_nothing(browser: Browser, folder: Path, name: str) -> None:
    for width, scheme in ((WIDE, "light"), (NARROW, "dark")):
        page, trouble = visit(browser, folder / f"{name}.html", width, scheme)
        assert [one for one in trouble if one != "data:,"] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(16, 20, 24)") == (scheme == "dark")
        # What is wider can be scrolled to, and no name stands out of its box.
        assert page.locator(".scroll").evaluate_all(
            "all => all.every(e => e.scrollWidth <= e.clientWidth || getComputedStyle(e).overflowX === 'auto')"
        )
        assert page.locator(".graph :is(a, g)").evaluate_all(
            "all => all.every(e => [...e.querySelectorAll('text')].every(t =>"
            " t.getBoundingClientRect().right < e.querySelector('rect').getBoundingClientRect().right))"
        )
        page.context.close()


def test_dates_have_a_cell_each_that_is_told_apart_by_its_shape(browser: Browser, folder: Path) -> None:
    page, _ = visit(browser, folder / f"{SLO}.html", WIDE, "light")
    cells = page.locator(".past .cells i")
    counts = cells.evaluate_all("all => all.map(e => parseFloat(getComputedStyle(e).flexGrow))")
    assert sum(counts) == 61
    assert max(counts) > 10

    def height(kind: str) -> float:
        return float(
            page.locator(f".past .cells i{kind}").first.evaluate(
                "e => parseFloat(getComputedStyle(e, '::after').height)"
            )
        )

    assert height(".n") < height(":not([class])") < height(".l") < height(".v")
    split = page.locator(".past .cells i.v").first
    assert "gradient" in split.evaluate("e => getComputedStyle(e, '::after').backgroundImage")
    assert cells.first.get_attribute("title") == "2026-01-09 to 2026-01-28: on time"
    last = page.locator(".past .cells i").last.bounding_box()
    area = page.locator(".past .area").bounding_box()
    assert last is not None
    assert area is not None
    assert last["x"] + last["width"] == pytest.approx(area["x"] + area["width"], abs=1)
    page.context.close()


def test_the_year_is_drawn_with_its_months(browser: Browser, folder: Path) -> None:
    for width in (NARROW, WIDE):
        page, _ = visit(browser, folder / f"{SLO}.html", width, "light")
        year = page.locator("svg.year")
        for kind in "oabcvw":
            assert year.locator(f"path.{kind}").bounding_box() is not None, kind
        apart(page.locator(".map .m"))
        apart(page.locator(".map .d"))
        page.context.close()


def apart(labels: Locator) -> None:
    boxes = [box for each in labels.all() if (box := each.bounding_box()) is not None]
    assert len(boxes) > 2
    for one, other in pairwise(boxes):
        assert one["x"] + one["width"] <= other["x"] or one["y"] + one["height"] <= other["y"], (one, other)


def test_the_way_from_an_slo_upstream_and_back(browser: Browser, folder: Path) -> None:
    page, _ = visit(browser, folder / f"{SLO}.html", WIDE, "light")
    page.locator(".graph a", has_text="Charge").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Charge overdrafts"
    page.get_by_role("link", name="Overdraft report in the inbox").first.click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("Overdraft report")
    page.get_by_role("link", name="decision-support/overdraft-report").first.click()
    assert page.get_by_role("heading", level=1).inner_text() == "Overdraft report"
    page.context.close()


def test_on_paper_colours_of_cells_stay_and_nothing_is_cut(browser: Browser, folder: Path) -> None:
    page, _ = visit(browser, folder / f"{SLO}.html", WIDE, "dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".cells").evaluate("e => getComputedStyle(e).printColorAdjust") == "exact"
    # A sheet of A4, and nothing stands out of it, for nobody can scroll on paper.
    page.set_viewport_size({"width": 794, "height": 1123})
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    assert page.locator(".scroll").first.evaluate("e => getComputedStyle(e).overflowX") == "visible"
    page.context.close()


def test_hostile_names_are_text(browser: Browser, folder: Path) -> None:
    for path in folder.glob("*script*.html"):
        page, trouble = visit(browser, path, WIDE, "light")
        assert page.locator("main script").count() == 0
        assert [one for one in trouble if one != "data:,"] == []
        page.context.close()
