"""What messages say, word for word: a reviewed text for each kind of alert, below `golden/`.

To renew them after a change that is meant: DUEMARK_RENEW=1 make test T=tests/incidents/test_texts.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.orchestration.dagster_private.servers import Declared
from pipelines.orchestration.dagster_private.tables import (
    FailedCheck,
    FailedRun,
    FailedTick,
    Heartbeat,
    Instigator,
    PendingRun,
)
from pipelines.transform.attempts import Attempts
from sensors.oncall.incidents.facts import Before, Facts, Hit, JobFacts, Run
from sensors.oncall.incidents.forecasts import Risk, Slowing, risk_incidents, slowing_incidents
from sensors.oncall.incidents.future import Sent, future_wanted
from sensors.oncall.incidents.kpis import threshold_incidents
from sensors.oncall.incidents.model import (
    Event,
    Incident,
    JobState,
    Key,
    Occurrence,
    OccurrenceKey,
    Rules,
    Told,
    Wanted,
    known_kinds,
)
from sensors.oncall.incidents.notices import Situation, notices
from sensors.oncall.incidents.routes import Route, Routes
from sensors.oncall.incidents.rules import (
    CalendarEnd,
    LandedFile,
    Missed,
    UnregisteredJob,
    calendar_incidents,
    rejected_incidents,
    slo_incidents,
    unregistered_incidents,
)
from sensors.oncall.incidents.silence import sender_silences
from sensors.oncall.incidents.texts import Telling, as_html
from sensors.oncall.watch.findings import judge
from sensors.oncall.watch.limits import Limits
from sensors.oncall.watch.observed import Database, Memory, Observed, Standing, Waiting
from tests.incidents.conftest import Bank, at
from tests.incidents.test_kpi_rules import NOW as KPI_NOW
from tests.incidents.test_kpi_rules import standing as kpi

GOLDEN = Path(__file__).with_name("golden")
ZONE = "America/New_York"
# 03:40 in New York, on the day after the business date.
NOW = datetime(2026, 11, 24, 8, 40, tzinfo=UTC)
SITE = "https://duemark.example.org/board"


def golden(name: str, text: str) -> None:
    """Compare a text with the reviewed one."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("DUEMARK_RENEW"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8"), (__doc__ or "").splitlines()[-1]


def text(title: str, body: str) -> str:
    return f"{title}\n\n{body}\n"


def row(one: Wanted, number: int = 12, **changes: Any) -> Incident:
    """The incident of what is wanted, opened at its first look."""
    return replace(
        Incident(
            incident_id=number, key=one.key, severity=one.severity, title=one.title, message=one.message,
            began_at=one.began_at, opened_at=NOW, last_seen_at=one.seen_at, tell_from=NOW,
            application_id=one.application_id, slo_id=one.slo_id, business_date=one.business_date, slot=one.slot,
            detail=one.detail, resolved_at=NOW if one.is_over else None, resolution=one.resolution or None,
        ),
        **changes,
    )  # fmt: skip


# SLOs


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


