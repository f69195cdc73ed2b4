"""The words of incidents: values without behaviour, shared by the rules, the database and the replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

from pipelines.slo.receipt import FUTURE_STATUS
from pipelines.subject import in_use

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

# Of these `evaluate` decides, from the marts and what has landed; and of those that are views of subjects.
Kind = Literal[
    "overdue",
    "late",
    "failed",
    "sender_silence",
    "unregistered_job",
    "calendar_ending",
    "rejected_records",
    "future_status",
    "kpi_threshold",
    "at_risk",
    "slowing",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


def kinds_decided() -> tuple[str, ...]:
    """All of which `evaluate` decides."""
    return (*KINDS, *(kind.name for kind in in_use().incident_kinds()))


def known_kinds() -> tuple[str, ...]:
    """All kinds that there are."""
    return (*kinds_decided(), *OTHER_KINDS)


# Kinds of others, who report theirs by `store.reconcile`: those of Duemark's own parts.
OTHER_KINDS = (
    "run_failed",
    "check_failed",
    "sensor_failed",
    "sensor_late",
    "location_failed",
    "sensor_off",
    "daemon_dead",
    "run_stuck",
    "delivery_failed",
    "tick_failed",
    "database_down",
    "database_restarted",
)

Event = Literal["opened", "repeated", "escalated", "resolved", "back_on_track"]

# Resolutions that are better news than the end of an incident.
RESTARTED = "restarted"
BACK_ON_TRACK = frozenset({"on_time", RESTARTED, "recovered"})

# How a risk ends that came true: untold, because the incident that it became is.
CAME_TRUE = "came_true"

# How an incident `delivery_failed` ends whose route is gone: told once, to whoever is left.
UNDELIVERABLE = "undeliverable"
DELIVERY_FAILED = "delivery_failed"

JobKey = tuple[str, str]
"""Application id and job id."""

Detail = Mapping[str, Any]


class Key(NamedTuple):
    """What an incident is of; there is at most one open of each key."""

    kind: str
    subject: str
    occurrence: str = ""


class OccurrenceKey(NamedTuple):
    """One due instance of an SLO."""

    slo_id: str
    business_date: date
    slot: str

    def text(self) -> str:
        """Business date and slot, as they stand in an incident's `occurrence`."""
        return f"{self.business_date.isoformat()} {self.slot}"


@dataclass(frozen=True)
class Rules:
    """Settings of the rules; `catalog/routes/` may set them."""

    watch: timedelta = timedelta(days=3)
    """Occurrences that fell due longer ago open nothing, but for an SLO's newest."""
    watch_newest: timedelta = timedelta(days=40)
    """An SLO's newest due occurrence is watched for so long: a month, and some."""
    regroup_after: timedelta = timedelta(minutes=15)
    """What was grouped is told by itself when it is still open so long after its cause is over."""
    silence_missing: int = 2
    """Due times, to the minute, that must have passed since an application's last status for it to be silent."""
    calendar_ends_within: timedelta = timedelta(days=60)
    rejected_count: int = 100
    """Rejected records of a file that open an incident."""
    rejected_share: float = 0.01
    """Share of a file's records that does, when it is at least `rejected_least` records."""
    rejected_least: int = 5
    future_status: timedelta = FUTURE_STATUS
    """How far ahead of its arrival a status may lie."""
    event_open: timedelta = timedelta(days=1)
    """An incident of records, which nothing puts right by itself, ends when it is acknowledged or after so long."""
    digest_above: int = 10
    """More incidents than this, told to one route within `digest_within`, are a storm: told in digests."""
    digest_within: timedelta = timedelta(minutes=15)
    digest_every: timedelta = timedelta(minutes=5)
    """In a storm a route is sent one message in so long; at most `regroup_after`, or all would be told too late."""
    flaps_within: timedelta = timedelta(hours=1)
    """A job that failed twice counts as failed until it has not failed for so long, or is complete.

    As long as schedulers take for their own tries, and less than what a person who was told needs to mend it for good.
    """

    def flaps_until(self, failures: int, last_failed_at: datetime) -> datetime | None:
        """Until when a job that runs again, after so many failures, counts as failed; None: it does not."""
        return last_failed_at + self.flaps_within if failures > 1 else None


@dataclass(frozen=True)
class JobState:
    """A job of an occurrence, as of the moment of judging. `changed_at`: its last status; `ended_at`: when complete.

    `failures`: its runs that failed, known where an incident `failed` needs it. `flaps_until`: of one that failed again
    and again and runs now, until when it counts as failed.
    """

    key: JobKey
    progress: str
    expected_start_at: datetime | None
    expected_end_at: datetime
    upstream_rank: int = 0
    changed_at: datetime | None = None
    ended_at: datetime | None = None
    failures: int = 0
    flaps_until: datetime | None = None


