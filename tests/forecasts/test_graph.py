"""Through the graph of jobs: small cases by hand, and what always holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.forecasts.ends import EPOCH, Floats, Series, fit, predict
from pipelines.forecasts.graph import (
    Graph,
    Habits,
    History,
    Slos,
    Today,
    column_weights,
    forecast,
    habits,
    latest,
    longer_than,
    may_be_late,
    path,
    project,
    quantile,
    slo_ends,
)

NONE = np.nan


def chain(dates: int = 40, seed: int = 1) -> tuple[Habits, Floats]:
    """Three jobs: 0 by the clock at 1:00, 1 after it, 2 after both at 3:00 or later; and their ends, jobs x dates."""
    rng = np.random.default_rng(seed)
    first = 3600 + 60 * rng.random(dates)
    end = first + 1800 + 600 * rng.random(dates)
    second = end + 30 + 10 * rng.random(dates)
    end2 = second + 1200 + 300 * rng.random(dates)
    third = np.maximum(10_800 + 5 * rng.random(dates), end2)
    end3 = third + 600 + 60 * rng.random(dates)
    ends = np.stack([end, end2, end3])
    past = History(np.arange(dates), np.stack([first, second, third]), ends, np.full((3, dates), NONE))
    return habits(Graph.of([[], [0], [0, 1]]), past), ends


def today(now: float, **known: dict[int, float]) -> Today:
    rows = {name: np.full(3, NONE) for name in ("start", "end", "failed")}
    for name, values in known.items():
        for job, at in values.items():
            rows[name][job] = at
    return Today(now, 0.0, **rows)


def test_levels_and_circles() -> None:
    graph = Graph.of([[2], [0], [], [1, 2]])
    assert [sorted(level.tolist()) for level in graph.levels] == [[2], [0], [1], [3]]
    with pytest.raises(ValueError, match="circle"):
        _ = Graph.of([[1], [0]]).levels
    assert Graph.of([]).levels == []


def test_who_is_led_by_upstreams() -> None:
    past, _ = chain()
    assert past.is_led.tolist() == [False, True, False]


def test_where_it_did_not_run_it_followed_nobody() -> None:
    """A weekly job by the clock stays one, however its daily upstream ended on the six other days."""
    known, ends = chain()
    start, end = np.array(known.history.start), np.array(ends)
    weekly = np.arange(40) % 7 == 4
    start[1] = np.where(weekly, 9_000 + np.arange(40) % 3, NONE)
    end[1] = np.where(weekly, start[1] + 1200, NONE)
    past = habits(known.graph, replace(known.history, start=start, end=end))
    assert past.is_led.tolist() == [False, False, False]
    assert np.isnan(past.lag[1, ~weekly]).all()


def test_with_nothing_known_it_is_the_past() -> None:
    past, ends = chain()
    np.testing.assert_allclose(project(past, today(0.0)), ends)


def test_complete_jobs_stand_and_what_waits_follows() -> None:
    past, ends = chain()
    found = project(past, today(6000.0, start={0: 3600.0}, end={0: 5990.0}))
    assert (found[0] == 5990).all()
    lag = past.lag[1]
    np.testing.assert_allclose(
        found[1], 5990 + longer_than(lag[None], np.array([10.0]))[0] + past.duration[1]
    )
    # By the clock as on its date, but not before its upstreams.
    np.testing.assert_allclose(found[2], np.maximum(past.history.start[2], found[1]) + past.duration[2])
    # Two hours late, the third has to wait.
    late = project(past, today(14_000.0, start={0: 3600.0}, end={0: 13_990.0}))
    assert (late[2] > late[1]).all()
    assert late[2].min() > ends[2].max()


def test_a_running_job_takes_longer_than_it_has() -> None:
    past, _ = chain()
    found = project(past, today(3600.0 + 2200, start={0: 3600.0}))
    assert found[0].min() > 5800
    assert found[0].max() <= 3600 + past.duration[0].max() + 1e-9
    beyond = project(past, today(3600.0 + 9000, start={0: 3600.0}))
    assert beyond[0].min() > 12_600
    assert len(np.unique(beyond[0])) == 40


def test_a_failed_job_ends_by_its_usual_restart() -> None:
    past, ends = chain()
    restart = np.full(ends.shape, NONE)
    restart[0, :6] = 1000 + 100 * np.arange(6)
    past = habits(past.graph, replace(past.history, restart=restart))
    found = project(past, today(5000.0, start={0: 3600.0}, failed={0: 4900.0}))
    assert found[0].min() >= 4900 + 1000
    assert found[0].max() <= 4900 + 1500
    # A job without failures of its own is restarted as others are.
    other = project(past, today(6000.0, start={0: 3600.0, 1: 5500.0}, end={0: 5400.0}, failed={1: 5900.0}))
    assert 6900 <= np.median(other[1]) <= 7400


@given(st.floats(0, 30_000), st.lists(st.floats(0, 30_000), min_size=3, max_size=3), st.sampled_from("se"))
def test_never_in_the_past(now: float, at: list[float], what: str) -> None:
    past, _ = chain(12)
    rows = np.array(at)
    none = np.full(3, NONE)
    known = Today.as_of(now, 0.0, rows, rows + 600 if what == "e" else none, none)
    found = project(past, known)
    is_open = np.isnan(known.end)
    assert (found[is_open] >= now).all()
    assert np.isfinite(found).all()


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=30), st.floats(0, 2000))
def test_what_is_longer_keeps_its_order(values: list[float], than: float) -> None:
    row = np.array(values)
    found = longer_than(row[None], np.array([than]))[0]
    if (row > than).all():
        np.testing.assert_array_equal(found, row)
    else:
        assert (found >= than).all()
        order = np.argsort(row, kind="stable")
        assert (np.diff(found[order]) >= -1e-9).all()


def test_an_slo_is_forecast_as_its_own_past_where_nothing_is_known() -> None:
    dates = 120
    past, ends = chain(dates)
    day = 86_400.0
    ordinals = EPOCH + 10_000 + np.arange(dates)
    past = replace(past, history=replace(past.history, date=ordinals))
    anchors = (ordinals - EPOCH) * day
    due = 12_000.0
    state = fit(Series("s", "00:00", ordinals, anchors + due, anchors + ends[2]))
    anchor = float(anchors[-1]) + day
    none = np.full(3, NONE)
    known = Today(anchor - 3600, anchor, none, none, none)
    slos = Slos.of([[2]], np.array([anchor + due]))
    weights = column_weights([state], ordinals, int(ordinals[-1]) + 1)
    found = forecast(slos, project(past, known), known, [state], weights)
    alone = predict([state], ordinals[-1:] + 1, slos.due, np.array([known.now]))
    for name in ("p10", "p50", "p80", "p90", "p95"):
        assert getattr(found, name)[0] == pytest.approx(getattr(alone, name)[0], abs=1), name
    assert found.miss_probability[0] == pytest.approx(alone.miss_probability[0], abs=1e-3)


def test_the_way_back() -> None:
    dates = 11
    start = np.tile([[0.0], [1000.0], [5000.0]], (1, dates))
    end = start + np.array([[990.0], [600.0], [300.0]])
    past = habits(Graph.of([[], [0], [1]]), History(np.arange(dates), start, end, np.full((3, dates), NONE)))
    past = replace(past, is_led=np.array([False, True, False]))
    slos = Slos.of([[1], [2]], np.array([4000.0, 4200.0]))
    back = latest(past, slos)
    # The second SLO needs job 1 by 4200 - 300, before its own due time.
    assert back.end.tolist() == [3900.0 - 600 - 10, 3900.0, 4200.0]
    assert back.start.tolist() == [3900.0 - 610 - 990, 3300.0, 3900.0]
    assert back.slo.tolist() == [1, 1, 1]
    slack, hit = may_be_late(slos, back)
    assert (slack[0], hit[0]) == (-100.0, 1)
    assert (slack[1], hit[1]) == (np.inf, -1)


def test_the_path_and_ends_of_an_slo() -> None:
    past, ends = chain()
    slos = Slos.of([[0, 1]], np.array([9000.0]))
    np.testing.assert_array_equal(slo_ends(slos, ends)[0], ends[:2].max(axis=0))
    assert path(past, slos, quantile(ends, 0.5), 0) == [0, 1]