DUE = ago(40)
JOB = ("overdrafts", "charge-overdrafts")
OCCURRENCE = Occurrence(
    OccurrenceKey("overdraft-charges", date(2026, 11, 23), "00:00"),
    "overdrafts",
    "Overdraft charges ready",
    "overdue",
    "failed",
    ago(190),
    DUE,
    None,
    "Overdue: a job failed; 0 of 1 complete.",
    (JobState(JOB, "failed", ago(190), DUE, changed_at=ago(100)),),
    zone=ZONE,
)
CAUSE = JobFacts(
    ("deposits", "post_transactions"),
    date(2026, 11, 23),
    "failed",
    "Post the day's transactions",
    "Books what branches and machines took in.\nHalf a posting must be undone by hand.",
    "https://wiki.example.org/deposits/post?step=1&after=2",
    "team:deposits",
    is_restartable=False,
    expected_start_at=ago(340),
    expected_end_at=ago(205),
    run=Run(2, "r-4711", "batch03", ago(330), ago(100)),
    failed=Run(2, "r-4711", "batch03", ago(330), ago(100)),
    failures=2,
    usual_duration=timedelta(hours=2, minutes=5),
    usual_restart=timedelta(minutes=20),
)
KNOWN = Facts(
    ZONE,
    "team:overdrafts",
    NOW,
    DUE,
    None,
    "failed",
    "The load of decision support starts at 03:00.",
    "https://wiki.example.org/overdrafts/late",
    NOW + timedelta(minutes=70),
    NOW + timedelta(minutes=100),
    CAUSE,
    "late_upstream",
    (CAUSE.key, JOB),
    (
        Hit("decision-support-load", "Overdrafts loaded", NOW + timedelta(minutes=80)),
        Hit("overdraft-report", "Overdraft report on the desks", NOW + timedelta(minutes=260)),
    ),
)
COMPLETE = replace(
    CAUSE,
    progress="complete",
    run=Run(3, "r-4712", "batch03", ago(60), ago(25)),
)


def slo(kind: str, **changes: object) -> Wanted:
    wanted = slo_incidents([replace(OCCURRENCE, **changes)], NOW)  # type: ignore[arg-type]
    return next(one for one in wanted if one.key.kind == kind)


def risk() -> Wanted:
    (one,) = risk_incidents(
        [
            Risk(
                OCCURRENCE.key, (CAUSE.key, JOB), OCCURRENCE.name, "overdrafts", NOW + timedelta(minutes=30),
                NOW + timedelta(minutes=50), NOW + timedelta(minutes=75), 0.86, True, "longer than ever seen", 88,
                timedelta(minutes=65), "overdraft-report", ZONE,
            )
        ],
        [], [], {}, NOW,
    )  # fmt: skip
    return one


RUNNING = replace(CAUSE, progress="running", run=Run(3, "r-4712", "batch03", ago(10), None))


@dataclass(frozen=True)
class Case:
    """What is told, and how."""

    wanted: Wanted
    event: Event = "opened"
    facts: Facts = field(default_factory=Facts)
    grouped: Sequence[Incident] = ()
    root: Incident | None = None
    before: Before | None = None
    resolution: str | None = None
    message: str = ""

    def telling(self) -> Telling:
        one = row(self.wanted)
        if self.resolution is not None:
            one = replace(
                one,
                resolved_at=NOW + timedelta(minutes=35),
                resolution=self.resolution,
                message=self.message or one.message,
            )
        return Telling(one, self.event, self.facts, self.grouped, self.root, self.before, SITE)


def before(facts: Facts, **changes: object) -> Before:
    """What the route was told four hours ago."""
    told = Telling(row(slo("overdue")), "opened", facts).payload
    return Before(NOW - timedelta(hours=4), told | changes)


