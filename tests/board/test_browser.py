"""The pages in a real browser: opened as files, narrow and wide, light and dark, on paper, without a network.

Pictures are kept where DUEMARK_SCREENSHOTS says.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, sync_playwright

from pipelines.board.render import render, render_single
from pipelines.board.style import sheet_name
from pipelines.board.write import write, write_single
from tests.board import pasts, samples

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: nothing to look at a page with"),
]
NARROW, WIDE = 360, 1440
NAMES = [
    "index", "today", "slos", "application-decision-support", "kpi-on-time-share", "kpi-signups", "board",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("board")
    board = replace(
        samples.board(),
        kpis=(*samples.board().kpis, samples.hostile()),
        warnings=("The next tick computes everything again.",),
        tracked=pasts.board().tracked,
        jobs=pasts.board().jobs,
    )
    write(render(board), made)
    write_single(render_single(board), made / "board.html")
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def visit(browser: Browser, path: Path, width: int, scheme: str) -> tuple[Page, list[str]]:
    """The page, and everything that went wrong or beyond it and its style sheet."""
    page = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
    ).new_page()
    trouble: list[str] = []
    ours = {path.as_uri(), path.with_name(sheet_name()).as_uri()}
    page.on("request", lambda request: trouble.append(request.url) if request.url not in ours else None)
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(path.as_uri())
    kept = Path(os.environ.get("DUEMARK_SCREENSHOTS") or path.parent)
    kept.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=kept / f"{path.stem}-{width}-{scheme}.png", full_page=True)
    return page, trouble


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_and_asks_for_nothing(
    browser: Browser, folder: Path, name: str, width: int, scheme: str
) -> None:
    page, trouble = visit(browser, folder / f"{name}.html", width, scheme)
    # `data:,` is the icon, which is no request to anywhere.
    assert [one for one in trouble if one != "data:,"] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 20, 24)") == (scheme == "dark")
    page.context.close()


def test_what_needs_attention_is_read_on_a_phone_without_scrolling_aside(
    browser: Browser, folder: Path
) -> None:
    page, _ = visit(browser, folder / "index.html", NARROW, "light")
    assert page.locator(".attention .scroll").evaluate("e => e.scrollWidth <= e.clientWidth")
    why = page.get_by_text("6 h 30 min late").first.bounding_box()
    assert why is not None
    assert why["x"] + why["width"] <= NARROW
    wide = page.locator(".scroll").last
    assert wide.evaluate("e => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX === 'auto'")
    assert wide.get_attribute("tabindex") == "0"
    page.context.close()


def row_of(page: Page, name: str) -> Locator:
    return page.locator("table.today tbody tr:not(.group)").filter(has_text=name).first


def box(place: Locator) -> FloatRect:
    found = place.bounding_box()
    assert found is not None
    return found


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_today_is_a_timeline(browser: Browser, folder: Path, width: int) -> None:
    page, _ = visit(browser, folder / "today.html", width, "light")
    late, risky = row_of(page, "Overdrafts charged"), row_of(page, "Risk digest")
    # Due at 01:30, running since 02:30, and at 10:30 foreseen for 11:30: from left to right.
    due, ran, likely = box(late.locator(".until")), box(late.locator(".ran")), box(late.locator(".likely"))
    assert due["x"] < ran["x"] < likely["x"]
    track = box(late.locator(".track"))
    assert track["x"] <= due["x"]
    assert likely["x"] + likely["width"] <= track["x"] + track["width"]
    assert late.locator(".ran").evaluate("e => getComputedStyle(e).stroke") == "rgb(176, 30, 46)"
    assert late.get_by_text("about 11:30").is_visible()
    # Who waits stands below, indented, and says for whom it waits.
    waited = row_of(page, "Overdraft report in the inbox")
    assert box(waited)["y"] < box(risky)["y"]
    assert box(risky.locator("th > span"))["x"] > box(waited.locator("th > span"))["x"]
    assert "waits for Overdraft report" in risky.inner_text()
    # Labels of the hours do not lie on each other.
    places = [box(one) for one in page.locator("thead .hours span").all() if one.is_visible()]
    assert len(places) >= 4
    assert all(one["x"] + one["width"] <= other["x"] for one, other in pairwise(places))
    page.context.close()


def test_tables_can_be_searched_and_sorted(browser: Browser, folder: Path) -> None:
    page, trouble = visit(browser, folder / "today.html", WIDE, "light")
    page.get_by_role("searchbox").fill("overdraft  overdue")
    rows = page.locator("table.today tbody tr:not(.group)")
    shown = [row.inner_text().split("\n")[0] for row in rows.all() if row.is_visible()]
    assert [one.split(" 2026")[0] for one in shown] == [
        "Overdrafts charged",
        "Overdraft report in the inbox of the back office",
    ]
    assert page.get_by_text("2 of 9").is_visible()
    assert not page.get_by_role("link", name="Checking and savings", exact=True).is_visible()
    page.goto((folder / "index.html").as_uri())
    head = page.get_by_role("columnheader", name="application")
    names = page.locator("table.sort tbody th")
    assert names.first.inner_text() == "Checking and savings"
    head.get_by_role("button").click()
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert names.first.inner_text() == "Overdrafts"
    assert [one for one in trouble if not one.startswith(("data:", "file:"))] == []
    page.context.close()


def test_all_is_there_without_scripts(browser: Browser, folder: Path) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((folder / "index.html").as_uri())
    assert page.locator(".attention tbody tr").count() == 8
    assert page.locator("input, button").count() == 0
    assert page.get_by_role("link", name="All of today as a timeline").is_visible()
    page.context.close()


def test_pictures_are_drawn_and_the_open_period_is_dashed(browser: Browser, folder: Path) -> None:
    page, _ = visit(browser, folder / "index.html", WIDE, "light")
    card = page.locator("li.card", has_text="On-time share")
    assert card.get_by_text("critical").first.is_visible()
    for kind in ("line:not(.provisional)", "line.provisional", "threshold.warning", "threshold.critical"):
        assert card.locator(f".{kind}").bounding_box() is not None
    dashes = card.locator(".line.provisional").evaluate("e => getComputedStyle(e).strokeDasharray")
    assert dashes not in {"none", ""}
    closed = card.locator(".line:not(.provisional)")
    assert closed.evaluate("e => getComputedStyle(e).strokeDasharray") == "none"
    page.context.close()


def test_labels_of_a_chart_do_not_lie_on_each_other(browser: Browser, folder: Path) -> None:
    for width in (NARROW, WIDE):
        page, _ = visit(browser, folder / "kpi-on-time-share.html", width, "light")
        for side in ("y", "x"):
            boxes = [
                each.bounding_box() for each in page.locator(".plot").first.locator(f"span.{side}").all()
            ]
            for number, one in enumerate(boxes):
                for other in boxes[number + 1 :]:
                    assert one is not None
                    assert other is not None
                    apart = (
                        one["x"] + one["width"] <= other["x"]
                        or other["x"] + other["width"] <= one["x"]
                        or one["y"] + one["height"] <= other["y"]
                        or other["y"] + other["height"] <= one["y"]
                    )
                    assert apart, (width, side, one, other)
        page.context.close()


def test_links_lead_from_page_to_page(browser: Browser, folder: Path) -> None:
    page, _ = visit(browser, folder / "index.html", WIDE, "light")
    page.locator("li.card").get_by_role("link", name="On-time share").click()
    assert page.get_by_role("heading", level=1).inner_text() == "On-time share"
    page.get_by_role("link", name="Today").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Today, 2026-03-10"
    page.get_by_role("link", name="Decision support").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Decision support: 2 need attention"
    page.get_by_role("link", name="Overdraft report").first.click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("Overdraft report")
    page.get_by_role("link", name="Board").click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("8 need attention.")
    page.context.close()


def test_hostile_names_are_text(browser: Browser, folder: Path) -> None:
    (path,) = folder.glob("kpi-*script*.html")
    page, trouble = visit(browser, path, WIDE, "light")
    assert page.get_by_role("heading", level=1).inner_text() == samples.HOSTILE
    assert page.locator("script").count() == 0
    assert [one for one in trouble if one != "data:,"] == []
    page.context.close()


def test_on_paper_the_tables_are_open(browser: Browser, folder: Path) -> None:
    page, _ = visit(browser, folder / "kpi-on-time-share.html", WIDE, "dark")
    table = page.locator("details table").first
    assert not table.is_visible()
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert table.bounding_box() is not None
    page.context.close()
