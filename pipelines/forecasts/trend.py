"""Is it getting slower? The trend of one series of durations or ends, in numpy. `docs/forecast.md` says why so.

A series has a value a business date, in minutes, in order of date; dates are ordinals of `datetime.date`. The slope is
Theil and Sen's, its significance that of Mann and Kendall with Hamed and Rao's variance; the tests hold both against
scipy and pymannkendall, and the change point against ruptures. None of these is needed to run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from pipelines.forecasts.ends import Floats, Ints

Basis = Literal["duration", "end"]
Shape = Literal["line", "ramp", "step"]

WINDOW = 90
"""Dates of a job that are looked at, the newest."""
LEAST_DATES = 20
"""With fewer nothing is said."""
LEAST_MINUTES = 2.0
"""A trend of no more than this over the window is none, whatever its significance."""
LEAST_SHARE = 0.05
"""Nor is one of no more than this share of what it took at first."""
LONGEST_AHEAD = 365
"""Days beyond which nothing is said of when the due time is crossed."""
CONFIDENCE = 0.95
# A weekday with fewer dates is taken as it is.
_LEAST_OF_WEEKDAY = 3
# Dates before and after a change that it takes to be one.
_LEAST_SIDE = 5
# Values further from their neighbours than so many deviations count as that far.
_CLIP = 3.0
_NEIGHBOURS = 5
# Minutes below which the logarithm of a duration says nothing.
_SHORTEST = 1 / 60
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Slope:
    """Theil and Sen's line: minutes a place, with the interval of the slope; `level` at place 0."""

    slope: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Change:
    """How a series changed: `place` is the first that is different, `rise` the minutes from before it to the end."""

    shape: Shape
    place: int
    rise: float


@dataclass(frozen=True)
class Trend:
    """What is said of a series. Minutes, and minutes a date; dates are ordinals.

    `level` is what the line says of the first date, `grew_by` the rise over the window; `p_value` is that of no trend,
    two-sided. `days_until_due`: in how many days after `last_date` the p90 end crosses the due time, 0 when it has,
    None where it does not within a year.
    """

    basis: Basis
    dates: int
    first_date: int
    last_date: int
    level: float
    slope: float
    slope_low: float
    slope_high: float
    grew_by: float
    p_value: float
    shape: Shape
    changed_on: int
    p90_end: float | None
    days_until_due: int | None

    @property
    def is_large(self) -> bool:
        """Whether it passes the gate of size, upwards. A share is one of durations only: ends are from the due time."""
        share = LEAST_SHARE * abs(self.level) if self.basis == "duration" else 0.0
        return self.slope > 0 and self.grew_by > LEAST_MINUTES and self.grew_by > share


def trend(date: Ints, duration: Floats, end: Floats) -> Trend | None:
    """What is to be said of a job: a row a business date, `duration` in minutes, `end` in minutes from the due time.

    nan where there is none. Ends are looked at where fewer than LEAST_DATES dates have a duration; None where neither
    has as many.
    """
    basis: Basis = "duration"
    known = ~np.isnan(duration)
    if known.sum() < LEAST_DATES:
        basis, known = "end", ~np.isnan(end)
        if known.sum() < LEAST_DATES:
            return None
    values = (duration if basis == "duration" else end)[known]
    dates = date[known]
    adjusted = without_weekdays(values, dates, is_ratio=basis == "duration")
    line = theil_sen(adjusted)
    change = find_change(adjusted, line)
    p90_end, days = _crossing(date, end, change, dates)
    return Trend(
        basis=basis,
        dates=len(values),
        first_date=int(dates[0]),
        last_date=int(dates[-1]),
        level=line.level,
        slope=line.slope,
        slope_low=line.low,
        slope_high=line.high,
        grew_by=change.rise,
        p_value=mann_kendall(adjusted, line.slope).p_value,
        shape=change.shape,
        changed_on=int(dates[change.place]),
        p90_end=p90_end,
        days_until_due=days,
    )


def without_weekdays(values: Floats, date: Ints, *, is_ratio: bool) -> Floats:
    """The values with what their weekday usually adds taken out; with `is_ratio` what it multiplies by.

    A weekday's share is the median of its distances from the line, so that no outlier makes one.
    """
    plain = np.log(np.maximum(values, _SHORTEST)) if is_ratio else values
    line = theil_sen(plain)
    rest = plain - line.level - line.slope * np.arange(len(plain))
    weekday = date % 7
    usual = np.zeros(7)
    for day in range(7):
        of_day = rest[weekday == day]
        if len(of_day) >= _LEAST_OF_WEEKDAY:
            usual[day] = np.median(of_day)
    plain = plain - usual[weekday] + np.median(usual[weekday])
    found: Floats = np.exp(plain) if is_ratio else plain
    return found


def theil_sen(values: Floats) -> Slope:
    """The median of the slopes of all pairs, places being 0, 1, …; as `scipy.stats.theilslopes`, ties included."""
    count = len(values)
    first, second = np.triu_indices(count, 1)
    slopes = np.sort((values[second] - values[first]) / (second - first))
    slope = float(np.median(slopes))
    level = float(np.median(values)) - slope * (count - 1) / 2
    deviation = math.sqrt(_variance(values))
    reach = -_NORMAL.inv_cdf((1 - CONFIDENCE) / 2) * deviation
    low = max(round((len(slopes) - reach) / 2) - 1, 0)
    high = min(round((len(slopes) + reach) / 2), len(slopes) - 1)
    return Slope(slope, float(slopes[low]), float(slopes[high]), level)


