"""Incidents of a small bank, by real ticks over statuses that landed."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from pipelines.catalog.store import restate
from pipelines.errors import DuemarkError
from pipelines.landing.unload import unload
from pipelines.warehouse.connect import connect
from sensors.oncall.incidents.commands import acknowledge, incidents, silence
from sensors.oncall.incidents.evaluate import Summary, evaluate, remind
from sensors.oncall.incidents.replay import replay
from sensors.oncall.incidents.store import open_incidents, open_versions
from tests.incidents.conftest import INTRADAY, WEEKLY, Bank, at
from tests.waiting import until


def test_overdue_opens_once_is_told_once_and_resolves_into_late(bank: Bank) -> None:
    bank.usual_day()
    assert bank.at("01:30").opened == 0
    bank.sends("core/a", "START 01:00")
    bank.sends("core/lone", "START 02:00", "SUCCEED 02:30")
    assert bank.at("03:01").opened == 1
    (incident,) = bank.open().values()
    assert incident.key == ("overdue", "slo-a", "2026-03-03 00:00")
    assert (incident.severity, incident.application_id, incident.began_at) == (
        "critical",
        "core",
        at("03:00"),
    )
    assert incident.title == "Overdue: The load, 2026-03-03"
    assert "waiting for core/a" in incident.message
    assert evaluate(bank.settings, at("03:01")) == Summary(as_of=at("03:01"))
    assert bank.at("03:02").messages == 0

    bank.sends("core/a", "SUCCEED 03:30")
    bank.sends("desk/b", "SUCCEED 03:40")
    bank.at("03:45")
    assert bank.open() == {}
    overdue, late = bank.all()
    assert (overdue.key.kind, overdue.resolution, overdue.resolved_into_id) == (
        "overdue",
        "late",
        late.incident_id,
    )
    assert (late.key.kind, late.resolution) == ("late", "late")
    assert bank.messages() == [
        ("opened", "Overdue: The load, 2026-03-03"),
        ("resolved", "Overdue: The load, 2026-03-03 (over: late)"),
    ]


def test_late_that_was_never_overdue_opens_resolved_and_is_told(bank: Bank) -> None:
    bank.usual_day()
    bank.at("02:00")
    bank.sends("core/a", "SUCCEED 03:20")
    bank.sends("core/lone", "SUCCEED 03:20")
    bank.at("03:25")
    (late,) = bank.all()
    assert (late.key.kind, late.resolved_at) == ("late", at("03:25"))
    assert bank.messages() == [("opened", "Late: The load, 2026-03-03")]
    bank.at("03:26")
    assert len(bank.all()) == 1


def test_failed_and_back_on_track(bank: Bank) -> None:
    bank.usual_day()
    bank.sends("core/a", "START 01:00", "FAIL 01:20")
    bank.at("01:30")
    assert list(bank.open()) == ["failed slo-a"]
    assert bank.open()["failed slo-a"].began_at == at("01:20")
    bank.sends("core/a", "START 01:40", "SUCCEED 02:20", run="r2")
    bank.at("01:45")
    assert bank.open() == {}
    assert bank.all()[0].resolution == "restarted"
    bank.at("02:30")
    assert bank.messages() == [
        ("opened", "Failed: The load, 2026-03-03"),
        ("back_on_track", "Failed: The load, 2026-03-03 (back on track)"),
    ]


def test_what_waits_upstream_is_grouped_and_told_when_it_stays(bank: Bank) -> None:
    bank.usual_day()
    bank.sends("core/a", "START 01:00", "FAIL 01:20")
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.at("05:30")
    assert bank.grouping() == {
        "overdue slo-a": None,
        "failed slo-a": "overdue slo-a",
        "overdue slo-b": "overdue slo-a",
        "overdue slo-c": "overdue slo-a",
    }
    assert bank.messages() == [("opened", "Overdue: The load, 2026-03-03")]
    assert bank.at("05:31").messages == 0

    # The cause is over: b has a while to get done by itself, c still waits for b.
    bank.sends("core/a", "START 05:32", "SUCCEED 05:40", run="r2")
    bank.at("05:41")
    assert bank.grouping() == {"overdue slo-b": None, "overdue slo-c": "overdue slo-b"}
    assert bank.messages()[1:] == [("resolved", "Overdue: The load, 2026-03-03 (over: late)")]
    remind(bank.settings, at("05:55"))
    assert len(bank.messages()) == 2
    remind(bank.settings, at("05:56"))
    assert bank.messages()[2:] == [("opened", "Overdue: slo-b, 2026-03-03")]
    bank.sends("desk/b", "SUCCEED 05:57")
    bank.sends("desk/c", "SUCCEED 05:58")
    bank.at("05:59")
    assert bank.open() == {}
    # Of c nobody had heard; so nobody hears of its end.
    assert bank.messages()[3:] == [("resolved", "Overdue: slo-b, 2026-03-03 (over: late)")]


def test_an_upstream_that_turns_out_to_be_the_cause_takes_over(bank: Bank) -> None:
    """b is due before a here: b is told first, and is grouped once a is overdue."""
    bank.write(
        "slos/bank.yml",
        """
