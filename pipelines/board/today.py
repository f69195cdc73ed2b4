"""Today as a timeline: a row an occurrence, with its due time, its end as it was or is foreseen, and what waits for it.

Times lie on one axis, midnight to midnight and as far beyond as what is open reaches. A row's picture is drawn in
units of its width, `WIDTH`, by the same few shapes in each row; what it shows stands beside it in words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.board.frame import Links, application_page, slo_page
from pipelines.board.model import Application, Board, Occurrence
from pipelines.board.read_now import day_of
from pipelines.kpi import formats

WIDTH = 1000
# What is open may reach beyond the day by so much; later is drawn at the edge, and said.
MOST_BEYOND = timedelta(hours=12)
HOUR = timedelta(hours=1)
# Days that are nearer are told by their names.
NEAR = timedelta(days=6)
LABEL_HOURS = 3
# A row stands for so many windows of an SLO, or more, that follow each other and are alike.
LEAST_FOLDED = 3
# A page has so many rows; what is well is left to the pages of the applications.
MOST_ROWS = 500
# Rows are indented so far, and no further.
MOST_INDENT = 5


@dataclass(frozen=True)
class Axis:
    """From `start` to `end`, with the moment of judging; labels by the wall clock of a zone."""

    start: datetime
    end: datetime
    now: datetime
    timezone: str

    def x(self, moment: datetime) -> int:
        """Units from the left; the edge for what lies beyond it."""
        share = (moment - self.start) / (self.end - self.start)
        return round(WIDTH * min(max(share, 0.0), 1.0))

    def labels(self) -> list[tuple[float, str]]:
        """Percent from the left, and the hour."""
        zone = ZoneInfo(self.timezone)
        first = self.start.astimezone(zone).replace(tzinfo=None)
        found = []
        for number in range(0, 49, LABEL_HOURS):
            # by the wall clock: in a day that has 23 or 25 hours some are nearer, or further apart
            moment = (first + timedelta(hours=number)).replace(tzinfo=zone)
            if moment >= self.end:
                break
            text = f"{moment:%a}" if number and not moment.hour else f"{moment:%H:%M}"
            found.append((self.x(moment) * 100 / WIDTH, text))
        return found

    def grid(self) -> str:
        """The hours and the moment of judging, as SVG."""
        hours = "".join(f"M{round(left * WIDTH / 100)} 0v20" for left, _ in self.labels()[1:])
        return f'<path class="grid" d="{hours}"/><path class="moment" d="M{self.x(self.now)} 0v20"/>'

    def clock(self, moment: datetime, beside: datetime | None = None) -> str:
        """`09:15`, with its day where that is neither today nor that of a moment that stands `beside` it."""
        zone = ZoneInfo(self.timezone)
        local = moment.astimezone(zone)
        if local.date() == (beside or self.now).astimezone(zone).date():
            return f"{local:%H:%M}"
        is_near = abs(local.date() - self.now.astimezone(zone).date()) < NEAR
        return f"{local:%a %H:%M}" if is_near else f"{local.day} {local:%b %H:%M}"


@dataclass(frozen=True)
class Row:
    """A row of the timeline: one occurrence, or windows that are alike. `waits_for`: page and name of SLOs."""

    page: str
    name: str
    of: str
    due_at: datetime
    due: str
    end: str
    between: str
    state: str
    indent: int
    picture: str
    waits_for: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Group:
    """An application's rows; `more`: of those that are left to its page."""

    page: str
    name: str
    rows: list[Row]
    more: int = 0


