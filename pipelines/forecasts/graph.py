"""When SLOs end, through the graph of their jobs: past dates replayed from what is known of today, and the way back.

A *column* is a past date, all jobs of it together, so that what is slow together stays so. Jobs that are complete stand
as they are; the others begin after their upstreams or by the clock, as they did on that date, and take as long.
Instants are seconds since 1970; of past dates they count from the date's anchor (its midnight, say), nan: it was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipelines.forecasts.ends import (
    LEAST_LATER,
    LEAST_SPREAD,
    SHAPE,
    Bools,
    Floats,
    Ints,
    State,
    outlook,
)
from pipelines.forecasts.ends import past as known_past

FEW_FAILURES = 5
"""With fewer failures of its own, a job is restarted as all jobs are."""
RESTART = 900.0
"""Seconds to the end of a failed job, where nothing has ever failed."""


@dataclass(frozen=True)
class Graph:
    """Jobs 0 to n - 1: `upstream[first[j]:first[j + 1]]` are those that job j waits for. A circle raises ValueError."""

    first: Ints
    upstream: Ints

    @classmethod
    def of(cls, upstreams: Sequence[Sequence[int]]) -> Graph:
        """From a list of upstreams for each job."""
        first = np.cumsum([0, *(len(one) for one in upstreams)])
        return cls(first, np.array([job for one in upstreams for job in one], np.int64))

    @property
    def size(self) -> int:
        return len(self.first) - 1

    @cached_property
    def levels(self) -> list[Ints]:
        """Jobs by level: those of one wait for none of the same or a later one."""
        waits = np.diff(self.first)
        job = np.repeat(np.arange(self.size), waits)
        level = np.zeros(self.size, np.int64)
        for _ in range(self.size + 1):
            found = level.copy()
            np.maximum.at(found, job, level[self.upstream] + 1)
            if np.array_equal(found, level):
                order = np.argsort(level, kind="stable")
                return np.split(order, np.flatnonzero(np.diff(level[order])) + 1) if self.size else []
            level = found
        raise ValueError("The jobs wait for each other in a circle.")

    def ready(self, jobs: Ints, end: Floats) -> Floats:
        """When the last upstream of each of `jobs` ended (rows of `end`); nan without one. Rows as `jobs`."""
        count = self.first[jobs + 1] - self.first[jobs]
        found = np.full((len(jobs), end.shape[1]), np.nan)
        has = np.flatnonzero(count)
        if len(has):
            begin = np.concatenate([[0], np.cumsum(count[has])[:-1]])
            places = np.concatenate([np.arange(self.first[j], self.first[j + 1]) for j in jobs[has]])
            found[has] = np.fmax.reduceat(end[self.upstream[places]], begin, axis=0)
        return found


@dataclass(frozen=True)
class History:
    """Past dates as columns, jobs as rows: seconds from the date's anchor.

    `restart`: from the first FAIL of that date to the end, nan where none failed. `start` may be nan where only an end
    is known.
    """

    date: Ints
    start: Floats
    end: Floats
    restart: Floats


@dataclass(frozen=True)
class Today:
    """What is known at `now`: a row a job, instants, nan: not yet. `failed`: the last FAIL of those that failed."""

    now: float
    anchor: float
    start: Floats
    end: Floats
    failed: Floats

    @classmethod
    def as_of(cls, now: float, anchor: float, start: Floats, end: Floats, failed: Floats) -> Today:
        """Of instants that may lie after `now`: what had not happened by then is taken away."""
        hidden = [np.where(instants <= now, instants, np.nan) for instants in (start, end, failed)]
        return cls(now, anchor, *hidden)


@dataclass(frozen=True)
class Habits:
    """What of `History` does not depend on today: whether a job is started by its upstreams, and its durations."""

    graph: Graph
    history: History
    lag: Floats
    """From the last upstream's end to the start; jobs x dates."""
    duration: Floats
    is_led: Bools
    """Started by its upstreams: its lag varies less than its start by the clock."""


