"""Business dates of a calendar.

Spec: `exclude` beats `include` beats a holiday beats a weekday, and nothing comes after `until`. Holiday
lists are those of the `holidays` library; a list that ends there ends the calendar too, because the
dates after it would silently count its holidays as business dates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib import metadata
from typing import Literal

from pipelines.catalog.models import WEEKDAYS, Calendar, Fault
from pipelines.errors import DuemarkError, nearest

Reason = Literal["weekday", "included", "excluded", "holiday", "rest_day", "ended"]
"""Why a date counts (the first two) or does not: a weekday that is none of the calendar's is a `rest_day`."""


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """A date of a calendar; `holiday` is the name of the one on it, whether the date counts or not."""

    day: date
    reason: Reason
    holiday: str | None

    @property
    def is_business_date(self) -> bool:
        """Whether an SLO of the calendar applies."""
        return _counts(self.reason)


def calendar_days(calendar: Calendar, start: date, end: date) -> Iterator[CalendarDay]:
    """All dates from `start` to `end`, both included, in order. Raises as `business_dates` does."""
    limit, rule = _limit(calendar), _Rule(calendar)
    for day in _days(start, end):
        if limit is not None and day > limit:
            yield CalendarDay(day, "ended", None)
        else:
            yield CalendarDay(day, rule.reason(day), rule.holiday(day))


def business_dates(calendar: Calendar, start: date, end: date) -> list[date]:
    """The dates of `calendar` from `start` to `end`, both included, in order.

    Raises:
        DuemarkError: the installed holidays library does not know the calendar's list.
    """
    last = _limit(calendar)
    if last is not None:
        end = min(end, last)
    if end < start:
        return []
    rule = _Rule(calendar)
    return [day for day in _days(start, end) if _counts(rule.reason(day))]


def last_date(calendar: Calendar) -> date | None:
    """The last business date that `calendar` can name; None when it has no end.

    It ends with `until`, with the last included date where no weekday counts, or with its holiday list.
    None also when it never had a date (all are excluded): see `business_dates`.
    """
    limit = _limit(calendar)
    if not calendar.weekdays:
        dates = set(calendar.include) - set(calendar.exclude)
        return max((day for day in dates if limit is None or day <= limit), default=None)
    if limit is None:
        return None
    # A year back is enough for any weekday, whatever the holidays.
    first = max(date.min.toordinal(), limit.toordinal() - 366)
    return max(business_dates(calendar, date.fromordinal(first), limit), default=None)


def holidays_version() -> str:
    """Version of the holidays library."""
    return metadata.version("holidays")


def holiday_faults(calendar: Calendar) -> list[Fault]:
    """What the holidays library does not know of the list that `calendar` names, with the nearest it does."""
    import holidays

    faults: list[Fault] = []
    rest = calendar.holidays
    if (market := calendar.market_code) is not None:
        markets = holidays.list_supported_financial(include_aliases=True)
        if market not in markets:
            at: tuple[str | int, ...] = ("financial", "market")
            if calendar.financial is None and rest is not None:
                at = (
                    ("holidays", "market") if rest.market is not None else ("holidays", "financial", "market")
                )
            faults.append((at, f"no holiday list for the market `{market}`", nearest(market, markets)))
    if rest is None or rest.country is None:
        return faults
    countries = holidays.list_supported_countries(include_aliases=True)
    if rest.country not in countries:
        message = f"no holiday list for the country `{rest.country}`"
        hint = nearest(rest.country, countries, "countries are ISO 3166 codes; known")
        return [*faults, (("holidays", "country"), message, hint)]
    if rest.subdivision is not None and rest.subdivision not in countries[rest.country]:
        parts = countries[rest.country]
        message = f"{rest.country} has no subdivision `{rest.subdivision}`"
        hint = nearest(rest.subdivision, parts, "known") or f"{rest.country} has one list: remove it"
        faults.append((("holidays", "subdivision"), message, hint))
    known = holidays.country_holidays(rest.country).supported_categories
    for index, category in enumerate(rest.category_names):
        if category not in known:
            message = f"{rest.country} has no category `{category}`"
            faults.append((("holidays", "categories", index), message, nearest(category, known, "known")))
    return faults


def _days(start: date, end: date) -> Iterator[date]:
    return map(date.fromordinal, range(start.toordinal(), end.toordinal() + 1))


def _counts(reason: Reason) -> bool:
    return reason in {"weekday", "included"}


class _Rule:
    """What decides a date of one calendar, up to its end."""

    def __init__(self, calendar: Calendar) -> None:
        self._weekdays = {WEEKDAYS.index(name) for name in calendar.weekdays}
        self._include, self._exclude = frozenset(calendar.include), frozenset(calendar.exclude)
        rest = calendar.holidays
        self._country = None if rest is None else rest.country
        self._subdivision = None if rest is None else rest.subdivision
        self._categories = () if rest is None else rest.category_names
        self._market = calendar.market_code

    def reason(self, day: date) -> Reason:
        if day in self._exclude:
            return "excluded"
        if day in self._include:
            return "included"
        if self.holiday(day) is not None:
            return "holiday"
        return "weekday" if day.weekday() in self._weekdays else "rest_day"

    def holiday(self, day: date) -> str | None:
        if self._country is None and self._market is None:
            return None
        return _holidays(self._country, self._subdivision, self._categories, self._market, day.year).get(day)


@lru_cache(maxsize=4096)
def _holidays(
    country: str | None, subdivision: str | None, categories: tuple[str, ...], market: str | None, year: int
) -> Mapping[date, str]:
    """Names of the holidays of a year; where a country and a market share a date, the market's."""
    import holidays

    names: dict[date, str] = {}
    try:
        if country is not None:
            names |= holidays.country_holidays(country, subdiv=subdivision, categories=categories, years=year)
        if market is not None:
            names |= holidays.financial_holidays(market, years=year)
    except (NotImplementedError, ValueError) as error:
        raise DuemarkError(
            f"the holidays library {holidays_version()} cannot make the list: {error}",
            "change the calendar, or install the version of the library that knew it",
        ) from error
    return names


def _limit(calendar: Calendar) -> date | None:
    """The date after which nothing is known of `calendar`."""
    rest = calendar.holidays
    year = _last_year(None if rest is None else rest.country, calendar.market_code)
    limits = [calendar.until, None if year is None else date(year, 12, 31)]
    return min((limit for limit in limits if limit is not None), default=None)


@lru_cache(maxsize=256)
def _last_year(country: str | None, market: str | None) -> int | None:
    import holidays

    years: list[int] = []
    try:
        if country is not None:
            years.append(holidays.country_holidays(country).end_year)
        if market is not None:
            years.append(holidays.financial_holidays(market).end_year)
    except NotImplementedError:
        return None
    return min(years, default=None)
