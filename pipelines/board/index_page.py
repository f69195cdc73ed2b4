"""The first page: what needs attention and since when, what comes next, a card for each KPI, the applications."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipelines.board import svg
from pipelines.board.attention import Attention, members_said
from pipelines.board.frame import Links, application_page
from pipelines.board.model import Board, ShownKpi
from pipelines.board.points import (
    change_said,
    headline,
    in_words,
    period_said,
    plots,
    status_of,
    threshold_lines,
)
from pipelines.board.today import STATES, counts, timeline
from pipelines.kpi import formats
from pipelines.kpi.standing import TROUBLE

# The card's picture shows so many periods.
SPARK_PERIODS = {"hour": 48, "day": 30, "week": 26, "month": 18, "quarter": 12, "year": 10}
CATEGORIES = ("business", "user", "performance", "custom")
# The first page is small however much there is: so many of a list, and a link to the rest.
MOST_LISTED = 60
MOST_CARDS = 48
MOST_APPLICATIONS = 200
# The first page shows so many that are coming.
COMING = 8


def index_page(
    board: Board, found: Sequence[Attention], names: Mapping[str, str], links: Links
) -> dict[str, Any]:
    """What its template needs. `found`: what needs attention."""
    coming = [one for one in board.today if one.is_open and one.outcome == "not_due"]
    applications = _applications(board, found)
    return {
        "board": board,
        "attention": found,
        "listed": found[:MOST_LISTED],
        "counts": counts(board.today),
        "coming": timeline(board, coming[:COMING], uid="coming", is_grouped=False),
        "more_coming": max(len(coming) - COMING, 0),
        "groups": card_groups(board, names, links, MOST_CARDS),
        "more_cards": max(len(board.kpis) - MOST_CARDS, 0),
        "links": links,
        "applications": applications[:MOST_APPLICATIONS],
        "more_applications": max(len(applications) - MOST_APPLICATIONS, 0),
    }


def card_groups(
    board: Board, names: Mapping[str, str], links: Links, most: int | None = None
) -> list[tuple[str, list[dict[str, Any]]]]:
    """The cards of KPIs by category, those in trouble first; of more than `most` those in trouble before others."""
    shown = sorted(board.kpis, key=_order)[:most]
    groups = []
    for category in sorted(
        {kpi.definition.category for kpi in shown},
        key=lambda one: (CATEGORIES.index(one) if one in CATEGORIES else len(CATEGORIES), one),
    ):
        cards = [
            _card(kpi, names, links, board.timezone) for kpi in shown if kpi.definition.category == category
        ]
        groups.append((formats.words(category), cards))
    return groups  # fmt: skip


def kpis_page(board: Board, names: Mapping[str, str], links: Links) -> dict[str, Any]:
    """What the template of all cards needs."""
    return {"board": board, "links": links, "groups": card_groups(board, names, links)}


def _order(kpi: ShownKpi) -> tuple[int, str, str]:
    worst = min((TROUBLE[one.status] for one in kpi.trouble), default=3)
    return (worst, kpi.definition.name, kpi.id)


def _card(kpi: ShownKpi, names: Mapping[str, str], links: Links, timezone: str) -> dict[str, Any]:
    definition, grain, point = kpi.definition, kpi.grain, kpi.closed or kpi.provisional
    status = status_of(point)
    worst = min((status, kpi.trouble_status), key=lambda one: TROUBLE.get(one, len(TROUBLE)))
    card = {
        "kpi": kpi,
        "href": links(names[kpi.id]),
        "headline": headline(point, definition.unit),
        "status": status,
        # A total that is well does not look it while members are not.
        "worst": worst,
        "members": members_said(kpi),
        "period": period_said(grain, point, timezone) if grain and point else "",
        "change": change_said(point),
        "provisional": None,
        "bounds": formats.bounds(definition.threshold, definition.unit),
        "spark": "",
        "restated": kpi.restatements[0] if kpi.restatements else None,
    }
    if grain and kpi.provisional and kpi.closed:
        card["provisional"] = (
            period_said(grain, kpi.provisional, timezone),
            headline(kpi.provisional, definition.unit),
        )
    if grain:
        points = kpi.series[grain][-SPARK_PERIODS.get(grain, 30) :]
        name, marks = next(iter(plots(points, grain, definition, timezone)), ("", []))
        if any(mark.value is not None for mark in marks):
            title = f"{definition.name}{f', {name}' if name else ''}"
            card["spark"] = svg.sparkline(
                marks,
                [] if name else threshold_lines(definition.threshold),
                uid=f"spark-{names[kpi.id]}",
                title=title,
                text=in_words(marks),
            )
    return card


def _applications(board: Board, found: Sequence[Attention]) -> list[dict[str, Any]]:
    """Applications, those in trouble first: what is wrong, what today brings, the share of the last dates on time."""
    trouble: dict[str, Counter[str]] = {}
    for one in found:
        if one.application_id:
            trouble.setdefault(one.application_id, Counter())[one.status] += 1
    today: dict[str, Counter[str]] = {}
    for each in board.today:
        today.setdefault(each.application_id, Counter())[each.outcome] += 1
    slos: dict[str, list[int]] = {}
    for slo in board.tracked:
        told = slos.setdefault(slo.application_id, [0, 0, 0])
        told[:] = told[0] + 1, told[1] + slo.on_time, told[2] + slo.due
    rows = []
    for application in board.applications:
        bad = trouble.get(application.id, Counter())
        count, on_time, due = slos.get(application.id, [0, 0, 0])
        day = today.get(application.id, Counter())
        rows.append(
            {
                "page": application_page(application.id),
                "name": application.name,
                "owner": application.owner,
                "trouble": [(bad[state], state) for state in (*STATES, "silent") if bad[state]],
                "count": sum(bad.values()),
                "slos": count,
                "today": day.total(),
                "done": day["on_time"],
                "share": formats.quantity(Decimal(on_time) / due, "share") if due else formats.NONE,
                "share_key": f"{on_time / due:.6f}" if due else "",
            }
        )
    return sorted(rows, key=lambda row: (-row["count"], row["name"], row["page"]))
