"""The jobs of a catalog that somebody wrote, so that they can be simulated too."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from pipelines.catalog.models import OWN_APPLICATION
from pipelines.catalog.read import Catalog, JobKey, read_catalog
from pipelines.catalog.resolve import resolve
from pipelines.errors import DuemarkError
from pipelines.simulator.bank import senders
from pipelines.simulator.plan import MINUTE, SECOND, Due, DueJob, Role, SimulatedJob, World
from pipelines.slo.promises import Promise, expand

# Without a start of its own a job is thought to begin this long before it is due.
_UNSTATED = 60 * MINUTE
_USUAL, _EARLY, _LATE = 0.55, 0.2, 0.97
# Jobs that part a window leave room for each other, and for the seconds between them.
_USUAL_IN_WINDOW = 0.35
# Fewer occurrences than this prove nothing about a habit.
_ENOUGH = 20


@dataclass(frozen=True, slots=True)
class CatalogSlo:
    """An SLO of a catalog, its promises written out by date."""

    slo_id: str
    is_intraday: bool
    is_open_start: bool
    jobs: tuple[int, ...]
    dues: dict[date, tuple[Due, ...]]

    def on(self, day: date) -> tuple[Due, ...]:
        """The promises of a business date."""
        return self.dues.get(day, ())


def load_world(folder: Path, first: date, last: date, as_of: int, formats: Sequence[str]) -> World:
    """The jobs of the catalog in `folder`, reporting for the dates from `first` to the clock's end at `as_of`.

    All but those of Duemark itself, which reports for them.

    What is promised for dates before `first` stands in the world too, and nobody reports for it. The habits worth
    finding (one slows, one is early, one late, one silent, one reports its ends only) are given to jobs by their
    place in the graph, so that a catalog tells the same story with every seed.

    Raises:
        DuemarkError: the catalog has errors, or no SLO.
    """
    catalog = read_catalog(folder)
    slo_ids = sorted(
        slo_id for slo_id, entries in catalog.slos.items() if entries[-1].application != OWN_APPLICATION
    )
    if not slo_ids:
        raise DuemarkError(
            "The catalog promises nothing.", "Add an SLO, or simulate a bank without --catalog."
        )
    tracked = [key for key, job in catalog.jobs.items() if not job.streaming and key[0] != OWN_APPLICATION]
    order = sorted(tracked, key=lambda key: (catalog.upstream_rank[key], key))
    numbers = {key: number for number, key in enumerate(order)}
    starts = [entry.effective_from for slo_id in slo_ids for entry in catalog.slos[slo_id]]
    begin = min([first, *(start for start in starts if start is not None)])
    slos = [_slo(catalog, slo_id, numbers, begin, first, last) for slo_id in slo_ids]
    roles = _roles(catalog, order, slos, first)
    medians = _medians(slos)
    jobs = []
    for key in order:
        upstream = tuple(numbers[one] for one in catalog.upstream[key] if one in numbers)
        role = roles.get(key, "")
        window, share = medians.get(numbers[key], (40 * MINUTE, _USUAL))
        share = {"early": _EARLY, "late": _LATE, "slowing": 0.6}.get(role, share)
        # Long windows are patience more often than long jobs.
        usual = window * share if role else min(window * share, 90 * MINUTE)
        jobs.append(SimulatedJob(*key, upstream, usual / SECOND, 0.1 if role == "late" else 0.15, role))
    promised = {number for slo in slos for number in slo.jobs}
    zones = (
        (one.id, one.timezone) for _, one in sorted(catalog.applications.items()) if one.id != OWN_APPLICATION
    )
    unpromised = frozenset(numbers.values()) - promised
    return World(senders(zones, formats), jobs, slos, first, last, as_of, begin, unpromised)


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp()) * SECOND


def _slo(
    catalog: Catalog, slo_id: str, numbers: dict[JobKey, int], begin: date, first: date, last: date
) -> CatalogSlo:
    entries = catalog.slos[slo_id]
    dues: dict[date, list[Due]] = defaultdict(list)
    jobs: dict[int, None] = {}
    for place, entry in enumerate(entries):
        spec = resolve(catalog, entry)
        # A later entry replaces this one from its date on. Only what has a date is promised before the first status.
        following = entries[place + 1].effective_from if place + 1 < len(entries) else None
        end = last + timedelta(days=2) if following is None else following - timedelta(days=1)
        for promise in expand(spec, begin if entry.effective_from is not None else first, end):
            dues[promise.business_date].append(_due(promise, numbers, entry.gives_up_after))
        jobs.update(dict.fromkeys(numbers[key] for key in sorted(catalog.slo_jobs(entry))))
    return CatalogSlo(
        slo_id,
        any(entry.every is not None for entry in entries),
        entries[0].effective_from is None,
        tuple(jobs),
        {day: tuple(made) for day, made in dues.items()},
    )


def _due(promise: Promise, numbers: dict[JobKey, int], gives_up_after: timedelta | None) -> Due:
    jobs = []
    for job in promise.jobs:
        end = _milliseconds(job.expected_end_at)
        start = end - _UNSTATED if job.expected_start_at is None else _milliseconds(job.expected_start_at)
        jobs.append(DueJob(numbers[job.application, job.job], start, end))
    return Due(
        promise.slot,
        _milliseconds(promise.opens_at),
        None if promise.claims_from is None else _milliseconds(promise.claims_from),
        None if promise.expected_start_at is None else _milliseconds(promise.expected_start_at),
        _milliseconds(promise.expected_end_at),
        tuple(jobs),
        None if gives_up_after is None else gives_up_after // timedelta(milliseconds=1),
    )


def _medians(slos: Iterable[CatalogSlo]) -> dict[int, tuple[int, float]]:
    """For each job the shortest time that an SLO gives it on most dates, and the share of it that is usual."""
    found: dict[int, tuple[int, float]] = {}
    for slo in slos:
        windows: dict[int, Counter[int]] = defaultdict(Counter)
        for dues in slo.dues.values():
            for due in dues:
                parts = len(due.jobs) if slo.is_intraday else 1
                for job in due.jobs:
                    windows[job.job][max(job.end - job.start, MINUTE) // parts] += 1
        for number, counts in windows.items():
            window = counts.most_common(1)[0][0]
            if number not in found or window < found[number][0]:
                found[number] = (window, _USUAL_IN_WINDOW if slo.is_intraday else _USUAL)
    return found


def _roles(
    catalog: Catalog, order: Sequence[JobKey], slos: Sequence[CatalogSlo], first: date
) -> dict[JobKey, Role]:
    numbers = {key: number for number, key in enumerate(order)}
    downstream: dict[JobKey, set[JobKey]] = {key: set() for key in order}
    for key in reversed(order):
        for upstream in catalog.upstream[key]:
            if upstream in downstream:
                downstream[upstream] |= {key, *downstream[key]}
    daily = {key for key in order if _serves(slos, numbers[key], is_intraday=False)}
    daily -= {key for key in order if _serves(slos, numbers[key], is_intraday=True)}
    # A job that is not due in these few days plays no part.
    windows = _medians(slos)
    daily = {key for key in daily if numbers[key] in windows}
    dates = {
        key: sum(day >= first for slo in slos if numbers[key] in slo.jobs for day in slo.dues)
        for key in daily
    }
    # A promise that begins with its first status needs a job that sends one.
    missed = {order[job] for slo in slos for job in slo.jobs if len(slo.jobs) > 1 or not slo.is_open_start}
    roles: dict[JobKey, Role] = {}

    def give(role: Role, candidates: Iterable[JobKey], rank: Mapping[JobKey, tuple[int, ...]]) -> None:
        left = [key for key in candidates if key not in roles]
        # Spread over the applications, as far as there are some without one.
        used = {application for application, _ in roles}
        left.sort(
            key=lambda key: (dates[key] < _ENOUGH and role != "silent", key[0] in used, *rank[key], key)
        )
        if left:
            roles[left[0]] = role

    harmless = {key: (len(downstream[key]), -dates[key]) for key in daily}
    leaves = {key for key in daily if not downstream[key]}
    give("silent", leaves & missed, {key: (dates[key],) for key in daily})
    middle = {key for key in daily if downstream[key] and catalog.upstream[key]} or daily
    heaviest = {key: (-dates[key], -len(downstream[key]), -windows[numbers[key]][0]) for key in daily}
    give("slowing", middle, heaviest)
    give("early", leaves or daily, harmless)
    give("late", daily, harmless)
    give("succeed_only", daily, harmless)
    return roles


def _serves(slos: Iterable[CatalogSlo], number: int, *, is_intraday: bool) -> bool:
    return any(number in slo.jobs for slo in slos if slo.is_intraday == is_intraday)
