"""What comes again and again is one incident; a storm is told in digests, and nothing of it is lost."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.catalog.read import CatalogError
from sensors.oncall.incidents.commands import acknowledge
from sensors.oncall.incidents.model import KINDS, Ending, Key, OccurrenceKey, Wanted
from sensors.oncall.incidents.replay import PastJob, PastOccurrence, replay, replay_of
from sensors.oncall.incidents.routes import Route, Routes, load_routes
from sensors.oncall.incidents.store import in_transaction, reconcile, tell
from tests.incidents.conftest import Bank, at

FAILED = "Failed: The load, 2026-03-03"
TWICE = "Failed 2 times: The load, 2026-03-03"


def flap(bank: Bank, *moments: str) -> None:
    """core/a fails and is started again by turns, at these moments; somebody looks a minute after each."""
    for number, moment in enumerate(moments):
        run = f"r{number // 2}"
        if number % 2 == 0 and number == 0:
            bank.sends("core/a", "START 01:00", run=run)
        bank.sends("core/a", f"{'START' if number % 2 else 'FAIL'} {moment}", run=f"r{(number + 1) // 2}")
        bank.at(f"{at(moment) + timedelta(minutes=1):%H:%M}")


def test_a_job_that_flaps_is_one_incident_with_a_count(bank: Bank) -> None:
    bank.usual_day()
    bank.at("00:30")
    flap(bank, "01:10", "01:15", "01:20", "01:25", "01:30", "01:35")
    assert [one.key.kind for one in bank.all()] == ["failed"]
    (incident,) = bank.open().values()
    assert incident.title == "Failed 3 times: The load, 2026-03-03"
    assert incident.detail["failures"] == 3
    # It was told as over once; when it failed again, that was told, and then no more.
    told = [
        ("opened", FAILED),
        ("back_on_track", f"{FAILED} (back on track)"),
        ("repeated", f"{TWICE} (again)"),
    ]
    assert bank.messages() == told
    bank.at("02:29")
    assert bank.messages() == told
    # An hour without a failure: it is over.
    bank.at("02:30")
    assert bank.open() == {}
    assert [one.resolution for one in bank.all()] == ["restarted"]
    assert bank.messages()[3:] == [("back_on_track", "Failed 3 times: The load, 2026-03-03 (back on track)")]
    again = replay(bank.settings, at("00:31"), at("03:00"))
    assert [(one.event, one.at) for one in again.sent] == [
        ("opened", at("01:10")),
        ("back_on_track", at("01:15")),
        ("repeated", at("01:20")),
        ("back_on_track", at("02:30")),
    ]
    assert again.opened == {"failed": 1}


def test_what_fails_again_long_after_is_another_incident(bank: Bank) -> None:
    bank.write(
        "slos/bank.yml",
        'slos:\n  - {id: slo-a, application: core, calendar: every_day, jobs: [{job: a, end: "23:00"}]}\n',
    )
    bank.usual_day()
    bank.at("00:30")
    flap(bank, "01:10", "01:15", "02:20")
    assert [(one.key.kind, one.resolution) for one in bank.all()] == [
        ("failed", "restarted"),
        ("failed", None),
    ]


def test_who_took_it_on_hears_when_it_fails_again_and_then_no_more(bank: Bank) -> None:
    bank.usual_day()
    bank.at("00:30")
    flap(bank, "01:10")
    acknowledge(bank.settings, 1, by="ann", now=at("01:12"))
    flap_on = ("START 01:15", "FAIL 01:20", "START 01:25", "FAIL 01:30")
    for number, status in enumerate(flap_on):
        bank.sends("core/a", status, run=f"r{(number // 2) + 1}")
        bank.at(f"{at(status.split()[1]) + timedelta(minutes=1):%H:%M}")
        if number == 1:
            assert bank.open()["failed slo-a"].acknowledged_by is None
            acknowledge(bank.settings, 1, by="ann", now=at("01:22"))
    assert bank.open()["failed slo-a"].acknowledged_by == "ann"
    assert [event for event, _ in bank.messages()] == ["opened", "back_on_track", "repeated"]


# Storms


ROUTES = Routes({"all": Route(id="all", to="file:x")})


def wanted(number: int) -> Wanted:
    """Of an SLO that fell due so many minutes after one, and never came."""
    due = at("01:00") + timedelta(minutes=number)
    return Wanted(Key("overdue", f"s{number:03}", "x"), "critical", f"Overdue: s{number:03}", "", due, due)


def look(bank: Bank, moment: str, *numbers: int) -> None:
    """These are overdue at that moment, and no others."""

    def work(cursor: Any) -> None:
        done = reconcile(
            cursor, KINDS, map(wanted, numbers), lambda _: Ending("late", "Late."), now=at(moment)
        )
        tell(cursor, ROUTES, at(moment), done.over)

    in_transaction(bank.settings, work)


def told_at(bank: Bank) -> list[tuple[str, str, int]]:
    """When, which event, and of how many incidents."""
    rows = bank.query(
        "select created_at, message.event, count(*) from ops.alert_outbox as message inner join ops.notice"
        " using (outbox_id) where notice.event <> 'grouped' group by outbox_id, created_at, message.event"
        " order by outbox_id"
    )
    return [(f"{moment:%H:%M}", event, count) for moment, event, count in rows]


def test_a_storm_is_digested_over_time(bank: Bank) -> None:
    for minute in range(1, 32):
        look(bank, f"01:{minute:02}", *range(1, minute + 1))
    told = told_at(bank)
    # The first at once, each by itself; then one message in five minutes, of all that came meanwhile.
    assert told[:10] == [(f"01:{minute:02}", "opened", 1) for minute in range(1, 11)]
    assert told[10:] == [(f"01:{minute:02}", "digest", 5) for minute in (15, 20, 25, 30)]
    assert bank.query("select count(*) from ops.held") == [(1,)]
    for minute in range(32, 36):
        look(bank, f"01:{minute:02}", *range(1, 32))
    assert told_at(bank)[14:] == [("01:35", "opened", 1)]
    assert bank.query("select count(*) from ops.held") == [(0,)]
    # Of all of them somebody was told, and none waited for longer than a digest takes.
    rows = bank.query(
        "select count(*), max(told_at - opened_at) from ops.notice inner join ops.incident using (incident_id)"
    )
    assert rows == [(31, timedelta(minutes=4))]


def test_a_replay_comes_to_the_same_storm() -> None:
    night = [
        PastOccurrence(
            OccurrenceKey(f"s{number:03}", date(2026, 3, 3), "00:00"), "core", f"s{number:03}", None,
            at("01:00") + timedelta(minutes=number - 1), None,
            [PastJob(("core", f"j{number}"), None, at("01:00") + timedelta(minutes=number - 1), None, None, 0)],
        )
        for number in range(1, 32)
    ]  # fmt: skip
    again = replay_of(night, {}, ROUTES, at("00:50"), at("01:35"))
    told = [(f"{one.at:%H:%M}", one.event) for one in again.sent]
    assert told[:10] == [(f"01:{minute:02}", "opened") for minute in range(1, 11)]
    assert told[10:] == [*((f"01:{minute:02}", "digest") for minute in (15, 20, 25, 30)), ("01:35", "opened")]


def test_what_ends_in_a_storm_is_told_in_its_digest(bank: Bank) -> None:
    for minute in range(1, 14):
        look(bank, f"01:{minute:02}", *range(1, minute + 1))
    assert len(told_at(bank)) == 10
    # Three are held back; all thirteen end before the digest.
    look(bank, "01:14")
    assert (len(told_at(bank)), bank.open()) == (10, {})
    look(bank, "01:15")
    ((title, body),) = bank.query("select title, body from ops.alert_outbox where event = 'digest'")
    assert title == "13 incidents: 3 overdue, 10 overdue over"
    lines = body.splitlines()
    assert lines[0] == "Overdue: s001 (over: late) · 1"
    assert len(lines) == 13
    look(bank, "01:30")
    assert len(told_at(bank)) == 11


def test_what_is_taken_on_while_it_is_held_back_is_not_told(bank: Bank) -> None:
    for minute in range(1, 12):
        look(bank, f"01:{minute:02}", *range(1, minute + 1))
    ((held,),) = bank.query("select incident_id from ops.held")
    acknowledge(bank.settings, held, by="ann", now=at("01:12"))
    look(bank, "01:20", *range(1, 12))
    assert len(told_at(bank)) == 10
    assert bank.query("select count(*) from ops.held") == [(0,)]


def test_a_digest_may_not_come_later_than_all_has_to_be_told(tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "r.yml").write_text("rules: {regroup_after: 4m, digest_every: 5m}\n")
    with pytest.raises(CatalogError, match="digests would come too late"):
        load_routes(tmp_path)