@dataclass(frozen=True)
class MannKendall:
    """`s`: pairs that rise less those that fall; `correction`: Hamed and Rao's variance by the plain one."""

    s: float
    correction: float
    p_value: float


def mann_kendall(values: Floats, slope: float, least_correction: float = 1.0) -> MannKendall:
    """Whether there is a trend at all, of values that hang together.

    The variance is never taken for smaller than that of values that do not, because a negative correlation of a few
    lags, which chance makes too, would let everything seem significant: `least_correction`.
    """
    count = len(values)
    first, second = np.triu_indices(count, 1)
    s = float(np.sign(values[second] - values[first]).sum())
    ranks = _ranks(values - slope * np.arange(1, count + 1))
    rest = ranks - ranks.mean()
    total = float(rest @ rest)
    correction = 1.0
    if total > 0:
        lag = np.arange(1, count)
        by_lag = np.correlate(rest, rest, "full")[count:] / total
        counts = np.abs(by_lag) > -_NORMAL.inv_cdf(0.025) / math.sqrt(count)
        weight = (count - lag) * (count - lag - 1.0) * (count - lag - 2.0)
        correction += 2 / (count * (count - 1.0) * (count - 2.0)) * float((weight * by_lag)[counts].sum())
    correction = max(correction, least_correction)
    variance = _variance(values) * correction
    if s == 0 or variance <= 0:
        return MannKendall(s, correction, 1.0)
    z = (abs(s) - 1) / math.sqrt(variance)
    return MannKendall(s, correction, math.erfc(z / math.sqrt(2)))


def _variance(values: Floats) -> float:
    """That of `s` without a trend; values that are equal make it smaller."""
    count = len(values)
    _, ties = np.unique(values, return_counts=True)
    found = count * (count - 1) * (2 * count + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()
    return float(found) / 18


def _ranks(values: Floats) -> Floats:
    """From 1; equal values share the mean of theirs."""
    _, place, ties = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(ties)
    found: Floats = (last - (ties - 1) / 2)[place]
    return found


def find_change(values: Floats, line: Slope) -> Change:
    """How the values came from what they were to what they are: by a line all along, a ramp that begins, or a step.

    Least squares, of values of which none is far from its neighbours. A ramp or a step has to explain so much more
    than the line that its place, which was looked for, is worth it; else the change began with the first value.
    """
    count = len(values)
    place = np.arange(count)
    clipped = _clipped(values)
    starts = np.arange(_LEAST_SIDE, count - _LEAST_SIDE + 1)
    after = place >= starts[:, None]
    ramps = np.where(after, place - starts[:, None] + 1.0, 0.0)
    squares_line, _ = _fit(clipped, place[None, :].astype(float))
    squares_ramp, by_ramp = _fit(clipped, ramps)
    squares_step, by_step = _fit(clipped, after.astype(float))
    ramp, step = int(np.argmin(squares_ramp)), int(np.argmin(squares_step))
    best = min(squares_ramp[ramp], squares_step[step])
    gain = count * math.log(max(squares_line[0], 1e-12) / max(best, 1e-12))
    if gain <= 2 * math.log(count):
        return Change("line", 0, line.slope * (count - 1))
    if squares_ramp[ramp] <= squares_step[step]:
        return Change("ramp", int(starts[ramp]), float(by_ramp[ramp] * ramps[ramp, -1]))
    return Change("step", int(starts[step]), float(by_step[step]))


def _clipped(values: Floats) -> Floats:
    padded = np.pad(values, _NEIGHBOURS, mode="reflect")
    near = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1), axis=1)
    rest = values - near
    reach = _CLIP * 1.4826 * float(np.median(np.abs(rest)))
    found: Floats = near + np.clip(rest, -reach, reach)
    return found


def _fit(values: Floats, shapes: Floats) -> tuple[Floats, Floats]:
    """Least squares of a constant and one shape, for rows of shapes: the squares that are left, and the factor."""
    rest = values - values.mean()
    forms = shapes - shapes.mean(axis=1, keepdims=True)
    length = (forms**2).sum(axis=1)
    factor = forms @ rest / length
    left: Floats = float(rest @ rest) - factor**2 * length
    return left, factor


def _crossing(date: Ints, end: Floats, change: Change, changed: Ints) -> tuple[float | None, int | None]:
    """The p90 end now, in minutes from the due time, and in how many days it is there."""
    known = ~np.isnan(end)
    since = known & (date >= changed[change.place])
    if change.shape == "line" or since.sum() < LEAST_DATES // 2:
        since = known
    ends, dates = end[since], date[since]
    if len(ends) < LEAST_DATES // 2:
        return None, None
    line = theil_sen(ends)
    place = np.arange(len(ends))
    rest = ends - line.level - line.slope * place
    now = line.level + line.slope * (len(ends) - 1) + float(np.quantile(rest, 0.9))
    if now >= 0:
        return now, 0
    if change.shape == "step" or line.slope <= 0:
        # What was a step goes no further.
        return now, None
    days_a_date = float(dates[-1] - dates[0]) / (len(dates) - 1)
    days = math.ceil(-now / line.slope * days_a_date)
    return now, days if days <= LONGEST_AHEAD else None