def habits(graph: Graph, history: History) -> Habits:
    """Read the past: lags behind upstreams and durations, by job and date.

    Where only an end is known, the job is taken to have begun when its upstreams had ended, else with its end.
    """
    ready = graph.ready(np.arange(graph.size), history.end)
    start = np.where(np.isnan(history.start), np.fmin(ready, history.end), history.start)
    # On dates without an end it did not run, whatever its upstreams did.
    start = np.where(np.isnan(history.end), history.start, np.where(np.isnan(start), history.end, start))
    lag = start - ready
    is_led = _spread(lag) < _spread(start)
    return Habits(
        graph, History(history.date, start, history.end, history.restart), lag, history.end - start, is_led
    )


def quantile(values: Floats, level: float) -> Floats:
    """Of each row, without nan; nan where there is nothing."""
    ordered = np.sort(values, axis=1)
    count = (~np.isnan(values)).sum(axis=1)
    place = np.maximum((count - 1) * level, 0)
    rows = np.arange(len(values))
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    low, high = place.astype(np.int64), np.ceil(place).astype(np.int64)
    found: Floats = ordered[rows, low] + (place - low) * (ordered[rows, high] - ordered[rows, low])
    return found


def _spread(values: Floats) -> Floats:
    return quantile(values, 0.84) - quantile(values, 0.16)


def project(past: Habits, today: Today) -> Floats:
    """Ends of all jobs in seconds from today's anchor, jobs x past dates; nan where the past has none.

    Those that are complete stand as they are, no other ends before now.

    A job that waits begins after its upstreams if that is its habit, and the lag of that date was none below 0; else
    by the clock of that date, but not before its upstreams where it was not before them then. With nothing known
    of today that is the past as it was.
    """
    graph, history = past.graph, past.history
    now = today.now - today.anchor
    start, end = today.start - today.anchor, today.end - today.anchor
    failed = today.failed - today.anchor
    found = np.array(history.end)
    restarts = history.restart[~np.isnan(history.restart)]
    for jobs in graph.levels:
        known = ~np.isnan(end[jobs])
        found[jobs[known]] = end[jobs[known], None]
        running = jobs[~known & ~np.isnan(start[jobs]) & np.isnan(failed[jobs])]
        if len(running):
            elapsed = now - start[running]
            found[running] = start[running, None] + longer_than(past.duration[running], elapsed)
        broken = jobs[~known & ~np.isnan(failed[jobs])]
        if len(broken):
            found[broken] = failed[broken, None] + _restarted(past, broken, restarts, now - failed[broken])
        waiting = jobs[~known & np.isnan(start[jobs]) & np.isnan(failed[jobs])]
        if len(waiting):
            found[waiting] = (
                _started(past, waiting, graph.ready(waiting, found), now) + past.duration[waiting]
            )
        # Complete ones stand; no other has ended yet.
        still = jobs[~known]
        found[still] = np.maximum(found[still], now)
    return found


def _started(past: Habits, jobs: Ints, ready: Floats, now: float) -> Floats:
    """When jobs that have not started will, by date; later than now."""
    was, lag = past.history.start[jobs], past.lag[jobs]
    follows = lag >= 0
    is_led = past.is_led[jobs][:, None] & follows
    # Whose upstreams have all ended has waited since, and waits longer than that.
    is_over = (ready <= now).all(axis=1) if ready.shape[1] else np.zeros(len(jobs), dtype=bool)
    waited = np.where(is_over, now - ready[:, 0], -np.inf) if ready.shape[1] else np.zeros(len(jobs))
    by_lag = longer_than(lag, waited)
    by_clock = longer_than(was, np.full(len(jobs), now))
    clocked = np.where(follows & ~np.isnan(ready), np.fmax(by_clock, ready), by_clock)
    return np.maximum(np.where(is_led & ~np.isnan(ready), ready + by_lag, clocked), now)