def slos() -> Iterator[tuple[str, Case]]:
    overdue, failed = slo("overdue"), slo("failed")
    waiting = row(failed, 13, title="Overdue: Overdrafts loaded, 2026-11-23")
    yield "overdue", Case(overdue, facts=KNOWN, grouped=[waiting])
    earlier = replace(
        KNOWN, p50=NOW - timedelta(minutes=10), cause=replace(CAUSE, progress="pending", run=None, failures=0)
    )
    yield "overdue-repeated", Case(overdue, "repeated", KNOWN, [waiting], before=before(earlier, grouped=[]))
    yield "overdue-unchanged", Case(overdue, "repeated", KNOWN, before=before(KNOWN))
    yield "overdue-escalated", Case(overdue, "escalated", replace(KNOWN, cause=RUNNING))
    pending = replace(CAUSE, progress="pending", run=None, failed=None, failures=0, is_restartable=True)
    yield (
        "overdue-never-started",
        Case(overdue, facts=replace(KNOWN, cause=pending, cause_kind="never_started", p50=None, hit=())),
    )
    yield (
        "overdue-joins",
        Case(overdue, facts=KNOWN, root=replace(waiting, acknowledged_at=NOW, acknowledged_by="ann")),
    )
    to_come = JobFacts(
        JOB, date(2026, 11, 23), name="Charge overdrafts", expected_start_at=ago(190), expected_end_at=DUE,
        usual_duration=timedelta(minutes=50), likely_end_at=NOW + timedelta(minutes=65),
    )  # fmt: skip
    done = replace(KNOWN, cause=COMPLETE)
    yield "overdue-waiting", Case(overdue, facts=replace(done, waiting=to_come))
    began = replace(to_come, progress="running", run=Run(1, "r-9", "", ago(20), None))
    yield "overdue-waiting-running", Case(overdue, facts=replace(done, waiting=began))
    ended = "Late: overdrafts/charge-overdrafts succeeded at 2026-11-24 04:10:00, due 2026-11-24 03:00:00 {}."
    for outcome, said in (
        ("late", ended.format(ZONE)),
        ("missed", f"Missed, given up at 2026-11-24 04:15:00: a job failed, due 2026-11-24 03:00:00 {ZONE}."),
        ("changed", "The promise was changed: due 2026-11-24 05:00 EST, and no longer 2026-11-24 03:00 EST."),
    ):
        yield f"overdue-over-{outcome}", Case(overdue, "resolved", KNOWN, resolution=outcome, message=said)
    before_due = replace(KNOWN, due_at=NOW + timedelta(minutes=20), cause_kind="failure", way=(CAUSE.key,))
    yield "failed", Case(failed, facts=before_due)
    often = slo("failed", jobs=(replace(OCCURRENCE.jobs[0], failures=3),))
    again = before(before_due, resolution="restarted", failures=1, incident_severity="warning")
    yield (
        "failed-again",
        Case(often, "repeated", replace(before_due, cause=replace(CAUSE, failures=3)), before=again),
    )
    yield (
        "failed-back-on-track",
        Case(
            failed,
            "back_on_track",
            before_due,
            resolution="restarted",
            message="Running again. Not due yet: running.",
        ),
    )
    late = slo("late", outcome="late", progress="complete", actual_end_at=ago(5))
    yield (
        "late",
        Case(late, facts=replace(KNOWN, ended_at=ago(5), cause=COMPLETE, cause_kind="long_run", p50=None)),
    )
    at_risk = replace(KNOWN, due_at=NOW + timedelta(minutes=30), cause=RUNNING, cause_kind="")
    yield "at_risk", Case(risk(), facts=at_risk)
    told = Telling(row(risk()), "opened", at_risk).payload
    later = replace(at_risk, p50=NOW + timedelta(minutes=90))
    yield "at_risk-repeated", Case(risk(), "repeated", later, before=Before(ago(120), told))
    yield (
        "at_risk-back-on-track",
        Case(
            risk(),
            "back_on_track",
            at_risk,
            resolution="recovered",
            message="It is not likely to be late any more.",
        ),
    )


# All else that `evaluate` decides