@dataclass(frozen=True)
class Wanted:
    """An incident that should be open, or, with `is_over`, one that is told although it is over already.

    `comes_again`: it is of something that happens at `seen_at`, and not of how things stand until then.
    """

    key: Key
    severity: Severity
    title: str
    message: str
    began_at: datetime
    seen_at: datetime
    application_id: str | None = None
    slo_id: str | None = None
    business_date: date | None = None
    slot: str | None = None
    detail: Detail = field(default_factory=dict)
    cause: Key | None = None
    is_over: bool = False
    resolution: str = ""
    comes_again: bool = False

    def but(self, **changes: Any) -> Wanted:
        """As `dataclasses.replace`, in a tenth of its time: every look does it for thousands."""
        made = object.__new__(Wanted)
        made.__dict__.update(self.__dict__, **changes)
        return made


@dataclass(frozen=True)
class Occurrence:
    """An occurrence as of the moment of judging.

    `is_watched`: recent enough to open incidents (see `rules`), or one of it is open; `is_late_known`: there is an
    incident `late` of it; `gives_up_at`: when it is given up, None: never.
    """

    key: OccurrenceKey
    application_id: str
    name: str
    outcome: str
    progress: str
    expected_start_at: datetime | None
    expected_end_at: datetime
    actual_end_at: datetime | None
    explanation: str
    jobs: tuple[JobState, ...] = ()
    owner: str = ""
    is_watched: bool = True
    is_late_known: bool = False
    gives_up_at: datetime | None = None
    is_waived: bool = False
    zone: str = "UTC"

    def incident(self, kind: str) -> Key:
        """Key of its incident of `kind`."""
        return Key(kind, self.key.slo_id, self.text)

    @cached_property
    def text(self) -> str:
        """Business date and slot, as they stand in an incident's `occurrence`."""
        return self.key.text()

    def wanted(self, kind: str, severity: Severity, began_at: datetime, seen_at: datetime) -> Wanted:
        """Its incident of `kind`."""
        slot = "" if self.key.slot == "00:00" else f" {self.key.slot}"
        return Wanted(
            key=self.incident(kind),
            severity=severity,
            title=f"{kind.capitalize()}: {self.name}, {self.key.business_date}{slot}",
            message=self.explanation,
            began_at=began_at,
            seen_at=seen_at,
            application_id=self.application_id,
            slo_id=self.key.slo_id,
            business_date=self.key.business_date,
            slot=self.key.slot,
            detail={"name": self.name, "owner": self.owner} if self.owner else {"name": self.name},
        )

    @cached_property
    def overdue(self) -> Wanted:
        """Its incident `overdue`, as of its end."""
        return self.wanted("overdue", "critical", self.expected_end_at, self.expected_end_at)

    @property
    def is_failed(self) -> bool:
        is_failing = self.progress == "failed" or self.flaps_until is not None
        return is_failing and self.outcome in {"not_due", "overdue"} and not self.is_waived

    @cached_property
    def flaps_until(self) -> datetime | None:
        """Until when a job that runs again counts as failed; None: none does."""
        return max((job.flaps_until for job in self.jobs if job.flaps_until is not None), default=None)

    @cached_property
    def troubled_jobs(self) -> tuple[JobState, ...]:
        """The jobs to blame: all that are incomplete once it is overdue, before that those that fail.

        None of what was waived or given up: nobody waits for it.
        """
        if self.is_waived or self.outcome == "missed":
            return ()
        wanted = {"pending", "running", "failed"} if self.outcome == "overdue" else {"failed"}
        return tuple(job for job in self.jobs if job.progress in wanted or job.flaps_until is not None)

    @cached_property
    def troubled_keys(self) -> frozenset[JobKey]:
        return frozenset(job.key for job in self.troubled_jobs)


@dataclass(frozen=True)
class Ending:
    """How an incident ended: a word for the table, and a sentence."""

    resolution: str
    message: str


@dataclass(frozen=True)
class Incident:
    """A row of `ops.incident`."""

    incident_id: int
    key: Key
    severity: Severity
    title: str
    message: str
    began_at: datetime
    opened_at: datetime
    last_seen_at: datetime
    tell_from: datetime
    application_id: str | None = None
    slo_id: str | None = None
    business_date: date | None = None
    slot: str | None = None
    detail: Detail = field(default_factory=dict)
    cause_id: int | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_with_id: int | None = None
    escalated_at: datetime | None = None
    resolved_at: datetime | None = None
    resolution: str | None = None
    resolved_into_id: int | None = None


@dataclass(frozen=True)
class Told:
    """What a route has heard of an incident: when last, and when first since its `tell_from` (else when first at all).

    What it heard before `tell_from` says nothing of how the incident stands now: it lost its cause, or got worse.
    """

    first: datetime
    last: datetime


@dataclass(frozen=True)
class Notice:
    """One message to one route, of one incident or, a digest, of several."""

    route: str
    event: str
    incidents: tuple[Incident, ...]
    events: tuple[Event, ...]
    severity: Severity
    title: str
    body: str
    payload: Detail = field(default_factory=dict)
    grouped: tuple[Incident, ...] = ()
    """Named in it as grouped under one of `incidents`."""
