"""The pages as text: the first line, escaping, what a page must not have, contrast, formats."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipelines.board import style, svg
from pipelines.board.attention import attention
from pipelines.board.effects import NotComputableError, effect, evaluate
from pipelines.board.model import Application, Board, Trouble
from pipelines.board.render import render, render_single
from pipelines.board.script import script
from pipelines.board.today import MOST_ROWS
from pipelines.board.write import MARK, write
from pipelines.errors import DuemarkError
from pipelines.kpi import formats
from tests.board import samples

VOID = {"meta", "link", "br", "path", "rect", "circle", "img", "hr"}


class Page(HTMLParser):
    """Text, tags and ids of a page; fails where tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, (tag, self.open[-3:])

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def text(self, tag: str) -> str:
        """All text of the first element of this tag."""
        return " ".join(" ".join(text.split()) for inside, text in self.texts if inside == tag)


def first_line(board: Board) -> str:
    html = render(board)["index.html"]
    line = re.search(r"<h1>(.*?)</h1>", html, re.DOTALL)
    assert line is not None
    # Nothing that a person reads stands before it.
    assert not re.sub(r"<[^>]*>", "", html[html.index("<main>") : line.start()]).strip()
    return " ".join(re.sub(r"<[^>]*>", "", line[1]).split())


def test_the_first_line_says_how_much_needs_attention_and_what_is_first() -> None:
    assert first_line(samples.board()) == (
        "7 need attention. First: Risk digest, 2026-03-09: at risk, due 2026-03-10 12:30 EDT."
    )


def test_the_first_line_of_a_good_day() -> None:
    well = replace(samples.board(), kpis=(samples.revenue(),), late=(), silent=())
    assert first_line(well) == "Nothing needs attention."
    one = replace(well, late=samples.late()[:1])
    assert first_line(one) == (
        "1 needs attention. Overdraft report in the inbox of the back office, 2026-03-09: overdue since"
        " 2026-03-10 04:00 EDT."
    )


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html)).replace(formats.GAP, " ")


def test_one_list_has_all_that_needs_attention_the_newest_first() -> None:
    page = render(samples.board())["index.html"]
    rows = re.findall(r"<tr role=\"row\">(?!<th role=\"columnheader)(.*?)</tr>", page.split("</header>")[0])
    assert [plain(row).split(" 2026")[0].strip() for row in rows] == [
        "Risk digest",
        "Statements",
        "Overdraft report in the inbox of the back office",
        "Overdrafts, the sender silent",
        "Swift acknowledged",
        "Lateness, 90th percentile warning",
        "On-time share critical",
    ]
    assert "as likely as not by 2026-03-10 13:20 EDT; waiting for decision-support/risk-digest" in plain(
        rows[0]
    )
    assert "hits a, b and 1 more" in plain(rows[0])
    assert "6 h 30 min late; waiting for decision-support/overdraft-report" in plain(rows[2])
    assert "12 min late; the last was deposits/swift" in plain(rows[4])
    assert "1 member critical" in plain(rows[6])


def test_windows_of_an_slo_are_one_trouble() -> None:
    one = samples.late()[0]
    many = [
        replace(one, slot=f"{hour:02}:00", due_at=due, since=due)
        for hour in (6, 1, 3)
        for due in [one.due_at + timedelta(hours=hour)]
    ]
    (found,) = attention(Board(samples.AS_OF, late=(*many, replace(one, is_current=False))), {})
    assert (found.of, found.since) == ("2026-03-09 06:00", one.since + timedelta(hours=6))
    assert found.said.startswith("3 windows, the first due 2026-03-10 09:00 UTC; ")


def test_warnings_stand_before_all_else() -> None:
    page = render(replace(samples.board(), warnings=("All is computed again.",)))["index.html"]
    assert plain(page[page.index("<main>") :]).strip().startswith("All is computed again. 7 need attention.")


