"""How big a bench is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """`jobs` x `days` is 1 M statuses of 300 SLOs in full; the history of a tick is twice that, and a tenth of it."""

    is_full: bool
    jobs: int
    days: int
    history_days: tuple[int, int]
    """Business dates behind a tick: few, and ten times as many."""
    tick_jobs: int
    """Jobs that report START and SUCCEED in a tick."""
    repeats: int
    growth: int
    """A big file is so many times the other."""
    ticks: int
    """Measured after those that fill the caches."""
    kpi_blocks: tuple[int, ...]
    """Which of the ten blocks of twenty KPIs there are."""


FULL = Scale(True, 750, 500, (100, 1000), 250, 3, 10, 10, tuple(range(10)))
QUICK = Scale(False, 40, 10, (5, 10), 20, 1, 2, 2, (0, 4, 9))