slos:
  - {id: slo-a, application: core, calendar: every_day, jobs: [{job: a, end: "05:00"}]}
  - {id: slo-b, application: desk, calendar: every_day, jobs: [{job: b, end: "04:00"}]}
""",
    )
    bank.usual_day()
    bank.at("04:10")
    assert bank.grouping() == {"overdue slo-b": None}
    bank.at("05:10")
    assert bank.grouping() == {"overdue slo-a": None, "overdue slo-b": "overdue slo-a"}
    bank.at("09:00")
    repeated = [title for event, *title in bank.messages() if event == "repeated"]
    assert repeated == []
    bank.at("09:20")
    repeated = [title for event, *title in bank.messages() if event == "repeated"]
    assert repeated == [["Overdue: slo-a, 2026-03-03 (still open)"]]


def test_repeats_until_acknowledged(bank: Bank) -> None:
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.at("03:01")
    remind(bank.settings, at("07:00"))
    assert len(bank.messages()) == 1
    remind(bank.settings, at("07:01"))
    remind(bank.settings, at("07:02"))
    assert bank.messages()[1:] == [("repeated", "Overdue: The load, 2026-03-03 (still open)")]
    (incident,) = bank.open().values()
    row = acknowledge(bank.settings, incident.incident_id, by="ann", now=at("07:05"))
    assert row["acknowledged_by"] == "ann"
    assert acknowledge(bank.settings, incident.incident_id, by="bob")["acknowledged_by"] == "ann"
    remind(bank.settings, at("23:00"))
    assert len(bank.messages()) == 2
    assert [row["state"] for row in incidents(bank.settings)] == ["acknowledged"]
    # Its end is told all the same.
    bank.sends("core/a", "SUCCEED 03:30")
    bank.sends("desk/b", "SUCCEED 03:30")
    bank.tick("03:40")
    evaluate(bank.settings, at("23:10"))
    assert bank.messages()[-1][0] == "resolved"


def test_escalation_when_nobody_acknowledges(bank: Bank) -> None:
    bank.write(
        "routes/on_call.yml",
        """
routes:
  - {id: all, to: "file:a.jsonl", repeat: 0m, escalate: {after: 30m, to: boss}}
  - {id: boss, to: "file:b.jsonl", when: escalated, repeat: 2h}
