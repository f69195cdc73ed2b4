"""What a message says: subject, body and payload of one incident, a function of it and of what is known beside it.

All instants of a message are on one clock, that of the SLO's zone (of what has no SLO: UTC). The first line says what
the subject is of; each of the others has a label, so that one finds at night what one looks for.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pipelines.catalog.names import page_name
from pipelines.durations import spelled
from sensors.oncall.incidents.facts import Before, Facts, JobFacts, Run
from sensors.oncall.incidents.forecasts import AT_RISK, SLOWING
from sensors.oncall.incidents.model import UNDELIVERABLE, Event, Incident, JobKey
from sensors.oncall.incidents.rules import count_of, instant_text, listed

WORDS: dict[Event, str] = {
    "opened": "",
    "repeated": "still open",
    "escalated": "not acknowledged",
    "resolved": "over",
    "back_on_track": "back on track",
}
# Ends that say what became of the promise; of others that it is over is enough.
_ENDED = {"late": "late", "on_time": "on time", "missed": "missed", "waived": "waived"}
_CAUSES = {
    "late_upstream": "late upstream",
    "late_start": "started late",
    "long_run": "ran long",
    "failure": "failed",
    "never_started": "never started",
}
# What of `detail` may change while an incident is open, and is told in a repetition.
_DETAIL = {
    "hosts": "hosts",
    "jobs": "jobs",
    "slos": "SLOs",
    "kpis": "KPIs",
    "count": "statuses",
    "value": "value",
}
LABELS = (
    "Expected", "Cause", "Way", "Usual", "Waiting", "Restart", "Hit next", "Changed", "Owner", "About", "Runbook",
    "Page", "Grouped under it",
)  # fmt: skip
MOST_NAMED = 5
# A forecast that moved by less says nothing new.
MOVED = timedelta(minutes=5)
IS_END = frozenset({"resolved", "back_on_track"})


@dataclass(frozen=True)
class Telling:
    """One incident as one route is told of it.

    `grouped`: what is grouped under it; `root`: what it is grouped under; `before`: what the route was told last, of a
    repetition; `site`: where the pages of the board are served.
    """

    incident: Incident
    event: Event
    facts: Facts = field(default_factory=Facts)
    grouped: Sequence[Incident] = ()
    root: Incident | None = None
    before: Before | None = None
    site: str | None = None

    @property
    def is_end(self) -> bool:
        """Whether it tells of an end."""
        return self.event in IS_END or self.incident.resolved_at is not None

    @property
    def title(self) -> str:
        """The subject."""
        word = said_of(self.incident, self.event)
        if self.event == "repeated" and self.before is not None and self.before.payload.get("resolution"):
            word = "again"
        return f"{self.incident.title} ({word})" if word else self.incident.title

    @property
    def body(self) -> str:
        """The lines below it."""
        one = self.incident
        lines = [self._headline()]
        if self.event == "escalated":
            lines.append(f"Open since {self._at(one.opened_at)}, and nobody acknowledged it.")
        if self.before is not None and not self.is_end:
            lines.append(f"Changed: {self._changed(self.before)}")
        if not self.is_end or one.key.kind == "late":
            lines += self._story()
        lines += self._hints()
        if self.root is not None and not self.is_end:
            taken = f", acknowledged by {self.root.acknowledged_by}" if self.root.acknowledged_by else ""
            lines.append(f"Grouped under {self.root.incident_id}: {self.root.title}{taken}")
        if self.grouped:
            titles = [child.title for child in self.grouped]
            lines.append(f"Grouped under it: {listed(titles, separator='; ')}")
        lines.append(
            f"Incident {one.incident_id}" + ("" if self.is_end else f": duemark ack {one.incident_id}")
        )
        return "\n".join(lines)

    @property
    def payload(self) -> dict[str, Any]:
        """The same for machines, and for the next repetition to say what changed."""
        return (
            facts_of(self.incident)
            | {"grouped": [child.incident_id for child in self.grouped]}
            | _stands(self.incident, self.facts)
            | ({"page": page} if (page := self._page()) else {})
        )

    def _at(self, moment: datetime) -> str:
        return instant_text(moment, self.facts.zone)

    def _headline(self) -> str:
        one, facts = self.incident, self.facts
        if self.is_end and one.key.kind != "late":
            lasted = (
                f" It was open for {_spelled(one.resolved_at - one.opened_at)}." if one.resolved_at else ""
            )
            return f"{one.message}{lasted}"
        due, as_of = facts.due_at, facts.as_of
        # What a risk said when it opened is not what is expected of it later.
        if due is None or as_of is None or (one.key.kind == AT_RISK and self.event == "opened"):
            return one.message
        if facts.ended_at is not None:
            late = _spelled(facts.ended_at - due)
            return f"Late by {late}: complete {self._at(facts.ended_at)}, due {self._at(due)}."
        if as_of > due:
            return f"Late by {_spelled(as_of - due)} so far, as of {self._at(as_of)}: due {self._at(due)}."
        return f"Due {self._at(due)}, in {_spelled(due - as_of)} as of {self._at(as_of)}."

    def _story(self) -> list[str]:
        """When it will be there, why it is not, what is usual, and who is hit."""
        facts, lines = self.facts, []
        is_said = self.incident.key.kind == AT_RISK and self.event == "opened"
        if facts.p50 is not None and facts.p80 is not None and facts.due_at is not None and not is_said:
            late = f", {_spelled(facts.p50 - facts.due_at)} late" if facts.p50 > facts.due_at else ""
            lines.append(
                f"Expected: {self._at(facts.p50)}{late}; four times in five by {self._at(facts.p80)}."
            )
        if facts.cause is not None:
            lines += self._cause(facts.cause)
        if facts.hit:
            said = [f"{one.name} (due {self._at(one.due_at)})" for one in facts.hit]
            lines.append(f"Hit next: {listed(said, MOST_NAMED)}")
        return lines

    def _cause(self, job: JobFacts) -> list[str]:
        kind = _CAUSES.get(self.facts.cause_kind)
        lines = [f"Cause{f' ({kind})' if kind else ''}: {self._job(job)}"]
        if len(self.facts.way) > 1:
            lines.append(f"Way: {' -> '.join(map(_name, self.facts.way))}")
        usual = [
            f"it takes {_spelled(job.usual_duration)}" if job.usual_duration is not None else "",
            f"it is started again {_spelled(job.usual_restart)} after it failed"
            if job.usual_restart is not None
            else "",
        ]
        if any(usual):
            lines.append(f"Usual: {'; '.join(filter(None, usual))}.")
        if (waiting := self.facts.waiting) is not None:
            lines.append(f"Waiting: {self._waiting(waiting)}")
        if job.progress != "complete":
            may = (
                "it may simply be started again."
                if job.is_restartable
                else "not by a simple start (restartable: false)."
            )
            lines.append(f"Restart: {may}")
        return lines

    def _waiting(self, job: JobFacts) -> str:
        """How the job stands that is still waited for, and when it will be there."""
        end, of_all = job.likely_end_at, self.facts.p50
        # A job's forecast is of its own; one after that of the SLO, which is a line of its own, would contradict it.
        if end is not None and of_all is not None and end > of_all:
            end = None
        said = [
            f"expected to end at {self._at(end)}" if end is not None else "",
            f"it usually takes {_spelled(job.usual_duration)}" if job.usual_duration is not None else "",
        ]
        rest = "; ".join(filter(None, said))
        return self._job(job) + (f" {rest[0].upper()}{rest[1:]}." if rest else "")

    def _job(self, job: JobFacts) -> str:
        called = f" ({job.name})" if job.name not in {"", job.key[1]} else ""
        of = f" of {job.business_date}" if job.business_date != self.incident.business_date else ""
        said = f"{_name(job.key)}{called}{of} "
        run = job.run
        if job.progress == "pending" or run is None:
            by = (
                f"was to start at {self._at(job.expected_start_at)}"
                if job.expected_start_at
                else f"was to be done by {self._at(job.expected_end_at)}"
                if job.expected_end_at
                else ""
            )
            return said + "has not reported" + (f"; it {by}." if by else ".")
        if job.progress == "failed" and run.ended_at is not None:
            often = f", {job.failures} times by now" if job.failures > 1 else ""
            return f"{said}failed at {self._at(run.ended_at)}{_of_run(run)}{often}."
        failed = (
            f"; it failed at {self._at(job.failed.ended_at)}{_of_run(job.failed)}"
            if job.failed is not None and job.failed.ended_at is not None
            else ""
        ) + (f", {job.failures} times by now" if job.failures > 1 else "")
        if job.progress == "complete" and run.ended_at is not None:
            late = (
                f", {_spelled(run.ended_at - job.expected_end_at)} late"
                if job.expected_end_at is not None and run.ended_at > job.expected_end_at
                else ""
            )
            return f"{said}was complete at {self._at(run.ended_at)}{late}{_of_run(run)}{failed}."
        since = f" since {self._at(run.started_at)}" if run.started_at is not None else ""
        return f"{said}has been running{since}{_of_run(run)}{failed}."

    def _hints(self) -> list[str]:
        """Whom to ask, and where to look."""
        facts, job = self.facts, self.facts.cause
        owner = (job.owner if job else "") or facts.owner or str(self.incident.detail.get("owner") or "")
        about = (job.description if job else "") or facts.description
        runbook = (job.runbook if job else "") or facts.runbook
        lines = [f"Owner: {owner}"] if owner else []
        if not self.is_end:
            lines += [f"About: {' '.join(about.split())}"] if about else []
            lines += [f"Runbook: {runbook}"] if runbook else []
        if (page := self._page()) is not None:
            lines.append(f"Page: {page}")
        return lines

    def _page(self) -> str | None:
        if self.site is None:
            return None
        one, jobs = self.incident, self.incident.detail.get("jobs", ())
        if one.slo_id is not None:
            return f"{self.site}/{page_name('slo', one.slo_id)}.html"
        if one.key.kind == SLOWING and len(jobs) == 1:
            return f"{self.site}/{page_name('job', one.key.subject, jobs[0])}.html"
        kpis = (
            [one.key.subject]
            if one.key.kind == "kpi_threshold"
            else list(map(str, one.detail.get("kpis", ())))
        )
        if len(kpis) == 1:
            return f"{self.site}/{page_name('kpi', kpis[0])}.html"
        return None

    def _changed(self, before: Before) -> str:
        """What is not as the route was told last."""
        was, now = before.payload, _stands(self.incident, self.facts)
        said = []
        severity = now["incident_severity"]
        if was.get("incident_severity", severity) != severity:
            said.append(f"it is {severity}, and was {was['incident_severity']}")
        for name, label in (("due_at", "due"), ("expected_at", "expected")):
            if (moved := self._moved(was.get(name), now.get(name))) is not None:
                said.append(f"{label} {moved}")
        if was.get("cause_job") and was["cause_job"] != now.get("cause_job"):
            said.append(f"the cause was {was['cause_job']}")
        elif was.get("cause_progress") and was["cause_progress"] != now.get("cause_progress"):
            said.append(f"{now['cause_job']} was {was['cause_progress']}, and is {now['cause_progress']}")
        more = now.get("failures", 0) - was.get("failures", 0)
        if more > 0:
            said.append(f"it failed {count_of(more, 'time')} more")
        for name, label in _DETAIL.items():
            said += _difference(label, was.get(name), now.get(name))
        grouped = {child.incident_id for child in self.grouped}
        if new := grouped - set(was.get("grouped", grouped)):
            said.append(f"{len(new)} more grouped under it")
        since = self._at(before.told_at)
        return f"{'; '.join(said)} (since {since})." if said else f"nothing since {since}."

    def _moved(self, was: str | None, now: str | None) -> str | None:
        if was is None or now is None:
            return None
        then, moment = datetime.fromisoformat(was), datetime.fromisoformat(now)
        if abs(moment - then) < MOVED:
            return None
        return f"{self._at(moment)}, and no longer {self._at(then)}"


def said_of(one: Incident, event: Event) -> str:
    """What the event adds to the title of an incident."""
    is_over = event == "resolved" or (
        # It was held back, and ended before it was told.
        event == "opened" and one.resolved_at is not None and one.resolution not in {"late", UNDELIVERABLE}
    )
    if is_over:
        ended = _ENDED.get(one.resolution or "")
        return f"{WORDS['resolved']}: {ended}" if ended else WORDS["resolved"]
    return WORDS[event]


def facts_of(one: Incident) -> dict[str, Any]:
    """An incident for machines."""
    return {
        "incident_id": one.incident_id,
        "kind": one.key.kind,
        "subject": one.key.subject,
        "occurrence": one.key.occurrence,
        "application_id": one.application_id,
        "slo_id": one.slo_id,
        "business_date": one.business_date.isoformat() if one.business_date else None,
        "slot": one.slot,
        "began_at": one.began_at.isoformat(),
        "opened_at": one.opened_at.isoformat(),
        "resolution": one.resolution,
    }


def _stands(one: Incident, facts: Facts) -> dict[str, Any]:
    """How it stands, as far as it is known and may change."""
    found: dict[str, Any] = {"incident_severity": one.severity}
    found |= {name: one.detail[name] for name in _DETAIL if name in one.detail}
    for name, moment in (("due_at", facts.due_at), ("expected_at", facts.p50), ("expected_by", facts.p80)):
        if moment is not None:
            found[name] = moment.isoformat()
    if facts.cause is not None:
        found |= {
            "cause_job": _name(facts.cause.key),
            "cause_progress": facts.cause.progress,
            "failures": facts.cause.failures,
        }
    return found


def _difference(label: str, was: Any, now: Any) -> list[str]:
    if was is None or now is None or was == now:
        return []
    if not isinstance(was, list) or not isinstance(now, list):
        return [f"{label} {now}, and no longer {was}"]
    new, gone = [one for one in now if one not in was], [one for one in was if one not in now]
    return [
        f"{word} {label} {listed(list(map(str, names)), MOST_NAMED)}"
        for word, names in (("new", new), ("no more", gone))
        if names
    ]


def _spelled(length: timedelta) -> str:
    """Whole minutes, where there is one."""
    minute = timedelta(minutes=1)
    return spelled(round(length / minute) * minute if length >= minute else length)


def _name(job: JobKey) -> str:
    return "/".join(job)


def _of_run(run: Run) -> str:
    said = [
        f"attempt {run.attempt}" if run.attempt > 1 else "",
        f"run {run.run_id}" if run.run_id else "",
        f"host {run.host_id}" if run.host_id else "",
    ]
    known = ", ".join(filter(None, said))
    return f" ({known})" if known else ""


_LABEL = re.compile(rf"^({'|'.join(LABELS)}|Cause \([a-z ]+\)|Incident \d+|Grouped under \d+):")
_ADDRESS = re.compile(r'https?://[^\s<>"]+[^\s<>".,;:!?)]')


def as_html(body: str) -> str:
    """A body for where there is more than text: labels stand out, addresses can be followed."""
    return "<br/>".join(map(_html_line, body.splitlines()))


def _html_line(line: str) -> str:
    text = html.escape(line, quote=False)
    text = _ADDRESS.sub(r'<a href="\g<0>">\g<0></a>', text)
    return _LABEL.sub(r"<b>\1:</b>", text)