def longer_than(values: Floats, than: Floats) -> Floats:
    """Each row of past values given that it is more than `than`, each value moved to the same rank of those that are.

    Rows that are more than `than` as a whole stay as they are. Fewer than LEAST_LATER that are more: a Pareto tail.
    """
    is_there = ~np.isnan(values)
    count = is_there.sum(axis=1)
    later = (values > than[:, None]).sum(axis=1)
    found = np.array(values)
    rows = np.flatnonzero(later < count)
    if not len(rows):
        return found
    part, least = values[rows], than[rows]
    ordered = np.sort(part, axis=1)
    rank = np.argsort(np.argsort(part, axis=1, kind="stable"), axis=1, kind="stable")
    share = np.minimum((rank + 0.5) / count[rows, None], 1 - 1e-9)
    place = (count - later)[rows, None] + (share * later[rows, None]).astype(np.int64)
    inside = ordered[np.arange(len(rows))[:, None], np.minimum(place, count[rows, None] - 1)]
    middle, spread = quantile(part, 0.5), np.maximum(_spread(part) / 2, LEAST_SPREAD)
    reach = np.maximum(least - middle, 0) + SHAPE * spread
    tail = least[:, None] + reach[:, None] * ((1 - share) ** (-1 / SHAPE) - 1)
    moved = np.where(later[rows, None] < LEAST_LATER, tail, inside)
    found[rows] = np.where(is_there[rows], moved, np.nan)
    return found


def _restarted(past: Habits, jobs: Ints, of_all: Floats, since: Floats) -> Floats:
    """From a FAIL to the end, by date: quantiles of the job's own failures, or of all, as ranks of its durations."""
    width = past.duration.shape[1]
    found = np.empty((len(jobs), width))
    rank = np.argsort(np.argsort(past.duration[jobs], axis=1, kind="stable"), axis=1, kind="stable")
    for row, job in enumerate(jobs.tolist()):
        own = past.history.restart[job]
        own = own[~np.isnan(own)]
        values = own if len(own) >= FEW_FAILURES else of_all if len(of_all) else np.array([RESTART])
        spread = np.quantile(values, (rank[row] + 0.5) / width)
        found[row] = longer_than(spread[None], since[row : row + 1])[0]
    return found


@dataclass(frozen=True)
class Slos:
    """SLOs 0 to m - 1: `job[first[s]:first[s + 1]]` have to be complete by `due` (instants)."""

    first: Ints
    job: Ints
    due: Floats

    @classmethod
    def of(cls, jobs: Sequence[Sequence[int]], due: Floats) -> Slos:
        """From a list of jobs for each SLO."""
        first = np.cumsum([0, *(len(one) for one in jobs)])
        return cls(first, np.array([job for one in jobs for job in one], np.int64), np.asarray(due, float))

    @property
    def size(self) -> int:
        return len(self.first) - 1


@dataclass(frozen=True)
class GraphForecast:
    """A row an SLO: instants, and the probability of an end after the due time. `dates`: columns that counted."""

    p10: Floats
    p50: Floats
    p80: Floats
    p90: Floats
    p95: Floats
    miss_probability: Floats
    dates: Ints


def slo_ends(slos: Slos, ends: Floats) -> Floats:
    """When each SLO ends, SLOs x columns: with its last job; nan where one of them has none."""
    if not slos.size:
        return np.empty((0, ends.shape[1]))
    found: Floats = np.maximum.reduceat(ends[slos.job], slos.first[:-1], axis=0)
    return found


def forecast(
    slos: Slos, ends: Floats, today: Today, states: Sequence[State], weights: Floats
) -> GraphForecast:
    """Of SLOs, from what `project` found; `weights` (2 x SLOs x columns) are those of `column_weights`.

    p10 and p90 stand at the levels that each SLO's own past forecasts have come to.
    """
    found = slo_ends(slos, ends)
    is_there = ~np.isnan(found)
    of = outlook(
        np.where(is_there, found, 0.0),
        np.where(is_there, np.maximum(weights, 1e-30), 0.0),
        is_there.sum(axis=1),
        np.array([one.taught.shares().of_curves for one in states]),
    )
    now, due = np.full(slos.size, today.now - today.anchor), slos.due - today.anchor
    low, high = (np.array([getattr(one.taught, level) for one in states]) for level in ("low", "high"))
    half = np.full(slos.size, 0.5)
    levels = np.stack([low, half, half + 0.3, high, np.maximum(0.95, (1 + high) / 2)], axis=1)
    quantiles = np.maximum.accumulate(of.later_than(now, levels), axis=1) + today.anchor
    miss = of.is_above(due, now)
    p10, p50, p80, p90, p95 = np.maximum(quantiles, today.now).T
    return GraphForecast(
        p10,
        p50,
        p80,
        p90,
        p95,
        miss_probability=np.where(today.now >= slos.due, 1.0, miss),
        dates=is_there.sum(axis=1),
    )


