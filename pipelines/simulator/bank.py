"""A made-up bank of any size: applications, calendars, chains of jobs, promises, and the catalog files for them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from pipelines.simulator.plan import MINUTE, Due, DueJob, Role, Sender, SimulatedJob, Stamp, instant

EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)
WEEKDAYS = (0, 1, 2, 3, 4)
_DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_APPLICATIONS = (
    ("overdrafts", "Overdrafts", "America/New_York"),
    ("deposits", "Deposits", "America/New_York"),
    ("decision-support", "Decision support", "America/New_York"),
    ("reporting", "Back-office reporting", "America/New_York"),
    ("payments", "Payments", "Europe/London"),
    ("cards", "Cards", "America/Chicago"),
    ("markets", "Markets", "Asia/Singapore"),
    ("treasury", "Treasury", "Europe/London"),
    ("ledger", "General ledger", "Europe/Rome"),
    ("loans", "Loans", "America/Chicago"),
    ("custody", "Custody", "Australia/Lord_Howe"),
    ("fraud", "Fraud detection", "America/New_York"),
)
_STYLES: tuple[tuple[str, Stamp, dict[str, bool]], ...] = (
    ("csv", "offset", {}),
    ("csv", "utc", {"is_precise": True}),
    ("ndjson", "offset", {"is_camel_case": True}),
    ("csv.gz", "utc", {}),
    ("csv", "local", {}),
    ("csv", "offset", {"has_run_ids": False, "has_hosts": False}),
    ("csv", "utc", {"is_camel_case": True, "is_lower_case": True}),
    ("ndjson.gz", "utc", {"is_precise": True}),
    ("csv", "local", {}),
    ("csv", "offset", {}),
    ("csv", "offset", {"is_precise": True}),
    ("csv.gz", "utc", {}),
)
_VERBS = ("extract", "validate", "post", "load", "summarize", "reconcile", "report", "archive")
_NOUNS = (
    "accounts", "balances", "interest", "fees", "statements", "transfers", "cheques", "positions", "trades",
    "rates", "limits", "collateral", "invoices", "settlements", "customers", "mandates", "standing-orders",
    "chargebacks", "authorisations", "exposures", "valuations", "dividends", "tax-lots", "journal",
    "branches", "atm-cash", "loan-schedules", "arrears", "provisions", "liquidity", "alerts", "cases",
)  # fmt: skip


def senders(applications: Iterable[tuple[str, str]], formats: Sequence[str]) -> dict[str, Sender]:
    """One sender per (application, zone), each with habits of its own; files only in `formats`."""
    made = {}
    for number, (application, zone) in enumerate(applications):
        form, stamp, habits = _STYLES[number % len(_STYLES)]
        chosen = form if form in formats else next(f for f in (*formats, "csv") if f != "parquet")
        made[application] = Sender(application, ZoneInfo(zone), chosen, stamp, **habits)
    return made


@dataclass(frozen=True, slots=True)
class BankCalendar:
    """A calendar: weekdays less the public holidays of a country, with dates put in and taken out."""

    id: str
    weekdays: tuple[int, ...]
    country: str = ""
    subdivision: str = ""
    include: tuple[date, ...] = ()
    exclude: tuple[date, ...] = ()

    def has(self, day: date) -> bool:
        """Whether `day` is one of its dates: exclude beats include beats holiday."""
        if day in self.exclude:
            return False
        if day in self.include:
            return True
        return day.weekday() in self.weekdays and day not in _holidays(
            self.country, self.subdivision, day.year
        )


@cache
def _holidays(country: str, subdivision: str, year: int) -> frozenset[date]:
    if not country:
        return frozenset()
    import holidays

    return frozenset(holidays.country_holidays(country, subdiv=subdivision or None, years=year))


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of an intraday promise; all in minutes."""

    every: int
    first: int
    last: int
    due_after: int
    tolerance: int


