"""What needs attention, in one list: what is late or will be, what failed, KPIs beyond a threshold, silent senders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pipelines.board.frame import application_page, slo_page
from pipelines.board.model import Board, Late, Point, ShownKpi, Silence
from pipelines.board.points import period_said
from pipelines.kpi import formats
from pipelines.kpi.standing import TROUBLE

# So many of those that are hit are named.
MOST_HIT = 2


@dataclass(frozen=True)
class Attention:
    """Something that needs attention: what, how bad, since when, and what is known of it.

    `of`: for which business date, or of which members. `blocked_by`: the job, and the one that it waits for; `is_over`:
    it is complete. `hits`: page and name of SLOs, and how many more.
    """

    page: str
    name: str
    status: str
    since: datetime
    since_text: str
    of: str = ""
    said: str = ""
    application_id: str = ""
    blocked_by: tuple[str, ...] = ()
    is_over: bool = False
    hits: tuple[tuple[str, str], ...] = ()
    more_hits: int = 0
    owner: str = ""

    @property
    def rank(self) -> tuple[bool, float, str, str]:
        moment, has_begun = self.since.timestamp(), self.status != "at_risk"
        return has_begun, -moment if has_begun else moment, self.name, self.of


def attention(board: Board, kpi_pages: Mapping[str, str]) -> list[Attention]:
    """All of it, the newest first: what may still be saved stands above what began last."""
    found = [_of_kpi(kpi, kpi_pages[kpi.id], board.timezone) for kpi in board.kpis if kpi.trouble]
    found += _of_slos(board)
    names = {one.id: one.name for one in board.applications}
    found += [
        _of_sender(one, names.get(one.application_id, one.application_id), board.timezone) for one in board.silent
    ]  # fmt: skip
    return sorted(found, key=lambda one: one.rank)


def members_said(kpi: ShownKpi) -> str:
    """`2 members critical and 1 warning`; empty where none is in trouble."""
    counted = [
        (status, sum(one.status == status and bool(one.dimensions) for one in kpi.trouble)) for status in TROUBLE
    ]  # fmt: skip
    said = [f"{count} {status}" for status, count in counted if count]
    if not said:
        return ""
    first, rest = said[0].split(" ", 1)
    return formats.and_list([f"{first} member{'' if first == '1' else 's'} {rest}", *said[1:]])


def _of_kpi(kpi: ShownKpi, page: str, timezone: str) -> Attention:
    trouble = min(kpi.trouble, key=lambda one: (TROUBLE[one.status], one.dimensions != "", one.since))
    since = period_said(
        kpi.grain or "day", Point(trouble.since_period, trouble.since, trouble.since), timezone
    )
    return Attention(
        page=page,
        name=kpi.definition.name,
        status=trouble.status,
        since=trouble.since,
        since_text=f"before {since}" if trouble.is_older else since,
        of=trouble.dimensions,
        said=members_said(kpi),
        owner=kpi.definition.owner,
    )


def _of_slos(board: Board) -> Iterable[Attention]:
    """Of each SLO and way of being in trouble one, of its newest occurrence."""
    together: dict[tuple[str, str], list[Late]] = {}
    for late in board.late:
        if late.is_current:
            together.setdefault((late.slo_id, late.outcome), []).append(late)
    names = {slo.id: slo.name for slo in board.tracked}
    for (slo_id, outcome), many in together.items():
        newest = max(many, key=lambda one: (one.since, one.business_date, one.slot))
        of = f"{newest.business_date}" + ("" if newest.slot == "00:00" else f" {newest.slot}")
        said = _said(newest, board.timezone)
        if len(many) > 1:
            oldest = min(many, key=lambda one: one.since)
            what = "dates" if newest.slot == "00:00" else "windows"
            first = formats.instant(oldest.due_at, board.timezone)
            said = f"{len(many)} {what}, the first due {first}; {said}"
        yield Attention(
            page=slo_page(slo_id),
            name=newest.name,
            status=outcome,
            since=newest.since,
            since_text=("due " if outcome == "at_risk" else "") + formats.instant(newest.since, board.timezone),
            of=of,
            said=said,
            application_id=newest.application_id,
            blocked_by=(newest.blocking_job, *([newest.waits_for] if newest.waits_for else [])),
            is_over=outcome == "late",
            hits=tuple((slo_page(one), names.get(one, one)) for one in newest.affected[:MOST_HIT]),
            more_hits=max(len(newest.affected) - MOST_HIT, 0),
            owner=newest.owner or "",
        )  # fmt: skip


def _said(late: Late, timezone: str) -> str:
    if late.outcome == "at_risk" and late.p50 is not None:
        return f"as likely as not by {formats.instant(late.p50, timezone)}"
    if late.outcome == "failed":
        return f"due {formats.instant(late.due_at, timezone)}"
    if late.outcome == "missed":
        return "given up"
    return f"{formats.lateness(late.late_by)} late" if late.late_by is not None else ""


def _of_sender(silence: Silence, name: str, timezone: str) -> Attention:
    return Attention(
        page=application_page(silence.application_id),
        name=f"{name}, the sender",
        status="silent",
        since=silence.since,
        since_text=formats.instant(silence.since, timezone),
        said="nothing is heard of it, and something is missing",
        application_id=silence.application_id,
    )