def column_weights(states: Sequence[State], columns: Ints, date: int) -> Floats:
    """How much each past date counts for each SLO on `date`, as its state weighs them; 0: it does not know the date.

    2 x SLOs x columns: as they were, and for their curve.
    """
    found = np.zeros((2, len(states), len(columns)))
    place = {day: number for number, day in enumerate(columns.tolist())}
    for row, state in enumerate(states):
        before = int(np.searchsorted(state.date, date))
        known = ~np.isnan(state.end[:before])
        dates = state.date[:before][known]
        one = known_past(dates, np.arange(len(dates), dtype=float), np.zeros(len(dates)), np.inf)
        weights = np.stack(one.mixed(date, state.taught.shares()), axis=1)
        for day, value in zip(dates.tolist(), weights, strict=True):
            if day in place:
                found[:, row, place[day]] = value
    return found


@dataclass(frozen=True)
class Latest:
    """A row a job: the latest end and start by which all SLOs hold that wait for it, and the first that would not.

    Instants; inf and -1 where no SLO waits for it. `other_end` and `other_slo`: the same without that SLO.
    """

    end: Floats
    start: Floats
    slo: Ints
    other_end: Floats
    other_slo: Ints


def latest(past: Habits, slos: Slos, level: float = 0.8) -> Latest:
    """The way back from the due times, by the durations at `level` and the usual lags behind upstreams."""
    graph = past.graph
    duration = np.nan_to_num(quantile(past.duration, level))
    lag = np.where(past.is_led, np.maximum(np.nan_to_num(quantile(past.lag, 0.5)), 0.0), 0.0)
    best: list[list[tuple[float, int]]] = [[] for _ in range(graph.size)]
    for slo in range(slos.size):
        for job in slos.job[slos.first[slo] : slos.first[slo + 1]].tolist():
            best[job].append((float(slos.due[slo]), slo))
    none = (np.inf, -1)
    for jobs in reversed(graph.levels):
        for job in jobs.tolist():
            ordered = sorted(best[job])
            first = ordered[0] if ordered else none
            second = next((one for one in ordered if one[1] != first[1]), none)
            best[job] = [first, second]
            before = float(duration[job] + lag[job])
            for upstream in graph.upstream[graph.first[job] : graph.first[job + 1]].tolist():
                best[upstream] += [(at - before, slo) for at, slo in (first, second) if slo >= 0]
    end = np.array([one[0][0] for one in best])
    return Latest(
        end,
        end - duration,
        np.array([one[0][1] for one in best], np.int64),
        np.array([one[1][0] for one in best]),
        np.array([one[1][1] for one in best], np.int64),
    )


def may_be_late(slos: Slos, back: Latest) -> tuple[Floats, Ints]:
    """For each SLO: seconds after its due time that it may end without another being late, and which that would be.

    inf and -1 where none waits for it; below 0 where another needs it before it is due.
    """
    slack, hit = np.full(slos.size, np.inf), np.full(slos.size, -1, np.int64)
    for slo in range(slos.size):
        for job in slos.job[slos.first[slo] : slos.first[slo + 1]].tolist():
            for at, other in (
                (back.end[job], back.slo[job]),
                (back.other_end[job], back.other_slo[job]),
            ):
                if other not in {-1, slo} and at - slos.due[slo] < slack[slo]:
                    slack[slo], hit[slo] = at - slos.due[slo], other
    return slack, hit


def path(past: Habits, slos: Slos, middle: Floats, slo: int) -> list[int]:
    """The jobs that an SLO's end comes from, the most upstream first: the last to end, and whom each waits for.

    `middle`: the median end of each job.
    """
    jobs = slos.job[slos.first[slo] : slos.first[slo + 1]]
    if not len(jobs):
        return []
    found = [int(jobs[np.argmax(np.nan_to_num(middle[jobs], nan=-np.inf))])]
    graph = past.graph
    while past.is_led[found[-1]]:
        before = graph.upstream[graph.first[found[-1]] : graph.first[found[-1] + 1]]
        if not len(before):
            break
        found.append(int(before[np.argmax(np.nan_to_num(middle[before], nan=-np.inf))]))
    return found[::-1]
