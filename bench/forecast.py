"""Forecasts: how good they are (`python -m bench.forecast`, the table of docs/forecast.md), and what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import click
import numpy as np

from bench.measure import best
from bench.scale import Scale
from bench.series import deliveries, regimes, shuffled, simulated
from bench.table import Row
from bench.warehouse import Workshop
from pipelines.catalog.store import store_catalog
from pipelines.forecasts import naive
from pipelines.forecasts.backtest import ALL, METHOD, replay, scores
from pipelines.forecasts.ends import Series, advance, fit, predict
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
    project,
)
from pipelines.landing.ingest import ingest
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import connect

JOBS, COLUMNS, OPEN = 5_000, 1_000, 500
MINUTE_JOBS, MINUTE_DAYS = 1_200, 30
ENOUGH = 100
"""Dates from which on an SLO is judged by itself."""


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """The graph, the forecasts of one minute, the lesson of one end, and a replay."""
    graph, known, slos = bank(JOBS, COLUMNS)
    costs = [shop.meter.measure(lambda: _whole(graph, known, slos)) for _ in range(scale.repeats)]
    yield Row(
        f"{JOBS:,} jobs, {COLUMNS:,} past dates through the graph, CPU",
        best(costs, lambda cost: cost.cpu),
        goal=2.0,
        limits="value",
    )
    one = regimes(500)[0]
    state = fit(one, float(one.due[-1]) - 7200)
    dates, due = np.full(OPEN, one.date[-1]), np.full(OPEN, one.due[-1])
    costs = [
        shop.meter.measure(lambda: predict([state] * OPEN, dates, due, due - 3600))
        for _ in range(scale.repeats)
    ]
    yield Row(
        f"forecasts of {OPEN} open occurrences, CPU",
        best(costs, lambda cost: cost.cpu),
        goal=0.1,
        limits="value",
    )
    costs = [shop.meter.measure(lambda: advance(state, one)) for _ in range(scale.repeats)]
    yield Row("what one end teaches, CPU", best(costs, lambda cost: cost.cpu), goal=0.02, limits="value")
    many = regimes(100)
    count = [0]

    def replay_all() -> None:
        count[0] = sum(len(replay(one).place) for one in many)

    cost = shop.meter.measure(replay_all)
    yield Row("10,000 forecasts replayed, CPU", cost.cpu / count[0] * 10_000, goal=60.0, limits="value")
    yield from _minutes(shop, scale)


def _minutes(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """Ticks of a minute in which nothing came: what is open is forecast again."""
    bank = shop.bank("forecast", *((MINUTE_JOBS, MINUTE_DAYS) if scale.is_full else (scale.jobs, scale.days)))
    store_catalog(bank.settings)
    ingest(bank.settings)
    project = Project(bank.settings)
    first = shop.meter.measure(lambda: tick(project, bank.as_of))
    with connect(bank.settings, autocommit=True) as connection:
        connection.execute("vacuum (analyze)")
        row = connection.execute(
            "select count(*) filter (where is_open), count(*) from forecast.occurrence"
        ).fetchone()
        learned = connection.execute("select count(*) from forecast.series").fetchone()
    assert row is not None
    assert learned is not None
    costs = [
        # The first of them finds its caches empty.
        shop.meter.measure(lambda: tick(project, bank.as_of + timedelta(seconds=number)))  # noqa: B023
        for number in range(1, scale.repeats + 2)
    ][1:]
    what = f"a minute's tick, {row[0]:,} occurrences open and {int(str(row[1])) - int(str(row[0])):,} to come"
    yield Row(f"{what}, all CPU", best(costs, lambda cost: cost.whole), goal=0.5, limits="value")
    yield Row(
        f"the first tick of {learned[0]:,} series over {bank.summary.statuses:,} statuses, CPU here",
        first.cpu,
    )


def bank(jobs: int, columns: int, seed: int = 1) -> tuple[Habits, Today, Slos]:
    """Chains of five jobs of half an hour, which wait for one or two; at a moment when half of them are complete."""
    rng = np.random.default_rng(seed)
    upstreams = [
        []
        if job < jobs // 5
        else sorted({job - jobs // 5, max(0, job - jobs // 5 - int(rng.integers(1, 50)))})
        for job in range(jobs)
    ]
    graph = Graph.of(upstreams)
    start, end = np.empty((jobs, columns)), np.empty((jobs, columns))
    for level in graph.levels:
        ready = graph.ready(level, end)
        begin = np.where(np.isnan(ready), 3600.0, ready) + 60 * rng.exponential(size=(len(level), columns))
        start[level], end[level] = begin, begin + 1800 * rng.lognormal(0, 0.3, (len(level), columns))
    now = float(np.median(end))
    none = np.full(jobs, np.nan)
    failed = np.where((rng.random(jobs) < 0.01) & (start[:, 0] < now) & (end[:, 0] > now), now - 60, np.nan)
    today = Today.as_of(now, 0.0, start[:, 0], np.where(np.isnan(failed), end[:, 0], none), failed)
    slos = Slos.of([[job] for job in range(jobs - jobs // 5, jobs)], np.full(jobs // 5, 5 * 3600.0))
    restart = np.where(rng.random((jobs, columns)) < 0.01, 900.0, np.nan)
    return habits(graph, History(np.arange(columns), start, end, restart)), today, slos


def _whole(past: Habits, today: Today, slos: Slos) -> None:
    again = habits(past.graph, past.history)
    ends = project(again, today)
    columns = past.history.date
    state = fit(Series("s", "00:00", columns[-50:], columns[-50:] * 86_400.0, columns[-50:] * 86_400.0 - 600))
    states = [state] * slos.size
    forecast(
        slos, ends, today, states, np.tile(column_weights([state], columns, len(columns)), (slos.size, 1))
    )
    latest(again, slos)


@dataclass(frozen=True)
class Line:
    """What the table says of one SLO, or of many; losses in minutes, each beside the best of the rules."""

    name: str
    forecasts: int
    loss_p50: float
    rule_p50: float
    loss_p80: float
    rule_p80: float
    covered: float
    beaten: int
    of: int


def lines(series: Sequence[Series], name: str) -> list[Line]:
    """One for each SLO with enough dates, and one for all."""
    found = scores([replay(one) for one in series])
    sizes = {
        slo: max(len(one.date) for one in series if one.slo_id == slo) for slo in {s.slo_id for s in series}
    }
    told = []
    for slo in dict.fromkeys(slo for slo, _ in found):
        ours, rules = found[slo, METHOD], [found[slo, rule] for rule in naive.RULES]
        if slo != ALL and (sizes[slo] < ENOUGH or not ours.ended):
            continue
        told.append(
            Line(
                f"{name}: {slo}",
                ours.ended,
                ours.loss_p50,
                min(rule.loss_p50 for rule in rules),
                ours.loss_p80,
                min(rule.loss_p80 for rule in rules),
                ours.covered,
                sum(ours.loss_p50 < r.loss_p50 and ours.loss_p80 < r.loss_p80 for r in rules),
                len(rules),
            )
        )
    return told


SOURCES: dict[str, Callable[[], list[Series]]] = {
    "deliveries": deliveries,
    "simulator": lambda: simulated(40, 120, 7),
    "regimes": regimes,
    "shuffled": lambda: shuffled(deliveries()[:2]),
}


@click.command(help=__doc__)
@click.option("--only", multiple=True, type=click.Choice(list(SOURCES)))
def main(*, only: tuple[str, ...]) -> None:
    click.echo(
        "| series | forecasts | p50 loss | best rule | p80 loss | best rule | within p10 to p90 | rules beaten |"
    )
    click.echo("|---|--:|--:|--:|--:|--:|--:|--:|")
    begun = time.process_time()
    for name, make in SOURCES.items():
        if only and name not in only:
            continue
        for one in lines(make(), name):
            click.echo(
                f"| {one.name} | {one.forecasts:,} | {one.loss_p50:.2f} | {one.rule_p50:.2f} | {one.loss_p80:.2f} |"
                f" {one.rule_p80:.2f} | {one.covered:.0%} | {one.beaten} of {one.of} |"
            )
    click.echo(f"\n{time.process_time() - begun:.0f} s of CPU", err=True)


if __name__ == "__main__":
    main()
