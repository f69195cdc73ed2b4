"""What the events of runs say: statuses, each with its business date and the rule by which that was found.

A function of the events as a set: their order, repetitions and batches make no difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal, TypeVar

from pipelines.catalog.calendars import business_dates
from pipelines.catalog.models import Calendar
from pipelines.catalog.zones import zone

Code = Literal["START", "SUCCEED", "FAIL"]
DateRule = Literal["tag", "nominal_time", "parent", "root", "cut_off"]

# What ends a run.
ENDS: Mapping[str, Code] = {"COMPLETE": "SUCCEED", "FAIL": "FAIL", "ABORT": "FAIL"}
# Of two events at one instant the later state is the newer word.
ORDER = ("START", "RUNNING", "OTHER", "ABORT", "FAIL", "COMPLETE")
# Days back in which a calendar has a date, if it has any left.
LONGEST_REST = 400
# Of the runs above one so many are asked for its date.
MOST_ANCESTORS = 50

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """A run event as far as statuses follow from it. `state` is one of ORDER; ids of runs are in lower case."""

    run_id: str
    namespace: str
    job_name: str
    state: str
    event_at: datetime
    nominal_at: datetime | None = None
    tag_date: date | None = None
    parent_run_id: str | None = None
    root_run_id: str | None = None
    is_streaming: bool = False


@dataclass(frozen=True)
class Rule:
    """What the catalog says of a namespace. `cut_off` in minutes after midnight; `shift` in days, 0 or less.

    `calendar`: its last date before is meant, and `shift` does not count.
    """

    application_id: str
    timezone: str = "UTC"
    cut_off: int = 0
    shift: int = 0
    calendar: Calendar | None = None

    def day(self, at: datetime) -> date:
        """The business date of a nominal time."""
        return _shifted(self, at.astimezone(zone(self.timezone)).date())

    def day_of_event(self, at: datetime) -> date:
        """The business date of something that happened at that instant."""
        # On the wall clock: the night in which clocks change has its cut-off at the same time of day.
        local = at.astimezone(zone(self.timezone)).replace(tzinfo=None) - timedelta(minutes=self.cut_off)
        return _shifted(self, local.date())


@dataclass(frozen=True, order=True)
class Status:
    """A job status that follows; `status_at` in UTC."""

    run_id: str
    namespace: str
    job_name: str
    application_id: str
    status_at: datetime
    code: Code
    business_date: date
    rule: DateRule


def statuses(events: Iterable[Event], rule_of: Callable[[str], Rule]) -> set[Status]:
    """The statuses of all runs among these events, of which none may lack: of a run, its parents and its roots.

    `rule_of` gives the rule of a namespace.
    """
    runs: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        runs[event.run_id].append(event)
    facets = {run_id: _Facets.of(of_run) for run_id, of_run in runs.items()}
    found = set()
    for run_id, of_run in runs.items():
        jobs: defaultdict[tuple[str, str], list[Event]] = defaultdict(list)
        for event in of_run:
            jobs[event.namespace, event.job_name].append(event)
        for (namespace, job_name), of_job in jobs.items():
            codes = list(_codes(of_job))
            if not codes:
                continue
            rule = rule_of(namespace)
            day, how = _declared(run_id, rule, facets, rule_of) or (
                rule.day_of_event(min(event.event_at for event in of_job)),
                "cut_off",
            )
            found |= {
                Status(run_id, namespace, job_name, rule.application_id, at.astimezone(UTC), code, day, how)
                for at, code in codes
            }
    return found


def _codes(events: list[Event]) -> Iterator[tuple[datetime, Code]]:
    """Instants and codes of one job's run. A job that never ends has none: no SLO may name it."""
    if any(event.is_streaming for event in events):
        return
    ends = {(event.event_at, ENDS[event.state]) for event in events if event.state in ENDS}
    starts = {event.event_at for event in events if event.state == "START"}
    running = {event.event_at for event in events if event.state == "RUNNING"}
    yield from ends
    first_end = min((at for at, _ in ends), default=None)
    if starts:
        first = min(starts)
        if first_end is not None and first > first_end:
            # Clocks that differ: a run that has ended is not opened again by its own start.
            starts = starts - {first} | {first_end}
        for at in starts:
            yield at, "START"
    elif running and (first_end is None or min(running) <= first_end):
        # A sign of life stands for a start that was lost, but says nothing of when once the run had ended.
        yield min(running), "START"


@dataclass(frozen=True)
class _Facets:
    """What the events of a run say together: of each facet the newest word."""

    namespace: str
    tag_date: date | None
    nominal_at: datetime | None
    parent_run_id: str | None
    root_run_id: str | None

    @classmethod
    def of(cls, events: list[Event]) -> _Facets:
        return cls(
            min(event.namespace for event in events),
            _newest(events, lambda event: event.tag_date),
            _newest(events, lambda event: event.nominal_at),
            _newest(events, lambda event: event.parent_run_id),
            _newest(events, lambda event: event.root_run_id),
        )


def _newest(events: list[Event], value: Callable[[Event], T | None]) -> T | None:
    found = [
        ((event.event_at, ORDER.index(event.state), str(one)), one)
        for event in events
        if (one := value(event)) is not None
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _declared(
    run_id: str, rule: Rule, facets: Mapping[str, _Facets], rule_of: Callable[[str], Rule]
) -> tuple[date, DateRule] | None:
    """The date that the run declares, else its parent (and whoever started that one), else its root."""
    waiting: list[tuple[str, DateRule | None]] = [(run_id, None)]
    seen: set[str] = set()
    while waiting and len(seen) <= MOST_ANCESTORS:
        one, way = waiting.pop()
        if one in seen or one not in facets:
            continue
        seen.add(one)
        said = facets[one]
        if said.tag_date is not None:
            return said.tag_date, way or "tag"
        if said.nominal_at is not None:
            its_rule = rule if way is None else rule_of(said.namespace)
            return its_rule.day(said.nominal_at), way or "nominal_time"
        if said.root_run_id is not None:
            waiting.append((said.root_run_id, way or "root"))
        if said.parent_run_id is not None:
            waiting.append((said.parent_run_id, way or "parent"))
    return None


@lru_cache(maxsize=10_000)
def _shifted(rule: Rule, day: date) -> date:
    if rule.calendar is None:
        return date.fromordinal(max(1, day.toordinal() + rule.shift))
    first = date.fromordinal(max(1, day.toordinal() - LONGEST_REST))
    before = date.fromordinal(max(1, day.toordinal() - 1))
    return max(business_dates(rule.calendar, first, before), default=before)
