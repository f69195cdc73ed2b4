"""The rules alone: grouping across calendars, grains and SLOs of several jobs; files; calendars; digests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.oncall.incidents import rules
from sensors.oncall.incidents.changes import changes
from sensors.oncall.incidents.evaluate import slo_wanted
from sensors.oncall.incidents.model import (
    Ending,
    Incident,
    JobKey,
    JobState,
    Key,
    Occurrence,
    OccurrenceKey,
    Rules,
    Severity,
    Wanted,
)
from sensors.oncall.incidents.notices import Situation, notices
from sensors.oncall.incidents.replay import PastJob, PastOccurrence, replay_of
from sensors.oncall.incidents.routes import Route, Routes
from sensors.oncall.incidents.rules import CalendarEnd, JobDate, LandedFile, Standing, Window
from tests.examples import examples

TUESDAY = date(2026, 3, 3)
MIDNIGHT = datetime(2026, 3, 3, tzinfo=UTC)


def hour(number: float) -> datetime:
    return MIDNIGHT + timedelta(hours=number)


def job(name: str, progress: str, due: float = 3, rank: int = 0) -> JobState:
    application, _, key = name.partition("/")
    return JobState((application, key), progress, hour(due - 1), hour(due), rank, hour(due - 0.5))


def occurrence(
    slo: str, *jobs: JobState, outcome: str = "overdue", day: date = TUESDAY, slot: str = "00:00"
) -> Occurrence:
    states = {one.progress for one in jobs}
    progress = "failed" if "failed" in states else "pending" if states == {"pending"} else "running"
    return Occurrence(
        OccurrenceKey(slo, day, slot), jobs[0].key[0], slo, outcome, progress, None, jobs[0].expected_end_at, None,
        "", jobs,
    )  # fmt: skip


class Graph:
    """A graph at hand: edges, and how jobs without trouble stand."""

    def __init__(self, edges: Mapping[str, Sequence[str]], occurrences: Sequence[Occurrence]) -> None:
        self._edges = {self._key(name): [self._key(one) for one in above] for name, above in edges.items()}
        self._occurrences = occurrences

    @staticmethod
    def _key(name: str) -> JobKey:
        application, _, rest = name.partition("/")
        return application, rest

    def upstream(self, job: JobKey) -> Collection[JobKey]:
        return self._edges.get(job, [])

    def standings(self, wanted: Collection[JobDate]) -> Mapping[JobDate, Sequence[Standing]]:
        found = {}
        for asked in wanted:
            all_of_job = [
                Standing(one.key, state)
                for one in self._occurrences
                for state in one.jobs
                if state.key == asked.job and one.key.business_date <= asked.business_date
            ]
            latest = max((one.occurrence.business_date for one in all_of_job), default=None)
            found[asked] = [one for one in all_of_job if one.occurrence.business_date == latest]
        return found

    def windows(self, days: Collection[tuple[str, date]]) -> Mapping[tuple[str, date], Sequence[Window]]:
        raise AssertionError(days)


def grouped(occurrences: Sequence[Occurrence], edges: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """`kind slo` to the same of its cause."""
    wanted = slo_wanted(list(occurrences), Graph(edges, occurrences), Rules(), hour(9), {}, lambda _: {})
    return {
        f"{one.key.kind} {one.key.subject}": f"{one.cause.kind} {one.cause.subject}" if one.cause else None
        for one in wanted
    }


def test_through_a_job_that_no_slo_promises() -> None:
    found = grouped(
        [
            occurrence("top", job("x/a", "failed"), outcome="not_due"),
            occurrence("low", job("y/c", "pending")),
        ],
        {"y/c": ["x/between"], "x/between": ["x/a"]},
    )
    assert found == {"failed top": None, "overdue low": "failed top"}


def test_through_a_job_that_is_not_yet_due() -> None:
    middle = occurrence("middle", job("y/b", "pending", 12), outcome="not_due")
    found = grouped(
        [occurrence("top", job("x/a", "pending")), middle, occurrence("low", job("y/c", "pending"))],
        {"y/c": ["y/b"], "y/b": ["x/a"]},
    )
    assert found == {"overdue top": None, "overdue low": "overdue top"}


def test_not_through_a_job_that_is_complete() -> None:
    done = occurrence("middle", job("y/b", "complete"), outcome="on_time")
    found = grouped(
        [occurrence("top", job("x/a", "pending")), done, occurrence("low", job("y/c", "pending"))],
        {"y/c": ["y/b"], "y/b": ["x/a"]},
    )
    assert found == {"overdue top": None, "overdue low": None}


def test_the_latest_earlier_date_of_another_calendar() -> None:
    friday = date(2026, 2, 27)
    edges = {"y/c": ["x/a"]}
    late = occurrence("top", job("x/a", "running"), day=friday)
    low = occurrence("low", job("y/c", "pending"))
    assert grouped([late, low], edges) == {"overdue top": None, "overdue low": "overdue top"}
    # On Monday it was complete: Friday's has nothing to do with Tuesday's.
    monday = occurrence("top", job("x/a", "complete"), day=date(2026, 3, 2), outcome="on_time")
    assert grouped([late, monday, low], edges) == {"overdue top": None, "overdue low": None}


def test_one_with_trouble_of_its_own_is_told_by_itself() -> None:
    both = occurrence("both", job("y/c", "pending"), job("y/own", "failed"))
    found = grouped([occurrence("top", job("x/a", "pending")), both], {"y/c": ["x/a"]})
    assert found["overdue both"] is None


def test_two_that_wait_for_each_other_are_both_told() -> None:
    """Jobs have no cycle, SLOs of several jobs may."""
    found = grouped(
        [
            occurrence("one", job("x/a1", "pending"), job("x/b2", "pending", rank=1)),
            occurrence("two", job("x/b1", "pending"), job("x/a2", "pending", rank=1)),
        ],
        {"x/a2": ["x/a1"], "x/b2": ["x/b1"]},
    )
    assert found == {"overdue one": None, "overdue two": None}


def test_the_most_upstream_of_a_long_chain() -> None:
    names = [f"x/j{number}" for number in range(30)]
    occurrences = [occurrence(f"s{n:02}", job(name, "pending", rank=n)) for n, name in enumerate(names)]
    edges = {name: names[:number] for number, name in enumerate(names)}
    found = grouped(occurrences, edges)
    assert found.pop("overdue s00") is None
    assert set(found.values()) == {"overdue s00"}


def test_failed_and_overdue_of_one_occurrence_are_told_together_only_if_they_open_together() -> None:
    one = occurrence("one", job("x/a", "failed"))
    overdue, failed = one.incident("overdue"), one.incident("failed")

    def cause(standing: dict[Key, Key | None]) -> Key | None:
        wanted = slo_wanted([one], Graph({}, [one]), Rules(), hour(9), standing, lambda _: {})
        return {each.key: each.cause for each in wanted}[failed]

    assert cause({}) == overdue
    assert cause({failed: overdue, overdue: None}) == overdue
    assert cause({failed: None}) is None
    assert cause({overdue: None}) is None


@pytest.mark.parametrize(
    ("records", "rejected", "opens"),
    [
        (10_000, 99, False),
        (10_000, 101, True),
        (400, 4, False),
        (400, 5, True),
        (0, 1, True),
        (9, 1, False),
        (3, 0, False),
    ],
)
def test_how_much_rejected_is_too_much(records: int, rejected: int, opens: bool) -> None:
    file = LandedFile(1, "job_status", "x.csv", "loaded", records, rejected, "", MIDNIGHT)
    assert bool(rules.rejected_incidents([file], Rules())) is opens


@pytest.mark.parametrize(
    ("last", "opens"),
    [(date(2026, 5, 1), True), (date(2026, 5, 2), False), (date(2026, 1, 1), True), (None, False)],
)
def test_when_a_calendar_ends_soon(last: date | None, opens: bool) -> None:
    found = rules.calendar_incidents([CalendarEnd("c", last, ("slo",))], Rules(), MIDNIGHT)
    assert bool(found) is opens


def incident(number: int, severity: Severity = "warning", cause: int | None = None) -> Incident:
    key = Key("overdue", f"s{number}", "x")
    return Incident(
        number,
        key,
        severity,
        f"title {number}",
        "message",
        MIDNIGHT,
        MIDNIGHT,
        MIDNIGHT,
        MIDNIGHT,
        cause_id=cause,
    )


def test_a_digest_names_the_worst_first() -> None:
    open_ = [incident(number) for number in range(1, 60)] + [incident(60, "critical")]
    routes = Routes({"r": Route(id="r", to="file:x")})
    (message,) = notices(Situation(open_, [], {}, []), routes, MIDNIGHT).sent
    assert message.severity == "critical"
    assert message.body.splitlines()[0] == "title 60 · duemark ack 60"
    assert message.body.splitlines()[-1] == "and 10 more: duemark incidents"
    assert len(message.incidents) == 60


def test_a_route_may_hear_what_is_grouped() -> None:
    open_ = [incident(1), incident(2, cause=1)]
    routes = Routes(
        {"all": Route(id="all", to="file:x"), "each": Route(id="each", to="file:x", grouped=True)}
    )
    made = notices(Situation(open_, [], {}, []), routes, MIDNIGHT).sent
    assert [(one.route, one.title) for one in made] == [
        ("all", "title 1"),
        ("each", "title 1"),
        ("each", "title 2"),
    ]
    assert "Grouped under it: title 2" in made[0].body


def test_what_is_the_same_is_not_written() -> None:
    row = incident(1)
    wanted = Wanted(row.key, row.severity, row.title, row.message, MIDNIGHT, MIDNIGHT)
    assert not changes([row], [wanted], lambda _: Ending("over", ""))
    # That it still holds is no change; that it came again is one.
    assert not changes([row], [replace(wanted, seen_at=hour(1))], lambda _: Ending("over", ""))
    again = replace(wanted, seen_at=hour(1), comes_again=True)
    assert changes([row], [again], lambda _: Ending("over", "")).updated
    assert changes([row], [], lambda _: Ending("over", "gone")).resolved == [(row, Ending("over", "gone"))]


# A night drawn by chance, replayed: what is told does not depend on anything but what happened.

JOBS = ["x/a", "x/b", "y/c", "y/d"]
EDGES = {("x", "b"): [("x", "a")], ("y", "c"): [("x", "b")], ("y", "d"): []}


@st.composite
def nights(draw: st.DrawFn) -> list[PastOccurrence]:
    found = []
    for number, name in enumerate(JOBS):
        application, _, key = name.partition("/")
        for day in range(3):
            due = hour(day * 24 + 3 + number)
            end = draw(st.none() | st.integers(-120, 600))
            ended = None if end is None else due + timedelta(minutes=end)
            failures: list[tuple[datetime, datetime | None]] = []
            if draw(st.booleans()):
                begin = due + timedelta(minutes=draw(st.integers(-180, 120)))
                if ended is None or begin < ended:
                    failures.append((begin, ended))
            seen = min([*(begin for begin, _ in failures), *([ended] if ended else [])], default=None)
            state = PastJob((application, key), due - timedelta(hours=1), due, ended, seen, number, failures)
            at = OccurrenceKey(f"slo-{key}", TUESDAY + timedelta(days=day), "00:00")
            found.append(
                PastOccurrence(at, application, at.slo_id, state.expected_start_at, due, ended, [state])
            )
    return found


@examples(40)
@given(nights(), st.booleans())
def test_every_end_was_told_to_begin_with_and_nothing_is_told_twice(
    night: list[PastOccurrence], never: bool
) -> None:
    route = Route(id="r", to="file:x", repeat=timedelta() if never else timedelta(hours=2))
    routes = Routes({"r": route}, replace(Rules(), digest_above=1000))
    result = replay_of(night, EDGES, routes, hour(-24), hour(96))
    told: set[str] = set()
    for one in result.sent:
        begin = one.title.partition(" (")[0]
        if one.event == "opened":
            assert "(" not in one.title
            told.add(f"{one.at} {begin}" if begin.startswith(("Failed", "Sender")) else begin)
        elif not begin.startswith(("Failed", "Sender")):
            assert begin in told
    opened = [
        one.title
        for one in result.sent
        if one.event == "opened" and one.title.startswith(("Overdue", "Late"))
    ]
    assert len(opened) == len(set(opened))
    if never:
        # But what loses its group is told once more: at most as often as there are others to end.
        again = Counter(one.title for one in result.sent if one.event == "repeated")
        assert max(again.values(), default=0) < max(1, sum(result.opened.values()))
    late = [one for one in night if one.actual_end_at and one.actual_end_at > one.expected_end_at]
    assert result.opened.get("late", 0) == len(late)
    assert replay_of(list(reversed(night)), EDGES, routes, hour(-24), hour(96)) == result
