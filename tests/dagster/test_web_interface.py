"""What a person sees in the web interface, in a real browser. Pictures are kept where DUEMARK_SCREENSHOTS says."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from pipelines.orchestration.instance import instance_env, load_instance
from sensors.ticks.report import report
from tests.dagster.conftest import HEADER, ROOT, House
from tests.dagster.test_tick_job import AS_OF, STATUSES
from tests.waiting import HUNG

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: nothing to look at a page with"),
]

# What follows the late overdrafts: loaded in time all the same; the report is not there yet.
CHAIN = (
    HEADER
    + """\
decision-support,load-overdrafts,SUCCEED,2026-03-03T04:30:00-05:00,2026-03-02,c0
decision-support,overdraft-report,SUCCEED,2026-03-03T06:30:00-05:00,2026-03-02,d0
decision-support,load-overdrafts,START,2026-03-04T04:05:00-05:00,2026-03-03,c
decision-support,load-overdrafts,SUCCEED,2026-03-04T04:40:00-05:00,2026-03-03,c
decision-support,overdraft-report,START,2026-03-04T05:15:00-05:00,2026-03-03,d
"""
)


@pytest.fixture(scope="module")
def address(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The web interface of a house in which something is late, on a free port."""
    house.land("statuses.csv", STATUSES)
    house.land("chain.csv", CHAIN)
    house.tick(AS_OF)
    with load_instance(house.settings) as instance:
        report(house.settings, instance)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    log = tmp_path_factory.mktemp("web") / "webserver.log"
    command = [
        sys.executable,
        "-m",
        "dagster_webserver",
        "-w",
        "workspace.yaml",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | instance_env(house.settings), stdout=output, stderr=output
        )
    try:
        _wait(f"http://127.0.0.1:{port}/server_info", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(HUNG)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + HUNG
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the web interface did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        # The first page also waits for the code location to load.
        page.set_default_timeout(1000 * HUNG)
        expect.set_options(timeout=1000 * HUNG)
        yield page
        browser.close()


@pytest.fixture
def visit(
    address: str, browser_page: Page, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[str], Page]]:
    def go(path: str) -> Page:
        browser_page.goto(address + path)
        return browser_page

    yield go
    folder = Path(os.environ.get("DUEMARK_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    browser_page.screenshot(path=folder / f"{request.node.name}.png")


def test_lineage_shows_every_group(visit: Callable[[str], Page]) -> None:
    page = visit("/asset-groups")
    for group in ("landing", "slo", "overdrafts", "decision_support", "z_internals"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    expect(page.get_by_text("Materialize all")).to_be_visible()


def test_lineage_of_a_subject_goes_from_feed_to_mart(visit: Callable[[str], Page]) -> None:
    # Of a whole group the page shows only what fits.
    page = visit("/assets/marts/slo_performance?view=lineage&lineageScope=upstream&lineageDepth=2")
    for asset in ("promise", "int_occurrence", "slo_performance"):
        expect(page.get_by_text(asset, exact=True).first).to_be_visible()


def test_the_chain_of_overdrafts_is_a_graph(visit: Callable[[str], Page]) -> None:
    page = visit("/locations/pipelines/asset-groups/decision_support/lineage")
    for asset in ("load-overdrafts", "overdraft-report", "decision-support-load"):
        expect(page.get_by_text(asset, exact=True).first).to_be_visible()


def test_the_chain_of_overdrafts_shows_what_was_reported(visit: Callable[[str], Page]) -> None:
    page = visit("/locations/pipelines/asset-groups/decision_support/lineage")
    for text in ("Materialized", "1 / 1 Passed", "0 / 1 Passed"):
        expect(page.get_by_text(text).first).to_be_visible()


def test_the_chain_of_overdrafts_is_one_lineage(visit: Callable[[str], Page]) -> None:
    page = visit(
        "/assets/jobs/overdrafts/charge-overdrafts?view=lineage&lineageScope=downstream&lineageDepth=3"
    )
    for text in ("charge-overdrafts", "overdraft-charges", "load-overdrafts", "overdraft-report"):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()


def test_a_tracked_job_shows_its_runs(visit: Callable[[str], Page]) -> None:
    page = visit("/assets/jobs/overdrafts/charge-overdrafts?view=events")
    expect(page.get_by_text("late by, minutes").first).to_be_visible()
    expect(page.get_by_text("business date").first).to_be_visible()
    expect(page.get_by_text("2026-03-03", exact=True).first).to_be_visible()


def test_an_slo_shows_whether_it_was_met(visit: Callable[[str], Page]) -> None:
    page = visit("/assets/slos/overdraft-charges?view=checks&checkDetail=met")
    expect(page.get_by_text("met", exact=True).first).to_be_visible()
    expect(page.get_by_text("Late: overdrafts/charge-overdrafts succeeded").first).to_be_visible()


def test_a_tracked_job_shows_whether_it_is_on_time(visit: Callable[[str], Page]) -> None:
    page = visit("/assets/jobs/overdrafts/charge-overdrafts?view=checks&checkDetail=on_time")
    expect(page.get_by_text("2026-03-03: complete 1:00 h late for overdraft-charges.").first).to_be_visible()


def test_what_is_open_of_an_slo_is_its_newest_event(visit: Callable[[str], Page]) -> None:
    page = visit("/assets/slos/overdraft-report?view=events")
    expect(page.get_by_text("Observed").first).to_be_visible()


def test_a_mart_shows_what_is_late(visit: Callable[[str], Page]) -> None:
    page = visit("/assets/marts/slo_performance?view=events")
    expect(page.get_by_text("late now")).to_be_visible()
    expect(page.get_by_role("cell", name="overdraft-charges", exact=True)).to_be_visible()
    expect(page.get_by_text("on time, last 24 h")).to_be_visible()


def test_a_mart_describes_its_columns(visit: Callable[[str], Page]) -> None:
    page = visit("/assets/marts/slo_performance")
    expect(page.get_by_text("What was promised and what came of it").first).to_be_visible()
    expect(page.get_by_text("Statuses of its jobs after their first SUCCEED.").first).to_be_visible()


def test_a_person_can_launch_a_tick(visit: Callable[[str], Page]) -> None:
    page = visit("/locations/pipelines/jobs/tick/playground")
    expect(page.get_by_text("as_of", exact=True).first).to_be_visible()
    expect(page.get_by_text("rebuild", exact=True).first).to_be_visible()
    expect(page.get_by_role("button", name="Launch Run")).to_be_enabled()


def test_a_run_made_by_the_command_line_is_on_the_timeline(visit: Callable[[str], Page]) -> None:
    page = visit("/overview/timeline")
    expect(page.locator("a[href='/locations/pipelines/jobs/tick']").first).to_be_visible()