def others() -> Iterator[tuple[str, Case]]:
    missing = [
        Missed(OCCURRENCE.key, JobState(("core", name), "pending", None, ago(minutes)))
        for name, minutes in (("load", 120), ("sweep", 60))
    ]
    (silent,), _ = sender_silences(
        {"core": missing}, {"core": ago(300)}, lambda _: {"core": timedelta(minutes=65)}, Rules(), NOW
    )
    yield "sender_silence", Case(silent, facts=Facts(owner="team:core"))
    yield "sender_silence-over", Case(silent, "resolved", resolution="heard", message="It sends again.")
    slow = [
        Slowing("core", "load", "Its duration grew by 12m (31 %) since 2026-08-03."),
        Slowing("core", "sweep", "Its end moved by 9m since 2026-09-01."),
    ]
    yield "slowing", Case(slowing_incidents(slow[:1], [], NOW)[0], facts=Facts(owner="team:core"))
    yield "slowing-several", Case(slowing_incidents(slow, [], NOW)[0])
    yield (
        "unregistered_job",
        Case(
            unregistered_incidents([UnregisteredJob(("core", "stray"), ago(20), True)], NOW)[0],
            facts=Facts(owner="team:core"),
        ),
    )
    yield (
        "unregistered_job-application",
        Case(unregistered_incidents([UnregisteredJob(("nobody", "x"), ago(20), False)], NOW)[0]),
    )
    yield (
        "calendar_ending",
        Case(calendar_incidents([CalendarEnd("federal", date(2026, 12, 31), ("a", "b"))], Rules(), NOW)[0]),
    )
    files = [
        LandedFile(4, "job_status", "landing/job_status/east/1.csv", "loaded", 93, 7, "", ago(3), "core"),
        LandedFile(5, "job_status", "landing/job_status/2.csv", "quarantined", 0, 0, "no header.", ago(3)),
    ]
    rejected, unreadable = rejected_incidents(files, Rules())
    yield "rejected_records", Case(rejected)
    yield "rejected_records-quarantined", Case(unreadable)
    ahead = Sent("core", 3, NOW + timedelta(hours=1), NOW, ("load", "sweep"), frozenset({"h1"}), frozenset())
    (future,) = future_wanted([ahead], [], Rules(), NOW)
    yield "future_status", Case(future, facts=Facts(owner="team:core"))
    more = replace(row(future), detail={**future.detail, "hosts": ["h1", "h2"], "count": 9})
    told = Before(ago(240), Telling(row(future), "opened").payload)
    yield (
        "future_status-repeated",
        Case(replace(future, detail=more.detail), "repeated", Facts(owner="team:core"), before=told),
    )
    (held,) = threshold_incidents([kpi()], [], [], KPI_NOW)
    yield "kpi_threshold", Case(held)
    (member,) = threshold_incidents([kpi(member="core")], [], [slo("overdue").but(slo_id="slo-a")], KPI_NOW)
    yield "kpi_threshold-held", Case(member, root=row(slo("overdue")))
    yield (
        "kpi_threshold-over",
        Case(held, "resolved", resolution="ok", message="Well again: 97 % in 2026-03-06."),
    )
    # The text of these two is SQL's: its own tests hold it.
    stale = Wanted(
        Key("kpi_stale", "shop"), "warning", "Stale: KPIs over shop",
        "The source database shop could not be read: refused. Nothing was read of it yet.", ago(9), NOW,
        detail={"kpis": ["orders"]},
    )  # fmt: skip
    yield "kpi_stale", Case(stale)
    told = Before(ago(240), Telling(row(stale), "opened").payload)
    more_kpis = stale.but(detail={"kpis": ["baskets", "orders"]})
    yield "kpi_stale-repeated", Case(more_kpis, "repeated", before=told)
    lone = Wanted(
        Key("lone_date", "slo-a", "2006-03-03"), "warning", "Lone business date: slo-a, 2006-03-03",
        "slo-a has a status for the business date 2006-03-03.", NOW, NOW, application_id="core", slo_id="slo-a",
        business_date=date(2006, 3, 3),
    )  # fmt: skip
    yield "lone_date", Case(lone)


# Duemark's own parts


