"""What follows from the events of runs: codes, precedence by state, business dates by facets and by namespace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.catalog.models import Calendar
from pipelines.slo.lineage.runs import ORDER, Event, Rule, Status, statuses

T0 = datetime(2026, 3, 2, 12, tzinfo=UTC)
WEEKDAYS = Calendar.model_validate(
    {"id": "c", "weekdays": ["mon", "tue", "wed", "thu", "fri"], "exclude": ["2026-02-27"]}
)


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def event(state: str, minutes: float = 0, **values: Any) -> Event:
    given = {"run_id": "r", "namespace": "prod", "job_name": "load"} | values
    return Event(state=state, event_at=at(minutes), **given)


def found(*events: Event, **values: Any) -> list[tuple[str, float, str, str]]:
    """Code, minutes, business date and rule of each status of the run `r`."""
    rule = Rule(**{"application_id": "bank"} | values)
    return sorted(
        (one.code, (one.status_at - T0) / timedelta(minutes=1), one.business_date.isoformat(), one.rule)
        for one in statuses(events, lambda _: rule)
        if one.run_id == "r"
    )


def codes(*events: Event) -> list[tuple[str, float]]:
    return [one[:2] for one in found(*events)]


def test_states_are_codes() -> None:
    assert codes(event("START"), event("COMPLETE", 5)) == [("START", 0), ("SUCCEED", 5)]
    assert codes(event("START"), event("FAIL", 5)) == [("FAIL", 5), ("START", 0)]
    assert codes(event("START"), event("ABORT", 5)) == [("FAIL", 5), ("START", 0)]
    assert codes(event("OTHER")) == []
    status = next(iter(statuses([event("START", job_name="a/b")], lambda name: Rule(f"of {name}"))))
    assert (status.application_id, status.job_name, status.run_id) == ("of prod", "a/b", "r")


def test_a_sign_of_life_stands_for_a_lost_start() -> None:
    assert codes(event("RUNNING", 3), event("RUNNING", 2)) == [("START", 2)]
    assert codes(event("RUNNING", 2), event("COMPLETE", 4)) == [("START", 2), ("SUCCEED", 4)]
    assert codes(event("RUNNING", 2), event("START", 1)) == [("START", 1)]
    # One that was written after the end says nothing of the start.
    assert codes(event("RUNNING", 5), event("FAIL", 4)) == [("FAIL", 4)]


def test_precedence_is_by_state() -> None:
    # By the clocks the start comes after the end: the run has ended all the same.
    assert codes(event("START", 5), event("FAIL", 4)) == [("FAIL", 4), ("START", 4)]
    # A run that is done again under its id is running again.
    assert codes(event("START"), event("FAIL", 4), event("START", 6)) == [
        ("FAIL", 4), ("START", 0), ("START", 6),
    ]  # fmt: skip


def test_a_streaming_job_has_no_status() -> None:
    assert codes(event("START"), event("RUNNING", 1, is_streaming=True), event("COMPLETE", 2)) == []


def test_the_date_is_that_of_the_first_that_says_one() -> None:
    tag, nominal = date(2026, 2, 27), datetime(2026, 2, 28, 5, tzinfo=UTC)
    of_parent = [
        event("START", -1, run_id="p", job_name="dag", nominal_at=datetime(2026, 2, 26, tzinfo=UTC)),
        event("START", -2, run_id="root", job_name="all", tag_date=date(2026, 2, 25)),
    ]

    def of(*events: Event) -> list[str]:
        return [" ".join(one[2:]) for one in found(*events, *of_parent)]

    family: dict[str, Any] = {"parent_run_id": "p", "root_run_id": "root"}
    assert of(event("START", tag_date=tag, nominal_at=nominal, **family)) == ["2026-02-27 tag"]
    assert of(event("START", nominal_at=nominal, **family)) == ["2026-02-28 nominal_time"]
    assert of(event("START", **family)) == ["2026-02-26 parent"]
    assert of(event("START", parent_run_id="unheard", root_run_id="root")) == ["2026-02-25 root"]
    assert of(event("START", parent_run_id="unheard")) == ["2026-03-02 cut_off"]


def test_a_parent_that_says_nothing_has_parents_too() -> None:
    chain = [event("START", run_id=f"r{n}", parent_run_id=f"r{n + 1}") for n in range(40)]
    chain.append(event("START", run_id="r40", tag_date=date(2026, 2, 1)))
    assert found(event("START", parent_run_id="r0"), *chain)[0][2:] == ("2026-02-01", "parent")
    # Runs that name each other do so for ever.
    ring = event("START", run_id="p", parent_run_id="r")
    assert found(event("START", parent_run_id="p"), ring)[0][2:] == ("2026-03-02", "cut_off")


def test_facets_gather_over_a_run() -> None:
    nominal = datetime(2026, 2, 28, tzinfo=UTC)
    for first, second in (("START", "COMPLETE"), ("COMPLETE", "START")):
        got = found(event(first, nominal_at=nominal), event(second, 1))
        assert {one[2:] for one in got} == {("2026-02-28", "nominal_time")}
    # The newest word counts, of one instant that of the later state; a facet that is not sent again stays.
    assert {
        one[2]
        for one in found(
            event("START", nominal_at=nominal),
            event("RUNNING", 1, nominal_at=nominal - timedelta(days=1)),
            event("COMPLETE", 1, nominal_at=nominal - timedelta(days=2)),
            event("OTHER", 9),
        )
    } == {"2026-02-26"}


def test_the_date_is_that_of_the_zone() -> None:
    nominal = datetime(2026, 3, 2, 3, tzinfo=UTC)
    assert found(event("START", nominal_at=nominal), timezone="America/New_York")[0][2] == "2026-03-01"
    assert found(event("START", nominal_at=nominal), timezone="Asia/Singapore")[0][2] == "2026-03-02"


def test_a_cut_off_gives_the_night_to_the_day_before() -> None:
    # 07:00 in New York, and a run that ends after the cut-off that it began before.
    assert found(event("START"), timezone="America/New_York", cut_off=6 * 60)[0][2] == "2026-03-02"
    night = [event("START", -90), event("COMPLETE", 60)]
    got = found(*night, timezone="America/New_York", cut_off=6 * 60)
    assert [one[2:] for one in got] == [("2026-03-01", "cut_off")] * 2
    # The wall clock counts where an hour is missing: 05:59 on 8 March, three hours and 59 minutes after 01:00.
    gap = datetime(2026, 3, 8, 9, 59, tzinfo=UTC)
    rule = Rule("bank", "America/New_York", cut_off=6 * 60)
    assert rule.day_of_event(gap) == date(2026, 3, 7)
    assert rule.day_of_event(gap + timedelta(minutes=1)) == date(2026, 3, 8)
    # It says nothing of a nominal time.
    assert rule.day(gap) == date(2026, 3, 8)


def test_a_shift_is_of_days_or_of_business_days() -> None:
    nominal = datetime(2026, 3, 2, tzinfo=UTC)
    assert found(event("START", nominal_at=nominal), shift=-1)[0][2] == "2026-03-01"
    # Monday: the Friday before is no date of the calendar.
    assert found(event("START", nominal_at=nominal), calendar=WEEKDAYS)[0][2] == "2026-02-26"
    assert found(event("START"), calendar=WEEKDAYS)[0][2] == "2026-02-26"
    # What the sender says in so many words is not shifted.
    assert found(event("START", tag_date=date(2026, 3, 1)), shift=-1)[0][2] == "2026-03-01"


def test_a_parent_s_date_follows_the_rule_of_its_own_namespace() -> None:
    rules = {"airflow": Rule("flows", shift=-1), "spark": Rule("sparks")}
    parent = event("START", run_id="p", namespace="airflow", nominal_at=datetime(2026, 3, 2, tzinfo=UTC))
    child = event("START", namespace="spark", parent_run_id="p")
    got = {one.run_id: one for one in statuses([parent, child], rules.__getitem__)}
    assert (got["r"].application_id, got["r"].business_date) == ("sparks", date(2026, 3, 1))


EVENTS = st.builds(
    event,
    st.sampled_from(ORDER),
    st.integers(0, 4),
    run_id=st.sampled_from(["r", "p", "q"]),
    job_name=st.sampled_from(["load", "sum"]),
    nominal_at=st.none() | st.integers(0, 3).map(lambda days: T0 - timedelta(days=days)),
    tag_date=st.none() | st.just(date(2026, 3, 1)),
    parent_run_id=st.sampled_from([None, "p", "q"]),
    root_run_id=st.sampled_from([None, "q"]),
)


@given(st.lists(EVENTS, max_size=12), st.randoms(use_true_random=False))
def test_order_and_repetition_make_no_difference(events: list[Event], random: Any) -> None:
    def of(some: list[Event]) -> set[Status]:
        return statuses(some, lambda _: Rule("bank"))

    other = events + [random.choice(events) for _ in events[:3]]
    random.shuffle(other)
    assert of(other) == of(events)


@pytest.mark.parametrize("change", [lambda one: replace(one, event_at=one.event_at.astimezone())])
def test_an_instant_is_one_in_any_zone(change: Callable[[Event], Event]) -> None:
    one = event("START")
    assert statuses([change(one)], lambda _: Rule("bank")) == statuses([one], lambda _: Rule("bank"))
