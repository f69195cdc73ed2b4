"""What the files of a catalog may hold: one model per kind, unknown keys refused.

Spec: the catalog. Times are `"HH:MM"`, hours 0 to 47, kept as minutes after midnight; durations `90s`,
`10m`, `2h`, `1d`, kept as `timedelta`; both are written back as they are spelled in the files, so that a
model dumped as JSON can be read again. References between things are checked in `load`, not here.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pipelines.catalog import zones
from pipelines.catalog.names import is_unseen
from pipelines.durations import SECONDS, duration
from pipelines.errors import nearest

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

OWN_APPLICATION = "duemark"
"""The application of Duemark's own jobs, which it reports itself where the catalog has it."""

COUNTED_APPLICATIONS = ("edupi", "file-manager")
"""Applications whose file operations access logs tell; the ident of a package names one, with a domain or without."""

MAX_LENGTH = 200
"""Characters in an application's, job's or SLO's id (spec: job status)."""

Fault = tuple[tuple[str | int, ...], str, str]
"""Where inside a model, what is wrong, and the way out."""

STORED = "stored"
"""Context of a validation: what stands in the warehouse was taken by the rules of its day, and is not refused now."""

_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)")


def time_of_day_text(minutes: int) -> str:
    """Minutes after midnight as `HH:MM`; 1620 is `27:00`."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def duration_text(length: timedelta) -> str:
    """A duration of whole seconds in its largest whole unit: `10m`, `2h`, `90s`."""
    seconds = length // timedelta(seconds=1)
    for unit, size in SECONDS.items():
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return "0s"


def refuse(message: str, hint: str) -> PydanticCustomError:
    """The error of one value: what is wrong with it, and the way out."""
    return PydanticCustomError("refused", "{message}", {"message": message, "hint": hint})


def refuse_all(faults: Sequence[Fault]) -> None:
    """Raise all faults of a model at once, if there are any."""
    if faults:
        text = "; ".join(message for _, message, _ in faults)
        raise PydanticCustomError("several", "{message}", {"message": text, "faults": list(faults)})


def _parse_time_of_day(value: object) -> int:
    hint = 'write "HH:MM" in quotes, hours 0 to 47: "03:00", or "27:00" for 03:00 the next day'
    if isinstance(value, int | float):
        raise refuse(f"{value} is a number, not a time of day", hint)
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) > 47:
        raise refuse(f"{shown(value)} is no time of day", hint)
    return int(match[1]) * 60 + int(match[2])


def _parse_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    hint = "write a whole number and a unit: 90s, 10m, 2h or 1d, at most 366d"
    if isinstance(value, int | float):
        raise refuse(f"{value} has no unit of time", hint)
    found = duration(value) if isinstance(value, str) else None
    if found is None:
        raise refuse(f"{shown(value)} is no duration", hint)
    return found


def _parse_date(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise refuse(f"{shown(value)} is no date", "write YYYY-MM-DD, without a time: 2026-07-04")


def _check_zone(value: str) -> str:
    if not zones.is_zone(value):
        guess = nearest(value, zones.known_zones()) if value else ""
        guess = guess if guess.startswith("did") else ""
        hint = "expected an IANA zone, such as America/New_York or UTC"
        raise refuse(f"{shown(value)} is no time zone", f"{guess} {hint}".strip())
    return value


def _check_id(value: str, info: ValidationInfo) -> str:
    if info.context == STORED:
        return value
    if not 1 <= len(value) <= MAX_LENGTH:
        raise refuse(f"an id of {len(value)} characters", f"ids have 1 to {MAX_LENGTH} characters")
    if value != value.strip() or any(unicodedata.category(character) == "Cc" for character in value):
        raise refuse(
            f"{shown(value)} has white space at an end, or a control character",
            "write the id exactly as the scheduler reports it, in one line",
        )
    unseen = next(filter(is_unseen, value), None)
    if unseen is not None:
        name = unicodedata.name(unseen, "")
        raise refuse(
            f"{shown(value)} has a character that nobody sees: U+{ord(unseen):04X} {name}".rstrip(),
            "remove it; ids that differ in such a character alone look the same",
        )
    return value


def _check_application_id(value: str, info: ValidationInfo) -> str:
    if "/" in value and info.context != STORED:
        raise refuse(
            f"{shown(value)} has a slash",
            "application ids have none: `application/job` is split at its first slash",
        )
    return _check_id(value, info)


def _check_web_address(value: str, info: ValidationInfo) -> str:
    if info.context == STORED:
        return value
    hint = "write it whole: https://wiki.example.org/runbooks/overdrafts"
    try:
        parts = urlsplit(value)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname)
        has_login = parts.username is not None
    except ValueError:
        is_whole = has_login = False
    if not is_whole or any(one.isspace() or is_unseen(one) for one in value):
        raise refuse(f"{shown(value)} is no web address", hint)
    if has_login:
        raise refuse(f"{shown(value)} has a name or a password in it", "remove what stands before the @")
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def without_password(text: str) -> str:
    """`text` without what stands before the host of an address: what is wrong may be a password in the wrong place."""
    return re.sub(r"://[^/?#\s@]*@", "://…@", text)


def shown(value: object) -> str:
    """A value as it is told to the user, cut short."""
    text = without_password(f'"{value}"' if isinstance(value, str) else str(value))
    return text if len(text) <= 60 else f"{text[:57]}…"


Id = Annotated[str, AfterValidator(_check_id)]
Reference = Annotated[str, Field(min_length=1, max_length=2 * MAX_LENGTH + 1)]
"""A job of the same application, or `application/job`."""
ApplicationId = Annotated[str, AfterValidator(_check_application_id)]
WebAddress = Annotated[str, AfterValidator(_check_web_address)]
Zone = Annotated[str, AfterValidator(_check_zone)]
TimeOfDay = Annotated[
    int, BeforeValidator(_parse_time_of_day), PlainSerializer(time_of_day_text, when_used="json")
]
Duration = Annotated[
    timedelta, BeforeValidator(_parse_duration), PlainSerializer(duration_text, when_used="json")
]
Day = Annotated[date, BeforeValidator(_parse_date)]
WeekdayName = Annotated[Weekday, BeforeValidator(_lower)]
DayOffset = Annotated[int, Field(strict=True, ge=0, le=366)]


class Entry(BaseModel):
    """What all models have: no unknown keys, no change, and a key without a value counts as left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty_keys(cls, data: object) -> object:
        return (
            {key: value for key, value in data.items() if value is not None}
            if isinstance(data, dict)
            else data
        )

    def canonical(self) -> str:
        """JSON that is the same text for the same content: sorted keys, nothing that is null."""
        content = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class BusinessDateRule(Entry):
    """How the business date of a run follows from a time that its events tell (spec: OpenLineage)."""

    shift: Annotated[int, Field(strict=True, ge=-366, le=0)] | Literal["previous_business_day"] = Field(
        default=0, description="0, -n days, or previous_business_day"
    )
    calendar: str | None = Field(default=None, description="the calendar of previous_business_day")
    cut_off: TimeOfDay = Field(
        default=0, description='before it the date is still the one before, "HH:MM"; for times of events'
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        is_by_calendar = self.shift == "previous_business_day"
        if is_by_calendar and self.calendar is None:
            faults.append((("shift",), "no calendar says what a business day is", "add `calendar`"))
        if self.calendar is not None and not is_by_calendar:
            hint = "write `shift: previous_business_day`, or remove it"
            faults.append((("calendar",), "a calendar that nothing is asked of", hint))
        refuse_all(faults)
        return self


class Namespace(Entry):
    """An OpenLineage namespace, and how its runs get their business dates."""

    name: Annotated[str, Field(min_length=1)] = Field(description="the namespace, letter by letter")
    business_date: BusinessDateRule = Field(
        default=BusinessDateRule(), description="default: the date of the time itself"
    )


class Application(Entry):
    """A business application that owns jobs."""

    id: ApplicationId = Field(description="the id that senders report with")
    name: str | None = Field(default=None, description="what people call it; default: the id")
    description: str | None = None
    timezone: Zone = Field(description="an IANA zone, such as America/New_York")
    owner: str | None = Field(default=None, description="who answers for it, such as team:deposits")
    senders: tuple[Id, ...] = Field(default=(), description="who may report for it (receiver tokens)")
    namespaces: tuple[str | Namespace, ...] = Field(
        default=(), description="OpenLineage namespaces that mean it: names, or {name, business_date}"
    )

    @property
    def namespace_rules(self) -> tuple[Namespace, ...]:
        """Its namespaces, those too that are written as a name alone."""
        return tuple(Namespace(name=one) if isinstance(one, str) else one for one in self.namespaces)

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.id


class Market(Entry):
    """A financial market, by a code of the `holidays` library."""

    market: str = Field(description="a market of the holidays library, such as NYSE")


class Holidays(Entry):
    """Dates on which a calendar rests: the list of a country, of a market, or of both."""

    country: str | None = Field(default=None, description="an ISO 3166 code, such as US")
    subdivision: str | None = Field(default=None, description="a part of the country, such as NY")
    categories: tuple[str, ...] | None = Field(
        default=None, description="such as public, bank or half_day; default [public]"
    )
    market: str | None = Field(default=None, description="a market of the holidays library, such as NYSE")
    financial: Market | None = Field(default=None, description="another spelling of `market`")

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if self.market is not None and self.financial is not None:
            faults.append((("financial",), "the market is named twice", "keep `market` or `financial`"))
        if self.country is None:
            if self.market is None and self.financial is None:
                faults.append(
                    (
                        (),
                        "no country and no market",
                        "write {country: US} or {market: NYSE}, or remove `holidays`",
                    )
                )
            faults += [
                ((key,), f"`{key}` without a country", "add `country`, such as US")
                for key in ("subdivision", "categories")
                if getattr(self, key) is not None
            ]
        if self.country is not None and self.categories == ():
            faults.append((("categories",), "no category of holidays", "name one, such as public"))
        refuse_all(faults)
        return self

    @property
    def category_names(self) -> tuple[str, ...]:
        """The categories whose dates count as holidays."""
        return ("public",) if self.categories is None else self.categories

    @property
    def market_code(self) -> str | None:
        """The market, whichever way it is spelled."""
        return self.financial.market if self.financial else self.market


class Calendar(Entry):
    """The dates on which an SLO applies: `exclude` beats `include` beats a holiday beats a weekday."""

    id: Id = Field(description="the id that SLOs name it by")
    name: str | None = None
    description: str | None = None
    weekdays: tuple[WeekdayName, ...] = Field(description="a list of mon, tue, wed, thu, fri, sat, sun")
    holidays: Holidays | None = Field(default=None, description="such as {country: US} or {market: NYSE}")
    financial: Market | None = Field(default=None, description="another spelling of `holidays: {market: …}`")
    include: tuple[Day, ...] = Field(default=(), description="dates that count although they are holidays")
    exclude: tuple[Day, ...] = Field(default=(), description="dates that do not count in any case")
    until: Day | None = Field(default=None, description="the last date of the calendar")

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if not self.weekdays and not self.include:
            faults.append((("weekdays",), "a calendar without dates", "name weekdays, or dates in `include`"))
        if self.financial is not None and self.holidays is not None and self.holidays.market_code is not None:
            faults.append((("financial",), "the market is named twice", "keep the one in `holidays`"))
        refuse_all(faults)
        return self

    @property
    def market_code(self) -> str | None:
        """The market whose holidays it keeps, whichever way it is spelled."""
        if self.financial is not None:
            return self.financial.market
        return self.holidays.market_code if self.holidays else None


class Job(Entry):
    """One batch job, run by somebody else's scheduler."""

    id: Id = Field(description="the id that senders report with")
    application: ApplicationId = Field(description="the id of an application")
    name: str | None = Field(default=None, description="what people call it; default: the id")
    description: str | None = None
    owner: str | None = Field(
        default=None, description="who answers for it; default: the application's owner"
    )
    depends_on: tuple[Reference, ...] = Field(
        default=(), description="jobs it waits for; `application/job` across applications"
    )
    runbook: WebAddress | None = Field(
        default=None, description="where it says what to do when it fails, such as https://wiki/â¦"
    )
    restartable: bool = Field(default=True, description="whether it may simply be started again")
    streaming: bool = Field(default=False, description="never ends, so no SLO may name it")

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.id


class SloJob(Entry):
    """A job of an SLO, and when it is expected on the wall clock of the SLO's zone."""

    job: Reference = Field(description="a job of the SLO's application, or application/job")
    start: TimeOfDay | None = Field(default=None, description='"HH:MM", hours 0 to 47')
    end: TimeOfDay | None = Field(default=None, description='"HH:MM", hours 0 to 47')
    day_offset: DayOffset | None = Field(default=None, description="days after the business date, default 0")
    due_weekday: WeekdayName | None = Field(
        default=None, description="the next such day after the business date"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if self.start is not None and self.end is not None and self.end < self.start:
            faults.append(
                (
                    ("end",),
                    f"the end {time_of_day_text(self.end)} is before the start {time_of_day_text(self.start)}",
                    f'both are of one date; past midnight write "{time_of_day_text(self.end + 1440)}"'
                    if self.end + 1440 < 48 * 60
                    else "both are of one date; write hours past 24 for the next",
                )
            )
        if self.day_offset is not None and self.due_weekday is not None:
            faults.append(
                (
                    ("due_weekday",),
                    "both `day_offset` and `due_weekday`",
                    "keep the one that is meant",
                )
            )
        refuse_all(faults)
        return self


class Every(Entry):
    """The windows of an intraday SLO: `from` to `to` inclusive, every so many minutes."""

    minutes: int = Field(strict=True, ge=1, le=1440, description="minutes between windows, 1 to 1440")
    from_: TimeOfDay = Field(alias="from", description='when the first window begins, "HH:MM"')
    to: TimeOfDay = Field(description='when the last window begins, "HH:MM"')
    due_after: Duration = Field(description="from the begin of a window until it is due, such as 10m")
    early_tolerance: Duration = Field(
        default=timedelta(), description="how early a run of a window may begin, such as 5m"
    )
    day_offset: DayOffset = Field(default=0, description="days after the business date")

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if self.to < self.from_:
            hint = "`to` is when the last window begins; past midnight write hours past 24"
            faults.append(
                (
                    ("to",),
                    f"`to` {time_of_day_text(self.to)} is before `from` {time_of_day_text(self.from_)}",
                    hint,
                )
            )
        if self.due_after <= timedelta():
            faults.append((("due_after",), "due as soon as it begins", "give the run some time, such as 10m"))
        if self.early_tolerance >= timedelta(minutes=self.minutes):
            faults.append(
                (
                    ("early_tolerance",),
                    f"a tolerance of {duration_text(self.early_tolerance)} reaches the window before",
                    f"keep it below the {self.minutes}m between windows",
                )
            )
        refuse_all(faults)
        return self


class Slo(Entry):
    """One entry of an SLO: these jobs are complete by this time, on the dates of this calendar."""

    id: Id = Field(description="the id of the SLO")
    name: str | None = Field(default=None, description="what people call it; default: the id")
    description: str | None = None
    runbook: WebAddress | None = Field(
        default=None, description="where it says what to do when it is late, such as https://wiki/â¦"
    )
    application: ApplicationId = Field(description="the id of an application")
    calendar: Id = Field(description="the id of a calendar")
    timezone: Zone | None = Field(default=None, description="an IANA zone; default: the application's")
    objective: float = Field(
        default=0.95, gt=0, le=1, strict=True, description="share of occurrences to be on time, such as 0.95"
    )
    warn_before: Duration | None = Field(
        default=None, description="how long before the due time a warning helps; default 30m"
    )
    gives_up_after: Duration | None = Field(
        default=None,
        description="how long after the due time it is given up, such as 6h; default: when the next date falls due",
    )
    every: Every | None = Field(default=None, description="windows, for an intraday SLO")
    jobs: tuple[SloJob, ...] = Field(description="the jobs that must be complete, at least one")
    effective_from: Day | None = Field(default=None, description="first business date of this entry")
    effective_to: Day | None = Field(default=None, description="last business date of this entry")

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.id

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if not self.jobs:
            faults.append((("jobs",), "an SLO without a job", "name the jobs that must be complete"))
        if self.gives_up_after is not None and self.gives_up_after <= timedelta():
            hint = "give it some time, such as 6h; without the key: until the next business date falls due"
            faults.append((("gives_up_after",), "given up as soon as it is due", hint))
        if self.effective_from and self.effective_to and self.effective_to < self.effective_from:
            hint = "`effective_to` is the last date on which the entry applies"
            faults.append(
                (
                    ("effective_to",),
                    f"{self.effective_to} is before the effective_from {self.effective_from}",
                    hint,
                )
            )
        faults += self._daily_faults() if self.every is None else self._intraday_faults(self.every)
        refuse_all(faults)
        return self

    def _daily_faults(self) -> list[Fault]:
        hint = 'say when it is due: end: "05:00", or give the SLO windows with `every`'
        return [
            (("jobs", index, "end"), f"the job `{job.job}` has no end", hint)
            for index, job in enumerate(self.jobs)
            if job.end is None
        ]

    def _intraday_faults(self, every: Every) -> list[Fault]:
        faults: list[Fault] = []
        offsets = set()
        for index, job in enumerate(self.jobs):
            at = ("jobs", index)
            for key in ("start", "end", "due_weekday"):
                if getattr(job, key) is not None:
                    hint = f"the windows say when the job is due: remove `{key}`, or remove `every`"
                    faults.append(((*at, key), f"both `every` and the job's `{key}`", hint))
            offsets.add(every.day_offset if job.day_offset is None else job.day_offset)
            if len(offsets) > 1 and job.day_offset is not None:
                # A run is matched to a window by its time alone, so the jobs must share the windows' dates.
                hint = "give all its jobs one `day_offset`, best in `every`, or make two SLOs"
                faults.append(((*at, "day_offset"), "jobs with windows on different days", hint))
        return faults


WAIVED: Literal["none"] = "none"
"""`due` of an exception by which nothing is due."""


def _parse_due(value: object) -> str | int:
    return WAIVED if isinstance(value, str) and value.casefold() == WAIVED else _parse_time_of_day(value)


class Excepted(Entry):
    """Business dates for which an SLO, or all SLOs of an application, promise nothing, or something later."""

    slo: Id | None = Field(default=None, description="the id of an SLO; or `application`")
    application: ApplicationId | None = Field(
        default=None, description="all SLOs of an application; or `slo`"
    )
    from_: Day = Field(alias="from", description="the first business date")
    to: Day | None = Field(default=None, description="the last business date; default: the first")
    slot: str | None = Field(default=None, description='of an intraday SLO one window, "HH:MM"; default: all')
    due: Annotated[
        Literal["none"] | int,
        BeforeValidator(_parse_due),
        PlainSerializer(lambda due: due if due == WAIVED else time_of_day_text(due), when_used="json"),
    ] = Field(default=WAIVED, description='none, or a later time of day: "05:00"')
    reason: str = Field(min_length=1, description="why; whoever wonders will read it")
    by: str | None = Field(default=None, description="who decided it")

    @field_validator("slot")
    @classmethod
    def _check_slot(cls, value: str) -> str:
        return time_of_day_text(_parse_time_of_day(value))

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if self.slo is None and self.application is None:
            faults.append(((), "an exception of nothing", "name an SLO, or an application: slo: ID"))
        if self.slo is not None and self.application is not None:
            hint = "keep one: an application stands for all its SLOs"
            faults.append((("application",), "both `slo` and `application`", hint))
        if self.to is not None and self.to < self.from_:
            hint = "`to` is the last business date of the exception"
            faults.append((("to",), f"`to` {self.to} is before `from` {self.from_}", hint))
        if not self.reason.strip():
            faults.append((("reason",), "a reason without words", "say why; whoever wonders will read it"))
        refuse_all(faults)
        return self

    @property
    def last(self) -> date:
        """The last business date."""
        return self.to or self.from_

    @property
    def due_minutes(self) -> int | None:
        """The later due time in minutes after midnight; None: waived."""
        return None if isinstance(self.due, str) else self.due


Role = Literal["sender", "analyst", "on_call", "admin"]

EVERY_APPLICATION = "*"
"""In the list of a sender: all applications, also those that the catalog does not have."""


class Sender(Entry):
    """A client of the receiver: what it may send, and what it may ask and do."""

    id: Id = Field(description="the id that its tokens are issued for")
    description: str | None = None
    applications: tuple[str, ...] = Field(default=(), description='applications it reports for, or ["*"]')
    feeds: tuple[str, ...] = Field(default=("job_status",), description="feeds it may send: [job_status]")
    roles: tuple[Role, ...] = Field(
        default=("sender",), description="a list of sender, analyst, on_call, admin; default [sender]"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if not self.roles:
            faults.append(
                (("roles",), "a client without a role", "name one: sender, analyst, on_call, admin")
            )
        if "sender" in self.roles and not self.applications:
            hint = 'name those that it reports for, or ["*"] for all; or leave out the role sender'
            faults.append((("applications",), "a sender without an application", hint))
        if "sender" in self.roles and not self.feeds:
            faults.append((("feeds",), "a sender without a feed", "name what it sends: [job_status]"))
        refuse_all(faults)
        return self


class Package(Entry):
    """What the access logs are counted by: an archive, a file share or an application."""

    kind: Literal["zim", "files", "app"] = Field(description="zim, files or app")
    title: str = Field(description="what the reports call it")
    ident: Id | None = Field(default=None, description="which application it is, for kind app")
    url: str = Field(description="//host/…, for a zim //host/viewer#NAME or //host/content/NAME")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not re.fullmatch(r"//[^\s/?#]+(/\S*)?", value):
            raise refuse(f"{shown(value)} is no address", "write it without a scheme: //host/…")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults: list[Fault] = []
        if self.kind == "zim" and self.zim_name is None:
            hint = "write //host/viewer#NAME or //host/content/NAME"
            faults.append((("url",), "the address does not name the archive", hint))
        if self.kind == "app" and self.ident is None:
            faults.append((("ident",), "an app without `ident`", "say which application it is: ident: edupi"))
        refuse_all(faults)
        return self

    @property
    def zim_name(self) -> str | None:
        """The content name of a zim, as its address spells it, whatever page follows; null for the other kinds."""
        if self.kind != "zim":
            return None
        match = re.fullmatch(r"//[^/]+/(?:viewer#|content/)([^/?#\s]+)(?:[/?#]\S*)?", self.url)
        return match[1] if match else None
