"""What every occurrence is, in plain Python after the words of the specification, for obviousness and not for speed.

It shares nothing with the product: no SQL, no pandas, none of our modules. Where the two differ, one is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

Status = Mapping[str, Any]
"""application_id, job_id, status_code, status_at (aware), business_date, run_id or None, host_id or None, and
received_at (aware); without it a status was received in another age, and `known_at` cannot be asked."""
Row = dict[str, Any]
JobKey = tuple[str, str]
Key = tuple[str, date, str]
"""SLO, business date, slot."""


class PromisedJob(Protocol):
    """One job of a promise."""

    @property
    def application(self) -> str: ...
    @property
    def job(self) -> str: ...
    @property
    def expected_start_at(self) -> datetime | None: ...
    @property
    def expected_end_at(self) -> datetime: ...
    @property
    def upstream_rank(self) -> int: ...


class Promised(Protocol):
    """One promise: an occurrence to be."""

    @property
    def slo_id(self) -> str: ...
    @property
    def business_date(self) -> date: ...
    @property
    def slot(self) -> str: ...
    @property
    def application(self) -> str: ...
    @property
    def timezone(self) -> str: ...
    @property
    def opens_at(self) -> datetime: ...
    @property
    def claims_from(self) -> datetime | None: ...
    @property
    def expected_start_at(self) -> datetime | None: ...
    @property
    def expected_end_at(self) -> datetime: ...
    @property
    def jobs(self) -> Sequence[PromisedJob]: ...


@dataclass(frozen=True)
class Exception_:  # noqa: N801 # Python has the name
    """Of an SLO, or of an application: dates and perhaps one slot; `due` in minutes after midnight, None: waived.

    `loaded_at`: what was known before it does not have it; None: from the beginning.
    """

    slo: str | None
    application: str | None
    first: date
    last: date
    slot: str | None
    due: int | None
    reason: str = ""
    by: str | None = None
    loaded_at: datetime | None = None


@dataclass(frozen=True)
class Verdict:
    """The rows of the three marts, each ordered by its key."""

    slo_performance: list[Row]
    job_run: list[Row]
    slo_job_run: list[Row]
    jobs: Mapping[Key, Sequence[JobVerdict]] = field(default_factory=dict)
    """How the jobs of each occurrence stand."""


@dataclass(frozen=True)
class Run:
    """The statuses of one run, in order."""

    key: str
    run_id: str | None
    statuses: tuple[Status, ...]

    @property
    def first_status_at(self) -> datetime:
        at: datetime = self.statuses[0]["status_at"]
        return at


# “at one instant: START, then FAIL, then SUCCEED”
RANK = {"START": 0, "FAIL": 1, "SUCCEED": 2}


def judge(
    statuses: Iterable[Status],
    promises: Iterable[Promised],
    as_of: datetime,
    known_at: datetime | None = None,
    open_start: Collection[str] = (),
    exceptions: Sequence[Exception_] = (),
    gives_up_after: Mapping[str, timedelta] | None = None,
    later_dues: Mapping[str, Sequence[tuple[date, datetime]]] | None = None,
) -> Verdict:
    """Judge all occurrences as of `as_of`, by what was known at `known_at` (default: everything).

    Args:
        statuses: Raw statuses, copies and all, in any order.
        promises: The promises that stand; of an SLO in `open_start` also those before it started.
        as_of: The moment of judging.
        known_at: What was received later is hidden.
        open_start: The SLOs whose first version has no `effective_from`.
        exceptions: What waives an occurrence, or puts it off.
        gives_up_after: By SLO, where it says so itself.
        later_dues: By SLO (business date, due time) of what is due by its calendar; default: the promises.
    """
    exceptions = [
        one for one in exceptions if known_at is None or one.loaded_at is None or one.loaded_at <= known_at
    ]
    statuses = list(statuses)
    visible = _visible(statuses, as_of, known_at)
    by_job_date: dict[tuple[JobKey, date], list[Status]] = {}
    for status in visible:
        job = (status["application_id"], status["job_id"])
        by_job_date.setdefault((job, status["business_date"]), []).append(status)
    runs = {key: _runs(found) for key, found in by_job_date.items()}

    received: dict[tuple[JobKey, date], datetime] = {}
    for status in _copies(statuses, as_of, known_at):
        key = ((status["application_id"], status["job_id"]), status["business_date"])
        if status.get("received_at") is not None:
            received[key] = min(received.get(key, status["received_at"]), status["received_at"])

    by_slo: dict[str, list[Promised]] = {}
    for promise in promises:
        by_slo.setdefault(promise.slo_id, []).append(promise)

    performance: list[Row] = []
    jobs: dict[Key, Sequence[JobVerdict]] = {}
    bridge: list[Row] = []
    for slo_id, promised in by_slo.items():
        jobs_of_slo = {(job.application, job.job) for promise in promised for job in promise.jobs}
        start = _start(runs, received, jobs_of_slo) if slo_id in open_start else date.min
        dues = (later_dues or {}).get(slo_id) or [
            (one.business_date, one.expected_end_at) for one in promised
        ]
        for business_date in sorted({promise.business_date for promise in promised}):
            if start is None or business_date < start:
                continue
            windows = [promise for promise in promised if promise.business_date == business_date]
            jobs_of_date = {(job.application, job.job) for promise in windows for job in promise.jobs}
            is_seen = any((job, business_date) in runs for job in jobs_of_date)
            for promise in windows:
                # It exists from the start of its business date in its SLO's zone, or as soon as one of its jobs has a
                # status for that business date; all windows of a date come together.
                if promise.opens_at > as_of and not is_seen:
                    continue
                runs_of_jobs = {
                    (job.application, job.job): [
                        run
                        for run in runs.get(((job.application, job.job), business_date), [])
                        if window_of(run, windows) is promise
                    ]
                    for job in promise.jobs
                }
                covering = [one for one in exceptions if _covers(one, promise)]
                due = _put_off(promise, covering)
                gives_up_at = _gives_up_at(promise, due, (gives_up_after or {}).get(slo_id), dues)
                is_waived = any(one.due is None for one in covering)
                stands = [_job(job, runs_of_jobs[job.application, job.job]) for job in promise.jobs]
                jobs[slo_id, business_date, promise.slot] = stands
                performance.append(_occurrence(promise, stands, as_of, due, gives_up_at, is_waived=is_waived))
                bridge += [
                    {
                        "slo_id": slo_id,
                        "business_date": business_date,
                        "slot": promise.slot,
                        "application_id": application,
                        "job_id": job_id,
                        "run_key": run.key,
                    }
                    for (application, job_id), found in runs_of_jobs.items()
                    for run in found
                ]

    job_runs = [
        row
        for ((application, job_id), business_date), found in runs.items()
        for row in _job_runs(application, job_id, business_date, found)
    ]
    return Verdict(
        sorted(performance, key=lambda r: (r["slo_id"], r["business_date"], r["slot"])),
        sorted(job_runs, key=lambda r: (r["application_id"], r["job_id"], r["business_date"], r["run_key"])),
        sorted(
            bridge,
            key=lambda r: (
                r["slo_id"], r["business_date"], r["slot"], r["application_id"], r["job_id"], r["run_key"]
            ),
        ),
        jobs,
    )  # fmt: skip


def _covers(one: Exception_, promise: Promised) -> bool:
    is_of_it = promise.slo_id == one.slo if one.slo is not None else promise.application == one.application
    is_of_slot = one.slot is None or one.slot == promise.slot
    return is_of_it and is_of_slot and one.first <= promise.business_date <= one.last


def _put_off(promise: Promised, covering: Sequence[Exception_]) -> datetime:
    """When it is due: as promised, or later by an exception; the latest counts. A waived one is as promised."""
    due = promise.expected_end_at
    if any(one.due is None for one in covering):
        return due
    zone = ZoneInfo(promise.timezone)
    for one in covering:
        # The time is of the local date on which it is due.
        day = promise.expected_end_at.astimezone(zone).date()
        local = datetime.combine(day, time.min, zone) + timedelta(minutes=one.due or 0)
        due = max(due, local.astimezone(UTC))
    return due


def _gives_up_at(
    promise: Promised, due: datetime, after: timedelta | None, dues: Sequence[tuple[date, datetime]]
) -> datetime:
    # “gives_up_after (duration, …)”
    if after is not None:
        return due + after
    # “when the first occurrence of its SLO's next business date falls due, at most 7 days after the due time”
    latest = due + timedelta(days=7)
    for day in sorted({day for day, _ in dues if day > promise.business_date}):
        first = min(moment for date_, moment in dues if date_ == day)
        # One that falls due before this one, or with it, ends nothing.
        if first > promise.expected_end_at:
            return min(first, latest) if first > due else latest
    return latest


def _start(
    dates: Iterable[tuple[JobKey, date]],
    received: Mapping[tuple[JobKey, date], datetime],
    jobs: Collection[JobKey],
) -> date | None:
    """From which business date on an SLO without effective_from is promised; None: nothing is."""
    # A date that has a status of its jobs, in its calendar or not
    seen = sorted({business_date for job, business_date in dates if job in jobs})
    near = timedelta(days=45)
    for business_date in seen:
        # “only when another one lies within 45 days after it”
        if any(business_date < other <= business_date + near for other in seen):
            return business_date
        # “or its first status was received within 45 days of it”
        receipts = [at for (job, day), at in received.items() if day == business_date and job in jobs]
        if receipts and abs(min(receipts).astimezone(UTC).date() - business_date) <= near:
            return business_date
    return None


def _copies(statuses: Iterable[Status], as_of: datetime, known_at: datetime | None) -> Iterator[Status]:
    """The statuses that are seen, copies and all."""
    for status in statuses:
        # “as_of is the moment of judging: a status after it is not seen”
        if status["status_at"] > as_of:
            continue
        # “known_at hides what we received later”
        if known_at is not None and status["received_at"] > known_at:
            continue
        yield status


def _visible(statuses: Iterable[Status], as_of: datetime, known_at: datetime | None) -> list[Status]:
    """The statuses that count, one for each identity."""
    copies: dict[tuple[Any, ...], list[Status]] = {}
    for status in _copies(statuses, as_of, known_at):
        # “The identity of a status is (application_id, job_id, status_code, status_at, business_date)”
        identity = tuple(
            status[name] for name in ("application_id", "job_id", "status_code", "status_at", "business_date")
        )
        copies.setdefault(identity, []).append(status)
    # “Of copies of one identity the least (run_id, host_id) in code-point order, nulls last, among those visible”
    return [min(found, key=_copy_order) for found in copies.values()]


def _copy_order(status: Status) -> tuple[Any, ...]:
    run_id, host_id = status.get("run_id"), status.get("host_id")
    return (run_id is None, run_id or "", host_id is None, host_id or "")


def _in_order(statuses: Iterable[Status]) -> list[Status]:
    return sorted(statuses, key=lambda status: (status["status_at"], RANK[status["status_code"]]))


def _runs(statuses: Sequence[Status]) -> list[Run]:
    """The runs among all statuses of one job for one business date."""
    runs = []
    # All statuses with one run id are one run.
    for run_id in {status["run_id"] for status in statuses if status.get("run_id") is not None}:
        own = _in_order(status for status in statuses if status.get("run_id") == run_id)
        runs.append(Run(run_id, run_id, tuple(own)))
    # “statuses without a run_id make runs by themselves, each START opening one that lasts to the next START”;
    # “a FAIL or SUCCEED at the instant of a START closes the run open before; they never join a run that has an
    # id”
    nameless = sorted(
        (status for status in statuses if status.get("run_id") is None),
        key=lambda status: (status["status_at"], status["status_code"] == "START"),
    )
    parts: list[list[Status]] = [[]]
    for status in nameless:
        if status["status_code"] == "START":
            parts.append([])
        parts[-1].append(status)
    # '~0' are those before the first START, if any.
    runs += [Run(f"~{number}", None, tuple(_in_order(part))) for number, part in enumerate(parts) if part]
    return runs


def window_of(run: Run, windows: Sequence[Promised]) -> Promised:
    """The one of the windows of a business date that a run belongs to; a daily promise is its only window."""
    # “Each run belongs to the last window begun at its first status (less the tolerance), earlier than the first: to
    # the first”
    in_turn = sorted(
        windows, key=lambda window: (window.claims_from is not None, window.claims_from or window.opens_at)
    )
    found = in_turn[0]
    for window in in_turn:
        if window.claims_from is not None and window.claims_from <= run.first_status_at:
            found = window
    return found


@dataclass(frozen=True)
class JobVerdict:
    promised: PromisedJob
    statuses: list[Status]
    started_at: datetime | None
    ended_at: datetime | None
    failed_at: datetime | None
    has_failed: bool
    revisions: int


def _job(promised: PromisedJob, runs: Sequence[Run]) -> JobVerdict:
    """How one job of an occurrence stands, over all its statuses."""
    statuses = _in_order(status for run in runs for status in run.statuses)
    successes = [status["status_at"] for status in statuses if status["status_code"] == "SUCCEED"]
    # “complete when any of them is SUCCEED; ended = the status_at of the first SUCCEED”
    ended_at = min(successes, default=None)
    # “started = the earliest START not after the first SUCCEED”; “a SUCCEED without a START: complete, with no
    # start”
    starts = [
        status["status_at"]
        for status in statuses
        if status["status_code"] == "START" and (ended_at is None or status["status_at"] <= ended_at)
    ]
    # “before that, the job is failed when the last of its statuses is FAIL”
    has_failed = ended_at is None and bool(statuses) and statuses[-1]["status_code"] == "FAIL"
    # “What comes after the first SUCCEED is a revision: it is counted”
    revisions = 0 if ended_at is None else sum(status["status_at"] > ended_at for status in statuses)
    # “a FAIL before its first SUCCEED”
    fails = [
        status["status_at"]
        for status in statuses
        if status["status_code"] == "FAIL" and (ended_at is None or status["status_at"] <= ended_at)
    ]
    return JobVerdict(
        promised,
        statuses,
        min(starts, default=None),
        ended_at,
        min(fails, default=None),
        has_failed,
        revisions,
    )


def _occurrence(
    promise: Promised,
    jobs: Sequence[JobVerdict],
    as_of: datetime,
    due: datetime,
    gives_up_at: datetime,
    *,
    is_waived: bool,
) -> Row:
    statuses = _in_order(status for job in jobs for status in job.statuses)
    is_complete = all(job.ended_at is not None for job in jobs)
    # “actual_start_at = earliest started, null if none”
    actual_start_at = min((job.started_at for job in jobs if job.started_at is not None), default=None)
    # “actual_end_at = latest ended, null while any job is not complete”
    ends = [job.ended_at for job in jobs if job.ended_at is not None]
    actual_end_at = max(ends) if is_complete else None

    if is_complete:
        progress = "complete"
    elif any(job.has_failed for job in jobs):
        progress = "failed"
    elif statuses:
        progress = "running"
    else:
        progress = "pending"

    # “the outcome stays not_due whatever happened, late_by null, progress tells the truth”
    if is_waived:
        outcome = "not_due"
    elif actual_end_at is not None:
        outcome = "on_time" if actual_end_at <= due else "late"
    # “Overdue becomes missed when as_of is later than that instant”
    elif as_of > gives_up_at:
        outcome = "missed"
    else:
        outcome = "overdue" if as_of > due else "not_due"

    successes = [status["status_at"] for status in statuses if status["status_code"] == "SUCCEED"]
    return {
        "slo_id": promise.slo_id,
        "business_date": promise.business_date,
        "slot": promise.slot,
        "expected_start_at": promise.expected_start_at,
        "expected_end_at": due,
        "gives_up_at": gives_up_at,
        "is_waived": is_waived,
        "actual_start_at": actual_start_at,
        "actual_end_at": actual_end_at,
        "progress": progress,
        "outcome": outcome,
        # “late_by is stored for complete occurrences and null otherwise”
        "late_by": None if actual_end_at is None or is_waived else actual_end_at - due,
        "revisions": sum(job.revisions for job in jobs),
        "last_success_at": max(successes, default=None),
        "last_status": statuses[-1]["status_code"] if statuses else None,
        "blocking_job": _blocking(jobs),
    }


def _blocking(jobs: Sequence[JobVerdict]) -> str:
    """The job to blame: the incomplete one, or the last to end."""

    def blame(job: JobVerdict) -> tuple[Any, ...]:
        # “incomplete, with the latest expected end, most upstream, then id”; of complete ones the last to end
        latest = job.promised.expected_end_at if job.ended_at is None else job.ended_at
        return (
            job.ended_at is not None,
            -latest.timestamp(),
            job.promised.upstream_rank,
            job.promised.application,
            job.promised.job,
        )

    worst = min(jobs, key=blame).promised
    return f"{worst.application}/{worst.job}"


def _job_runs(application: str, job_id: str, business_date: date, runs: Sequence[Run]) -> list[Row]:
    """A row for each run of one job for one business date."""
    in_turn = sorted(
        runs, key=lambda run: (run.first_status_at, run.run_id is None, run.run_id or "", run.key)
    )
    rows = []
    for attempt, run in enumerate(in_turn, start=1):
        ends = [status["status_at"] for status in run.statuses if status["status_code"] == "SUCCEED"]
        last = run.statuses[-1]
        # The first SUCCEED, else the last FAIL when nothing came after it.
        if ends:
            ended_at = min(ends)
        elif last["status_code"] == "FAIL":
            ended_at = last["status_at"]
        else:
            ended_at = None
        starts = [
            status["status_at"]
            for status in run.statuses
            if status["status_code"] == "START" and (not ends or status["status_at"] <= min(ends))
        ]
        started_at = min(starts, default=None)
        hosts = [status["host_id"] for status in run.statuses if status.get("host_id") is not None]
        rows.append(
            {
                "application_id": application,
                "job_id": job_id,
                "business_date": business_date,
                "run_key": run.key,
                "run_id": run.run_id,
                "started_at": started_at,
                "ended_at": ended_at,
                "duration": None if started_at is None or ended_at is None else ended_at - started_at,
                "final_status": "SUCCEED" if ends else last["status_code"],
                "host_id": hosts[-1] if hosts else None,
                "first_status_at": run.first_status_at,
                "attempt": attempt,
            }
        )
    return rows


@dataclass(frozen=True)
class _Stand:
    """How a job stood on a date: by a promise of an SLO, or by its runs alone."""

    job: JobKey
    business_date: date
    occurrence: tuple[str, str] | None
    """SLO and slot."""
    expected_start_at: datetime | None
    expected_end_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    failed_at: datetime | None
    is_heard: bool


@dataclass(frozen=True)
class _Needed:
    """A job that was late, and the instant by which it was needed: its own start, or that of what comes after it."""

    stand: _Stand
    at: datetime


def with_causes(verdict: Verdict, depends_on: Mapping[JobKey, Collection[JobKey]]) -> Verdict:
    """The verdict with what made each row late; `depends_on`: whom each job waits for."""
    graph = _Graph(verdict, depends_on)
    rows = []
    for row in verdict.slo_performance:
        cause: Row = dict.fromkeys(("cause_job", "cause_business_date", "cause_kind"))
        if row["outcome"] in {"late", "overdue", "missed"}:
            own = verdict.jobs[row["slo_id"], row["business_date"], row["slot"]]
            stand = graph.cause(row, own)
            is_own = stand.job in {(job.promised.application, job.promised.job) for job in own}
            cause = {
                "cause_job": "/".join(stand.job),
                "cause_business_date": stand.business_date,
                "cause_kind": _why(stand) if is_own else "late_upstream",
            }
        rows.append({**row, **cause})
    return replace(verdict, slo_performance=rows)


def _why(stand: _Stand) -> str:
    if stand.failed_at is not None:
        return "failure"
    if not stand.is_heard:
        return "never_started"
    began, due = stand.started_at, stand.expected_end_at
    expected = stand.expected_start_at or due
    if began is not None and expected is not None and due is not None and began > expected:
        promised = due - expected
        beyond = promised / 2 if stand.ended_at is None else (stand.ended_at - began) - promised
        if began - expected >= beyond:
            return "late_start"
    return "long_run"


class _Graph:
    def __init__(self, verdict: Verdict, depends_on: Mapping[JobKey, Collection[JobKey]]) -> None:
        self.depends_on = depends_on
        self.promised: dict[JobKey, list[_Stand]] = {}
        for (slo_id, business_date, slot), jobs in verdict.jobs.items():
            for job in jobs:
                stand = _promised_stand(job, business_date, (slo_id, slot))
                self.promised.setdefault(stand.job, []).append(stand)
        self.ran: dict[JobKey, dict[date, list[Row]]] = {}
        for run in verdict.job_run:
            dates = self.ran.setdefault((run["application_id"], run["job_id"]), {})
            dates.setdefault(run["business_date"], []).append(run)

    def cause(self, row: Row, own: Sequence[JobVerdict]) -> _Stand:
        """From the blocking job upstream, as far as one waited for another that was not there."""
        (blocking,) = (
            job for job in own if f"{job.promised.application}/{job.promised.job}" == row["blocking_job"]
        )
        late = _needed(_promised_stand(blocking, row["business_date"], (row["slo_id"], row["slot"])), None)
        while found := list(self._held_up_by(late, late.stand.job)):
            late = min(found, key=self._blame)
        return late.stand

    def _blame(self, one: _Needed) -> tuple[Any, ...]:
        # “the one that was there last (none yet = last of all), then most upstream, then id”
        ended = one.stand.ended_at
        return (
            ended is not None,
            -ended.timestamp() if ended else 0,
            self._rank(one.stand.job),
            one.stand.job,
        )

    def _rank(self, job: JobKey) -> int:
        return max((self._rank(up) + 1 for up in self.depends_on.get(job, ())), default=0)

    def _held_up_by(self, late: _Needed, job: JobKey) -> Iterator[_Needed]:
        """What `late` waited for, of what `job` depends on: itself, or one that nothing is known of."""
        day = late.stand.business_date
        for upstream in self.depends_on.get(job, ()):
            promised = [one for one in self.promised.get(upstream, []) if one.business_date <= day]
            ran = [other for other in self.ran.get(upstream, {}) if other <= day]
            latest = max([*(one.business_date for one in promised), *ran], default=None)
            if latest is not None:
                of_date = [one for one in promised if one.business_date == latest]
                stand = self._of_slots(of_date, late) if of_date else self._ran(upstream, latest)
                if _waited(late.stand, stand, late.at):
                    yield _needed(stand, late.at)
            if not promised and latest != day:
                yield from self._held_up_by(late, upstream)

    def _of_slots(self, stands: Sequence[_Stand], late: _Needed) -> _Stand:
        # “of an intraday upstream the last slot due by the downstream's expected start, else its last”
        for one in stands:
            if one.occurrence == late.stand.occurrence:
                return one
        in_turn = sorted(stands, key=lambda one: (-_due(one).timestamp(), one.occurrence or ()))
        return next((one for one in in_turn if _due(one) <= late.at), in_turn[0])

    def _ran(self, job: JobKey, day: date) -> _Stand:
        runs = self.ran[job][day]
        ended = min((run["ended_at"] for run in runs if run["final_status"] == "SUCCEED"), default=None)
        started = min((run["started_at"] for run in runs if run["started_at"] is not None), default=None)
        failed = min((run["ended_at"] for run in runs if run["final_status"] == "FAIL"), default=None)
        if ended is not None:
            started = started if started is not None and started <= ended else None
            failed = failed if failed is not None and failed <= ended else None
        return _Stand(job, day, None, None, None, started, ended, failed, is_heard=True)


def _promised_stand(job: JobVerdict, business_date: date, occurrence: tuple[str, str]) -> _Stand:
    promised = job.promised
    return _Stand(
        (promised.application, promised.job), business_date, occurrence, promised.expected_start_at,
        promised.expected_end_at, job.started_at, job.ended_at, job.failed_at, bool(job.statuses),
    )  # fmt: skip


def _needed(stand: _Stand, after: datetime | None) -> _Needed:
    at = stand.expected_start_at or stand.expected_end_at or after
    assert at is not None
    return _Needed(stand, at)


def _due(stand: _Stand) -> datetime:
    assert stand.expected_end_at is not None
    return stand.expected_end_at


def _waited(late: _Stand, upstream: _Stand, needed_at: datetime) -> bool:
    # “it was not there when the downstream job was expected to start”, nor when it had promised to be
    promised = [at for at in (late.expected_start_at, upstream.expected_end_at) if at is not None]
    is_there = upstream.ended_at is not None and upstream.ended_at <= max(promised, default=needed_at)
    # “and that delayed the downstream (it had not started before the upstream was there)”
    began = late.started_at or late.ended_at
    has_waited = began is None or (upstream.ended_at is not None and began >= upstream.ended_at)
    return not is_there and has_waited
