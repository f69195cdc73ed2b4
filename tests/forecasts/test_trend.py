"""The trend of a series: against scipy, pymannkendall and ruptures, and against the truth of simulated banks."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from typing import Any

import numpy as np
import pymannkendall
import pytest
import ruptures
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipelines.forecasts.ends import Floats
from pipelines.forecasts.trend import (
    LEAST_DATES,
    LEAST_MINUTES,
    LEAST_SHARE,
    WINDOW,
    Trend,
    find_change,
    mann_kendall,
    theil_sen,
    trend,
    without_weekdays,
)
from pipelines.simulator.bank import make_bank
from pipelines.simulator.behaviour import simulate_days
from pipelines.simulator.plan import MINUTE, instant
from pipelines.simulator.simulate import _NEW_YORK, _STOPS_AT, _world
from tests.examples import examples

FIRST = date(2026, 1, 5).toordinal()


@st.composite
def series(draw: st.DrawFn) -> Floats:
    """Noise, walks and values with many ties."""
    count = draw(st.integers(LEAST_DATES, WINDOW))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.normal(size=count) + draw(st.sampled_from([0.0, 0.05, -0.2])) * np.arange(count)
    kind = draw(st.sampled_from(["noise", "walk", "ties"]))
    if kind == "walk":
        values = values.cumsum()
    return np.round(values) if kind == "ties" else values


@examples(200)
@given(values=series())
def test_slope_and_interval_are_those_of_scipy(values: Floats) -> None:
    found, oracle = theil_sen(values), stats.theilslopes(values)
    assert [found.slope, found.low, found.high, found.level] == pytest.approx(
        [oracle.slope, oracle.low_slope, oracle.high_slope, oracle.intercept]
    )


@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt:RuntimeWarning")
@examples(200)
@given(values=series())
def test_significance_is_that_of_hamed_and_rao(values: Floats) -> None:
    oracle = pymannkendall.hamed_rao_modification_test(values)
    found = mann_kendall(values, theil_sen(values).slope, least_correction=-np.inf)
    assert found.s == oracle.s
    # Their variance may be negative, of which there is no p.
    assert found.p_value == pytest.approx(1.0 if np.isnan(oracle.p) else oracle.p)
    plain = pymannkendall.original_test(values)
    assert mann_kendall(values, theil_sen(values).slope).p_value >= min(plain.p, oracle.p) - 1e-9


@pytest.mark.parametrize("place", [20, 45, 70])
@pytest.mark.parametrize("seed", range(5))
def test_a_step_is_where_ruptures_sees_it(place: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = 60 + 12.0 * (np.arange(WINDOW) >= place) + rng.normal(0, 3, WINDOW)
    found = find_change(values, theil_sen(values))
    (oracle, _) = ruptures.Dynp(model="l2", min_size=5, jump=1).fit(values).predict(n_bkps=1)
    assert found.shape == "step"
    assert found.place == pytest.approx(oracle, abs=1)
    assert found.rise == pytest.approx(12, abs=3)


def made(change: Floats, seed: int = 0, spread: float = 0.1) -> Trend:
    """The trend of 90 dates that took an hour, times `change`, with weekdays, chance and a few outliers."""
    rng = np.random.default_rng(seed)
    days = np.arange(FIRST, FIRST + len(change))
    took = 60 * change * np.array([1.08, 1, 0.98, 1, 1.06, 0.85, 0.8])[days % 7]
    took *= np.exp(rng.normal(0, spread, len(change)))
    took[rng.random(len(change)) < 0.03] *= 4
    # It begins two hours before it is due.
    found = trend(days, took, took - 120)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(8))
def test_what_began_within_the_window_is_dated(seed: int) -> None:
    place = np.arange(WINDOW)
    ramp = made(1 + 0.75 * np.maximum(0, place - 40) / 50, seed)
    assert (ramp.is_large, ramp.shape) == (True, "ramp")
    assert abs(ramp.changed_on - FIRST - 40) <= 10
    step = made(1 + 0.5 * (place >= 50), seed)
    assert (step.is_large, step.shape) == (True, "step")
    assert abs(step.changed_on - FIRST - 50) <= 2
    assert step.days_until_due is None
    line = made(1 + 0.75 * place / WINDOW, seed)
    assert (line.is_large, line.shape, line.changed_on) == (True, "line", FIRST)
    assert line.grew_by == pytest.approx(45, abs=12)


def test_the_due_time_is_crossed_when_the_p90_end_gets_there() -> None:
    """An hour that grows by half a minute a date, due after two: 90 minutes of it are gone on the last date."""
    days = np.arange(FIRST, FIRST + 61)
    took = 60 + 0.5 * np.arange(61)
    found = trend(days, took, took - 120)
    assert found is not None
    assert found.p90_end == pytest.approx(-30)
    assert found.days_until_due == 60
    # By working days a date is more than a day.
    weekly = trend(FIRST + 7 * np.arange(61), took, took - 120)
    assert weekly is not None
    assert weekly.days_until_due is None, "420 days, more than a year"
    over = trend(days, took, took - 80)
    assert over is not None
    assert over.days_until_due == 0


def test_ends_stand_in_for_durations_that_nobody_sent() -> None:
    days = np.arange(FIRST, FIRST + 60)
    ends = -40 + 0.5 * np.arange(60)
    took = np.where(np.arange(60) < LEAST_DATES - 1, 30.0, np.nan)
    found = trend(days, took, ends)
    assert found is not None
    assert (found.basis, found.is_large) == ("end", True)
    assert found.grew_by == pytest.approx(29.5, rel=0.1)
    assert trend(days[: LEAST_DATES - 1], took[: LEAST_DATES - 1], ends[: LEAST_DATES - 1]) is None


def test_small_trends_and_those_downwards_are_none_to_tell() -> None:
    place = np.arange(WINDOW)
    days = FIRST + place
    nothing = np.full(WINDOW, np.nan)
    for took in (
        10 + 1.9 * place / 89,
        600 + 0.9 * LEAST_SHARE * 600 * place / 89,
        90 - 0.5 * place,
    ):
        found = trend(days, took, nothing)
        assert found is not None
        assert not found.is_large
    assert LEAST_MINUTES == 2


@examples(50)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_weekdays_add_is_taken_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    days = FIRST + np.arange(WINDOW)
    share = rng.uniform(0.5, 2, 7)
    adjusted = without_weekdays(30 * share[days % 7], days, is_ratio=True)
    assert adjusted == pytest.approx(np.full(WINDOW, adjusted[0]))


def simulated(seed: int, jobs: int = 120, days: int = 60) -> dict[tuple[str, str], tuple[str, Trend | None]]:
    """Role and trend of every job of a made-up bank that runs once a date, by what its runs took."""
    last = date(2026, 4, 1)
    first = last - timedelta(days=days * 7 // 5)
    world = _world(
        make_bank(jobs, first, last, seed), first, last, instant(last + timedelta(days=1), _STOPS_AT, _NEW_YORK),
        ("csv",),
    )  # fmt: skip
    took: dict[int, list[tuple[int, float]]] = defaultdict(list)
    intraday: set[int] = set()
    for day in simulate_days(world, seed):
        intraday |= day.intraday
        for number, runs in day.runs.items():
            ended: list[tuple[int, Any]] = [
                (at, run) for run in runs for at, code in run.statuses if code == "SUCCEED"
            ]
            if ended:
                end, run = min(ended, key=lambda one: one[0])
                starts = [at for at, code in run.statuses if code == "START" and at <= end]
                took[number].append((day.day.toordinal(), (end - starts[0]) / MINUTE if starts else np.nan))
    found: dict[tuple[str, str], tuple[str, Trend | None]] = {}
    for number, rows in took.items():
        if number not in intraday:
            rows = sorted(rows)[-WINDOW:]  # noqa: PLW2901
            dates, minutes = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
            job = world.jobs[number]
            found[job.application, job.job] = (job.role, trend(dates, minutes, np.full(len(rows), np.nan)))
    return found


def slowing(found: dict[tuple[str, str], tuple[str, Trend | None]]) -> set[tuple[str, str]]:
    """Those that the mart would flag: Benjamini and Hochberg, and the gate."""
    slower = {
        job: one.p_value / 2 if one.slope > 0 else 1 - one.p_value / 2
        for job, (_, one) in found.items()
        if one
    }
    accepted = [p for place, p in enumerate(sorted(slower.values()), 1) if p <= 0.1 * place / len(slower)]
    limit = max(accepted, default=-1.0)
    return {job for job, (_, one) in found.items() if one and slower[job] <= limit and one.is_large}


def test_simulated_banks_are_told_apart() -> None:
    """All that slow are found and dated within ten days; of those that don't, one in twenty at most is flagged."""
    steady = flagged = 0
    for seed in range(6):
        found = simulated(seed)
        told = slowing(found)
        true = {job for job, (role, one) in found.items() if role == "slowing" and one is not None}
        assert true, "the bank has some"
        assert true <= told
        for job in true:
            one = found[job][1]
            assert one is not None
            assert one.changed_on - one.first_date <= 10
        steady += len(found) - len(true)
        flagged += len(told - true)
    assert flagged <= 0.05 * steady
