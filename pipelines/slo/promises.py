"""Occurrences of an SLO: which dates and windows it promises, and from when to when.

Spec: occurrences. All instants are UTC. A local time in a spring gap is read with the offset before the
gap, one that occurs twice in autumn is the first of the two (RFC 5545; Python's `fold=0` is just that).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from pipelines.catalog.calendars import business_dates
from pipelines.catalog.models import WEEKDAYS, Every, time_of_day_text
from pipelines.catalog.resolve import PromiseSpec, SpecJob
from pipelines.catalog.zones import zone

DAILY_SLOT = "00:00"
"""The one slot of an SLO that has no windows."""

LOOK_AHEAD = timedelta(days=14)
"""What falls due within a week after an occurrence is of one of these days: due on the next Friday, say."""


@dataclass(frozen=True, slots=True)
class PromiseJob:
    """One job of an occurrence. `upstream_rank`: 0 is the most upstream."""

    application: str
    job: str
    expected_start_at: datetime | None
    expected_end_at: datetime
    upstream_rank: int


@dataclass(frozen=True, slots=True)
class Promise:
    """One due instance of an SLO.

    Attributes:
        business_date: the date that the work is for.
        slot: `00:00`, or the `HH:MM` at which its window is declared to begin (hours may pass 24).
        opens_at: when the business date begins in the zone of the SLO.
        claims_from: a run whose first status is at this instant or later may be of this window; None for
            the only or the first one of the date, which takes whatever is earlier too.
        expected_start_at: the earliest expected start of its jobs, None when none has one.
        expected_end_at: the latest expected end of its jobs; when it is due.
        jobs: by application and job.
    """

    business_date: date
    slot: str
    opens_at: datetime
    claims_from: datetime | None
    expected_start_at: datetime | None
    expected_end_at: datetime
    jobs: tuple[PromiseJob, ...]


def expand(spec: PromiseSpec, start: date, end: date) -> Iterator[Promise]:
    """The occurrences that `spec` promises for business dates from `start` to `end`, both included.

    In order of business date and instant; none outside `effective_from` and `effective_to`.
    """
    if spec.effective_from is not None:
        start = max(start, spec.effective_from)
    if spec.effective_to is not None:
        end = min(end, spec.effective_to)
    for day in business_dates(spec.calendar, start, end):
        if spec.every is None:
            yield _daily(spec, day)
        else:
            yield from _windows(spec, spec.every, day)


def next_dues(promises: Sequence[Promise]) -> list[datetime | None]:
    """For each of `promises` when the first occurrence of a later business date falls due, of those due after it.

    Usually that is the next business date. None for those after which nothing is due: give some weeks more than is
    asked for (`LOOK_AHEAD`).
    """
    firsts: dict[date, datetime] = {}
    for promise in promises:
        first = firsts.get(promise.business_date, promise.expected_end_at)
        firsts[promise.business_date] = min(first, promise.expected_end_at)
    in_turn = sorted(firsts.items())
    after = {day: number + 1 for number, (day, _) in enumerate(in_turn)}
    found = []
    for promise in promises:
        begin = after[promise.business_date]
        # Dates, not days: where a calendar rests they reach further.
        following = in_turn[begin : begin + LOOK_AHEAD.days]
        found.append(next((due for _, due in following if due > promise.expected_end_at), None))
    return found


def _instant(local: tzinfo, day: date, minutes: int = 0) -> datetime:
    """When the clock of `local` shows `minutes` after midnight of `day`; from 24 hours on, of a later day."""
    # Adding to a datetime that has a zone moves the wall clock, not the instant: what is meant here.
    return (datetime.combine(day, time.min, local) + timedelta(minutes=minutes)).astimezone(UTC)


def _daily(spec: PromiseSpec, day: date) -> Promise:
    local = zone(spec.timezone)
    jobs = tuple(_daily_job(job, local, day) for job in spec.jobs)
    starts = [job.expected_start_at for job in jobs if job.expected_start_at is not None]
    return Promise(
        business_date=day,
        slot=DAILY_SLOT,
        opens_at=_instant(local, day),
        claims_from=None,
        expected_start_at=min(starts, default=None),
        expected_end_at=max(job.expected_end_at for job in jobs),
        jobs=jobs,
    )


def _daily_job(job: SpecJob, local: tzinfo, day: date) -> PromiseJob:
    if job.end is None:
        raise ValueError(f"the job {job.job} has no end, and its SLO no windows")
    days = job.day_offset
    if job.due_weekday is not None:
        days = (WEEKDAYS.index(job.due_weekday) - day.weekday() - 1) % 7 + 1
    due = day + timedelta(days=days)
    ends = _instant(local, due, job.end)
    starts = None if job.start is None else _instant(local, due, job.start)
    if starts is not None and starts > ends:
        # 02:45 to 03:15 over a spring gap: the start is read before the gap, the end after it.
        starts = ends
    return PromiseJob(job.application, job.job, starts, ends, job.upstream_rank)


def _windows(spec: PromiseSpec, every: Every, day: date) -> Iterator[Promise]:
    local = zone(spec.timezone)
    # The model of an SLO refuses jobs with windows on different days.
    windows_on = day + timedelta(days=spec.jobs[0].day_offset)
    slots: dict[datetime, str] = {}
    for minutes in range(every.from_, every.to + 1, every.minutes):
        # In a spring gap two windows can begin at one instant: they are one, the first.
        slots.setdefault(_instant(local, windows_on, minutes), time_of_day_text(minutes))
    opens_at = _instant(local, day)
    first = min(slots)
    for begins_at in sorted(slots):
        ends = begins_at + every.due_after
        yield Promise(
            business_date=day,
            slot=slots[begins_at],
            opens_at=opens_at,
            claims_from=None if begins_at == first else begins_at - every.early_tolerance,
            expected_start_at=begins_at,
            expected_end_at=ends,
            jobs=tuple(
                PromiseJob(job.application, job.job, begins_at, ends, job.upstream_rank) for job in spec.jobs
            ),
        )
