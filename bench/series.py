"""Series to try forecasts on: real deliveries where they are, the simulator's truth, and regimes made by a formula."""

from __future__ import annotations

import csv
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from pipelines.forecasts.ends import EPOCH, Floats, Series
from pipelines.warehouse.settings import ROOT

DELIVERIES = ROOT.parent / "shared/data/deliveries/pcm_dpc_deliveries.csv"
FEEDS = {
    "national": "dati-andamento-nazionale",
    "regions": "dati-regioni",
    "provinces": "dati-province",
    "bulletin": "schede-riepilogative/regioni",
}
LAST_DELIVERY = date(2025, 1, 10)


def deliveries(path: Path = DELIVERIES) -> list[Series]:
    """Four feeds and all of them together, promised as in tests/real/test_deliveries.py; [] where they are not."""
    if not path.is_file():
        return []
    first: dict[tuple[str, str], float] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["delivered_at"]).timestamp()
            key = (row["job"], row["business_date"])
            first[key] = min(first.get(key, np.inf), at)
    days = [date(2020, 3, 7) + timedelta(days=n) for n in range((LAST_DELIVERY - date(2020, 3, 7)).days + 1)]
    due = np.array([_promised(day) for day in days])
    ends = {
        feed: np.array([first.get((job, day.isoformat()), np.nan) for day in days])
        for feed, job in FEEDS.items()
    }
    ends["all-data"] = np.max(np.vstack(list(ends.values())), axis=0)
    ordinals = np.array([day.toordinal() for day in days], np.int64)
    return [Series(feed, "00:00", ordinals, due, end) for feed, end in ends.items()]


def _promised(day: date) -> float:
    hour, minute, ahead = 18, 0, 0
    if day < date(2020, 4, 19):
        minute = 30
    elif day >= date(2022, 10, 30):
        last_weekday = 3 if day < date(2023, 8, 17) else 2
        ahead = (last_weekday - day.weekday()) % 7 + 4 - last_weekday
    on = day + timedelta(days=ahead)
    return datetime(on.year, on.month, on.day, hour, minute, tzinfo=ZoneInfo("Europe/Rome")).timestamp()


def simulated(jobs: int, days: int, seed: int) -> list[Series]:
    """Every slot of every SLO of a simulated bank, as its truth has them."""
    from pipelines.simulator.simulate import simulate

    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), jobs=jobs, days=days, seed=seed)
        as_of = Path(folder, "truth/as_of.txt").read_text("utf-8").strip()
        found: dict[tuple[str, str], list[tuple[int, float, float]]] = defaultdict(list)
        with Path(folder, "truth/slo_performance.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                due = datetime.fromisoformat(row["expected_end_at"])
                end = row["actual_end_at"]
                if due <= datetime.fromisoformat(as_of):
                    found[row["slo_id"], row["slot"]].append(
                        (
                            date.fromisoformat(row["business_date"]).toordinal(),
                            due.timestamp(),
                            datetime.fromisoformat(end).timestamp() if end else np.nan,
                        )
                    )
    return [
        Series(slo, slot, np.array([r[0] for r in rows], np.int64), *np.array([r[1:] for r in rows]).T)
        for (slo, slot), rows in sorted(found.items())
    ]


def regimes(count: int = 400, seed: int = 1) -> list[Series]:
    """What real feeds do, one thing each: ends in minutes from a due time at 06:00."""
    first = date(2024, 1, 1).toordinal()
    ordinals = np.arange(first, first + count)
    due = (ordinals - EPOCH) * 86_400.0 + 6 * 3600.0
    return [
        Series(name, "00:00", ordinals, moved, due + minutes * 60)
        for name, minutes, moved in _regimes(count, seed, (ordinals + 6) % 7, due)
    ]


def _regimes(count: int, seed: int, weekday: np.ndarray, due: Floats) -> Iterator[tuple[str, Floats, Floats]]:
    rng = np.random.default_rng(seed)
    n = np.arange(count)
    noise = rng.standard_normal((16, count))
    is_second_half = n >= count // 2
    yield "steady", -30 + 15 * noise[0], due
    yield "drift", -60 + 0.2 * n + 10 * noise[1], due
    yield "weekday pattern", -60 + np.array([0, 0, 0, 0, 20, 50, 90])[weekday] + 8 * noise[2], due
    yield "bimodal", np.where(rng.random(count) < 0.7, -90, -15) + 6 * noise[3], due
    yield "heavy tail", -80 + 20 * rng.pareto(1.5, count), due
    yield "step", -60 + 45.0 * is_second_half + 10 * noise[4], due
    inert = np.zeros(count)
    for day in range(1, count):
        inert[day] = 0.8 * inert[day - 1] + 9 * noise[5, day]
    yield "inert", -30 + inert, due
    yield "never ends at times", np.where(rng.random(count) < 0.08, np.nan, -30 + 12 * noise[6]), due
    yield "calm and wild", -30 + np.where((n // 60) % 2, 30, 6) * noise[7], due
    yield "season and Mondays", -40 + 25 * np.sin(n / 60) + 10 * noise[8] + 30 * (weekday == 0), due
    yield "lognormal", -120 + 60 * np.exp(0.4 * noise[9]), due
    walk = np.cumsum(4 * noise[10])
    yield "walk", -30 + walk - np.linspace(0, walk[-1], count), due
    yield "tight with outliers", -15 + 0.5 * noise[11] + 40.0 * (rng.random(count) < 0.05), due
    yield "promise moves", -30 + 10 * noise[12], due
    # The habit stays where it was.
    moved = due + 1800.0 * is_second_half
    yield "promise moves alone", -30 + 10 * noise[13], np.where(is_second_half, moved, due)


def shuffled(series: list[Series], seed: int = 1) -> list[Series]:
    """The same ends by their distance from due, in another order: whatever time would tell is gone."""
    rng = np.random.default_rng(seed)
    return [
        Series(
            f"{one.slo_id}, shuffled",
            one.slot,
            one.date,
            one.due,
            one.due + rng.permutation(one.end - one.due),
        )
        for one in series
    ]
