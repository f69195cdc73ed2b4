"""An SLO entry with all that its promise needs, by value.

Past occurrences keep the promise of their day, so what a promise was made of is stored with it: the
calendar, the zone, the jobs with their ranks in the graph, and the versions of the two libraries whose
data decide dates and instants. The same content gives the same text (`canonical`), and so no new version.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from pipelines.catalog import zones
from pipelines.catalog.calendars import holidays_version
from pipelines.catalog.models import (
    WEEKDAYS,
    ApplicationId,
    Calendar,
    Day,
    DayOffset,
    Duration,
    Entry,
    Every,
    Holidays,
    Id,
    Slo,
    TimeOfDay,
    WeekdayName,
    Zone,
)
from pipelines.catalog.read import Catalog

DEFAULT_WARN_BEFORE = timedelta(minutes=30)

Library = Literal["holidays", "tzdata"]


class SpecJob(Entry):
    """A job of a promise. Intraday, the windows say when it is due, and `start` and `end` are null."""

    application: ApplicationId
    job: Id
    start: TimeOfDay | None = None
    end: TimeOfDay | None = None
    day_offset: DayOffset = 0
    due_weekday: WeekdayName | None = None
    upstream_rank: int = Field(ge=0)


class PromiseSpec(Entry):
    """What one entry of an SLO promises; read it back with `model_validate_json`."""

    slo_id: Id
    application: ApplicationId
    timezone: Zone
    calendar: Calendar
    objective: float
    warn_before: Duration
    gives_up_after: Duration | None = None
    every: Every | None = None
    jobs: tuple[SpecJob, ...]
    effective_from: Day | None = None
    effective_to: Day | None = None
    libraries: dict[Library, str]


def resolve(catalog: Catalog, slo: Slo) -> PromiseSpec:
    """Write down the promise of one entry of `catalog.slos`.

    What has no bearing on a promise (names, descriptions, the order of lists) leaves no trace in it.

    Raises:
        KeyError: `slo` is not of this catalog.
    """
    calendar = _plain(catalog.calendars[slo.calendar])
    warn_before = DEFAULT_WARN_BEFORE if slo.warn_before is None else slo.warn_before
    if slo.warn_before is None and slo.every is not None:
        # A window that is due 10 minutes after it begins cannot be warned of half an hour before.
        warn_before = min(warn_before, slo.every.due_after)
    offset = 0 if slo.every is None else slo.every.day_offset
    jobs = []
    for key, job in zip(catalog.slo_jobs(slo), slo.jobs, strict=True):
        jobs.append(
            SpecJob.model_construct(
                application=key[0],
                job=key[1],
                start=job.start,
                end=job.end,
                day_offset=offset if job.day_offset is None else job.day_offset,
                due_weekday=job.due_weekday,
                upstream_rank=catalog.upstream_rank[key],
            )
        )
    libraries: dict[Library, str] = {"tzdata": zones.tzdata_version()}
    if calendar.holidays is not None:
        libraries["holidays"] = holidays_version()
    return PromiseSpec.model_construct(
        slo_id=slo.id,
        application=slo.application,
        timezone=slo.timezone or catalog.applications[slo.application].timezone,
        calendar=calendar,
        objective=slo.objective,
        warn_before=warn_before,
        gives_up_after=slo.gives_up_after,
        every=slo.every,
        jobs=tuple(sorted(jobs, key=lambda job: (job.application, job.job))),
        effective_from=slo.effective_from,
        effective_to=slo.effective_to,
        libraries=libraries,
    )


def _plain(calendar: Calendar) -> Calendar:
    """The one spelling of a calendar, out of the many that mean the same."""
    rest, market = calendar.holidays, calendar.market_code
    holidays = None
    if rest is not None or market is not None:
        country = None if rest is None else rest.country
        holidays = Holidays.model_construct(
            country=country,
            subdivision=None if rest is None else rest.subdivision,
            categories=None if rest is None or country is None else tuple(sorted(set(rest.category_names))),
            market=market,
        )
    return Calendar.model_construct(
        id=calendar.id,
        weekdays=tuple(name for name in WEEKDAYS if name in calendar.weekdays),
        holidays=holidays,
        include=tuple(sorted(set(calendar.include))),
        exclude=tuple(sorted(set(calendar.exclude))),
        until=calendar.until,
    )
