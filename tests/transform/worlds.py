"""Generated catalogs and statuses: small, so that everything collides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from pipelines.catalog.models import Excepted
from pipelines.catalog.read import read_catalog
from pipelines.catalog.resolve import resolve
from pipelines.slo.promises import Promise, PromiseJob, expand
from tests.oracle import Exception_, Verdict, judge, with_causes
from tests.transform.support import Documents, Row, Rows, Status

# Saturday to Monday, over the night in which New York's clocks go forward (8 March 2026).
FIRST, LAST = date(2026, 3, 7), date(2026, 3, 9)
ZONES = {"east": "America/New_York", "lion": "Asia/Singapore"}
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
PROMISED_TIMES = [{"end": "03:00"}, {"start": "00:30", "end": "03:00"}, {"start": "02:30", "end": "26:00"}]


@dataclass(frozen=True)
class Promised:
    """A promise with the id of its SLO, as the oracle takes it."""

    slo_id: str
    promise: Promise
    application: str
    timezone: str

    @property
    def business_date(self) -> date:
        return self.promise.business_date

    @property
    def slot(self) -> str:
        return self.promise.slot

    @property
    def opens_at(self) -> datetime:
        return self.promise.opens_at

    @property
    def claims_from(self) -> datetime | None:
        return self.promise.claims_from

    @property
    def expected_start_at(self) -> datetime | None:
        return self.promise.expected_start_at

    @property
    def expected_end_at(self) -> datetime:
        return self.promise.expected_end_at

    @property
    def jobs(self) -> tuple[PromiseJob, ...]:
        return self.promise.jobs


@dataclass(frozen=True)
class World:
    """A catalog, the statuses of its jobs (and of some that it does not know), and moments of judging, in order."""

    documents: Documents
    """Its `exceptions` are those of the beginning."""
    exceptions: tuple[dict[str, Any], ...]
    """More of them, as they would stand in YAML."""
    statuses: tuple[Status, ...]
    moments: tuple[datetime, ...]


@st.composite
def worlds(draw: st.DrawFn, max_statuses: int = 24) -> World:
    """Two to five jobs of two zones in up to four SLOs; statuses at few instants, at which SLOs fall due too.

    A seed and sizes are drawn, and all else comes of them: few examples are then as different as many. Fewer statuses
    of one seed are the first of the more, so that an example that fails still shrinks.
    """
    seed = draw(st.integers(0, 2**32 - 1))
    documents, jobs = _catalog(Random(f"catalog {seed}"))
    chance = Random(f"statuses {seed}")
    instants = sorted({_instant(chance) for _ in range(chance.randint(5, 9))})
    count = draw(st.integers(10, max_statuses))
    statuses = tuple(_status(chance, jobs, instants) for _ in range(count))
    chance = Random(f"moments {seed}")
    moments = [chance.choice([*instants, _instant(chance)]) for _ in range(draw(st.integers(3, 6)))]
    chance = Random(f"exceptions {seed}")
    pool = [_exception(chance, documents["slos"], number) for number in range(4)]
    # JSON is compared by content: of two alike one is an error.
    exceptions = tuple({json.dumps(one): one for one in pool}.values())
    documents = {**documents, "exceptions": chance.sample(exceptions, chance.choice([0, 0, 1, 2]))}
    return World(documents, exceptions, statuses, tuple(sorted(moments)))


def _exception(chance: Random, slos: Sequence[Mapping[str, Any]], number: int) -> dict[str, Any]:
    """Over a date or several, of an SLO or all of an application: waived, or due later on its day or the next."""
    slo = chance.choice(slos)
    first = FIRST + DAY * chance.randint(-1, (LAST - FIRST).days)
    one: dict[str, Any] = {"from": first.isoformat(), "reason": f"reason {number}"}
    if chance.random() < 0.3:
        one["application"] = slo["application"]
    else:
        one["slo"] = slo["id"]
        if "every" in slo and chance.random() < 0.5:
            one["slot"] = chance.choice(["01:00", "02:30", "03:00"])
    if chance.random() < 0.5:
        one["to"] = (first + DAY * chance.choice([0, 1, 3])).isoformat()
    if chance.random() < 0.3:
        one["by"] = "team:bank"
    # No time of the day is later than 24:00, and 02:30 does not come on one of the dates.
    due = chance.choice([None, "none", "24:00", "26:30", "30:00"])
    return one if due is None else {**one, "due": due}


def _catalog(chance: Random) -> tuple[Documents, list[tuple[str, str]]]:
    """A catalog, and its jobs as (application, job)."""
    jobs = [(chance.choice(sorted(ZONES)), f"j{number}") for number in range(chance.choice([2, 2, 3, 5]))]
    entries = []
    for place, (application, job) in enumerate(jobs):
        upstream = chance.sample(jobs[:place], chance.randint(0, min(place, 2)))
        entries.append(
            {"id": job, "application": application, "depends_on": ["/".join(key) for key in upstream]}
        )
    slos = [_daily(chance, jobs, "nightly", None)]
    if chance.random() < 0.7:
        slos.append(_daily(chance, jobs, "since", chance.choice([FIRST - DAY, FIRST, LAST - DAY])))
    if chance.random() < 0.5:
        slos.append(_intraday(chance, jobs))
    if chance.random() < 0.5:
        # Later entries replace the earlier ones from their date on.
        slos += [_daily(chance, jobs, "changing", since) for since in (None, LAST - DAY)]
    documents: Documents = {
        "applications": [{"id": name, "timezone": zone} for name, zone in ZONES.items()],
        "calendars": [
            {"id": "every_day", "weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]},
            {"id": "weekdays", "weekdays": ["mon", "tue", "wed", "thu", "fri"], "include": ["2026-03-07"]},
        ],
        "jobs": entries,
        "slos": slos,
    }
    return documents, jobs


def _daily(chance: Random, jobs: list[tuple[str, str]], slo_id: str, since: date | None) -> dict[str, Any]:
    chosen = chance.sample(jobs, chance.randint(1, min(3, len(jobs))))
    slo: dict[str, Any] = {
        "id": slo_id,
        "application": chosen[0][0],
        "calendar": chance.choice(["every_day", "every_day", "weekdays"]),
        "jobs": [
            {"job": "/".join(job), **chance.choice(PROMISED_TIMES), "day_offset": chance.choice([0, 0, 1])}
            for job in chosen
        ],
    }
    if since is not None:
        slo["effective_from"] = since.isoformat()
    if chance.random() < 0.3:
        slo["gives_up_after"] = chance.choice(["30m", "6h", "2d"])
    # A zone that is not that of the jobs: behind, ahead, and one that shifts its clocks by half an hour.
    zone = chance.choice([None, "America/New_York", "Asia/Singapore", "Australia/Lord_Howe"])
    return slo if zone is None else {**slo, "timezone": zone}


def _intraday(chance: Random, jobs: list[tuple[str, str]]) -> dict[str, Any]:
    chosen = chance.sample(jobs, chance.randint(1, 2))
    every = {
        "minutes": 30,
        "from": "01:00",
        "to": "03:30",
        "due_after": "10m",
        "early_tolerance": chance.choice(["0m", "5m"]),
        "day_offset": chance.choice([0, 0, 1]),
    }
    return {
        "id": "activity",
        "application": chosen[0][0],
        "calendar": "every_day",
        "every": every,
        "jobs": [{"job": "/".join(job)} for job in chosen],
    }


def _instant(chance: Random) -> datetime:
    """Around due times and the begins of windows and dates in the zones that are used, to the microsecond."""
    day = FIRST + DAY * chance.randint(0, (LAST - FIRST).days)
    zone = ZoneInfo(
        chance.choice(["America/New_York", "America/New_York", "Asia/Singapore", "Australia/Lord_Howe"])
    )
    minutes = chance.choice([0, 30, 55, 60, 85, 90, 120, 150, 180, 190, 210])
    local = datetime.combine(day, time.min, zone) + timedelta(minutes=minutes)
    shift = chance.choice([timedelta()] * 3 + [MICROSECOND, -MICROSECOND, timedelta(minutes=7)])
    return local.astimezone(UTC) + shift


def _status(chance: Random, jobs: list[tuple[str, str]], instants: list[datetime]) -> Status:
    application, job = chance.choice([*jobs * 5, ("east", "unregistered"), ("nobody", "j0")])
    status_at = chance.choice(instants)
    zone = ZoneInfo(ZONES[application]) if application in ZONES else UTC
    return {
        "application_id": application,
        "job_id": job,
        "status_code": chance.choice(["START", "SUCCEED", "SUCCEED", "FAIL"]),
        "status_at": status_at,
        # A status belongs to a date that has begun where its application is.
        # Now and then it lies about as far from the others as opens an SLO, or does not.
        "business_date": status_at.astimezone(zone).date()
        - DAY * chance.choice([*[0, 0, 1, 1, 2] * 4, 44, 45, 46, 90]),
        "run_id": chance.choice([None, None, "r1", "r2", "R1", "é"]),
        "host_id": chance.choice([None, "h1", "h2"]),
    }


def verdict(
    catalog: Path,
    statuses: Sequence[Status],
    as_of: datetime,
    known_at: datetime | None = None,
    waived: Sequence[Excepted] = (),
) -> Verdict:
    """What the oracle says, of a catalog that has stood as it is from the beginning.

    It judges every entry of an SLO by itself: only one without `effective_from` waits for a first status. Statuses that
    do not say when they were received were so just now. `waived`: exceptions besides those of the files.
    """
    now = datetime.now(UTC)
    statuses = [{"received_at": now, **status} for status in statuses]
    parts = []
    loaded = read_catalog(catalog)
    exceptions = [
        Exception_(one.slo, one.application, one.from_, one.to or one.from_, one.slot, one.due_minutes)
        for one in (*loaded.exceptions, *waived)
    ]
    for slo_id, entries in loaded.slos.items():
        for entry, following in zip(entries, [*entries[1:], None], strict=True):
            last = LAST + timedelta(days=3)
            if following is not None and following.effective_from is not None:
                last = following.effective_from - timedelta(days=1)
            spec = resolve(loaded, entry)
            by_calendar = list(expand(spec, FIRST - timedelta(days=100), LAST + timedelta(days=20)))
            promises = [
                Promised(slo_id, promise, entry.application, spec.timezone)
                for promise in by_calendar
                if promise.business_date <= last
            ]
            open_start = {slo_id} if entry.effective_from is None else set()
            gives_up = {} if entry.gives_up_after is None else {slo_id: entry.gives_up_after}
            dues = {slo_id: [(one.business_date, one.expected_end_at) for one in by_calendar]}
            parts.append(judge(statuses, promises, as_of, known_at, open_start, exceptions, gives_up, dues))
    judged = Verdict(
        slo_performance=[row for part in parts for row in part.slo_performance],
        job_run=judge(statuses, [], as_of, known_at).job_run,
        slo_job_run=[row for part in parts for row in part.slo_job_run],
        jobs={key: jobs for part in parts for key, jobs in part.jobs.items()},
    )
    return with_causes(judged, loaded.upstream)


def assert_as_judged(marts: Rows, judged: Verdict) -> None:
    """Every column that the oracle knows, of every row."""
    for name in ("job_run", "slo_job_run", "slo_performance"):
        assert_same(marts[name], getattr(judged, name))


def assert_same(found: Iterable[Row], expected: Sequence[Row]) -> None:
    """The same rows in any order, by the columns of those expected."""
    columns = list(expected[0]) if expected else []
    assert _sorted({name: row[name] for name in columns} for row in found) == _sorted(expected)


def _sorted(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: tuple(str(value) for value in row.values()))