""",
    )
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.at("03:01")
    remind(bank.settings, at("03:30"))
    assert len(bank.messages()) == 1
    for moment in ("03:31", "03:32", "05:30"):
        remind(bank.settings, at(moment))
    title = "Overdue: The load, 2026-03-03"
    assert bank.messages()[1:] == [("boss", "escalated", f"{title} (not acknowledged)")]
    assert bank.open()["overdue slo-a"].escalated_at == at("03:31")
    remind(bank.settings, at("05:31"))
    assert bank.messages()[2:] == [("boss", "repeated", f"{title} (still open)")]
    bank.sends("core/a", "SUCCEED 03:30")
    bank.sends("desk/b", "SUCCEED 03:30")
    bank.tick("03:40")
    evaluate(bank.settings, at("05:40"))
    assert sorted(bank.outbox()[3:]) == [
        ("all", "resolved", f"{title} (over: late)"),
        ("boss", "resolved", f"{title} (over: late)"),
    ]


def test_a_silence_holds_back_and_ends(bank: Bank) -> None:
    silence(bank.settings, slo="slo-a", reason="migration", end=at("04:00"), now=at("00:00"))
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.at("03:01")
    assert list(bank.open()) == ["overdue slo-a"]
    assert bank.messages() == []
    remind(bank.settings, at("03:59"))
    assert bank.messages() == []
    remind(bank.settings, at("04:00"))
    assert bank.messages() == [("opened", "Overdue: The load, 2026-03-03")]


def test_what_is_over_before_its_silence_ends_is_never_told(bank: Bank) -> None:
    silence(
        bank.settings, application="core", reason="migration", duration=timedelta(hours=5), now=at("00:00")
    )
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.at("03:01")
    bank.sends("core/a", "SUCCEED 03:30")
    bank.at("03:31")
    remind(bank.settings, at("06:00"))
    assert (bank.messages(), bank.open()) == ([], {})


def test_later_windows_of_a_day_are_grouped_under_the_first(bank: Bank) -> None:
    bank.write("slos/window.yml", INTRADAY)
    bank.write("slos/bank.yml", "slos: []\n")
    bank.sends("core/window", "START 2 06:00", "SUCCEED 2 06:05", date="2026-03-02")
    # Something else of core reports, so that it is this job and not its sender.
    bank.sends("core/lone", "SUCCEED 07:15")
    bank.at("07:20")
    causes = {name: cause for name, cause in bank.grouping().items() if "2026-03-03" in name}
    assert causes == {
        "overdue slo-window 2026-03-03 06:00": None,
        "overdue slo-window 2026-03-03 06:30": "overdue slo-window 2026-03-03 06:00",
        "overdue slo-window 2026-03-03 07:00": "overdue slo-window 2026-03-03 06:00",
    }


def test_a_silent_sender_is_told_apart_from_late_jobs(bank: Bank) -> None:
    bank.usual_day()
    bank.at("03:01")
    assert list(bank.open()) == ["overdue slo-a"]
    bank.at("05:30")
    assert bank.grouping() == {
        "sender_silence core": None,
        "overdue slo-a": "sender_silence core",
        "overdue slo-lone": "sender_silence core",
        # They wait for core, so nothing says that desk is silent too.
        "overdue slo-b": "sender_silence core",
        "overdue slo-c": "sender_silence core",
    }
    silent = bank.open()["sender_silence core"]
    assert (silent.severity, silent.began_at) == ("critical", at("03:00"))
    assert "core/a, core/lone" in silent.message
    assert bank.messages() == [
        ("opened", "Overdue: The load, 2026-03-03"),
        ("opened", "Sender silent: core"),
    ]
    bank.sends("core/a", "START 05:31")
    bank.at("05:32")
    assert bank.grouping()["overdue slo-a"] is None
    assert "sender_silence core" not in bank.open()


def test_a_sender_is_silent_since_its_last_word_to_any_look(bank: Bank) -> None:
    def last_word() -> str | None:
        found = bank.open().get("sender_silence core")
        return found.detail["last_status_at"] if found else None

    bank.usual_day()
    bank.at("05:30")
    assert last_word() == at("2 02:30").isoformat()
    bank.sends("core/a", "START 05:31")
    bank.at("05:32")
    assert last_word() is None
    bank.at("4 05:30")
    assert last_word() == at("05:31").isoformat()
    # It has landed, and its time has not come.
    bank.sends("core/a", "START 4 05:45", date="2026-03-04")
    bank.at("4 05:40")
    assert last_word() == at("05:31").isoformat()
    bank.at("4 05:46")
    assert last_word() is None


def test_a_look_reads_again_only_the_incidents_that_were_written(bank: Bank) -> None:
    bank.usual_day()
    bank.at("05:30")
    with connect(bank.settings, "operate") as connection, connection.cursor() as cursor:
        before = open_versions(cursor, {})
        assert [one for _, one in before.values()] == open_incidents(cursor)
    taken = bank.open()["overdue slo-lone"].incident_id
    acknowledge(bank.settings, taken, by="ann", now=at("05:31"))
    bank.sends("core/a", "START 05:32", "SUCCEED 05:33")
    bank.at("05:34")
    with connect(bank.settings, "operate") as connection, connection.cursor() as cursor:
        after = open_versions(cursor, before)
        standing = open_incidents(cursor)
        again = open_versions(cursor, after)
    assert [one for _, one in after.values()] == standing
    assert after[taken][1].acknowledged_by == "ann"
    assert before.keys() - after.keys()
    assert all(again[incident_id][1] is one for incident_id, (_, one) in after.items())


def test_one_that_never_sent_is_not_called_silent(bank: Bank) -> None:
    bank.write("slos/bank.yml", SLOS_FROM_MARCH)
    bank.at("05:30")
    assert "sender_silence core" not in bank.open()
    assert "overdue slo-a" in bank.open()


SLOS_FROM_MARCH = """
slos:
  - {id: slo-a, application: core, calendar: every_day, effective_from: 2026-01-01, jobs: [{job: a, end: "03:00"}]}
  - id: slo-lone
    application: core
    calendar: every_day
    effective_from: 2026-01-01
    jobs: [{job: lone, end: "03:30"}]
