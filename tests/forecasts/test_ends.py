"""Facts about the forecast of one series: what always holds, and small cases by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.forecasts import ends
from pipelines.forecasts.ends import EPOCH, Floats, Forecast, Series, State, advance, fit, predict

MONDAY = date(2024, 1, 1).toordinal()
DAY = 86_400.0


def series(minutes: list[float], due_at: float = 6 * 3600.0, first: int = MONDAY) -> Series:
    """Daily, due at 06:00 UTC, with ends in minutes from due; nan: none."""
    dates = np.arange(first, first + len(minutes))
    due = (dates - EPOCH) * DAY + due_at
    return Series("s", "00:00", dates, due, due + np.array(minutes, float) * 60)


def noisy(count: int, seed: int = 1, centre: float = -30, width: float = 10) -> Series:
    rng = np.random.default_rng(seed)
    return series(list(centre + width * rng.standard_normal(count)))


def after(known: Series) -> tuple[int, float]:
    """Date and due time of the date that follows."""
    return int(known.date[-1]) + 1, float(known.due[-1]) + DAY


def one(state: State, day: int, due: float, now: float) -> Forecast:
    return predict([state], np.array([day]), np.array([due]), np.array([now]))


def quantiles(forecast: Forecast) -> Floats:
    return np.stack([forecast.p10, forecast.p50, forecast.p80, forecast.p90, forecast.p95], axis=1)


minutes = st.one_of(
    st.floats(-600, 600, allow_nan=False), st.just(float("nan")), st.sampled_from([-30.0, -30.5, 0.0, 5000.0])
)
histories = st.lists(minutes, max_size=40)


@given(histories, st.lists(st.floats(-1000, 10_000), min_size=2, max_size=8))
def test_never_in_the_past_in_order_and_later_as_time_passes(past: list[float], nows: list[float]) -> None:
    known = series(past)
    day, due = MONDAY + len(past), (MONDAY + len(past) - EPOCH) * DAY + 6 * 3600
    # Of one state: what changes is now alone.
    state = fit(known, due - DAY)
    moments = due + np.sort(np.array(nows)) * 60
    same_past = replace(state, end=np.where(state.end <= moments[0], state.end, np.nan))
    found = predict(
        [same_past] * len(moments), np.full(len(moments), day), np.full(len(moments), due), moments
    )
    values = quantiles(found)
    assert np.isfinite(values).all()
    assert (values >= moments[:, None]).all()
    assert (np.diff(values, axis=1) >= 0).all()
    assert (np.diff(values, axis=0) >= -1e-3).all()
    assert (found.miss_probability >= 0).all()
    assert (found.miss_probability <= 1).all()
    assert (found.miss_probability[moments >= due] == 1).all()


@given(histories, st.randoms(use_true_random=False), st.floats(-200, 100))
def test_order_and_copies_of_rows_do_not_matter(past: list[float], random: object, now: float) -> None:
    known = series(past)
    order = list(range(len(past))) + list(range(0, len(past), 3))
    random.shuffle(order)  # type: ignore[attr-defined]
    mixed = replace(known, date=known.date[order], due=known.due[order], end=known.end[order])
    as_of = (MONDAY + len(past) - EPOCH) * DAY + 6 * 3600 + now * 60
    assert fit(mixed, as_of).as_bytes() == fit(known, as_of).as_bytes()


@given(histories, st.integers(0, 40), histories)
def test_the_future_changes_nothing(past: list[float], place: int, other: list[float]) -> None:
    known = series(past)
    as_of = (MONDAY + place - EPOCH) * DAY + 5 * 3600
    changed = known.end.copy()
    size = min(len(other), len(past))
    new = known.due[:size] + np.array(other[:size], float) * 60
    # Only what had not happened by then, and only to what still has not.
    may = ~(known.end[:size] <= as_of) & ~(new <= as_of)
    changed[:size][may] = new[may]
    assert fit(replace(known, end=changed), as_of).as_bytes() == fit(known, as_of).as_bytes()


@given(histories, st.lists(st.integers(0, 45), max_size=5))
def test_step_by_step_equals_all_at_once(past: list[float], stops: list[int]) -> None:
    known = series(past)
    state = State()
    for stop in [*sorted(stops), 60]:
        as_of = (MONDAY + stop - EPOCH) * DAY + 6 * 3600
        state = advance(state, known, as_of)
        state = State.from_bytes(state.as_bytes())
        assert state.as_bytes() == fit(known, as_of).as_bytes()


def test_an_end_that_comes_to_be_known_later_makes_the_state_anew() -> None:
    known = noisy(60)
    gap = known.end.copy()
    gap[20] = np.nan
    before = fit(replace(known, end=gap))
    assert advance(before, known).as_bytes() == fit(known).as_bytes()


def test_without_a_past_it_is_the_promise() -> None:
    due = (MONDAY - EPOCH) * DAY + 6 * 3600
    found = one(State(), MONDAY, due, due - 7 * DAY)
    assert found.p50[0] == pytest.approx(due, abs=60)
    assert ends.RULES[found.rule[0]] == "no past dates"
    assert found.dates[0] == 0
    assert found.miss_probability[0] == pytest.approx(0.5, abs=0.02)


def test_the_middle_of_what_was_later_than_now() -> None:
    known = series([-60.0, -10.0] * 40)
    day, due = after(known)
    state = fit(known)
    early, late = one(state, day, due, due - 5400), one(state, day, due, due - 1800)
    assert (due - late.p50[0]) / 60 == pytest.approx(10, abs=3)
    assert early.p10[0] < due - 3000
    assert early.p90[0] > due - 900
    assert late.p10[0] > due - 1500
    assert ends.RULES[early.rule[0]] == "past dates"


def test_longer_than_ever_seen_goes_on_from_now() -> None:
    known = noisy(100)
    day, due = after(known)
    state = fit(known)
    found = one(state, day, due, due + 3600)
    assert ends.RULES[found.rule[0]] == "longer than ever seen"
    assert found.later[0] == 0
    assert due + 3600 < found.p50[0] < due + 3 * 3600
    # What is late already takes longer still, in proportion.
    later = one(state, day, due, due + 36_000)
    assert later.p50[0] - (due + 36_000) > 3 * (found.p50[0] - (due + 3600))


def test_dates_that_never_ended_count_as_misses_and_make_no_instant() -> None:
    known = noisy(120)
    gaps = known.end.copy()
    gaps[::5] = np.nan
    day, due = after(known)
    as_of = due - 3600
    whole, holes = fit(known, as_of), fit(replace(known, end=gaps), as_of)
    assert one(whole, day, due, as_of).miss_probability[0] < 0.1
    found = one(holes, day, due, as_of)
    assert 0.12 < found.miss_probability[0] < 0.4
    assert found.p90[0] < due + 1800


def test_a_promise_that_moves_alone_is_understood() -> None:
    """Half an hour more time is given, and the habit stays: forecasts follow the clock."""
    known = noisy(160)
    moved = np.where(np.arange(160) >= 100, known.due + 1800, known.due)
    day, due = int(known.date[-1]) + 1, float(known.due[-1]) + DAY + 1800
    state = fit(replace(known, due=moved))
    assert ends.CANDIDATES[state.taught.choice][0] == "clock"
    assert one(state, day, due, due - 7200).p50[0] == pytest.approx(due - 3600, abs=600)


def test_one_lucky_date_when_clocks_change_is_no_habit() -> None:
    """Due time and habit both move by an hour; the first date after is an hour late, as if only the promise had."""
    known = noisy(50)
    moved = np.where(np.arange(50) >= 30, known.due - 3600, known.due)
    end = np.where(np.arange(50) >= 30, known.end - 3600, known.end)
    end[30] += 3600
    told = replace(known, due=moved, end=end)
    day, due = int(known.date[-1]) + 1, float(known.due[-1]) + DAY - 3600
    for place in (31, 33, 49):
        state = fit(replace(told, date=told.date[:place], due=moved[:place], end=end[:place]))
        assert ends.CANDIDATES[state.taught.choice][0] == "due", place
    assert one(fit(told), day, due, due - 7200).p50[0] == pytest.approx(due - 1800, abs=600)


def test_a_strong_weekday_is_learned() -> None:
    known = series([-60.0 + (60 if n % 7 == 4 else 0) + n % 3 for n in range(140)])
    state = fit(known)
    for day in range(MONDAY + 140, MONDAY + 147):
        due = (day - EPOCH) * DAY + 6 * 3600
        found = one(state, day, due, due - 7200)
        usual = due if (day - MONDAY) % 7 == 4 else due - 3600
        assert found.p50[0] == pytest.approx(usual, abs=400)


def test_seven_dates_that_come_together_are_one_event() -> None:
    dates = np.arange(MONDAY, MONDAY + 70)
    due = (MONDAY + (dates - MONDAY) // 7 * 7 + 8 - EPOCH) * DAY
    known = Series("weekly", "00:00", dates, due, due - 3600)
    state = fit(known)
    found = one(state, MONDAY + 70, float(due[-1]) + 7 * DAY, float(due[-1]) + 6 * DAY)
    assert found.dates[0] == 10
    assert found.p50[0] == pytest.approx(due[-1] + 7 * DAY - 3600, abs=60)


def test_five_thousand_dates_leave_a_small_state() -> None:
    many = Series(
        "s", "00:00", np.arange(MONDAY, MONDAY + 5000), np.arange(5000) * DAY, np.arange(5000) * DAY - 60.0
    )
    kept = fit(many, 4999 * DAY)
    assert kept.learned == 5000
    assert len(kept.date) == ends.KEPT
    assert len(kept.as_bytes()) < 40_000


def test_rows_together_are_rows_alone() -> None:
    known = [noisy(n, seed=n) for n in (0, 1, 3, 30, 200, 450)]
    states = [fit(past) for past in known]
    dates = np.array([MONDAY + len(past.date) for past in known])
    due = (dates - EPOCH) * DAY + 6 * 3600
    together = predict(states, dates, due, due - 3000)
    for row, state in enumerate(states):
        alone = one(state, int(dates[row]), float(due[row]), float(due[row]) - 3000)
        np.testing.assert_allclose(quantiles(alone)[0], quantiles(together)[row], rtol=0, atol=0.01)
        assert alone.miss_probability[0] == pytest.approx(together.miss_probability[row], abs=1e-6)


def test_no_rows_are_no_rows() -> None:
    assert len(predict([], np.empty(0, np.int64), np.empty(0), np.empty(0)).p50) == 0


def test_a_curve_reads_what_is_later_than_now() -> None:
    curve = ends.Curves(np.array([0.0, 600.0, -50.0]), np.array([5.0, 300.0, 1e4]))
    moments, levels = (
        np.tile([-1e5, -20.0, 0.0, 700.0, 1e6], (3, 1)),
        np.tile([0.003, 0.5, 0.8, 0.997], (3, 1)),
    )
    found = curve.later_than_each(moments, levels)
    assert (found >= moments[:, :, None]).all()
    np.testing.assert_allclose(
        curve.share_above(found.reshape(3, -1)).reshape(found.shape),
        curve.share_above(moments)[:, :, None] * (1 - levels[:, None, :]),
        rtol=1e-6,
    )


def test_a_curve_has_the_mean_of_its_dates_and_no_outlier_moves_it_far() -> None:
    rng = np.random.default_rng(1)
    offset = 60 * rng.uniform(-40, -20, (1, 90))
    weight, count = rng.uniform(0.1, 1, (1, 90)), np.array([90])
    found = ends.curves(offset, weight, count)
    assert found.middle == pytest.approx(np.average(offset, axis=1, weights=weight), abs=1e-6)
    outlier = offset.copy()
    outlier[0, -5] = 3000 * 60
    assert abs(ends.curves(outlier, weight, count).middle - found.middle) < 120
    # A second one among the newest dates is no outlier any more.
    outlier[0, -2] = 3000 * 60
    assert ends.curves(outlier, weight, count).middle - found.middle > 1800
    # What is not there does not count.
    gaps = np.where(np.arange(90) % 3 + np.arange(90) // 60, weight, 0.0)
    there = gaps[0] > 0
    some = ends.curves(np.where(there, offset, 0.0), gaps, np.array([there.sum()]))
    alone = ends.curves(offset[:, there], gaps[:, there], np.array([there.sum()]))
    assert some.middle == pytest.approx(alone.middle)
    assert some.spread == pytest.approx(alone.spread)


def test_a_state_of_another_form_is_none() -> None:
    kept = np.frombuffer(fit(noisy(30)).as_bytes(), "<f8")
    for other in (kept[1:], np.append(kept, 0.0), np.concatenate([[30.0], kept[1:]])):
        with pytest.raises(ValueError, match="no state of this form"):
            State.from_bytes(other.astype("<f8").tobytes())
