"""The truth of a simulated date: what each occurrence is when the simulation stops.

It is told from the runs as they were made, before files are late, doubled and out of order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from pipelines.simulator.behaviour import Day, Run
from pipelines.simulator.plan import MINUTE, NEVER, Due, SloPlan, World

COLUMNS = (
    "slo_id",
    "business_date",
    "slot",
    "expected_start_at",
    "expected_end_at",
    "actual_start_at",
    "actual_end_at",
    "progress",
    "outcome",
    "late_by_seconds",
    "revisions",
)
_RANK = {"START": 0, "FAIL": 1, "SUCCEED": 2}


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One row of the truth; instants in milliseconds."""

    slo_id: str
    due: Due
    actual_start: int | None
    actual_end: int | None
    progress: str
    outcome: str
    revisions: int

    @property
    def late_by(self) -> int | None:
        """Milliseconds between the due and the true end; negative is early, none while it is not complete."""
        return None if self.actual_end is None else self.actual_end - self.due.expected_end


@dataclass(frozen=True, slots=True)
class _Facts:
    started: int | None
    ended: int | None
    last: str
    revisions: int


class Truth:
    """Tells the occurrences of one date after another, in order of date."""

    def __init__(self, world: World) -> None:
        self.world = world
        # A promise without a date of its own starts with the first date that any of its jobs reports.
        self.has_begun = [not slo.is_open_start for slo in world.slos]

    def of(self, today: Day) -> Iterator[Occurrence]:
        """The occurrences of a date that exist at the end."""
        whole: dict[int, _Facts] = {number: _facts(runs) for number, runs in today.runs.items()}
        for place, slo in enumerate(self.world.slos):
            is_seen = any(job in today.runs for job in slo.jobs)
            self.has_begun[place] = self.has_begun[place] or is_seen
            dues = today.dues[place]
            if not dues or not self.has_begun[place]:
                continue
            by_window = self._by_window(today, slo.jobs, dues) if slo.is_intraday else [whole]
            for due, facts in zip(dues, by_window, strict=True):
                if due.opens <= self.world.as_of or is_seen:
                    known = [facts.get(entry.job) for entry in due.jobs]
                    yield self._judge(slo, today.day, due, known)

    def _by_window(self, today: Day, jobs: Sequence[int], dues: Sequence[Due]) -> list[dict[int, _Facts]]:
        claims = [due.claims or 0 for due in dues]
        facts: list[dict[int, _Facts]] = [{} for _ in dues]
        for job in jobs:
            windows: dict[int, list[Run]] = {}
            for run in today.runs.get(job, ()):
                begun = min(at for at, _ in run.statuses)
                windows.setdefault(max(0, bisect_right(claims, begun) - 1), []).append(run)
            for window, runs in windows.items():
                facts[window][job] = _facts(runs)
        return facts

    def _judge(self, slo: SloPlan, day: date, due: Due, facts: Sequence[_Facts | None]) -> Occurrence:
        known = [fact for fact in facts if fact is not None]
        ends = [fact.ended for fact in known if fact.ended is not None]
        starts = [fact.started for fact in known if fact.started is not None]
        actual_end = max(ends) if len(ends) == len(facts) else None
        if actual_end is not None:
            progress, outcome = "complete", "on_time" if actual_end <= due.expected_end else "late"
        else:
            has_failed = any(fact.ended is None and fact.last == "FAIL" for fact in known)
            progress = "failed" if has_failed else "running" if known else "pending"
            outcome = "overdue" if self.world.as_of > due.expected_end else "not_due"
            if outcome == "overdue" and self.world.as_of > _gives_up(slo, day, due):
                outcome = "missed"
        revisions = sum(fact.revisions for fact in known)
        return Occurrence(
            slo.slo_id, due, min(starts, default=None), actual_end, progress, outcome, revisions
        )


def _gives_up(slo: SloPlan, day: date, due: Due) -> int:
    """When it is given up: as its SLO says, or when a later date falls due, at most a week after the due time."""
    if due.gives_up_after is not None:
        return due.expected_end + due.gives_up_after
    latest = due.expected_end + 7 * 24 * 60 * MINUTE
    firsts = (
        min((one.expected_end for one in slo.on(day + timedelta(days=number))), default=0)
        for number in range(1, 15)
    )
    return min(next((first for first in firsts if first > due.expected_end), latest), latest)


def _facts(runs: Sequence[Run]) -> _Facts:
    if len(runs) == 1 and [code for _, code in runs[0].statuses] == ["START", "SUCCEED"]:
        (started, _), (ended, _) = runs[0].statuses
        return _Facts(started, ended, "SUCCEED", 0)
    statuses = sorted((at, _RANK[code], code) for run in runs for at, code in run.statuses)
    first_end = next((at for at, _, code in statuses if code == "SUCCEED"), NEVER)
    begin = next((at for at, _, code in statuses if code == "START" and at <= first_end), None)
    revisions = sum(at > first_end for at, _, _ in statuses)
    return _Facts(begin, None if first_end == NEVER else first_end, statuses[-1][2], revisions)