def watched() -> dict[str, Wanted]:
    """Of each kind of the watcher's one, as it judges what it observes."""
    up = Standing(True, ago(600), NOW, who="d1")
    memory = Memory(
        ago(0.2), ago(600), up,
        {"oncall": up, "pipelines": up, "broken": Standing(False, ago(9), NOW, "ImportError: no module x", True)},
        server=Database(ago(0.5), NOW, ago(0.7)),
    )  # fmt: skip
    dead = Standing(False, ago(4), NOW, "no heartbeat since 08:36:00 UTC", who="d1")
    sound = Observed(
        NOW,
        memory,
        heartbeats=[Heartbeat("SENSOR", "d1", NOW)],
        declared={"pipelines": [Declared("arrivals", True, 9), Declared("report", True, 9)]},
    )
    seen = [
        replace(
            sound,
            instigators=[
                Instigator("pipelines", "arrivals", False, "RUNNING", 9, ago(600), ago(1), True,
                           FailedTick(ago(1), False, "ValueError: no landing folder")),
                Instigator("pipelines", "report", False, "STOPPED", 9, ago(600), ago(5)),
                Instigator("oncall", "purge", False, "RUNNING", 30, ago(600), ago(300)),
            ],
            failed_runs=[FailedRun("nightly", "run-1", ago(3), False, False, "ValueError: the source is empty")],
            failed_checks=[FailedCheck("marts/t", "unique", "", ago(4), False, False, "run-2", "3 rows twice")],
            pending_runs=[PendingRun("run-3", "tick", "QUEUED", ago(60), ago(60))],
            waiting=[Waiting("all", 3, ago(5), 4, "connection refused")],
            attempts=Attempts(3, ago(30), ago(2), "OperationalError: disk full", True),
        ),
        replace(sound, memory=replace(memory, server=None, daemon=dead)),
    ]  # fmt: skip
    return {one.key.kind: one for facts in seen for one in judge(facts, Limits(), [("oncall", "purge")], [])}


def outside() -> Iterator[tuple[str, Case]]:
    found = watched()
    for kind, one in sorted(found.items()):
        yield kind, Case(one)
    yield (
        "run_failed-over",
        Case(found["run_failed"], "resolved", resolution="succeeded", message="It has succeeded since."),
    )
    # The watcher tells that the database is down past the database, with words of its own.
    yield "database_down", Case(
        Wanted(
            Key("database_down", "warehouse"), "critical", "Duemark cannot be watched",
            "The watcher cannot look since 2026-11-24 08:30:00 UTC: connection refused", ago(10), NOW,
            application_id="duemark",
        )
    )  # fmt: skip


CASES = {name: case for each in (slos(), others(), outside()) for name, case in each}


@pytest.mark.parametrize("name", CASES)
def test_a_message_is_as_reviewed(name: str) -> None:
    telling = CASES[name].telling()
    golden(name, text(telling.title, telling.body))


def test_every_kind_has_its_text() -> None:
    assert {case.wanted.key.kind for case in CASES.values()} == set(known_kinds())
    known = {path.stem for path in GOLDEN.iterdir()}
    assert known == {*CASES, "digest", "night"}


@pytest.mark.parametrize("name", CASES)
def test_whatever_is_open_says_how_to_take_it_on(name: str) -> None:
    telling = CASES[name].telling()
    last = telling.body.splitlines()[-1]
    assert last == ("Incident 12" if telling.is_end else "Incident 12: duemark ack 12")


@pytest.mark.parametrize("name", [name for name, _ in slos()])
def test_a_message_has_one_clock(name: str) -> None:
    """That of the SLO: of every instant the zone is named, and nowhere another."""
    telling = CASES[name].telling()
    assert "UTC" not in telling.body + telling.title
    assert telling.body.count("EST") + telling.body.count(ZONE) > 0 or name.endswith("back-on-track")


def test_without_a_site_there_is_no_link() -> None:
    body = replace(CASES["overdue"].telling(), site=None).body
    assert "Page:" not in body
    assert "Runbook: https://wiki" in body


def test_more_than_text_makes_labels_stand_out_and_addresses_links() -> None:
    body = as_html(CASES["overdue"].telling().body)
    assert "<b>Cause (late upstream):</b> deposits/post_transactions" in body
    runbook = "https://wiki.example.org/deposits/post?step=1&amp;after=2"
    assert f'<b>Runbook:</b> <a href="{runbook}">{runbook}</a><br/>' in body
    assert "<b>Way:</b> deposits/post_transactions -&gt; overdrafts/charge-overdrafts" in body
    assert as_html("<script>\nx") == "&lt;script&gt;<br/>x"