def test_the_first_page_of_very_many_is_small() -> None:
    late, today = samples.late()[0], samples.today()
    board = replace(
        samples.board(),
        kpis=tuple(replace(samples.on_time_share(), id=f"kpi-{n}", trouble=()) for n in range(60)),
        late=tuple(
            replace(late, slo_id=f"slo-{n}", since=late.since + timedelta(seconds=n)) for n in range(5000)
        ),
        silent=(),
        today=tuple(replace(one, slo_id=f"slo-{n}") for n in range(700) for one in today),
        applications=tuple(Application(f"app-{n}", f"Application {n}") for n in range(1000)),
    )
    pages = render(board)
    assert len(pages["index.html"].encode()) < 300_000
    text = plain(pages["index.html"])
    assert "5000 need attention" in text
    assert "And 4940 more: the pages of the applications" in text
    assert "And 12 more that are well or have less to say: all KPIs" in text
    assert "And 800 more: all SLOs by application" in text
    assert pages["kpis.html"].count('<li class="card') == 60
    assert pages["today.html"].count('scope="row"') == MOST_ROWS
    assert "more that need nobody" in pages["today.html"]


def test_before_the_first_tick_and_without_kpis() -> None:
    assert "there was no tick" in first_line(Board(None))
    page = render(Board(samples.AS_OF, has_kpis=False))["index.html"]
    assert "duemark tick" in page
    assert "slos.html" in page
    assert "There are no KPIs yet" in render(Board(samples.AS_OF))["index.html"]


def test_a_card_has_what_was_promised() -> None:
    page = render(samples.board())["index.html"]
    card = page[page.index(">On-time share</a></h4>") :].split("</li>")[0]
    text = plain(card)
    for wanted in (
        "critical", "86.1 %", "2026-03-09 · → stable", "so far 95.3 % in 2026-03-10, provisional",
        "warning ≤ 95 %, critical ≤ 90 %", "1 member critical", "complete to 2026-03-09 20:00 EDT",
        "2026-03-05, 2026-03-09 07:30 EDT",
    ):  # fmt: skip
        assert wanted in text, text
    assert "f00dfeed" not in card
    assert 'class="threshold critical"' in card
    assert 'class="line provisional"' in card
    others = page[page.index('<ul class="cards">') :]
    assert "never" not in others


def test_a_total_that_is_well_does_not_look_it_while_members_are_not() -> None:
    kpi = samples.revenue()
    trouble = Trouble("region north", "critical", samples.AS_OF, "2026-03-09")
    page = render(Board(samples.AS_OF, kpis=(replace(kpi, trouble=(trouble, trouble)),)))
    card = page["index.html"][page["index.html"].index('<li class="card') :].split("</li>")[0]
    assert card.startswith('<li class="card critical">')
    assert "2 members critical" in plain(card.split("</div>")[0])
    assert "total ok" in plain(card)
    head = page["kpi-mrr.html"].split("<p>")[1]
    assert "ok" in plain(head)
    assert "2 members critical" in plain(head)


def test_a_period_that_is_under_way_is_no_fall() -> None:
    kpi = samples.revenue()
    *closed, open_ = kpi.series["day"]
    fallen = replace(
        open_, value=Decimal(10), change=Decimal(-1_600_000), change_percent=Decimal(-100), direction="down"
    )
    alone = Board(samples.AS_OF, kpis=(replace(kpi, series={"day": (fallen,)}),))
    assert "↓" not in render(alone)["index.html"]
    page = render(Board(samples.AS_OF, kpis=(replace(kpi, series={"day": (*closed, fallen)}),)))[
        "kpi-mrr.html"
    ]
    row = page[page.index(">2026-03-10</th>") :].split("</tr>")[0]
    assert "$10.00 – provisional" in plain(row)
    line, level = re.findall(r'class="line[^"]*" d="([^"]*)"', page)
    assert line.count("M") == level.count("M") == 1
    assert "L" not in level


def test_a_page_of_a_kpi_has_what_was_promised() -> None:
    page = render(samples.board())["kpi-on-time-share.html"]
    parsed = Page(page)
    headings = [text for inside, text in parsed.texts if inside in {"h1", "h2"}]
    assert headings == [
        "On-time share", "By day", "By week", "By dimension", "Definition", "Restatements",
    ]  # fmt: skip
    assert "and 14 more" in page
    assert "<i>none</i>" in page
    assert "no rows" in page
    assert "<del>none</del> → <ins>share</ins>" in page
    assert page.count('class="line provisional"') == 2


def test_json_values_are_numbers_and_tables() -> None:
    name = "kpi-~50ackage~50opularity.html"
    parsed = Page(render(samples.board())[name])
    assert parsed.text("h3") == "Total visits"
    assert "Encyclopaedia" in parsed.text("td")


