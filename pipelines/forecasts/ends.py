"""When one SLO ends: quantiles of its own past ends that were later than now. `docs/forecast.md` says why so.

A *series* is one slot of an SLO, its dates in order. What a forecast knows of a date is what had happened by then: an
end after `now` is not there yet. All instants are seconds since 1970 (UTC), business dates are ordinals of
`datetime.date`; nan stands for an end that is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

HALF_LIVES = (3.0, 7.0, 15.0, 40.0, 400.0)
WEEKDAY_WEIGHTS = (1.0, 3.0, 50.0)
BASES = ("due", "clock")
"""An end is kept as so much from its due time, or from midnight (UTC) of its date: a promise may move alone."""
IS_CURVE = (False, True)
"""Past dates count as they were, or as a curve of their mean and deviation."""
CANDIDATES = tuple(
    (basis, is_curve, half, weight)
    for basis in BASES
    for is_curve in IS_CURVE
    for half in HALF_LIVES
    for weight in WEEKDAY_WEIGHTS
)
# Until losses tell: neither the newest dates alone nor all.
FIRST_CHOICE = CANDIDATES.index(("due", False, 15.0, 1.0))

LEADS = (7200.0, 3600.0, 1800.0, 600.0)
"""Seconds before the due time of the forecasts that a series learns from, once the end is known."""
WITHOUT_CONDITION = 86_400.0
LEVELS = (0.5, 0.8)
"""The quantiles by whose loss a candidate is chosen."""
KEPT = 400
"""Dates that a state remembers."""
LOSS_HALF_LIFE = 60.0
BLOCK = 64
"""A state stands on the lessons of the block before and of this one: a long past costs no more than two blocks."""
# A difference of losses is told in roots of the lessons, as chance grows; who lost one more counts exp(-this) as much.
SHARPNESS = 4.0
# As if so many lessons more had gone alike for all: a few tell little.
PATIENCE = 20.0
# What a weighting counts before losses tell: a few dates, and those of one weekday alone, have to earn it.
AT_FIRST = np.outer([0.25, 0.5, 1.0, 1.0, 1.0], [1.0, 0.5, 0.25])
# So much less the clock has to lose than the due time: promises that move alone are rare, a lucky date is not.
MARGIN = 0.4
STEP = 0.025
"""How far one forecast moves the level of p10 or p90."""
OUTSIDE = 0.095
"""Share of the ends that is let fall out on each side: a little less than a tenth, for what the start costs."""
FIRST_LOW, FIRST_HIGH = 0.08, 0.92
LEAST_LATER = 5
"""With fewer past ends later than now, it takes longer than ever seen."""
GIVEN_UP = 7 * 86_400.0
MISS_HALF_LIFE = 40.0

# The smooth part: a symmetric Pareto about the median, scaled by the spread, as heavy as so many past dates.
SMOOTH_DATES = 8.0
SHAPE = 3.0
LEAST_SPREAD = 5.0
# A curve is of the same shape, about a mean; its p80 is that of a normal distribution of the same deviation.
SPREAD_OF_DEVIATION = 0.8416 / (SHAPE * (0.4 ** (-1 / SHAPE) - 1))
# What is farther from the middle than so many spreads, and alone so among the newest dates, counts as if it were there.
FAR = 3.0
NEWEST = 10
# A share of the distance from due (or midnight), by the number of dates.
SPREAD_OF_FEW = 0.25
SPREAD_OF_NONE = 60.0
_SMOOTH_AT = np.array(
    [0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.88, 0.93, 0.96, 0.98, 0.99, 0.995, 0.998, 0.999,
     0.9995, 0.9999]
)  # fmt: skip
_SMOOTH_MASS = np.diff(np.concatenate([[0.0], (_SMOOTH_AT[1:] + _SMOOTH_AT[:-1]) / 2, [1.0]]))
_SMOOTH_POINT = np.where(
    _SMOOTH_AT >= 0.5,
    SHAPE * ((2 * (1 - _SMOOTH_AT)) ** (-1 / SHAPE) - 1),
    -SHAPE * ((2 * _SMOOTH_AT) ** (-1 / SHAPE) - 1),
)
# A weight is never 0, which stands for a date that is not there.
_BY_AGE = np.maximum(np.exp2(-np.arange(KEPT, 0, -1.0) / np.array(HALF_LIVES)[:, None]), 1e-30)
EPOCH = 719_163
"""Ordinal of 1970-01-01."""

RULES = ("no past dates", "few past dates", "past dates", "longer than ever seen")


@dataclass(frozen=True)
class Series:
    """One slot of an SLO: a row a business date, in any order; `end` is nan where it has not ended."""

    slo_id: str
    slot: str
    date: Ints
    due: Floats
    end: Floats

    def in_order(self) -> Series:
        """The same by date; of several rows of a date the one that ended first."""
        order = np.lexsort((self.end, self.date))
        date = self.date[order].astype(np.int64)
        first = np.ones(len(date), dtype=bool)
        first[1:] = date[1:] != date[:-1]
        return replace(
            self,
            date=date[first],
            due=self.due[order].astype(float)[first],
            end=self.end[order].astype(float)[first],
        )


@dataclass(frozen=True)
class Taught:
    """What lessons came to: losses of CANDIDATES, and the levels at which p10 and p90 are taken.

    A loss is told as a share of what the candidates lost on average, so that one wild date is one lesson and no more;
    older ones count less.
    """

    loss: Floats = field(default_factory=lambda: np.zeros(len(CANDIDATES)))
    low: float = FIRST_LOW
    high: float = FIRST_HIGH

    @property
    def choice(self) -> int:
        """Index in CANDIDATES of the one that lost least, by the clock if that is clearly better."""
        due, clock = self.loss.reshape(len(BASES), -1)
        if self._behind(due.min() - clock.min(), clock.min()) > MARGIN:
            return len(due) + int(np.argmin(clock))
        best = int(np.argmin(due))
        return FIRST_CHOICE if due[best] >= due[FIRST_CHOICE] else best

    @staticmethod
    def _behind(difference: Floats, best: float) -> Floats:
        """Of losses, in roots of the lessons that the best of them stands for."""
        found: Floats = difference / np.sqrt(best + PATIENCE)
        return found

    def shares(self) -> Shares:
        """How much the candidates of the basis of the choice count."""
        choice = self.choice
        part = len(CANDIDATES) // len(BASES)
        loss = self.loss[choice // part * part :][:part]
        behind = -SHARPNESS * self._behind(loss - loss.min(), float(loss.min())).reshape(len(IS_CURVE), -1)
        best = behind.max(axis=1, keepdims=True)
        share = AT_FIRST.ravel() * np.exp(behind - best)
        total = share.sum(axis=1)
        dates, curves = share / total[:, None]
        total *= np.exp(best[:, 0])
        return Shares(CANDIDATES[choice][0], dates, curves, float(total[1] / total.sum()))


@dataclass(frozen=True)
class Shares:
    """Of the weightings of past dates (see `Past.weights`), as they were and as curves; each adds up to 1.

    `of_curves`: what all curves count in a forecast.
    """

    basis: str
    dates: Floats
    curves: Floats
    of_curves: float


NOTHING = Taught()


@dataclass(frozen=True)
class State:
    """What is remembered of a series: its last dates, and what their forecasts taught.

    `taught` by the lessons of the block before and of this one, `lately` by those of this one. `learned` counts the
    ends that it was told, `last` is the newest of them.
    """

    FORM: ClassVar[float] = -3.0
    """First in the bytes, and less for each newer form; the first form began with a count."""

    date: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    due: Floats = field(default_factory=lambda: np.empty(0))
    end: Floats = field(default_factory=lambda: np.empty(0))
    taught: Taught = NOTHING
    lately: Taught = NOTHING
    learned: int = 0
    last: float = -np.inf

    def as_bytes(self) -> bytes:
        """Float64 in a row; `from_bytes` reads them, to the last bit."""
        parts = [np.array([self.FORM, self.learned, self.last])]
        parts += [np.array([one.low, one.high, *one.loss]) for one in (self.taught, self.lately)]
        parts += [self.date, self.due, self.end]
        return np.concatenate([part.astype("<f8") for part in parts]).tobytes()

    @classmethod
    def from_bytes(cls, kept: bytes) -> State:
        """The state that `as_bytes` wrote. Raises ValueError where that was another form of it."""
        values = np.frombuffer(kept, "<f8").astype(float)
        width = 2 + len(CANDIDATES)
        head = 3 + 2 * width
        if len(values) < head or values[0] != cls.FORM or (len(values) - head) % 3:
            raise ValueError("no state of this form")
        taught, lately = (
            Taught(one[2:], float(one[0]), float(one[1])) for one in values[3:head].reshape(2, width)
        )
        date, due, end = values[head:].reshape(3, -1)
        return cls(
            date.astype(np.int64), due, end, taught, lately, learned=int(values[1]), last=float(values[2])
        )


@dataclass(frozen=True)
class Forecast:
    """A row an occurrence: instants, the probability that it ends after its due time or never, and what it rests on.

    `dates` counts the past ends that were used, `later` those of them that were later than now; `rule` is an index in
    RULES, `choice` one in CANDIDATES.
    """

    p10: Floats
    p50: Floats
    p80: Floats
    p90: Floats
    p95: Floats
    miss_probability: Floats
    dates: Ints
    later: Ints
    rule: Ints
    choice: Ints


@dataclass(frozen=True)
class Distribution:
    """Rows of points in order with the share above each; beyond the last point a Pareto tail about `middle`."""

    at: Floats
    above: Floats
    middle: Floats
    spread: Floats

    def share_above(self, x: Floats) -> Floats:
        """For a row of instants: what lies above each, for each row of the distribution."""
        return self._shares_above(np.asarray(x, float)[:, None])[:, 0]

    def later_than(self, now: Floats, levels: Floats) -> Floats:
        """Quantiles at `levels` (rows x quantiles) of what is above `now`; never below it."""
        return self.later_than_each(np.asarray(now, float)[:, None], levels)[:, 0]

    def later_than_each(self, moments: Floats, levels: Floats) -> Floats:
        """The same as of several `moments` (rows x moments): rows x moments x quantiles."""
        shares = self._shares_above(moments)
        width = shares.shape[1] * levels.shape[1]
        above = (shares[:, :, None] * (1 - levels)[:, None, :]).reshape(len(levels), width)
        inside = _interpolated(-self.above, self.at, -above)
        reach = self._reach(self.at[:, -1:])
        beyond = (
            self.middle[:, None]
            - SHAPE * self.spread[:, None]
            + reach * (self.above[:, -1:] / above) ** (1 / SHAPE)
        )
        quantiles = np.where(above < self.above[:, -1:], beyond, inside)
        found: Floats = np.maximum(
            quantiles.reshape(*shares.shape, levels.shape[1]), np.asarray(moments, float)[:, :, None]
        )
        return found

    def _shares_above(self, x: Floats) -> Floats:
        inside = _interpolated(self.at, self.above, x)
        reach = self._reach(self.at[:, -1:])
        beyond = self.above[:, -1:] * (reach / np.maximum(self._reach(x), 1e-9)) ** SHAPE
        found: Floats = np.where(x > self.at[:, -1:], beyond, inside)
        return found

    def _reach(self, x: Floats) -> Floats:
        found: Floats = x - self.middle[:, None] + SHAPE * self.spread[:, None]
        return found


@dataclass(frozen=True)
class Curves:
    """A row each: a symmetric Pareto about `middle`, as wide as `spread`."""

    middle: Floats
    spread: Floats

    def share_above(self, x: Floats) -> Floats:
        """What lies above each of `x` (rows x points)."""
        z = (x - self.middle[:, None]) / self.spread[:, None]
        tail = 0.5 * (1 + np.abs(z) / SHAPE) ** -SHAPE
        found: Floats = np.where(z > 0, tail, 1 - tail)
        return found

    def later_than_each(self, moments: Floats, levels: Floats) -> Floats:
        """As of `Distribution.later_than_each`."""
        above = self.share_above(moments)[:, :, None] * (1 - levels[:, None, :])
        beyond = np.maximum(np.minimum(above, 1 - above), 1e-300)
        reach = SHAPE * ((2 * beyond) ** (-1 / SHAPE) - 1)
        reach *= self.spread[:, None, None]
        found: Floats = np.maximum(
            self.middle[:, None, None] + np.where(above < 0.5, reach, -reach), moments[:, :, None]
        )
        return found


@dataclass(frozen=True)
class Outlook:
    """A row each: past dates as they were and as a curve, which counts `of_curve`; their quantiles are mixed."""

    dates: Distribution
    curve: Curves
    of_curve: Floats

    def share_above(self, x: Floats) -> Floats:
        """For a row of instants: what lies above each."""
        return self._mixed(self.dates.share_above(x), self.curve.share_above(x[:, None])[:, 0])

    def is_above(self, x: Floats, now: Floats) -> Floats:
        """For a row of instants: the share above each of what is above `now`."""
        curve = self.curve.share_above(np.stack([x, now], axis=1))
        dates = self.dates.share_above(x) / np.maximum(self.dates.share_above(now), 1e-300)
        return self._mixed(np.minimum(dates, 1.0), np.minimum(curve[:, 0] / curve[:, 1], 1.0))

    def later_than(self, now: Floats, levels: Floats) -> Floats:
        """Quantiles at `levels` (rows x quantiles) of what is above `now`; never below it."""
        return self.later_than_each(np.asarray(now, float)[:, None], levels)[:, 0]

    def later_than_each(self, moments: Floats, levels: Floats) -> Floats:
        """The same as of several `moments` (rows x moments): rows x moments x quantiles."""
        return self._mixed(
            self.dates.later_than_each(moments, levels), self.curve.later_than_each(moments, levels)
        )

    def _mixed(self, dates: Floats, curve: Floats) -> Floats:
        share = self.of_curve.reshape(-1, *[1] * (dates.ndim - 1))
        found: Floats = (1 - share) * dates + share * curve
        return found


def _interpolated(x: Floats, y: Floats, at: Floats) -> Floats:
    """numpy.interp row by row: `at` (rows x points) in `x` and `y` (rows x knots, x in order)."""
    rows = np.arange(len(x))[:, None]
    right = np.minimum(np.maximum((x[:, None, :] <= at[:, :, None]).sum(axis=2), 1), x.shape[1] - 1)
    x0, y0 = x[rows, right - 1], y[rows, right - 1]
    width = x[rows, right] - x0
    # Between two knots at one place the step is taken whole.
    share = np.where(width > 0, (at - x0) / np.where(width > 0, width, 1.0), 1.0)
    found: Floats = y0 + np.minimum(np.maximum(share, 0.0), 1.0) * (y[rows, right] - y0)
    return found


def distribution(offset: Floats, weight: Floats, count: Ints) -> Distribution:
    """Of rows of past offsets and their weights (0: no such date); `count` is how many each row has.

    A smooth part, as heavy as one date, lets a forecast go on where the past dates end.
    """
    rows, columns = offset.shape
    has_any, each = count > 0, np.arange(rows)[:, None]
    if columns:
        order = np.argsort(np.where(weight > 0, offset, np.inf), axis=1, kind="stable")
        offset, weight = offset[each, order], weight[each, order]
        total = weight.sum(axis=1, keepdims=True)
        weight = weight / np.where(total > 0, total, 1.0)
        # Those that are not there stand behind the last.
        last = offset[each, np.maximum(count - 1, 0)[:, None]]
        offset = np.where(np.arange(columns) < count[:, None], offset, np.where(has_any[:, None], last, 0.0))
        below = np.cumsum(weight, axis=1) - weight / 2
        low, middle, high = (
            _interpolated(below, offset, np.tile([0.16, 0.5, 0.84], (rows, 1))).T
            if (columns > 1)
            else (offset[:, 0], offset[:, 0], offset[:, 0])
        )
        dates = 1 / np.maximum((weight**2).sum(axis=1), 1e-12)
        spread = np.maximum((high - low) / 2, LEAST_SPREAD)
    else:
        middle, dates, spread = np.zeros(rows), np.zeros(rows), np.full(rows, LEAST_SPREAD)
    few = np.maximum(spread, SPREAD_OF_FEW * np.abs(middle) / np.maximum(count, 1))
    spread = np.where(count >= LEAST_LATER, spread, few)
    spread = np.where(has_any, spread, SPREAD_OF_NONE)
    middle = np.where(has_any, middle, 0.0)
    smooth = np.where(has_any, SMOOTH_DATES / (SMOOTH_DATES + dates), 1.0)[:, None]
    at = np.concatenate([offset, middle[:, None] + spread[:, None] * _SMOOTH_POINT], axis=1)
    mass = np.concatenate([weight * (1 - smooth), smooth * _SMOOTH_MASS], axis=1)
    # What has no share stands behind everything, and changes nothing.
    at = np.where(mass > 0, at, at.max(axis=1, initial=-np.inf)[:, None])
    order = np.lexsort((mass == 0, at), axis=1)
    at, mass = at[each, order], mass[each, order]
    # Summed from above, where small shares count.
    above = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1] - mass / 2
    above = np.maximum(above, np.where(mass > 0, above, np.inf).min(axis=1)[:, None])
    return Distribution(at, above, middle, spread)


def curves(offset: Floats, weight: Floats, count: Ints) -> Curves:
    """Of rows as `distribution` takes them, in the order of their dates, the newest in the last columns."""
    rows, columns = offset.shape
    if not columns:
        return Curves(np.zeros(rows), np.full(rows, SPREAD_OF_NONE))
    has_any, each = count > 0, np.arange(rows)
    is_there = weight > 0
    in_order = np.sort(np.where(is_there, offset, np.inf), axis=1)
    low, middle, high = (
        np.where(has_any, in_order[each, (share * count).astype(np.int64)], 0.0)
        for share in (0.16, 0.5, 0.84)
    )
    far = FAR * np.maximum((high - low) / 2, LEAST_SPREAD)
    newest, is_new, second = offset[:, -NEWEST:], is_there[:, -NEWEST:], min(1, columns - 1)
    lowest = np.sort(np.where(is_new, newest, np.inf), axis=1)[:, second]
    highest = np.sort(np.where(is_new, newest, -np.inf), axis=1)[:, -1 - second]
    near = np.clip(
        offset, np.minimum(middle - far, lowest)[:, None], np.maximum(middle + far, highest)[:, None]
    )
    near -= middle[:, None]
    weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    mean = (weight * near).sum(axis=1)
    # Of few dates the mean itself is uncertain.
    variance = (weight * (near - mean[:, None]) ** 2).sum(axis=1) * (1 + (weight**2).sum(axis=1))
    spread = np.maximum(SPREAD_OF_DEVIATION * np.sqrt(variance), LEAST_SPREAD)
    middle = middle + mean
    few = np.maximum(spread, SPREAD_OF_FEW * np.abs(middle) / np.maximum(count, 1))
    spread = np.where(count >= LEAST_LATER, spread, few)
    return Curves(middle, np.where(has_any, spread, SPREAD_OF_NONE))


def outlook(offset: Floats, weights: Floats, count: Ints, of_curve: Floats) -> Outlook:
    """Of rows of past offsets, by date; `weights` (2 x rows x dates): those of dates as they were, and of the curve."""
    as_dates, as_curve = weights
    return Outlook(
        distribution(offset, as_dates, count),
        curves(offset, as_curve, count),
        np.where(count > 0, of_curve, 0.0),
    )


@dataclass(frozen=True)
class Past:
    """Past ends as a forecast uses them: an event for all dates that were due at one instant and ended at one."""

    due: Floats
    end: Floats
    midnight: Floats
    weekdays: Ints
    given_up: float
    """Share of the dates that never ended, newer ones weighing more."""

    def offsets(self, basis: str) -> Floats:
        return self.end - (self.due if basis == "due" else self.midnight)

    def weights(self, date: int) -> Floats:
        """By recency and by weekday: a row for each half-life and, within it, each weight of the weekday."""
        is_same = (self.weekdays & (1 << (date + 6) % 7)) > 0
        by_weekday = np.where(is_same, np.array(WEEKDAY_WEIGHTS)[:, None], 1.0)
        by_age = _BY_AGE[:, KEPT - len(self.end) :]
        found: Floats = by_age[:, None, :] * by_weekday
        found /= np.maximum(found.sum(axis=2, keepdims=True), 1e-30)
        return found.reshape(len(HALF_LIVES) * len(WEEKDAY_WEIGHTS), by_age.shape[1])

    def mixed(self, date: int, share: Shares) -> tuple[Floats, Floats]:
        """`share.dates @ weights(date)`, and the same of its curves, for less."""
        is_same = (self.weekdays & (1 << (date + 6) % 7)) > 0
        by_age = _BY_AGE[:, KEPT - len(self.end) :]
        same = by_age @ is_same
        heavier = np.array(WEEKDAY_WEIGHTS)
        total = np.maximum(same[:, None] * heavier + (by_age.sum(axis=1) - same)[:, None], 1e-30)

        def by(shares: Floats) -> Floats:
            part = shares.reshape(total.shape) / total
            found: Floats = np.where(is_same, (part @ heavier) @ by_age, part.sum(axis=1) @ by_age)
            return found

        return by(share.dates), by(share.curves)


def past(date: Ints, due: Floats, end: Floats, now: float) -> Past:
    """What was known at `now` of dates in order."""
    known = end <= now
    given_up = 0.0
    if not known.all():
        later = np.append(due[1:], np.inf)
        # Dates that are due together are given up together.
        for place in range(len(due) - 2, -1, -1):
            if later[place] <= due[place]:
                later[place] = later[place + 1]
        is_up = ~known & (np.minimum(later, due + GIVEN_UP) < now)
        weight = np.exp2(-np.arange(len(due), 0, -1.0) / MISS_HALF_LIFE)
        given_up = float(weight[is_up].sum() / (weight[is_up | known].sum() + 1.0))
        date, due, end = date[known], due[known], end[known]
    weekdays = 1 << ((date + 6) % 7)
    is_new = np.ones(len(date), dtype=bool)
    is_new[1:] = (due[1:] != due[:-1]) | (end[1:] != end[:-1])
    if not is_new.all():
        weekdays = np.bitwise_or.reduceat(weekdays, np.flatnonzero(is_new))
        date, due, end = date[is_new], due[is_new], end[is_new]
    midnight: Floats = (date - EPOCH) * 86_400.0
    return Past(due, end, midnight, weekdays, given_up)


def fit(series: Series, as_of: float = np.inf) -> State:
    """The state once all that happened up to `as_of` is known."""
    return advance(State(), series, as_of)


def advance(state: State, series: Series, as_of: float = np.inf) -> State:
    """`state` after what `series`, all of its dates, says up to `as_of`: equal to `fit`, for the price of the new ends.

    Where the state was told otherwise, or an end comes to be known that is older than the newest it was told, it is
    made anew.
    """
    series = series.in_order()
    is_known = series.end <= as_of
    is_told = is_known & (series.end <= state.last)
    if state.learned and not _agrees(state, series, is_told):
        state, is_told = State(), np.zeros(len(is_told), dtype=bool)
    new = np.flatnonzero(is_known & ~is_told)
    new = new[np.lexsort((series.date[new], series.end[new]))]
    begins = ((state.learned + len(new)) // BLOCK - 1) * BLOCK
    if begins > state.learned:
        # What was taught before the last two blocks counts no more.
        skipped = begins - state.learned
        state = State(learned=begins, last=float(series.end[new[skipped - 1]]))
        new = new[skipped:]
    for place in new:
        state = _learn(state, series, int(place))
    # Dates without an end are remembered too: whether they were given up is for the forecast to say.
    seen = np.flatnonzero(series.due <= as_of) if np.isfinite(as_of) else np.arange(len(series.date))
    kept = np.union1d(seen, np.flatnonzero(is_known))[-KEPT:]
    if not len(kept):
        return state
    end = np.where(is_known[kept], series.end[kept], np.nan)
    return replace(state, date=series.date[kept], due=series.due[kept], end=end)


def _agrees(state: State, series: Series, is_told: Bools) -> bool:
    """Whether the state was told what the series says; of dates that it has forgotten, that there are as many."""
    known = state.end <= state.last
    remembered = is_told & (series.date >= state.date[0])
    return state.learned == int(is_told.sum()) and all(
        np.array_equal(mine[known], theirs[remembered])
        for mine, theirs in ((state.date, series.date), (state.due, series.due), (state.end, series.end))
    )


def _learn(state: State, series: Series, place: int) -> State:
    """`state` once the end of one date is told: how well the candidates foresaw it, and whether p10 to p90 held it."""
    date, due, end = int(series.date[place]), float(series.due[place]), float(series.end[place])
    if state.learned % BLOCK == 0:
        state = replace(state, taught=state.lately if state.learned else NOTHING, lately=NOTHING)
    told = replace(state, learned=state.learned + 1, last=end)
    # One event, one lesson.
    if place and series.due[place - 1] == due and series.end[place - 1] == end:
        return told
    open_at = [due - lead for lead in LEADS if end > due - lead]
    moments = open_at or [min(due, end) - WITHOUT_CONDITION]
    before = slice(max(0, place - KEPT), place)
    loss = np.zeros(len(CANDIDATES))
    # In the first block the two are one.
    lessons = [state.taught] if state.learned < BLOCK else [state.taught, state.lately]
    moved = np.zeros((len(lessons), 2))
    known = [int((series.end[before] <= moment).sum()) for moment in moments]
    if not known[0]:
        return told
    # Moments at which the same was known are looked at together.
    for count in dict.fromkeys(known):
        at = np.array([moment for moment, one in zip(moments, known, strict=True) if one == count])
        of = past(series.date[before], series.due[before], series.end[before], float(at[0]))
        quantiles, intervals = _foreseen(of, date, due, at, lessons)
        over = end - quantiles
        loss += np.maximum(np.array(LEVELS) * over, (np.array(LEVELS) - 1) * over).sum(axis=(1, 2))
        if open_at:
            moved[:, 0] += (OUTSIDE - (end < intervals[:, :, 0])).sum(axis=1)
            moved[:, 1] += ((end > intervals[:, :, 1]) - OUTSIDE).sum(axis=1)
    taught = [
        Taught(
            lesson.loss * 2 ** (-1 / LOSS_HALF_LIFE) + loss / max(float(loss.mean()), 1e-9),
            low=float(np.clip(lesson.low + STEP * low, 0.003, 0.4)),
            high=float(np.clip(lesson.high + STEP * high, 0.6, 0.997)),
        )
        for lesson, (low, high) in zip(lessons, moved.tolist(), strict=True)
    ]
    return replace(told, taught=taught[0], lately=taught[-1])


def _foreseen(
    known: Past, date: int, due: float, moments: Floats, lessons: Sequence[Taught]
) -> tuple[Floats, Floats]:
    """What was foreseen of one date at `moments` at which the same was known, as instants.

    By each of CANDIDATES at LEVELS (candidates x moments x 2), and p10 and p90 by each of `lessons`, which mix the
    candidates as `predict` does (lessons x moments x 2). Where due times keep their clock, both bases are one.
    """
    shifts = {"due": due, "clock": (date - EPOCH) * 86_400.0}
    is_one = bool(np.all(known.due - known.midnight == due - shifts["clock"]))
    bases = BASES[:1] if is_one else BASES
    weights = known.weights(date)
    each = np.tile(weights, (len(bases), 1))
    offset, shift = _by_basis(known, shifts, np.repeat(bases, len(weights)).tolist())
    count, levels = np.full(len(each), len(known.end)), np.tile(LEVELS, (len(each), 1))
    candidates = np.stack(
        [
            of.later_than_each(moments - shift, levels).reshape(len(bases), len(weights), len(moments), -1)
            for of in (distribution(offset, each, count), curves(offset, each, count))
        ],
        axis=1,
    ) + shift.reshape(len(bases), 1, -1, 1, 1)
    candidates = np.tile(candidates, (len(BASES) // len(bases), 1, 1, 1, 1))
    shares = [lesson.shares() for lesson in lessons]
    offset, shift = _by_basis(known, shifts, [share.basis for share in shares])
    of_lessons = outlook(
        offset,
        np.stack([(share.dates @ weights, share.curves @ weights) for share in shares], axis=1),
        count[: len(lessons)],
        np.array([share.of_curves for share in shares]),
    )
    bounds = np.array([(one.low, one.high) for one in lessons])
    intervals = of_lessons.later_than_each(moments - shift, bounds) + shift[:, :, None]
    return candidates.reshape(len(CANDIDATES), len(moments), -1), intervals


def _by_basis(known: Past, shifts: Mapping[str, float], bases: Sequence[str]) -> tuple[Floats, Floats]:
    """A row for each: past offsets, and what they are added to (as a column)."""
    offsets = {basis: known.offsets(basis) for basis in BASES}
    return np.stack([offsets[basis] for basis in bases]), np.array([[shifts[basis]] for basis in bases])


def predict(states: Sequence[State], date: Ints, due: Floats, now: Floats) -> Forecast:
    """Forecasts of occurrences (a state, date, due time and now each) that had not ended by now; draws nothing.

    States must have been made of what happened by now; dates from `date` on are left out.
    """
    rows = len(states)
    date, due, now = np.asarray(date, np.int64), np.asarray(due, float), np.asarray(now, float)
    known = []
    for state, day, moment in zip(states, date.tolist(), now.tolist(), strict=True):
        before = int(np.searchsorted(state.date, day))
        known.append(past(state.date[:before], state.due[:before], state.end[:before], moment))
    choice = np.array([state.taught.choice for state in states], np.int64)
    count = np.array([len(one.end) for one in known], np.int64)
    width = int(count.max(initial=0))
    offset, weights = np.zeros((rows, width)), np.zeros((len(IS_CURVE), rows, width))
    shift, of_curve = np.empty(rows), np.empty(rows)
    later = np.empty(rows, np.int64)
    for row, one in enumerate(known):
        share = states[row].taught.shares()
        of_curve[row] = share.of_curves
        shift[row] = due[row] if share.basis == "due" else (date[row] - EPOCH) * 86_400.0
        # The newest in the last columns.
        there = slice(width - len(one.end), width)
        offset[row, there] = one.offsets(share.basis)
        weights[:, row, there] = one.mixed(int(date[row]), share)
        later[row] = int((offset[row, there] > now[row] - shift[row]).sum())
    found = outlook(offset, weights, count, of_curve)
    low = np.array([state.taught.low for state in states])
    high = np.array([state.taught.high for state in states])
    levels = np.stack(
        [low, np.full(rows, 0.5), np.full(rows, 0.8), high, np.maximum(0.95, (1 + high) / 2)], 1
    )
    quantiles = found.later_than(now - shift, levels) + shift[:, None]
    # Adding the shift rounds: an end is never before now.
    quantiles = np.maximum.accumulate(np.maximum(quantiles, now[:, None]), axis=1)
    still = found.share_above(now - shift)
    never = np.array([one.given_up for one in known])
    is_late = (1 - never) * still * found.is_above(due - shift, now - shift)
    miss = (never + is_late) / np.maximum(never + (1 - never) * still, 1e-300)
    rule = np.where(later < LEAST_LATER, 3, 2)
    rule = np.where(count < LEAST_LATER, 1, rule)
    rule = np.where(count == 0, 0, rule)
    p10, p50, p80, p90, p95 = quantiles.T
    return Forecast(
        p10,
        p50,
        p80,
        p90,
        p95,
        miss_probability=np.where(now >= due, 1.0, np.clip(miss, 0.0, 1.0)),
        dates=count,
        later=later,
        rule=rule,
        choice=choice,
    )
