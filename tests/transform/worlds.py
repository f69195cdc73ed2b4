"""Generated catalogs and statuses: small, so that everything collides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from pipelines.catalog.load import load_catalog
from pipelines.catalog.resolve import resolve
from pipelines.slo.promises import Promise, PromiseJob, expand
from tests.oracle import Verdict, judge
from tests.transform.support import Documents, Row, Rows, Status

# Friday to Monday over the night in which New York's clocks go forward (8 March 2026).
FIRST, LAST = date(2026, 3, 6), date(2026, 3, 9)
ZONES = {"east": "America/New_York", "lion": "Asia/Singapore"}
MICROSECOND = timedelta(microseconds=1)
PROMISED_TIMES = [{"end": "03:00"}, {"start": "00:30", "end": "03:00"}, {"start": "02:30", "end": "26:00"}]


@dataclass(frozen=True)
class Promised:
    """A promise with the id of its SLO, as the oracle takes it."""

    slo_id: str
    promise: Promise

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
    statuses: tuple[Status, ...]
    moments: tuple[datetime, ...]


@st.composite
def worlds(draw: st.DrawFn, max_statuses: int = 24) -> World:
    """Two to five jobs of two zones in up to four SLOs; statuses at few instants, at which SLOs fall due too."""
    documents, jobs = draw(catalogs())
    instants = draw(st.lists(_instants(), min_size=2, max_size=8, unique=True))
    statuses = tuple(
        draw(
            st.lists(
                _statuses(jobs, instants),
                min_size=1,
                max_size=max_statuses,
                unique_by=lambda s: tuple(s.values()),
            )
        )
    )
    moments = draw(st.lists(st.one_of(st.sampled_from(instants), _instants()), min_size=2, max_size=6))
    return World(documents, statuses, tuple(sorted(moments)))


@st.composite
def catalogs(draw: st.DrawFn) -> tuple[Documents, list[tuple[str, str]]]:
    """A catalog, and its jobs as (application, job)."""
    jobs = [(draw(st.sampled_from(sorted(ZONES))), f"j{number}") for number in range(draw(st.integers(2, 5)))]
    entries = []
    for place, (application, job) in enumerate(jobs):
        upstream = draw(st.lists(st.sampled_from(jobs[:place]), max_size=2, unique=True)) if place else []
        entries.append(
            {"id": job, "application": application, "depends_on": ["/".join(key) for key in upstream]}
        )
    slos: list[dict[str, Any]] = [draw(_daily(jobs, "nightly", None))]
    if draw(st.booleans()):
        slos.append(draw(_daily(jobs, "since", draw(st.sampled_from([FIRST, FIRST + timedelta(days=1)])))))
    if draw(st.booleans()):
        slos.append(draw(_intraday(jobs)))
    if draw(st.booleans()):
        # Later entries replace the earlier ones from their date on.
        slos += [draw(_daily(jobs, "changing", since)) for since in (None, date(2026, 3, 8))]
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


@st.composite
def _daily(draw: st.DrawFn, jobs: list[tuple[str, str]], slo_id: str, since: date | None) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(jobs), min_size=1, max_size=3, unique=True))
    slo: dict[str, Any] = {
        "id": slo_id,
        "application": chosen[0][0],
        "calendar": draw(st.sampled_from(["every_day", "weekdays"])),
        "jobs": [
            {
                "job": "/".join(job),
                **draw(st.sampled_from(PROMISED_TIMES)),
                **draw(st.sampled_from([{}, {"day_offset": 1}])),
            }
            for job in chosen
        ],
    }
    if since is not None:
        slo["effective_from"] = since.isoformat()
    # A zone that is not that of the jobs: behind, ahead, and one that shifts its clocks by half an hour.
    zone = draw(st.sampled_from([None, "America/New_York", "Asia/Singapore", "Australia/Lord_Howe"]))
    return slo if zone is None else {**slo, "timezone": zone}


@st.composite
def _intraday(draw: st.DrawFn, jobs: list[tuple[str, str]]) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(jobs), min_size=1, max_size=2, unique=True))
    every: dict[str, Any] = {"minutes": 30, "from": "01:00", "to": "03:30", "due_after": "10m"}
    every |= draw(st.sampled_from([{}, {"early_tolerance": "5m"}]))
    every |= draw(st.sampled_from([{}, {"day_offset": 1}]))
    return {
        "id": "activity",
        "application": chosen[0][0],
        "calendar": "every_day",
        "every": every,
        "jobs": [{"job": "/".join(job)} for job in chosen],
    }


def _instants() -> st.SearchStrategy[datetime]:
    """Around due times and the begins of windows and dates in the zones that are used, to the microsecond."""
    local = st.builds(
        lambda day, minutes, zone: (
            datetime.combine(day, datetime.min.time(), ZoneInfo(zone)) + timedelta(minutes=minutes)
        ).astimezone(UTC),
        st.sampled_from([FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]),
        st.sampled_from([0, 30, 55, 60, 85, 90, 120, 150, 180, 190, 210]),
        st.sampled_from(["America/New_York", "Asia/Singapore", "Australia/Lord_Howe"]),
    )
    return st.builds(
        lambda instant, shift: instant + shift,
        local,
        st.sampled_from(
            [timedelta(), timedelta(), timedelta(), MICROSECOND, -MICROSECOND, timedelta(minutes=7)]
        ),
    )


@st.composite
def _statuses(draw: st.DrawFn, jobs: list[tuple[str, str]], instants: list[datetime]) -> Status:
    application, job = draw(
        st.sampled_from([*jobs, *jobs, *jobs, ("east", "unregistered"), ("nobody", "j0")])
    )
    status_at = draw(st.sampled_from(instants))
    zone = ZoneInfo(ZONES[application]) if application in ZONES else UTC
    return {
        "application_id": application,
        "job_id": job,
        "status_code": draw(st.sampled_from(["START", "SUCCEED", "FAIL"])),
        "status_at": status_at,
        # A status belongs to a date that has begun where its application is.
        "business_date": status_at.astimezone(zone).date() - timedelta(days=draw(st.integers(0, 2))),
        "run_id": draw(st.sampled_from([None, None, "r1", "r2", "R1", "é"])),
        "host_id": draw(st.sampled_from([None, "h1", "h2"])),
    }


def verdict(
    catalog: Path, statuses: Sequence[Status], as_of: datetime, known_at: datetime | None = None
) -> Verdict:
    """What the oracle says, of a catalog that has stood as it is from the beginning.

    It judges every entry of an SLO by itself: only one without `effective_from` waits for a first status.
    """
    parts = []
    loaded = load_catalog(catalog)
    for slo_id, entries in loaded.slos.items():
        for entry, following in zip(entries, [*entries[1:], None], strict=True):
            last = LAST + timedelta(days=3)
            if following is not None and following.effective_from is not None:
                last = following.effective_from - timedelta(days=1)
            promises = [
                Promised(slo_id, promise)
                for promise in expand(resolve(loaded, entry), FIRST - timedelta(days=7), last)
            ]
            open_start = {slo_id} if entry.effective_from is None else set()
            parts.append(judge(statuses, promises, as_of, known_at, open_start))
    return Verdict(
        slo_performance=[row for part in parts for row in part.slo_performance],
        job_run=judge(statuses, [], as_of, known_at).job_run,
        slo_job_run=[row for part in parts for row in part.slo_job_run],
    )


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