@pytest.mark.parametrize("make", [render, lambda board: {"all": render_single(board)}])
def test_pages_ask_for_nothing_and_run_nothing(make: object) -> None:
    assert callable(make)
    board = replace(samples.board(), kpis=(*samples.board().kpis, samples.hostile()))
    pages = make(board)
    for name, html in pages.items():
        parsed = Page(html)
        tags = {tag for tag, _ in parsed.tags}
        # One script, which the page allows by what it says.
        assert [tag for tag, _ in parsed.tags].count("script") == ("script-src" in html)
        assert html.replace(f"<script>{script()}</script>", "").count("<script") == 0
        assert not tags & {"iframe", "img", "object", "embed", "form", "base"}, name
        assert samples.HOSTILE not in html
        assert "http" not in re.sub(r"http-equiv", "", html), name
        ids = [attrs["id"] for _, attrs in parsed.tags if attrs.get("id")]
        assert len(ids) == len(set(ids))
        for tag, attrs in parsed.tags:
            assert not any(key.startswith("on") for key in attrs), (tag, attrs)
            if href := attrs.get("href"):
                is_here = href.removeprefix("#") in ids if href.startswith("#") else href in pages
                assert is_here or href == "data:,", href


def test_tables_and_pictures_say_what_they_are() -> None:
    for html in render(samples.board()).values():
        parsed = Page(html)
        tables = [tag for tag, _ in parsed.tags].count("table")
        assert tables == [tag for tag, _ in parsed.tags].count("caption")
        for tag, attrs in parsed.tags:
            if tag == "svg" and attrs.get("aria-hidden") != "true":
                assert attrs["role"] == "img"
                assert attrs["aria-labelledby"]
        assert html.count("<desc ") == html.count('role="img"')


def test_the_same_data_give_the_same_bytes() -> None:
    assert render(samples.board()) == render(samples.board())
    assert render_single(samples.board()) == render_single(samples.board())


def test_forty_kpis_of_ninety_days_have_a_page_each() -> None:
    board = replace(
        samples.board(), kpis=tuple(replace(samples.on_time_share(), id=f"kpi-{n}") for n in range(40))
    )
    assert sum(name.startswith("kpi-") for name in render(board)) == 40


# Colours


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_lines_stand_out(scheme: int) -> None:
    source = Path(svg.__file__).with_name("templates") / "style.css"
    roots = re.findall(r":root \{(.*?)\}", source.read_text("utf-8"), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", roots[scheme]))
    for ground in ("ground", "paper"):
        for ink in ("ink", "quiet", "link", "ok", "warning", "critical"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        assert contrast(colours["line"], colours[ground]) >= 3
    for fill in ("warning", "critical"):
        assert contrast(colours[fill], colours["good-fill"]) > 1.2


# Numbers


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        ("0.9726", "share", "97.3 %"), ("1", "share", "100 %"), ("0.9996", "share", "99.96 %"),
        ("12.5", "percent", "12.5 %"), ("0.0312", "percent", "0.03 %"),
        ("1234.5", "USD", "$1,234.50"), ("-3", "USD", "−$3.00"), ("1662063.11", "USD", "$1,662,063"),
        ("9.9", "CHF", "9.90 CHF"), ("1", "runs", "1 run"), ("2", "runs", "2 runs"), ("1", "address", "1 address"),
        ("5400", "seconds", "1 h 30 min"), ("45", "seconds", "45 s"), ("95", "minutes", "1 h 35 min"),
        ("-90061", "s", "−1 d 1 h"), ("0.25", "seconds", "0.25 s"), ("3600", "seconds", "1 h"),
        ("12345", "", "12,345"), ("3.14159", "customers", "3.14 customers"), ("0.00123", "", "0.00123"),
        ("0", "", "0"), ("1E+3", "", "1,000"), ("123456.78", "", "123,457"),
    ],
)  # fmt: skip
def test_numbers_by_unit(value: str, unit: str, said: str) -> None:
    assert formats.quantity(Decimal(value), unit).replace(formats.GAP, " ") == said


def test_changes_and_instants() -> None:
    assert formats.difference(Decimal("-0.05"), "share").replace(formats.GAP, " ") == "−5 points"
    assert formats.difference(Decimal(3), "USD") == "+$3.00"
    assert formats.quantity(None, "USD") == "–"
    assert formats.quantity(Decimal("NaN"), "USD") == "NaN"
    moment = datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    assert formats.instant(moment, "America/New_York") == "2026-11-01 01:30 EST"
    assert formats.instant(moment - timedelta(hours=1), "America/New_York") == "2026-11-01 01:30 EDT"
    assert formats.instant(moment, "America/Sao_Paulo") == "2026-11-01 03:30 UTC-03"
    assert formats.words("totalMinutesActivity") == "Total minutes activity"


