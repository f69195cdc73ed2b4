"""The pages of SLOs and jobs as text, the graph, the map of a year, the style that a page needs."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta

import pytest

from pipelines.board import heat, past
from pipelines.board.frame import Links
from pipelines.board.graph import MOST_COUNTED, Graph
from pipelines.board.job_page import job_body, standing
from pipelines.board.model import Board
from pipelines.board.render import render, render_single
from pipelines.board.slo_page import promise_said
from pipelines.board.style import style_of
from pipelines.board.tracked import Day, Deadline, JobDay, JobKey, Promise, TrackedJob
from pipelines.kpi import formats
from tests.board import pasts, samples
from tests.board.test_pages import Page


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return render(pasts.board())


def plain(html: str) -> str:
    """What a person reads."""
    text = re.sub(r"<style>.*?</style>|<title .*?</title>|<desc .*?</desc>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)).replace(formats.GAP, " ")


def test_each_slo_and_each_job_has_a_page(pages: dict[str, str]) -> None:
    assert {name for name in pages if name.startswith(("slo-", "job-"))} == {
        "slo-deposit-activity.html",
        "slo-overdraft-report.html",
        "job-decision-support.load-overdrafts.html",
        "job-decision-support.overdraft-report.html",
        "job-deposits.post-transactions.html",
        "job-overdrafts.charge-overdrafts.html",
        "job-overdrafts.a~2fvery-long~2fjob-name-of-a-scheduler-that-has-no-mercy-with-who-reads-it.html",
    }


def test_an_slo_says_first_what_stands_now(pages: dict[str, str]) -> None:
    text = plain(pages["slo-overdraft-report.html"])
    wanted = [
        "all times in America/New_York",
        "overdue 2026-03-09",
        "due 2026-03-10 04:00 EDT",
        "so far",
        "Waits for overdrafts/charge-overdrafts",
        "Next: 2026-03-10 , due 2026-03-11 04:00 EDT",
        "a miss is 12 % likely",
        "Last complete: 2026-03-08",
        "The last 60 dates",
        "Not on time",
        "A year",
        "3 of 1 misses that 95 % of 28 allow: ! 2 too many".replace("! ", ""),
        "routinely late",
        "Promise by version",
        "by 04:00 on the next day",
        "2026-01-29: nothing is due. The mainframe moves. (team:risk)",
        "2026-12-24 to 2026-12-31: due at 05:30. Holiday shifts.",
        "12 Overdue: Overdraft report , noticed 2026-03-10 04:00 EDT; open",
    ]
    places = [text.index(one) if one in text else one for one in wanted]
    assert all(isinstance(place, int) for place in places), (places, text)
    assert places == sorted(places, key=int)


def test_a_page_has_one_zone(pages: dict[str, str]) -> None:
    for name in ("slo-overdraft-report.html", "job-overdrafts.charge-overdrafts.html"):
        assert set(re.findall(r"\d\d:\d\d (UTC|E[SD]T)\b", plain(pages[name]))) <= {"EST", "EDT"}


def test_windows_are_told_as_counts(pages: dict[str, str]) -> None:
    page = pages["slo-deposit-activity.html"].replace(formats.GAP, " ")
    assert 'class="l" title="2026-03-09: 24 of 25 on time, 1 late, the worst 12 min late"' in page
    assert "every 30 minutes from 06:00 to 18:00, each due 10m after it begins" in page
    assert "1 more window is open" in page
    assert "Open: <b>2026-03-10 15:00</b>" in page


def test_a_job_says_by_when_it_has_to_be_there(pages: dict[str, str]) -> None:
    text = plain(pages["job-overdrafts.charge-overdrafts.html"])
    for wanted in (
        "not to be restarted as it is",
        "attempt 2, run r-77 on mvs1, succeeded 2026-03-10 00:51 EDT",
        "It has to start by 2026-03-11 01:30 EDT and to be complete by 2026-03-11 02:30 EDT",
        "Overdraft report in the inbox of the back office would be late first",
        "slowing",
        "9 minutes longer since 2026-01-12",
        "r-76",
        "No SLO names it",
    ):
        assert wanted in text, text
    assert 'href="https://runbooks.example/charge"' in pages["job-overdrafts.charge-overdrafts.html"]


def test_a_job_that_sends_only_ends_is_measured_from_its_due_time(pages: dict[str, str]) -> None:
    page = pages["job-decision-support.load-overdrafts.html"]
    assert "measured from the earliest due time" in page
    assert 'class="due"' in page


def test_every_link_of_them_leads_somewhere(pages: dict[str, str]) -> None:
    for name, html in pages.items():
        for href in re.findall(r'href="([^"]*)"', html):
            assert href in pages or href.startswith(("data:,", "#i-", "https://runbooks.example/")), (
                name,
                href,
            )


def test_the_one_file_has_every_link_in_it() -> None:
    html = render_single(pasts.board())
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in re.findall(r'href="(#[^"]*)"', html)} <= set(ids)


def test_tags_match_and_pictures_say_what_they_show(pages: dict[str, str]) -> None:
    for name, html in pages.items():
        parsed = Page(html)
        named = [attrs for tag, attrs in parsed.tags if tag == "svg" and attrs.get("aria-hidden") != "true"]
        assert all(attrs["aria-labelledby"] for attrs in named), name
        assert html.count("<desc ") == len(named)


def test_hostile_names_are_text() -> None:
    slo, job = pasts.hostile()
    board = replace(
        pasts.board(), tracked=(slo,), jobs=(job,), late=(replace(pasts.overdue(), slo_id=slo.id),)
    )
    for html in render(board).values():
        assert samples.HOSTILE not in html


def test_the_same_data_give_the_same_bytes(pages: dict[str, str]) -> None:
    assert render(pasts.board()) == pages


def test_what_has_no_past_has_a_page_too() -> None:
    slo = replace(
        pasts.overdraft_report(), days=(), year={}, expected=(), ended=None, misses=(), budgets=(), punctuality=None,
        incidents=(), waivers=(), jobs=(), promises=(),
    )  # fmt: skip
    page = render(Board(samples.AS_OF, tracked=(slo,), jobs=(TrackedJob(pasts.POST, "Post", "UTC"),)))
    assert "Nothing was due yet" in page["slo-overdraft-report.html"]
    assert "Nothing reported yet" in page["job-deposits.post-transactions.html"]


# The picture of the newest dates


def test_one_wild_date_does_not_flatten_the_others() -> None:
    columns = [
        past.Column(date(2026, 1, 1) + timedelta(n), "on_time", "", 10.0 + n % 3 if n != 30 else 5000.0)
        for n in range(60)
    ]
    chart = past.picture(columns, uid="x", title="", text="", is_lateness=True)
    line = re.search(r'class="line" d="([^"]*)"', chart["svg"])
    assert line is not None
    heights = [int(y) for y in re.findall(r"\d+ (\d+)", line[1])]
    assert min(heights) >= 0
    assert max(heights) - min(height for height in heights if height > min(heights)) >= 4


@pytest.mark.parametrize("values", [[], [None], [0.0], [-5.0, -5.0], [1e6, -1e6]])
def test_any_lateness_has_a_picture(values: list[float | None]) -> None:
    columns = [
        past.Column(date(2026, 1, 1) + timedelta(n), "late", "", value) for n, value in enumerate(values)
    ]
    assert "nan" not in past.picture(columns, uid="x", title="", text="", is_lateness=True)["svg"]


# The map of a year


def marked(svg: str, kind: str) -> int:
    """How many dates a kind of mark stands for: each is 10 units of its strokes."""
    found = re.search(rf'class="{kind}" d="([^"]*)"', svg)
    runs = [int(run) for run in re.findall(r"v(\d+)", found[1])] if found else []
    return sum(-(-run // 10) for run in runs)


@pytest.mark.parametrize("today", [date(2026, 3, 9), date(2026, 3, 10), date(2026, 3, 15), date(2024, 2, 29)])
def test_every_date_of_a_year_has_its_mark(today: date) -> None:
    days = 7 * (heat.WEEKS - 1) + today.weekday() + 1
    signs = {back: "oabcmw"[back % 6] for back in range(days)}
    drawn = heat.year(signs, today, uid="y", title="")["svg"]
    for sign in "oabcw":
        assert marked(drawn, sign) == sum(one == sign for one in signs.values()), sign
    assert marked(drawn, "v") == marked(drawn, "hole") == sum(one == "m" for one in signs.values())


def test_what_is_older_than_the_map_is_neither_drawn_nor_counted() -> None:
    found = heat.year({0: "o", 370: "m"}, date(2026, 3, 9), uid="y", title="")
    assert found["text"] == "1 on time"
    assert [words for _, words in found["legend"]] == ["on time"]


# The graph


def graph_of(edges: list[tuple[str, str]]) -> Graph:
    jobs: dict[str, list[JobKey]] = {}
    for upper, lower in edges:
        jobs.setdefault(upper, [])
        jobs.setdefault(lower, []).append(("a", upper))
    return Graph.of(
        (), [TrackedJob(("a", name), name, "UTC", upstream=tuple(up)) for name, up in jobs.items()], {}
    )


def drawn(edges: list[tuple[str, str]], own: str) -> str:
    return graph_of(edges).draw([("a", own)], None, lambda _: None, uid="g", title="G")


def places(svg: str) -> dict[str, int]:
    """The column of every box, by its text."""
    found = re.findall(r'translate\((\d+) \d+\)"><rect[^>]*/>(.*?)</(?:g|a)>', svg)
    return {" ".join(re.findall(r">([^<]*)</text>", text)): int(x) for x, text in found}


def test_who_waits_stands_to_the_right_of_what_it_waits_for() -> None:
    at = places(drawn([("x", "y"), ("y", "me"), ("x", "me"), ("z", "me"), ("me", "after")], "me"))
    assert at["x"] < at["y"] == at["z"] < at["me"] < at["after"]


def test_a_way_that_a_longer_one_says_is_left_out() -> None:
    svg = drawn([("x", "y"), ("y", "me"), ("x", "me")], "me")
    edges = re.search(r'class="edge" d="([^"]*)"', svg)
    assert edges is not None
    assert edges[1].count("M") == 2


def test_a_large_closure_is_cut_and_says_so() -> None:
    wide = drawn([(f"u{n}", "me") for n in range(20)], "me")
    assert "And 15 more upstream." in wide
    assert len(places(wide)) == 6
    deep = drawn([(f"d{n}", f"d{n + 1}") for n in range(500)], "d0")
    assert f"more than {MOST_COUNTED} more downstream" in deep


def test_a_job_alone_has_no_graph() -> None:
    assert drawn([("x", "y")], "nobody") == ""


def test_long_names_are_broken_and_none_is_cut() -> None:
    name = "averylongnamewithoutanybreakinit" * 5 + " " + "MW" * 30
    svg = drawn([(name, "me")], "me")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert "".join(texts).replace(" ", "") == f"{name}me".replace(" ", "")


# Words


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"jobs": [{"application": "a", "job": "b", "end": "05:00"}]}, "by 05:00"),
        ({"jobs": [{"application": "a", "job": "b", "end": "27:00", "day_offset": 2}]}, "by 27:00 2 days later"),
        (
            {"jobs": [{"application": "a", "job": "b", "end": "09:00", "due_weekday": "mon"}]},
            "by 09:00 on the next mon",
        ),
        (
            {
                "jobs": [
                    {"application": "a", "job": "b", "end": "01:00"},
                    {"application": "a", "job": "c", "end": "02:00"},
                ]
            },
            "a/b by 01:00; a/c by 02:00",
        ),
    ],
)  # fmt: skip
def test_a_promise_in_words(spec: dict[str, object], said: str) -> None:
    assert promise_said(Promise(None, None, False, "UTC", 0.9, spec)) == said


def test_a_job_that_failed_stands_out() -> None:
    job = replace(pasts.charge_overdrafts(), days=(pasts.job_days()[30],))
    body = job_body(job, Graph.of((), (job,), {}), Links(), "j")
    assert (body["state"], body["tone"]) == ("failed", "bad")


def test_a_day_says_its_worst() -> None:
    day = date(2026, 3, 9)
    assert [
        one.outcome
        for one in (
            Day(day, 3, 1, 1, 1), Day(day, 3, 1, 0, 1), Day(day, 3, 1), Day(day, 3), Day(day, not_due=1),
            Day(day, not_due=1, is_waived=True),
        )
    ] == ["overdue", "missed", "late", "on_time", "not_due", "waived"]  # fmt: skip


def test_an_application_lists_its_jobs() -> None:
    board = replace(samples.board(), jobs=pasts.board().jobs, tracked=pasts.board().tracked)
    html = render(board)["application-decision-support.html"]
    jobs = html[html.index("<h2>Jobs</h2>") :]
    listed = set(re.findall(r'href="(job-[^"]*)"', jobs))
    assert listed == {
        "job-decision-support.load-overdrafts.html",
        "job-decision-support.overdraft-report.html",
    }
    assert "usually takes" in plain(jobs)
    assert "It has none" in plain(render(board)["application-quiet.html"])


def test_a_job_stands_as_its_worst_date_that_is_waited_for() -> None:
    days = (JobDay(date(2026, 3, 8), "failed", 1, 1), JobDay(date(2026, 3, 9), "not_due"))
    job = TrackedJob(("overdrafts", "charge"), "Charge", "UTC", days=days)
    assert standing(job) is days[1]
    deadline = Deadline(date(2026, 3, 8), "failed", None, None, None, None, None, None)
    assert standing(replace(job, deadlines=(deadline,))) is days[0]
    assert standing(replace(job, days=())) is None


# The style


def test_pages_share_one_sheet(pages: dict[str, str]) -> None:
    first, *others = pages
    assert re.fullmatch(r"style-[0-9a-f]{8}\.css", first)
    assert not any(name.endswith(".css") for name in others)
    for name in others:
        assert f'<link rel="stylesheet" href="{first}">' in pages[name]
        assert "<style" not in pages[name]
    assert pages[first].count("{") == pages[first].count("}")
    assert {".graph", ".card"} <= set(re.findall(r"\.\w+", pages[first]))


def test_the_one_page_has_the_rules_that_it_uses_and_no_others() -> None:
    html = render_single(replace(pasts.board(), kpis=()))
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert ".graph" in style
    assert ".card" not in style
    assert style.count("{") == style.count("}")
    assert 'rel="stylesheet"' not in html
    assert ":root{" in style_of(["<p>x</p>"])
