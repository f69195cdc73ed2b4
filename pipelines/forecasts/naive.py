"""Rules that anybody would think of first: what a forecast has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.forecasts.ends import Floats, Ints

RULES = ("promise as made", "mean of the last 10", "mean and 2 deviations", "weekday moving average")
OF_ONE_WEEKDAY = 4
# Deviations of a normal distribution below which 80 and 90 % lie.
DEVIATIONS_P80, DEVIATIONS_P90 = 0.8416, 1.2816


@dataclass(frozen=True)
class Naive:
    """Instants by rule, in the order of RULES; `deviation` in seconds, 0 where a rule knows none."""

    point: Floats
    deviation: Floats


def naive(date: Ints, due: Floats, end: Floats, place: int, now: float) -> Naive:
    """The rules for the date at `place`, by what was known at `now` of those before; dates in order, instants.

    Nothing is put before `now`: a rule that is over says now.
    """
    known = np.flatnonzero(end[:place] <= now)
    late = end[known] - due[known]
    point, deviation = np.zeros(len(RULES)), np.zeros(len(RULES))
    if len(late):
        of_weekday = late[date[known] % 7 == date[place] % 7][-OF_ONE_WEEKDAY:]
        for rule, past in enumerate(
            (late[-10:], late, of_weekday if len(of_weekday) else late[-10:]), start=1
        ):
            point[rule], deviation[rule] = past.mean(), past.std()
    return Naive(np.maximum(due[place] + point, now), deviation)
