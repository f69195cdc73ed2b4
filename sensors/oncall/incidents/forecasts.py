"""What is going to be missed, and what gets slower: told before it is late.

Incidents `at_risk` are told before the due time, with room between open and over; `slowing` once a day an application.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.catalog.names import split_job
from pipelines.durations import spelled
from sensors.oncall.incidents.model import (
    CAME_TRUE,
    Ending,
    Incident,
    JobKey,
    Key,
    Occurrence,
    OccurrenceKey,
    Wanted,
)
from sensors.oncall.incidents.rules import Fate, as_it_stands, instant_text, slo_ending

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]

AT_RISK = "at_risk"
SLOWING = "slowing"
RECOVERED = "recovered"


@dataclass(frozen=True)
class Risk:
    """An occurrence that is not due yet and may be missed. `path`: the jobs its end comes from, most upstream first."""

    key: OccurrenceKey
    path: tuple[JobKey, ...]
    name: str
    application_id: str
    expected_end_at: datetime
    p50: datetime
    p80: datetime
    miss_probability: float
    is_at_risk: bool
    rule: str
    past_dates: int
    slack: timedelta | None
    slack_slo: str | None
    zone: str = "UTC"

    @property
    def incident(self) -> Key:
        """Key of its incident."""
        return Key(AT_RISK, self.key.slo_id, self.key.text())


def read_risks(cursor: Cursor) -> list[Risk]:
    """As of the last tick, in the order of their keys."""
    rows = cursor.execute(
        "select slo_id, business_date, slot, path, name, application_id, expected_end_at, p50, p80,"
        " miss_probability, is_at_risk, rule, past_dates, slack, slack_slo, timezone"
        " from marts.incident_forecast order by 1, 2, 3"
    ).fetchall()
    return [Risk(OccurrenceKey(*row[:3]), tuple(split_job(job) for job in row[3]), *row[4:]) for row in rows]


class Risks(NamedTuple):
    """Occurrences that were at risk at one of the moments at which forecasts are noted, and those of them missed."""

    warned: int
    right: int


NO_RISKS = Risks(0, 0)


def past_risks(cursor: Cursor, start: datetime, end: datetime) -> Risks:
    """Of the occurrences due from `start` to `end`, by the journal of forecasts: 120, 60, 30 and 10 minutes before."""
    row: Any = cursor.execute(
        """
        select count(*), count(*) filter (where is_missed)
        from marts.incident_past_risk
        where expected_end_at between %s and %s
        """,
        [start, end],
    ).fetchone()
    return Risks(*row)


def risk_incidents(
    risks: Sequence[Risk],
    standing: Iterable[Incident],
    trouble: Iterable[Wanted],
    occurrences: Mapping[tuple[str, str], Occurrence],
    as_of: datetime,
) -> list[Wanted]:
    """Those at risk, and those that were told of and are not over; as told, so that it is told once.

    One stands under the trouble that it comes from: a job that is to blame elsewhere, or another at risk, on its way.
    `trouble`: what is wanted of SLOs, whose `occurrences` say which jobs are to blame.
    """
    told = {one.key: one for one in standing if one.key.kind == AT_RISK}
    found = [one for one in risks if one.is_at_risk or one.incident in told]
    blamed: dict[JobKey, Key] = {}
    for one in trouble:
        stands = occurrences.get((one.key.subject, one.key.occurrence))
        if one.key.kind in {"overdue", "failed"} and not one.is_over and stands is not None:
            for job in stands.troubled_keys:
                blamed.setdefault(job, one.key)
    # Of those at risk each answers for the last job of its way.
    for risk in found:
        if risk.path:
            blamed.setdefault(risk.path[-1], risk.incident)
    wanted = []
    for risk in found:
        one = as_it_stands(told[risk.incident]) if risk.incident in told else _wanted(risk, as_of)
        cause = next((blamed[job] for job in risk.path if job in blamed), None)
        wanted.append(one if cause in {None, one.key} else one.but(cause=cause))
    return wanted


def _wanted(risk: Risk, as_of: datetime) -> Wanted:
    slot = "" if risk.key.slot == "00:00" else f" {risk.key.slot}"
    due, likely, late = (instant_text(at, risk.zone) for at in (risk.expected_end_at, risk.p50, risk.p80))
    message = [f"Due {due}; it is likely to be there at {likely}, four times in five by {late}."]
    message.append(f"A miss: {risk.miss_probability:.0%}, by {risk.past_dates} past dates.")
    if len(risk.path) > 1:
        message.append(f"It comes by way of {', '.join('/'.join(job) for job in risk.path)}.")
    elif risk.path:
        message.append(f"It waits for {'/'.join(risk.path[0])}.")
    if risk.rule == "longer than ever seen":
        message.append("It takes longer than ever seen.")
    if risk.slack is not None and risk.slack_slo is not None:
        message.append(
            f"It may end {spelled(risk.slack)} after it is due before {risk.slack_slo} is late, too."
            if risk.slack >= timedelta()
            else f"{risk.slack_slo} needs it {spelled(-risk.slack)} before it is due."
        )
    return Wanted(
        key=risk.incident,
        severity="warning",
        title=f"At risk: {risk.name}, {risk.key.business_date}{slot}",
        message=" ".join(message),
        began_at=as_of,
        seen_at=as_of,
        application_id=risk.application_id,
        slo_id=risk.key.slo_id,
        business_date=risk.key.business_date,
        slot=risk.key.slot,
        detail={
            "name": risk.name,
            "expected_end_at": risk.expected_end_at.isoformat(),
            "p50": risk.p50.isoformat(),
            "miss_probability": round(risk.miss_probability, 3),
            "path": ["/".join(job) for job in risk.path],
        },
    )


def read_verdict(cursor: Cursor, key: OccurrenceKey) -> tuple[str, str] | None:
    """Outcome (or `waived`) and explanation of an occurrence; None: there is none any more."""
    row: Any = cursor.execute(
        "select case when is_waived then 'waived' else outcome end, explanation from marts.slo_performance"
        " where slo_id = %s and business_date = %s and slot = %s",
        list(key),
    ).fetchone()
    return None if row is None else (str(row[0]), str(row[1]))


def risk_ending(incident: Incident, verdict: tuple[str, str] | None, fate: Callable[[], Fate]) -> Ending:
    """How a risk ended, from the `verdict` on its occurrence. One that came true says nothing: what it became does."""
    if verdict is None:
        return slo_ending(incident, None, fate)
    outcome, explanation = verdict
    if outcome == "on_time":
        return Ending("on_time", explanation)
    if outcome == "waived":
        return Ending("waived", explanation)
    if outcome == "not_due":
        return Ending(RECOVERED, f"It is not likely to be late any more. {explanation}")
    return Ending(CAME_TRUE, explanation)


# Slowing

STEADY = Ending("steady", "None of these jobs gets slower any more.")
# Named in one message; `job_duration_trend` has all.
MOST_NAMED = 10


class Slowing(NamedTuple):
    """A job that gets slower, and what says so."""

    application_id: str
    job_id: str
    evidence: str


def read_slowing(cursor: Cursor) -> list[Slowing]:
    """As of the last tick, in the order of their keys."""
    rows = cursor.execute(
        "select application_id, job_id, evidence from marts.job_duration_trend where is_slowing order by 1, 2"
    ).fetchall()
    return [Slowing(*row) for row in rows]


def slowing_incidents(
    found: Sequence[Slowing], standing: Iterable[Incident], as_of: datetime
) -> list[Wanted]:
    """One a day an application, of its jobs that no open one names; each is open while one of its jobs gets slower.

    What comes to be known later that day is told on the next.
    """
    open_ = [one for one in standing if one.key.kind == SLOWING]
    slow: dict[str, list[Slowing]] = {}
    for one in found:
        slow.setdefault(one.application_id, []).append(one)
    today = as_of.date().isoformat()
    wanted = []
    for application_id, jobs in slow.items():
        names = {one.job_id for one in jobs}
        kept = [
            one
            for one in open_
            if one.key.subject == application_id and names & set(one.detail.get("jobs", ()))
        ]
        wanted += [as_it_stands(one) for one in kept]
        told = {job for one in kept for job in one.detail.get("jobs", ())}
        new = [one for one in jobs if one.job_id not in told]
        if new and all(one.key.occurrence != today for one in kept):
            wanted.append(_slowing(application_id, new, today, as_of))
    return wanted


def _slowing(application_id: str, jobs: Sequence[Slowing], today: str, as_of: datetime) -> Wanted:
    rest = len(jobs) - MOST_NAMED
    what = f"{application_id}/{jobs[0].job_id}" if len(jobs) == 1 else f"{len(jobs)} jobs of {application_id}"
    said = [one.evidence if len(jobs) == 1 else f"{one.job_id}: {one.evidence}" for one in jobs[:MOST_NAMED]]
    return Wanted(
        key=Key(SLOWING, application_id, today),
        severity="info",
        title=f"Slowing: {what}",
        message=" ".join([*said, *([f"And {rest} more: job_duration_trend has all."] if rest > 0 else [])]),
        began_at=as_of,
        seen_at=as_of,
        application_id=application_id,
        detail={"jobs": [one.job_id for one in jobs]},
    )
