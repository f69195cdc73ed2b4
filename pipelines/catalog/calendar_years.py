"""The dates of the calendars, worked out year by year for the mart `calendar_date`: holidays are Python's to know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

# Whoever looks ahead in December looks into the next year.
YEARS_AHEAD = 1


@dataclass(frozen=True)
class CalendarYear:
    """A year of a calendar that has no dates yet, or those of an earlier version of it or of the holidays library."""

    calendar_id: str
    year: int
    calendar_load_id: int
    library: str | None
    spec: dict[str, Any]


def missing_years(cursor: psycopg.Cursor[Any], first: date | None, as_of: datetime) -> list[CalendarYear]:
    """What is missing from the year of `first` on (None: of `as_of`) to the one after that of `as_of`."""
    cursor.execute(
        """
        with calendar as (
            select distinct on (calendar_id) calendar_id, load_id, is_retired, spec,
                case when spec ?| array['holidays', 'financial'] then %(library)s end as library
            from catalog.calendar_version
            order by calendar_id, load_id desc
        ),
        made as (
            select distinct on (calendar_id, year) calendar_id, year, calendar_load_id, library
            from catalog.calendar_year
            order by calendar_id, year, load_id desc
        )
        select calendar_id, year, calendar.load_id, calendar.library, spec
        from calendar
        cross join generate_series(%(first)s::integer, %(last)s::integer) as year
        left join made using (calendar_id, year)
        where not is_retired
            and (made.calendar_load_id, made.library) is distinct from (calendar.load_id, calendar.library)
        order by calendar_id, year
        """,
        {
            "library": version("holidays"),
            "first": min(first.year if first else as_of.year, as_of.year),
            "last": as_of.year + YEARS_AHEAD,
        },
    )
    return [CalendarYear(*row) for row in cursor.fetchall()]


def store_years(cursor: psycopg.Cursor[Any], load_id: int, years: Sequence[CalendarYear]) -> None:
    """Work out these years and add them, as part of a load."""
    from pipelines.catalog.calendars import calendar_days
    from pipelines.catalog.models import STORED, Calendar

    rows = []
    for one in years:
        calendar = Calendar.model_validate_json(json.dumps(one.spec), context=STORED)
        days = list(calendar_days(calendar, date(one.year, 1, 1), date(one.year, 12, 31)))
        rows.append(
            (
                one.calendar_id, one.year, load_id, one.calendar_load_id, one.library,
                [day.is_business_date for day in days],
                [day.reason for day in days],
                [day.holiday for day in days],
            )
        )  # fmt: skip
    cursor.executemany(
        "insert into catalog.calendar_year (calendar_id, year, load_id, calendar_load_id, library, is_business_date,"
        " reasons, holidays) values (%s, %s, %s, %s, %s, %s, %s, %s)",
        rows,
    )