@dataclass(frozen=True, slots=True)
class BankSlo:
    """A promise of the bank: jobs with start and end in minutes after midnight of the business date."""

    slo_id: str
    name: str
    application: str
    calendar: BankCalendar
    zone: ZoneInfo
    objective: str
    warn_before: str
    entries: tuple[tuple[int, int, int], ...]
    windows: Windows | None = None
    effective_from: date | None = None

    @property
    def is_intraday(self) -> bool:
        """Whether it has windows."""
        return self.windows is not None

    @property
    def is_open_start(self) -> bool:
        """Whether it starts with the first status that is seen."""
        return self.effective_from is None

    @property
    def jobs(self) -> tuple[int, ...]:
        """Numbers of its jobs."""
        return tuple(job for job, _, _ in self.entries)

    def on(self, day: date) -> tuple[Due, ...]:
        """The promises of a business date."""
        if not self.calendar.has(day) or (self.effective_from is not None and day < self.effective_from):
            return ()
        opens = instant(day, 0, self.zone)
        if self.windows is None:
            due = tuple(
                DueJob(job, instant(day, start, self.zone), instant(day, end, self.zone))
                for job, start, end in self.entries
            )
            return (Due("00:00", opens, None, min(d.start for d in due), max(d.end for d in due), due),)
        made: list[Due] = []
        for minute in range(self.windows.first, self.windows.last + 1, self.windows.every):
            start = instant(day, minute, self.zone)
            end = start + self.windows.due_after * MINUTE
            claims = start - self.windows.tolerance * MINUTE if made else None
            jobs = tuple(DueJob(job, start, end) for job, _, _ in self.entries)
            made.append(Due(f"{minute // 60:02d}:{minute % 60:02d}", opens, claims, start, end, jobs))
        return tuple(made)


@dataclass(slots=True)
class Bank:
    """A whole bank."""

    applications: list[tuple[str, str, str]]
    calendars: list[BankCalendar]
    jobs: list[SimulatedJob]
    slos: list[BankSlo]


def business_calendar() -> BankCalendar:
    """Weekdays without the public holidays of the United States: the calendar that days are counted in."""
    return BankCalendar("business_days", WEEKDAYS, "US")


def make_bank(count: int, first: date, last: date, seed: int) -> Bank:
    """A bank of `count` jobs whose promises hold from `first` on.

    The first three jobs are the overdraft chain; then an intraday pair; then a chain each with a job that slows, is
    early, never reports, is late, or reports only success; then chains of one to five jobs until there are enough.
    There is about one SLO for two and a half jobs.
    """
    return _Builder(count, first, last, seed).build()


