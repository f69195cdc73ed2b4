"""Today's timeline as a function: who stands above whom, where times lie, what is folded and what is left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipelines.board.read import upstream_of, usual_zone
from pipelines.board.today import WIDTH, Axis, axis_of, folded, ordered, timeline
from pipelines.board.tracked import JobOfSlo, TrackedJob, TrackedSlo
from tests.board import samples

EDGES = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20)


@given(EDGES)
@hypothesis_settings(deadline=None)
def test_who_waits_stands_below_whom_it_waits_for(edges: set[tuple[int, int]]) -> None:
    """Edges from a lower number to a higher one make no ring."""
    names = [str(number) for number in (3, 7, 0, 5, 1, 6, 2, 4)]
    above = {name: {str(one) for one, other in edges if one < other and str(other) == name} for name in names}
    found = ordered(names, above.__getitem__)
    places = {name: place for place, (name, _) in enumerate(found)}
    assert sorted(places) == sorted(names)
    assert len(found) == len(names)
    for name, depth in found:
        assert all(places[one] < places[name] for one in above[name])
        assert depth == max((dict(found)[one] + 1 for one in above[name]), default=0)


@given(EDGES)
@hypothesis_settings(deadline=None)
def test_a_ring_hides_nobody(edges: set[tuple[int, int]]) -> None:
    names = [str(number) for number in range(8)]
    found = ordered(names, lambda name: {str(one) for one, other in edges if str(other) == name})
    assert sorted(name for name, _ in found) == names


def test_the_next_slos_upstream_past_jobs_that_none_promises() -> None:
    def slo(slo_id: str, *jobs: str) -> TrackedSlo:
        return TrackedSlo(
            slo_id, slo_id, "a", "UTC", jobs=tuple(JobOfSlo(slo_id, ("a", job)) for job in jobs)
        )

    def job(job_id: str, *upstream: str) -> TrackedJob:
        return TrackedJob(("a", job_id), job_id, "UTC", upstream=tuple(("a", one) for one in upstream))

    jobs = [job("first"), job("second", "first"), job("between", "second"), job("third", "between", "second")]
    slos = [slo("one", "first"), slo("two", "second", "first"), slo("three", "third")]
    assert upstream_of(slos, jobs) == {"one": frozenset(), "two": frozenset(), "three": frozenset({"two"})}
    zones = [
        replace(each, timezone=zone) for each, zone in zip(slos, ("UTC", "Asia/Tokyo", "UTC"), strict=True)
    ]
    assert (usual_zone(zones), usual_zone([])) == ("UTC", "UTC")


def test_a_day_of_a_clock_change_has_its_own_length() -> None:
    spring = datetime(2026, 3, 8, 15, tzinfo=UTC)
    axis = axis_of(spring, "America/New_York", [])
    assert axis.end - axis.start == timedelta(hours=23)
    labels = axis.labels()
    assert [text for _, text in labels[:3]] == ["00:00", "03:00", "06:00"]
    # Three in the morning comes after two hours.
    assert [round(left * 23 / 100, 1) for left, _ in labels[:3]] == [0, 2, 5]
    autumn = axis_of(datetime(2026, 11, 1, 15, tzinfo=UTC), "America/New_York", [])
    assert autumn.end - autumn.start == timedelta(hours=25)


def test_the_axis_reaches_as_far_as_what_is_open_within_limits() -> None:
    day = axis_of(samples.AS_OF, "UTC", [])
    assert (day.start, day.end) == (datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 3, 11, tzinfo=UTC))
    late = samples.occurrence("x", "X", "a", datetime(2026, 3, 11, 2, tzinfo=UTC))
    assert axis_of(samples.AS_OF, "UTC", [late]).end == datetime(2026, 3, 11, 3, tzinfo=UTC)
    later = replace(late, due_at=datetime(2026, 3, 20, tzinfo=UTC))
    assert axis_of(samples.AS_OF, "UTC", [later]).end == datetime(2026, 3, 11, 12, tzinfo=UTC)
    assert Axis(day.start, day.end, samples.AS_OF, "UTC").x(later.due_at) == WIDTH


def test_windows_that_are_alike_share_a_row_and_others_do_not() -> None:
    runs = folded(samples.today())
    assert [len(run) for run in runs if run[0].slo_id == "deposit-activity"] == [3, 4]
    assert all(len({one.state for one in run}) == 1 for run in runs)


def test_what_needs_somebody_is_shown_before_what_is_well() -> None:
    board = samples.board()
    drawn = timeline(board, board.today, uid="x", most=4)
    assert drawn is not None
    assert {row.state for group in drawn["groups"] for row in group.rows} == {"overdue", "at_risk", "failed"}
    assert {group.name: group.more for group in drawn["groups"]} == {
        "Checking and savings": 4, "Decision support": 0, "Overdrafts": 1,
    }  # fmt: skip
    whole = timeline(board, board.today, uid="x")
    assert whole is not None
    # Who feeds others stands above them, whatever the names.
    assert [group.name for group in whole["groups"]] == [
        "Checking and savings",
        "Overdrafts",
        "Decision support",
    ]