# Pictures


def test_a_provisional_value_is_a_level_apart_and_gaps_stay_gaps() -> None:
    values = [1.0, 2.0, None, 3.0, None, 4.0, 5.0]
    marks = [svg.Mark(str(n), value, is_provisional=n == 6) for n, value in enumerate(values)]
    picture = svg.sparkline(marks, [svg.Line(2, "warning")], uid="x", title="a < b", text="")
    closed, open_ = re.findall(r'class="line[^"]*" d="([^"]*)"', picture)
    assert (closed.count("M"), closed.count("L")) == (1, 1)
    assert re.fullmatch(r"M857\.1 [\d.]+h142\.9", open_)
    # the value between two gaps, the last that is closed, and the newest one
    (dots,) = re.findall(r'class="dot" d="([^"]*)"', picture)
    assert dots.count("M") == 3
    assert "a &lt; b" in picture


@pytest.mark.parametrize("values", [[], [None], [0.0], [5.0, 5.0], [-1e-9, 1e-9], [1e15, -1e15]])
def test_any_numbers_have_a_scale(values: list[float | None]) -> None:
    marks = [svg.Mark("", value) for value in values]
    scale = svg.scale_of(marks, [])
    assert scale.low < scale.high
    at = svg.ticks(scale)
    assert 1 <= len(at) <= 8
    assert all(scale.low <= value <= scale.high for value in at)
    picture = svg.line_chart(marks, [], scale, at, uid="x", title="", text="")
    assert "nan" not in picture


# Effects


def test_the_effects_of_a_sum_are_its_members_changes() -> None:
    now, before = {"a": 5, "b": 7}, {"a": 4, "b": 10}
    total = {"x": Decimal(12)}
    found = {
        key: effect("SUM(x)", {"x": True}, total, {"x": Decimal(now[key])}, {"x": Decimal(before[key])})
        for key in now
    }
    assert found == {"a": 1, "b": -3}


def test_the_effect_on_a_ratio_weighs_the_members_size() -> None:
    def of(good: int, all_: int, good_before: int, all_before: int) -> Decimal | None:
        return effect(
            '"good" / nullif("all", 0)',
            {"good": True, "all": True},
            {"good": Decimal(90), "all": Decimal(100)},
            {"good": Decimal(good), "all": Decimal(all_)},
            {"good": Decimal(good_before), "all": Decimal(all_before)},
        )

    assert of(0, 10, 10, 10) == Decimal("-0.1")
    assert of(1, 1, 1, 1) == 0
    assert of(1, 100, 0, 0) is None  # without it there was nothing to divide by


def test_formulas_beyond_arithmetic_have_no_effects() -> None:
    with pytest.raises(NotComputableError):
        evaluate("case when x > 1 then 2 end", {"x": Decimal(1)})
    with pytest.raises(NotComputableError):
        evaluate("x +", {"x": Decimal(1)})
    assert effect("greatest(x, 1)", {"x": True}, {"x": Decimal(1)}, {}, {}) is None
    assert evaluate("-(a - 2) * 1.5 + coalesce(b, 4)", {"a": Decimal(4), "b": None}) == 1
    assert evaluate("a / b", {"a": Decimal(4), "b": Decimal(0)}) is None


# Files


def test_pages_of_kpis_that_are_no_more_go(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    write(render(samples.board()), folder)
    (folder / "kpi-mine.html").write_text("<p>not the board's")
    (folder / "style-mine.css").write_text("p {}")
    (folder / "style-0.css").write_text(f"{style.MARK}p{{}}")
    write(render(replace(samples.board(), kpis=(samples.revenue(),))), folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "application-decision-support.html", "application-deposits.html", "application-overdrafts.html",
        "application-quiet.html", "index.html", "kpi-mine.html", "kpi-mrr.html", "slos.html", style.sheet_name(),
        "style-mine.css", "today.html",
    ]  # fmt: skip
    assert MARK in (folder / "index.html").read_text("utf-8")


def test_what_is_not_the_boards_stays(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<h1>Mine</h1>")
    with pytest.raises(DuemarkError, match="not made by the board"):
        write(render(samples.board()), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DuemarkError, match="is a file"):
        write({}, file)