class _Builder:
    def __init__(self, count: int, first: date, last: date, seed: int) -> None:
        self.count, self.first, self.last = count, first, last
        self.rng = random.Random(f"{seed}/bank")
        # A bank of a dozen jobs has only the four applications of the overdraft chain.
        self.applications = list(_APPLICATIONS[: max(4, min(len(_APPLICATIONS), count // 4))])
        self.zones = {application: ZoneInfo(zone) for application, _, zone in self.applications}
        self.jobs: list[SimulatedJob] = []
        self.slos: list[BankSlo] = []
        self.ends: dict[ZoneInfo, list[tuple[int, int]]] = {}
        self.chains = 0
        odd_day = next(d for d in self._dates() if d.weekday() == 5)
        off_day = [d for d in self._dates() if business_calendar().has(d)][
            -1 - min(8, (last - first).days // 2)
        ]
        self.calendars = {
            c.id: c
            for c in (
                BankCalendar("every_day", EVERY_DAY),
                business_calendar(),
                BankCalendar("back_office_days", WEEKDAYS, "US", include=(odd_day,), exclude=(off_day,)),
                BankCalendar("london_days", WEEKDAYS, "GB", "ENG"),
                BankCalendar("rome_days", WEEKDAYS, "IT"),
                BankCalendar("singapore_days", WEEKDAYS, "SG"),
            )
        }

    def _dates(self) -> Iterable[date]:
        span = max(14, (self.last - self.first).days)
        return (self.first + timedelta(days=n) for n in range(span + 1))

    def build(self) -> Bank:
        self._overdrafts()
        self._intraday("deposits", "activity", 30)
        roles: tuple[Role, ...] = ("slowing", "early", "silent", "late", "succeed_only")
        for role in roles:
            self._chain(2 if role == "slowing" else 1, role)
        for number in range(min(3, self.count // 100)):
            self._intraday(
                self.applications[(4 + number) % len(self.applications)][0], f"flow-{number + 1}", 60
            )
        while len(self.jobs) < self.count:
            self._chain(self.rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 5)), "")
        return Bank(self.applications, list(self.calendars.values()), self.jobs, self.slos)

    def _job(
        self, application: str, job: str, upstreams: Sequence[int], median: float, role: Role = ""
    ) -> int | None:
        if len(self.jobs) >= self.count:
            return None
        self.jobs.append(SimulatedJob(application, job, tuple(upstreams), median, role=role))
        return len(self.jobs) - 1

    def _slo(
        self,
        slo_id: str,
        name: str,
        application: str,
        calendar: str,
        entries: Sequence[tuple[int, int, int]],
        *,
        windows: Windows | None = None,
        is_open_start: bool = False,
    ) -> None:
        self.slos.append(
            BankSlo(
                slo_id,
                name,
                application,
                self.calendars[calendar],
                self.zones[application],
                objective=self.rng.choice(("0.9", "0.95", "0.95", "0.99")),
                warn_before=self.rng.choice(("15m", "30m", "1h")),
                entries=tuple(entries),
                windows=windows,
                effective_from=None if is_open_start else self.first,
            )
        )

    def _overdrafts(self) -> None:
        charge = self._job("overdrafts", "charge-overdrafts", (), 105 * 60)
        if charge is None:
            return
        self._slo(
            "overdraft-charges",
            "Overdraft charges ready for decision support",
            "overdrafts",
            "every_day",
            [(charge, 1470, 1620)],
        )
        load = self._job("decision-support", "load-overdrafts", (charge,), 80 * 60)
        if load is None:
            return
        self._slo(
            "overdrafts-in-decision-support",
            "Overdrafts loaded into decision support",
            "decision-support",
            "business_days",
            [(load, 1620, 1740)],
            is_open_start=True,
        )
        report = self._job("reporting", "report-overdrafts", (load,), 110 * 60)
        if report is None:
            return
        self._slo(
            "overdraft-report",
            "Overdraft report for the back office",
            "reporting",
            "back_office_days",
            [(charge, 1470, 1620), (load, 1620, 1740), (report, 1740, 1920)],
        )

    def _intraday(self, application: str, subject: str, every: int) -> None:
        summarize = self._job(application, f"summarize-{subject}", (), 130)
        if summarize is None:
            return
        load = self._job(application, f"load-dashboards-{subject}", (summarize,), 90)
        entries = [(job, 0, 0) for job in (summarize, load) if job is not None]
        self._slo(
            f"{application}-{subject}",
            f"{subject.capitalize()} on the dashboards",
            application,
            "business_days",
            entries,
            windows=Windows(every, 360, 1080, 10, 5),
        )

    def _calendar(self, zone: ZoneInfo) -> str:
        local = {
            "Europe/London": "london_days",
            "Europe/Rome": "rome_days",
            "Asia/Singapore": "singapore_days",
        }
        return self.rng.choice(
            ("every_day", local.get(zone.key, "business_days"), local.get(zone.key, "back_office_days"))
        )

    def _chain(self, length: int, role: Role) -> None:
        """A chain in one application that ends, one time in three, in another of the same zone."""
        number = self.chains
        self.chains += 1
        application = self.applications[number % len(self.applications)][0]
        zone = self.zones[application]
        noun = _NOUNS[number % len(_NOUNS)] + (
            f"-{number // len(_NOUNS) + 1}" if number >= len(_NOUNS) else ""
        )
        minute = self.rng.choice((*range(1140, 1380, 15), *range(1440, 1590, 15)))
        upstream: list[int] = []
        joins = [entry for entry in self.ends.get(zone, ()) if entry[1] + 15 < minute + 120]
        if not role and joins and self.rng.random() < 0.3:
            upstream_job, ended = self.rng.choice(joins)
            upstream, minute = [upstream_job], max(minute, ended)
        verbs = sorted(self.rng.sample(range(len(_VERBS)), length))
        neighbours = [a for a, z in self.zones.items() if z == zone and a != application]
        entries: list[tuple[int, int, int]] = []
        for place, verb in enumerate(verbs):
            owner = application
            if place == length - 1 and length > 2 and neighbours and self.rng.random() < 0.35:
                owner = self.rng.choice(neighbours)
            usual = min(55.0, max(4.0, self.rng.lognormvariate(2.9, 0.6)))
            if role in ("slowing", "late", "early"):
                usual = 40.0
            job = self._job(owner, f"{_VERBS[verb]}-{noun}", upstream, usual * 60, role if place == 0 else "")
            if job is None:
                break
            usual_end = minute + usual + 1
            margin = 8 + 0.55 * usual
            if role == "early":
                margin = 110
            elif role == "late":
                margin = 1
            due = -int(-(usual_end + margin) // 5) * 5
            entries.append((job, minute, due))
            minute, upstream = int(usual_end + 0.15 * usual) + 1, [job]
        if not entries:
            return
        self.ends.setdefault(zone, []).append((entries[-1][0], entries[-1][2]))
        calendar = self._calendar(zone) if role != "silent" else "every_day"
        title = noun.replace("-", " ")
        is_open = not role and self.rng.random() < 0.15
        self._slo(
            f"{application}-{noun}",
            f"{title.capitalize()} ready",
            application,
            calendar,
            entries,
            is_open_start=is_open,
        )
        if len(entries) > 2 and self.rng.random() < 0.25:
            self._slo(
                f"{application}-{noun}-early",
                f"First part of {title} ready",
                application,
                calendar,
                entries[:2],
            )


def write_catalog(bank: Bank, folder: Path) -> list[Path]:
    """Write the catalog of a bank below `folder`, a folder per kind. Returns the files."""
    files: dict[str, list[str]] = {}
    lines = files.setdefault("applications/bank.yml", ["applications:"])
    for application, name, zone in bank.applications:
        lines += [
            f"  - id: {application}",
            f"    name: {name}",
            f"    timezone: {zone}",
            f"    owner: team:{application}",
        ]
        lines += [f"    senders: [scheduler-{application}]"]
    lines = files.setdefault("calendars/bank.yml", ["calendars:"])
    for calendar in bank.calendars:
        lines += [f"  - id: {calendar.id}"]
        lines += [f"    weekdays: [{', '.join(_DAY_NAMES[n] for n in calendar.weekdays)}]"]
        if calendar.country:
            subdivision = f"subdivision: {calendar.subdivision}, " if calendar.subdivision else ""
            lines += [f"    holidays: {{country: {calendar.country}, {subdivision}categories: [public]}}"]
        for key, dates in (("include", calendar.include), ("exclude", calendar.exclude)):
            if dates:
                lines += [f"    {key}: [{', '.join(d.isoformat() for d in dates)}]"]
    for job in bank.jobs:
        lines = files.setdefault(f"jobs/{job.application}.yml", ["jobs:"])
        lines += [f"  - id: {job.job}", f"    application: {job.application}"]
        upstreams = [_reference(bank.jobs[n], job.application) for n in job.upstreams]
        lines += [f"    depends_on: [{', '.join(upstreams)}]"]
    for slo in bank.slos:
        lines = files.setdefault(f"slos/{slo.application}.yml", ["slos:"])
        lines += [f"  - id: {slo.slo_id}", f"    name: {slo.name}", f"    application: {slo.application}"]
        lines += [
            f"    calendar: {slo.calendar.id}",
            f"    objective: {slo.objective}",
            f"    warn_before: {slo.warn_before}",
        ]
        if slo.effective_from is not None:
            lines += [f"    effective_from: {slo.effective_from.isoformat()}"]
        references = [_reference(bank.jobs[job], slo.application) for job in slo.jobs]
        if slo.windows is not None:
            w = slo.windows
            span = f'minutes: {w.every}, from: "{_clock(w.first)}", to: "{_clock(w.last)}"'
            lines += [f"    every: {{{span}, due_after: {w.due_after}m, early_tolerance: {w.tolerance}m}}"]
            lines += ["    jobs:", *(f"      - {{job: {reference}}}" for reference in references)]
            continue
        lines += ["    jobs:"]
        for reference, (_, start, end) in zip(references, slo.entries, strict=True):
            days = start // 1440
            offset = f", day_offset: {days}" if days else ""
            times = f'start: "{_clock(start - days * 1440)}", end: "{_clock(end - days * 1440)}"'
            lines += [f"      - {{job: {reference}, {times}{offset}}}"]
    written = []
    for name, text in sorted(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(text) + "\n", encoding="utf-8", newline="\n")
        written.append(path)
    return written


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _reference(job: SimulatedJob, application: str) -> str:
    return job.job if job.application == application else f"{job.application}/{job.job}"