def test_a_digest_lists_all_with_what_to_type() -> None:
    rows = [
        replace(row(CASES[name].wanted, number), cause_id=None)
        for number, name in enumerate(("overdue", "failed", "sender_silence", "late", "kpi_threshold"), 1)
    ]
    under = replace(row(slo("failed"), 9, title="Overdue: Overdrafts loaded, 2026-11-23"), cause_id=1)
    routes = Routes({"all": Route(id="all", to="file:x")}, replace(Rules(), digest_above=3))
    ended = replace(rows[1], resolved_at=NOW, resolution="missed", key=rows[1].key._replace(kind="overdue"))
    heard = {(2, "all"): Told(ago(60), ago(60))}
    situation = Situation([rows[0], rows[2], rows[4], under], [ended, rows[3]], heard, [])
    (one,) = notices(situation, routes, NOW).sent
    golden("digest", text(one.title, one.body))


# From landing to message


def test_a_night_is_told_as_reviewed(bank: Bank) -> None:
    """A chain of three: it fails, is restarted, is late; by real ticks, with all that is known of it."""
    bank.settings = bank.settings.having(DUEMARK_URL=f"{SITE}/")
    bank.write("routes/on_call.yml", 'routes:\n  - {id: all, to: "file:alerts.jsonl", repeat: 1h}\n')
    # What waits for the load is promised on the clocks of Berlin, an hour ahead.
    bank.write(
        "slos/bank.yml",
        """
slos:
  - {id: slo-a, name: The load, application: core, calendar: every_day, jobs: [{job: a, start: "01:00", end: "03:00"}]}
  - id: slo-b
    application: desk
    calendar: every_day
    timezone: Europe/Berlin
    jobs: [{job: b, start: "04:00", end: "05:00"}]
  - id: slo-c
    application: desk
    calendar: every_day
    timezone: Europe/Berlin
    jobs: [{job: c, start: "05:00", end: "06:00"}]
  - {id: slo-lone, application: core, calendar: every_day, jobs: [{job: lone, start: "02:00", end: "03:30"}]}
""",
    )
    bank.write(
        "jobs/bank.yml",
        """
jobs:
  - {id: a, application: core, name: The load, description: Loads all., runbook: "https://wiki.example.org/a"}
  - {id: b, application: desk, depends_on: [core/a], restartable: false}
  - {id: c, application: desk, depends_on: [b]}
  - {id: lone, application: core}
  - {id: window, application: core}
  - {id: weekly, application: desk}
""",
    )
    bank.usual_day()
    bank.at("00:30")
    bank.sends("core/lone", "START 02:00", "SUCCEED 02:30")
    bank.sends("core/a", "START 01:00", "FAIL 01:20", run="r1")
    bank.at("01:30")
    bank.sends("core/a", "START 01:40", run="r2")
    bank.at("01:45")
    bank.sends("core/a", "FAIL 02:10", run="r2")
    bank.at("02:15")
    bank.sends("core/a", "START 02:50", run="r3")
    bank.at("03:10")
    bank.at("04:15")
    bank.sends("core/a", "SUCCEED 04:20", run="r3")
    bank.at("04:30")
    bank.at("04:46")
    bank.sends("desk/b", "START 04:50", "SUCCEED 05:30")
    bank.sends("desk/c", "START 05:31", "SUCCEED 05:40")
    bank.at("05:45")
    rows = bank.query("select created_at, event, title, body from ops.alert_outbox order by outbox_id")
    golden("night", "\n".join(f"--- {at:%H:%M} {event}\n{text(*said)}" for at, event, *said in rows))
    assert [event for _, event, *_ in rows][:2] == ["opened", "back_on_track"]
    assert at("04:46") in {moment for moment, *_ in rows}