"""


def test_history_opens_a_few_incidents_however_long_it_is(bank: Bank) -> None:
    """A job that never reported since January, and a weekly one: the newest of each; all before were given up."""
    bank.write("slos/bank.yml", SLOS_FROM_MARCH)
    bank.write(
        "slos/weekly.yml",
        WEEKLY.replace("calendar: sundays", "calendar: sundays, effective_from: 2026-01-01"),
    )
    bank.at("20 10:00")
    assert bank.query("select count(*) from marts.slo_performance where outcome = 'missed'")[0][0] > 150
    occurrences = sorted(one.key[1:] for one in bank.open().values())
    assert occurrences == [
        ("slo-a", "2026-03-20 00:00"),
        ("slo-lone", "2026-03-20 00:00"),
        # Five days ago, and open until the next one falls due.
        ("slo-weekly", "2026-03-15 00:00"),
    ]
    bank.at("22 13:00")
    weekly = [one for one in bank.all() if one.slo_id == "slo-weekly"]
    assert [(one.key.occurrence, one.resolution) for one in weekly] == [
        ("2026-03-15 00:00", "missed"),
        ("2026-03-22 00:00", None),
    ]
    assert weekly[0].message.startswith("Missed, given up at 2026-03-22 ")


def test_a_storm_is_one_message(bank: Bank) -> None:
    bank.write(
        "slos/bank.yml",
        "slos:\n"
        + "".join(
            f"  - {{id: s{number}, application: core, calendar: every_day, effective_from: 2026-03-03,"
            f' jobs: [{{job: lone, end: "0{number % 5}:{number:02}"}}]}}\n'
            for number in range(30)
        ),
    )
    bank.at("06:00")
    assert len(bank.open()) == 30
    assert bank.outbox() == [("all", "digest", "30 incidents: 30 overdue")]
    assert bank.query("select count(*) from ops.notice") == [(30,)]
    remind(bank.settings, at("06:01"))
    assert len(bank.outbox()) == 1


def test_unregistered_jobs_are_told_once_and_end_when_registered(bank: Bank) -> None:
    bank.sends("core/stray", "SUCCEED 01:00")
    bank.sends("core/waif", "SUCCEED 01:10")
    bank.sends("nobody/x", "SUCCEED 01:20")
    bank.sends("nobody/y", "SUCCEED 01:30")
    bank.at("02:00")
    assert bank.grouping() == {
        "unregistered_job core/stray": None,
        "unregistered_job core/waif": "unregistered_job core/stray",
        "unregistered_job nobody": None,
    }
    assert len(bank.messages()) == 2
    bank.sends("core/stray", "SUCCEED 01:40")
    bank.at("02:01")
    assert len(bank.messages()) == 2
    bank.write(
        "jobs/more.yml", "jobs:\n  - {id: stray, application: core}\n  - {id: waif, application: core}\n"
    )
    bank.at("02:10")
    assert list(bank.open()) == ["unregistered_job nobody"]


def test_a_lone_business_date_is_told_once_and_ends_when_it_is_none_any_more(bank: Bank) -> None:
    bank.usual_day()
    bank.at("02:00")
    assert bank.messages() == []
    bank.sends("core/lone", "SUCCEED 01:00", date="2006-03-03")
    bank.at("02:10")
    name = "lone_date slo-lone 2006-03-03"
    assert list(bank.open()) == [name]
    incident = bank.open()[name]
    assert "slo-lone has a status for the business date 2006-03-03" in incident.message
    assert "it starts on 2026-03-01" in incident.message
    assert bank.messages() == [("opened", "Lone business date: slo-lone, 2006-03-03")]
    bank.sends("core/lone", "FAIL 01:10", date="2006-03-03")
    bank.at("02:20")
    assert len(bank.messages()) == 1
    for (path,) in bank.query(
        "select path from raw.landed_file inner join raw.job_status using (load_id)"
        " where business_date = '2006-03-03'"
    ):
        unload(bank.settings, path, "mistyped")
    bank.at("02:30")
    assert bank.open() == {}
    assert [one.resolution for one in bank.all()] == ["settled"]


def test_a_database_that_fails_is_told_as_it_stands_between_two_ticks(bank: Bank) -> None:
    def fails(error: str | None) -> None:
        with connect(bank.settings, "ingest") as connection:
            connection.execute(
                "insert into copies.state (database_id, table_name, relation, key, columns, error, failed_at)"
                " values ('shop', 'orders', 'shop_orders', '{id}', '[]', %(error)s, %(at)s)"
                " on conflict (relation) do update set error = %(error)s, failed_at = %(at)s",
                {"error": error, "at": at("02:00")},
            )

    bank.tick("02:00")
    fails("refused.")
    evaluate(bank.settings, at("02:01"))
    assert list(bank.open()) == ["kpi_stale shop"]
    incident = bank.open()["kpi_stale shop"]
    assert (incident.severity, incident.title) == ("warning", "Stale: KPIs over shop")
    said = "The source database shop could not be read: refused. Nothing was read of it yet."
    assert (incident.message, incident.began_at, dict(incident.detail)) == (said, at("02:00"), {"kpis": []})
    fails("timed out")
    evaluate(bank.settings, at("02:02"))
    assert bank.open()["kpi_stale shop"].message == said.replace("refused", "timed out")
    assert bank.messages() == [("opened", "Stale: KPIs over shop")]
    fails(None)
    evaluate(bank.settings, at("02:03"))
    assert bank.open() == {}
    (ended,) = bank.all()
    assert (ended.resolution, ended.message) == ("read", "The source was read again.")


def test_after_an_upgrade_nothing_is_judged_before_its_first_tick(bank: Bank) -> None:
    bank.sends("core/stray", "SUCCEED 01:00")
    bank.at("02:00")

    def rename(now: str, then: str) -> None:
        with connect(bank.settings, "transform") as connection:
            connection.execute(f"alter view marts.{now} rename to {then}".encode())

    bank.sends("core/waif", "SUCCEED 01:10")
    # An earlier version has not all the views by which this one judges.
    rename("incident_known_job", "not_yet")
    try:
        assert bank.at("02:10") == Summary()
        assert list(bank.open()) == ["unregistered_job core/stray"]
        with pytest.raises(DuemarkError, match="only those of an earlier version") as refused:
            replay(bank.settings, at("01:00"), at("02:00"))
        assert refused.value.hint == "`duemark tick` makes them."
    finally:
        rename("not_yet", "incident_known_job")
    evaluate(bank.settings, at("02:11"))
    assert list(bank.open()) == ["unregistered_job core/stray", "unregistered_job core/waif"]


def test_what_was_taken_out_again_troubles_nobody(bank: Bank) -> None:
    bank.sends("core/stray", "SUCCEED 01:00")
    bank.lands("\n".join(["{}"] * 9))
    bank.tick("02:00")
    (now,) = bank.query("select now()")[0]
    evaluate(bank.settings, now)
    assert sorted(one.key.kind for one in bank.open().values()) == ["rejected_records", "unregistered_job"]
    for (path,) in bank.query("select path from raw.landed_file where status = 'loaded'"):
        unload(bank.settings, path, "of another bank")
    bank.tick("02:10")
    evaluate(bank.settings, now)
    assert bank.open() == {}
    assert {one.resolution for one in bank.all()} == {"unloaded"}


def test_rejected_records_and_files(bank: Bank) -> None:
    good = (
        '{"application_id": "core", "job_id": "window", "status_code": "START", "status_at": "%s",'
        ' "business_date": "2026-03-03"}'
    )
    bank.lands("\n".join(good % at("02:00").isoformat() for _ in range(400)) + "\n{}" * 3)
    bank.at("02:10")
    assert bank.open() == {}
    # The clock of records is the wall's: they landed now.
    now = bank.query("select now()")[0][0]
    bank.lands(good % at("02:01").isoformat() + "\n{}" * 6)
    bank.lands("no json at all")
    bank.tick("02:20")
    evaluate(bank.settings, now)
    rows = sorted(bank.open().values(), key=lambda one: one.incident_id)
    assert {one.key.kind for one in rows} == {"rejected_records"}
    assert "6 of 7 records were rejected (85.7%)" in rows[0].message
    # One that could not be read stands by itself.
    assert [one.cause_id for one in rows] == [None, None]
    assert evaluate(bank.settings, now).opened == 0
    for one in rows:
        acknowledge(bank.settings, one.incident_id, by="ann")
    evaluate(bank.settings, now)
    assert bank.open() == {}
    assert {one.resolution for one in bank.all()} == {"acknowledged"}
    evaluate(bank.settings, now)
    assert bank.open() == {}


def test_an_incident_of_records_ends_by_itself(bank: Bank) -> None:
    bank.lands("\n".join(["{}"] * 9))
    bank.tick("02:20")
    now = bank.query("select now()")[0][0]
    evaluate(bank.settings, now)
    assert len(bank.open()) == 1
    evaluate(bank.settings, now + timedelta(hours=23))
    assert len(bank.open()) == 1
    evaluate(bank.settings, now + timedelta(hours=25))
    assert [one.resolution for one in bank.all()] == ["expired"]


def test_a_calendar_that_ends(bank: Bank) -> None:
    bank.write(
        "calendars/bank.yml", "calendars:\n  - {id: every_day, weekdays: [mon, tue], until: 2026-05-04}\n"
    )
    bank.at("01:00")
    assert bank.open() == {}
    bank.at("8 01:00")
    assert list(bank.open()) == ["calendar_ending every_day"]
    incident = bank.open()["calendar_ending every_day"]
    assert "2026-05-04" in incident.message
    assert "slo-a, slo-b, slo-c, slo-lone" in incident.message
    bank.write(
        "calendars/bank.yml", "calendars:\n  - {id: every_day, weekdays: [mon, tue], until: 2027-05-04}\n"
    )
    bank.at("8 01:05")
    assert bank.open() == {}
    assert bank.all()[0].resolution == "extended"


def test_a_retired_slo_closes_its_incidents(bank: Bank) -> None:
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.at("03:10")
    bank.write("slos/bank.yml", "slos: []\n")
    bank.at("03:20")
    assert bank.open() == {}
    assert bank.all()[0].resolution == "withdrawn"


def test_a_rebuild_to_an_earlier_moment_closes_what_is_not_due_then(bank: Bank) -> None:
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.at("03:10")
    bank.at("02:50", rebuild=True)
    assert [one.resolution for one in bank.all()] == ["not_due"]
    bank.at("03:11")
    assert list(bank.open()) == ["overdue slo-a"]


def test_routes_with_a_fault_leave_those_before_in_force(bank: Bank) -> None:
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.at("01:00")
    bank.write("routes/on_call.yml", "routes:\n  - {id: all, too: nowhere}\n")
    summary = bank.at("03:10")
    assert summary.messages == 1
    assert any("too" in problem for problem in summary.problems)


def test_two_evaluators_at_once_do_it_once(bank: Bank) -> None:
    bank.usual_day()
    bank.tick("05:30")
    start = threading.Barrier(6)
    found: list[Summary] = []

    def run() -> None:
        start.wait()
        found.append(evaluate(bank.settings, at("05:30")))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.opened for one in found) == [0, 0, 0, 0, 0, 5]
    assert len(bank.all()) == 5
    assert len(bank.messages()) == 1


def test_an_acknowledgement_during_an_evaluation_is_not_lost(bank: Bank) -> None:
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.at("03:01")
    (incident,) = bank.open().values()
    bank.sends("core/a", "START 03:01")
    bank.tick("03:02")
    with connect(bank.settings, "operate") as connection:
        # Holds the row while the evaluation, on its own snapshot, comes to it with a message that has changed.
        connection.execute(
            "update ops.incident set acknowledged_at = now(), acknowledged_by = 'ann' where incident_id = %s",
            [incident.incident_id],
        )
        thread = threading.Thread(target=evaluate, args=(bank.settings, at("03:02")))
        thread.start()
        until(
            lambda: bank.query("select true from pg_locks where not granted and locktype = 'transactionid'")
        )
        connection.commit()
    thread.join()
    (incident,) = bank.open().values()
    assert (incident.acknowledged_by, incident.last_seen_at) == ("ann", at("03:02"))
    assert bank.at("03:03").updated == 0
    assert bank.open()["overdue slo-a"].last_seen_at == at("03:02")


@pytest.mark.parametrize("steps", [("06:30",), tuple(f"{h:02}:{m:02}" for h in range(1, 7) for m in (5, 30))])
def test_the_same_is_open_however_often_one_looks(bank: Bank, steps: tuple[str, ...]) -> None:
    """A night with a failure, a restart, a late end and what stays open: looked at once, or at every step twice."""
    bank.usual_day()
    bank.at("00:10")
    bank.sends("core/a", "START 01:00", "FAIL 01:20")
    bank.sends("core/a", "START 01:40", "SUCCEED 03:20", run="r2")
    bank.sends("core/lone", "START 02:00", "FAIL 02:10")
    bank.sends("desk/b", "START 03:25", "SUCCEED 03:50")
    for step in steps:
        bank.at(step)
        assert not evaluate(bank.settings, at(step)).is_change
    if steps[-1] != "06:30":
        bank.at("06:30")
    assert bank.grouping() == {"overdue slo-c": None, "overdue slo-lone": None, "failed slo-lone": None} | (
        {"failed slo-lone": "overdue slo-lone"} if len(steps) == 1 else {}
    )
    assert [one.key.subject for one in bank.all() if one.key.kind == "late"] == ["slo-a"]
    told = bank.query(
        "select incident_id, route, event, count(*) from ops.notice group by 1, 2, 3 having count(*) > 1"
    )
    assert told == []


def test_analysts_read_incidents_and_change_nothing(bank: Bank) -> None:
    import psycopg

    with connect(bank.settings, "analyst") as connection:
        for name in ("incident", "open_incident", "silence", "notice"):
            connection.execute(f"select count(*) from ops.{name}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from ops.alert_outbox")


def test_an_ending_says_what_happened(bank: Bank) -> None:
    """Calendar edited, promise moved, SLO changed, SLO taken out: each is another end of the same trouble."""
    slo = (
        "  - {{id: {0}, application: core, calendar: {1}, effective_from: 2026-03-02,"
        ' jobs: [{{job: lone, end: "{2}"}}]}}\n'
    )
    bank.write(
        "calendars/more.yml",
        "calendars:\n"
        + "".join(f"  - {{id: {one}, weekdays: [mon, tue, wed, thu, fri, sat, sun]}}\n" for one in "xyz"),
    )
    bank.write(
        "slos/bank.yml",
        "slos:\n"
        + slo.format("calendar", "x", "03:00")
        + slo.format("moved", "y", "03:00")
        + slo.format("other-days", "y", "03:00")
        + slo.format("out", "y", "03:00"),
    )
    bank.at("4 01:00")
    bank.at("4 04:00")
    assert len([one for one in bank.open().values() if one.key.occurrence == "2026-03-04 00:00"]) == 4
    bank.write(
        "calendars/more.yml",
        "calendars:\n  - {id: x, weekdays: [mon, tue]}\n"
        + "".join(f"  - {{id: {one}, weekdays: [mon, tue, wed, thu, fri, sat, sun]}}\n" for one in "yz"),
    )
    bank.write(
        "slos/bank.yml",
        "slos:\n"
        + slo.format("calendar", "x", "03:00")
        + slo.format("moved", "y", "09:00")
        + slo.format("other-days", "sundays", "03:00"),
    )
    for one in ("calendar", "moved", "other-days"):
        # The dates are past by the clock of loads.
        restate(bank.settings, one, at("2 00:00").date())
    bank.at("4 04:10")
    ended = {
        one.slo_id: (one.resolution, one.message)
        for one in bank.all()
        if one.key.occurrence == "2026-03-04 00:00" and one.resolution
    }
    assert {slo: resolution for slo, (resolution, _) in ended.items()} == {
        "calendar": "off_calendar",
        "moved": "changed",
        "other-days": "changed",
        "out": "withdrawn",
    }
    assert ended["calendar"][1] == "The calendar x was changed: nothing is due of 2026-03-04 any more."
    assert "due 2026-03-04 09:00 UTC, and no longer 2026-03-04 03:00 UTC" in ended["moved"][1]
    assert ended["out"][1] == "The SLO out was taken out of the catalog."