def axis_of(as_of: datetime, timezone: str, occurrences: Iterable[Occurrence]) -> Axis:
    """An axis that holds the day of as_of and, within limits, what is open."""
    start, end = day_of(as_of, timezone), day_of(as_of, timezone, 1)
    latest = max((max(one.due_at, one.p90 or one.due_at) for one in occurrences if one.is_open), default=end)
    beyond = min(max(latest - end, timedelta()), MOST_BEYOND)
    return Axis(start, end + -(-beyond // HOUR) * HOUR, as_of, timezone)


def today_page(board: Board, links: Links) -> dict[str, Any]:
    """What its template needs."""
    return {
        "board": board,
        "links": links,
        "counts": counts(board.today),
        "timeline": timeline(board, board.today, uid="today", most=MOST_ROWS),
        "day": day_said(board),
    }


def timeline(
    board: Board,
    occurrences: Sequence[Occurrence],
    *,
    uid: str,
    most: int | None = None,
    is_grouped: bool = True,
) -> dict[str, Any] | None:
    """The axis, and the rows by application: who waits stands below whom it waits for. None where there is nothing.

    Of more than `most` rows those are shown that need somebody, then those that are open, then the next ones due.
    """
    if board.as_of is None or not occurrences:
        return None
    axis = axis_of(board.as_of, board.timezone, occurrences)
    runs = folded(occurrences)
    shown = set(range(len(runs)))
    if most is not None and len(runs) > most:
        shown = set(sorted(shown, key=lambda place: _rank(runs[place], axis.now))[:most])
    kept = [run for place, run in enumerate(runs) if place in shown]
    left_out = Counter(run[0].application_id for place, run in enumerate(runs) if place not in shown)
    waiting = {one.slo_id for one in board.today if one.is_open}
    names = {one.slo_id: one.name for one in board.today}

    def row(run: Sequence[Occurrence], indent: int) -> Row:
        upstream = sorted(board.upstream.get(run[0].slo_id, frozenset()) & waiting) if run[0].is_open else []
        return _row(run, axis, indent, [(slo_page(slo_id), names[slo_id]) for slo_id in upstream])

    if is_grouped:
        groups = [
            Group(
                application_page(application.id),
                application.name,
                [row(run, indent) for run, indent in _chained(board, mine)],
                left_out[application.id],
            )
            for application, mine in _by_application(board, kept, left_out)
        ]
    else:
        groups = [Group("", "", [row(run, 0) for run in kept])]
    return {"axis": axis, "groups": groups, "uid": uid, "count": sum(len(one.rows) for one in groups)}


def counts(occurrences: Iterable[Occurrence]) -> list[tuple[int, str]]:
    """How many stand how, the worst first."""
    found = Counter(one.state for one in occurrences)
    return [(found[state], state) for state in STATES if found[state]]


STATES = ("overdue", "missed", "late", "failed", "at_risk", "running", "not_due", "on_time", "waived")
"""Every state of an occurrence, the worst first."""


def day_said(board: Board) -> str:
    """The date of as_of."""
    return formats.instant(board.as_of, board.timezone)[:10] if board.as_of else ""


def folded(occurrences: Sequence[Occurrence]) -> list[list[Occurrence]]:
    """Occurrences by due time; windows of one SLO that follow each other and are alike are one."""
    runs: list[list[Occurrence]] = []
    last: dict[str, list[Occurrence]] = {}
    for one in occurrences:
        run = last.get(one.slo_id)
        if run and _alike(run[-1], one):
            run.append(one)
        else:
            last[one.slo_id] = [one]
            runs.append(last[one.slo_id])
    return [part for run in runs for part in ([run] if len(run) >= LEAST_FOLDED else [[one] for one in run])]


def _alike(one: Occurrence, other: Occurrence) -> bool:
    if one.state != other.state:
        return False
    return one.outcome in {"on_time", "waived"} or one.progress == other.progress == "pending"


def _rank(run: Sequence[Occurrence], now: datetime) -> tuple[bool, bool, timedelta]:
    one = run[0]
    return one.state in {"on_time", "waived", "not_due"}, not one.is_open, abs(one.due_at - now)


def ordered(names: Collection[str], upstream: Callable[[str], Collection[str]]) -> list[tuple[str, int]]:
    """Each name after those upstream of it, and close to them, with its depth; in the order given where that is free.

    In a ring the first one given comes first.
    """
    place = {name: number for number, name in enumerate(names)}
    above = {name: {one for one in upstream(name) if one in place and one != name} for name in names}
    below: dict[str, list[str]] = defaultdict(list)
    for name in names:
        for one in above[name]:
            below[one].append(name)
    depth: dict[str, int] = {}
    found: list[tuple[str, int]] = []

    def put(first: str) -> None:
        left = [first]
        while left:
            name = left.pop()
            if name in depth:
                continue
            depth[name] = 1 + max((depth[one] for one in above[name] if one in depth), default=-1)
            found.append((name, depth[name]))
            left += [one for one in reversed(below[name]) if above[one] <= depth.keys()]

    for name in names:
        if not above[name]:
            put(name)
    for name in names:
        put(name)
    return found


def _by_application(
    board: Board, runs: Sequence[list[Occurrence]], others: Collection[str]
) -> list[tuple[Application, list[list[Occurrence]]]]:
    """Applications, those that others wait for first, with their rows; `others` may have none."""
    known = {one.id: one for one in board.applications}
    mine: dict[str, list[list[Occurrence]]] = defaultdict(list)
    for run in runs:
        mine[run[0].application_id].append(run)
    of_slo = {one.slo_id: one.application_id for one in board.today}
    above: dict[str, set[str]] = defaultdict(set)
    for slo_id, application_id in of_slo.items():
        upstream = board.upstream.get(slo_id, frozenset())
        above[application_id] |= {of_slo[one] for one in upstream if one in of_slo}
    names = sorted({*mine, *others}, key=lambda one: (known[one].name if one in known else one, one))
    return [
        (known.get(one) or Application(one, one), mine[one]) for one, _ in ordered(names, lambda name: above[name])
    ]  # fmt: skip


def _chained(board: Board, runs: Sequence[list[Occurrence]]) -> list[tuple[list[Occurrence], int]]:
    """Rows with their indentation: an SLO's below those of the SLOs that it waits for."""
    mine: dict[str, list[list[Occurrence]]] = defaultdict(list)
    for run in runs:
        mine[run[0].slo_id].append(run)
    return [
        (run, min(depth, MOST_INDENT))
        for slo_id, depth in ordered(mine, lambda name: board.upstream.get(name, frozenset()))
        for run in mine[slo_id]
    ]


def _row(run: Sequence[Occurrence], axis: Axis, indent: int, waits_for: list[tuple[str, str]]) -> Row:
    first, last = run[0], run[-1]
    of = f"{first.business_date}" + ("" if first.slot == "00:00" else f" {first.slot}")
    due, end, between = axis.clock(first.due_at), "", ""
    if len(run) > 1:
        of += f" to {last.slot if last.business_date == first.business_date else last.business_date}"
        due = f"{due} to {axis.clock(last.due_at, first.due_at)}"
        end = f"{len(run)} windows"
    elif first.ended_at is not None:
        end = axis.clock(first.ended_at)
    elif first.p50 is not None and first.p10 is not None and first.p90 is not None:
        end = f"about {axis.clock(first.p50)}"
        between = f"{axis.clock(first.p10)} to {axis.clock(first.p90, first.p10)}"
    return Row(
        page=slo_page(first.slo_id),
        name=first.name,
        of=of,
        due_at=first.due_at,
        due=due,
        end=end,
        between=between,
        state=first.state,
        indent=indent,
        picture=_picture(run, axis),
        waits_for=waits_for,
    )


def _picture(run: Sequence[Occurrence], axis: Axis) -> str:
    """When each ran, between when it is foreseen to end, and when it is due: a path of each kind."""
    paths: dict[str, str] = {}

    def draw(kind: str, path: str) -> None:
        paths[kind] = paths.get(kind, "") + path

    for one in run:
        end = one.ended_at or (axis.now if one.started_at else None)
        if end is not None:
            begin = min(axis.x(one.started_at or end), WIDTH - 3)
            draw(f"ran {one.state}", f"M{begin} 10H{max(axis.x(end), begin + 3)}")
        if one.is_open and one.p10 is not None and one.p50 is not None and one.p90 is not None:
            # what lies behind now is not foreseen
            begin = axis.x(max(one.p10, axis.now))
            draw("between", f"M{begin} 10H{max(axis.x(one.p90), begin + 2)}")
            draw("likely", f"M{axis.x(one.p50)} 10h0")
    for one in run:
        draw(f"until {one.state}", f"M{axis.x(one.due_at)} 2v16")
    return "".join(f'<path class="{kind}" d="{path}"/>' for kind, path in paths.items())
