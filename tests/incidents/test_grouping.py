"""What is grouped, and what an acknowledgement covers; neither keeps on-call from hearing of trouble."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.oncall.incidents.changes import forest
from sensors.oncall.incidents.commands import acknowledge, incidents
from sensors.oncall.incidents.evaluate import evaluate, remind
from sensors.oncall.incidents.model import Incident, Key, Rules, Severity, Told, Wanted
from sensors.oncall.incidents.notices import Silence, Situation, notices
from sensors.oncall.incidents.replay import PastJob, PastOccurrence, replay, replay_of
from sensors.oncall.incidents.routes import Route, Routes
from sensors.oncall.incidents.rules import LandedFile, by_sender, group_by, rejected_incidents
from tests.incidents.conftest import INTRADAY, Bank, at
from tests.transform.support import examples

NOON = at("12:00")


def key(number: int) -> Key:
    return Key("overdue", f"s{number}", "x")


def wanted(number: int, cause: int | None = None) -> Wanted:
    began = NOON + timedelta(minutes=number)
    return Wanted(
        key(number), "warning", str(number), "", began, NOON, cause=None if cause is None else key(cause)
    )


def row(number: int, cause: int | None = None, **values: object) -> Incident:
    made = Incident(
        number, key(number), "warning", f"title {number}", "", NOON, NOON, NOON, NOON, cause_id=cause
    )
    return replace(made, **values)  # type: ignore[arg-type]


# Causes


def test_a_ring_has_a_root_and_stays_at_it() -> None:
    ring = [wanted(1, 2), wanted(2, 3), wanted(3, 1), wanted(4, 2), wanted(5, 9)]
    # The one that began first; and whoever waits for one in the ring stands under it too.
    assert forest(ring) == {key(2): key(1), key(3): key(1), key(4): key(1)}
    # One that was told by itself before the ring closed goes on being told.
    assert set(forest(ring, [row(2)]).values()) == {key(2)}
    assert set(forest(ring, [row(1, 3), row(2, 3), row(3)]).values()) == {key(3)}
    assert forest([wanted(1, 1)]) == {}


@examples(200)
@given(st.dictionaries(st.integers(0, 9), st.none() | st.integers(0, 9)), st.randoms())
def test_every_way_ends_at_a_root(causes: dict[int, int | None], shuffle: object) -> None:
    nodes = [wanted(number, cause) for number, cause in causes.items()]
    roots = forest(nodes)
    assert not set(roots) & set(roots.values())
    for one in nodes:
        if one.cause in {each.key for each in nodes} - {one.key}:
            assert one.key in roots or one.key in roots.values()
        else:
            assert one.key not in roots
    shuffle.shuffle(nodes)  # type: ignore[attr-defined]
    assert forest(nodes) == roots


# Who is told of what is grouped


ALL = Route(id="all", to="file:x")


def told(
    *rows: Incident, routes: list[Route], heard: dict[tuple[int, str], Told] | None = None,
    silences: list[Silence] | None = None, now: datetime = NOON,
) -> list[tuple[str, str, str]]:  # fmt: skip
    made = notices(
        Situation(rows, [], heard or {}, silences or []), Routes({one.id: one for one in routes}), now
    )
    return [(one.route, one.event, one.title) for one in made.sent]


def test_a_root_that_a_route_does_not_hear_of_mutes_nothing_there() -> None:
    root, under = row(1, application_id="core"), row(2, 1, application_id="desk", severity="critical")
    desk = Route(id="desk", to="file:x", applications=("desk",))
    worst = Route(id="worst", to="file:x", severity="critical")
    assert told(root, under, routes=[ALL, desk, worst]) == [
        ("all", "opened", "title 1"),
        ("desk", "opened", "title 2"),
        ("worst", "opened", "title 2"),
    ]


def test_a_silence_of_the_root_is_not_one_of_what_waits_for_it() -> None:
    root, under = row(1, slo_id="a"), row(2, 1, slo_id="b")
    quiet = Silence(1, None, "a", None, NOON, NOON + timedelta(hours=1), "x", "ann")
    assert told(root, under, routes=[ALL], silences=[quiet]) == [("all", "opened", "title 2")]
    # When it ends, the root is told and speaks for both.
    heard = {(2, "all"): Told(NOON, NOON)}
    later = NOON + timedelta(hours=9)
    assert told(root, under, routes=[ALL], silences=[quiet], heard=heard, now=later) == [
        ("all", "opened", "title 1")
    ]


def test_what_joins_an_acknowledged_root_is_told_once_and_escalates_to_nobody() -> None:
    root = row(1, acknowledged_at=NOON, acknowledged_by="ann")
    under = row(2, 1)
    routes = [
        Route.model_validate({"id": "all", "to": "file:x", "escalate": {"after": "30m", "to": "boss"}}),
        Route(id="boss", to="file:b", when="escalated"),
    ]
    heard = {(1, "all"): Told(NOON, NOON)}
    assert told(root, under, routes=routes, heard=heard) == [("all", "opened", "title 2")]
    heard[2, "all"] = Told(NOON, NOON)
    assert told(root, under, routes=routes, heard=heard, now=NOON + timedelta(days=1)) == []


@pytest.mark.parametrize("repeat", ["0m", "4h"])
def test_what_lost_its_group_is_told_once_also_where_nothing_is_repeated(repeat: str) -> None:
    routes = [
        Route.model_validate(
            {"id": "all", "to": "file:x", "repeat": repeat, "escalate": {"after": "30m", "to": "boss"}}
        ),
        Route(id="boss", to="file:b", when="escalated", repeat=timedelta()),
    ]
    alone = row(2, tell_from=NOON)
    assert told(alone, routes=routes) == [("all", "opened", "title 2")]
    # Told before it joined the group, whose end says nothing to those who heard of it then.
    heard = {
        (2, name): Told(NOON - timedelta(hours=1), NOON - timedelta(hours=1)) for name in ("all", "boss")
    }
    assert told(alone, routes=routes, heard=heard, now=NOON - timedelta(minutes=1)) == []
    assert told(alone, routes=routes, heard=heard) == [("all", "repeated", "title 2 (still open)")]
    heard[2, "all"] = Told(NOON, NOON)
    assert told(alone, routes=routes, heard=heard, now=NOON + timedelta(minutes=29)) == []
    escalated = told(alone, routes=routes, heard=heard, now=NOON + timedelta(minutes=30))
    assert escalated == [("boss", "escalated", "title 2 (not acknowledged)")]
    heard[2, "boss"] = Told(NOON, NOON)
    later = told(alone, routes=routes, heard=heard, now=NOON + timedelta(hours=4))
    assert [route for route, _, _ in later] == ["all"] * (repeat == "4h")


def test_what_was_only_named_under_its_root_is_told_when_the_root_ends(bank: Bank) -> None:
    bank.write("routes/on_call.yml", 'routes:\n  - {id: all, to: "file:a", repeat: 0m}\n')
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.sends("core/a", "START 01:00", "FAIL 01:20")
    bank.at("04:10")
    assert bank.query("select event from ops.notice where event = 'grouped'")
    bank.sends("core/a", "SUCCEED 04:20", run="r2")
    bank.at("04:30")
    said = len(bank.messages())
    remind(bank.settings, at("04:46"))
    assert bank.messages()[said:] == [("opened", "Overdue: slo-b, 2026-03-03")]
    remind(bank.settings, at("15:00"))
    assert len(bank.messages()) == said + 1


def test_a_kpi_that_is_held_is_told_where_nobody_hears_of_what_holds_it() -> None:
    held = row(2, 1, detail={"is_held": True}, application_id="shop")
    shop = Route(id="shop", to="file:x", applications=("shop",))
    core = Route(id="core", to="file:x", applications=("core",))
    root = row(1, application_id="core")
    assert told(root, held, routes=[shop, core]) == [("core", "opened", "title 1")]
    assert told(root, held, routes=[shop]) == [("shop", "opened", "title 2")]
    taken = replace(root, acknowledged_at=NOON, acknowledged_by="ann")
    assert told(taken, held, routes=[shop, core]) == [("shop", "opened", "title 2")]


def test_what_a_digest_names_was_told(bank: Bank) -> None:
    bank.write("routes/on_call.yml", 'routes:\n  - {id: all, to: "file:a"}\nrules: {digest_above: 1}\n')
    bank.usual_day()
    bank.sends("core/a", "START 01:00", "FAIL 01:20")
    bank.at("05:30")
    # a, with what waits for it, and lone.
    ((_, event, _),) = bank.outbox()
    assert event == "digest"
    root = bank.open()["overdue slo-a"]
    assert "3 grouped under it" in bank.query("select body from ops.alert_outbox")[0][0]
    acknowledge(bank.settings, root.incident_id, by="ann", now=at("05:31"))
    assert {one.acknowledged_by for one in bank.open().values() if one.cause_id} == {"ann"}


# Acknowledgements


def test_an_acknowledgement_covers_what_was_told_and_ends_with_its_group(bank: Bank) -> None:
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.sends("core/a", "START 01:00", "FAIL 01:20")
    bank.at("04:10")
    # a, and b that waits for it; c falls due at 05:00.
    root = bank.open()["overdue slo-a"]
    acknowledge(bank.settings, root.incident_id, by="ann", now=at("04:15"))
    assert bank.open()["overdue slo-b"].acknowledged_with_id == root.incident_id
    said = len(bank.messages())
    bank.at("05:10")
    assert bank.messages()[said:] == [("opened", "Overdue: slo-c, 2026-03-03")]
    body = bank.query("select body from ops.alert_outbox order by outbox_id desc limit 1")[0][0]
    assert f"Grouped under {root.incident_id}: Overdue: The load, 2026-03-03, acknowledged by ann" in body
    remind(bank.settings, at("15:00"))
    assert len(bank.messages()) == said + 1

    # The cause is over, and with it what was taken on along with it; c goes on waiting for b.
    bank.sends("core/a", "SUCCEED 05:40", run="r2")
    bank.tick("05:41")
    evaluate(bank.settings, at("15:01"))
    standing = bank.open()
    assert {name: one.acknowledged_at for name, one in standing.items()} == {
        "overdue slo-b": None,
        "overdue slo-c": None,
    }
    remind(bank.settings, at("15:15"))
    assert bank.messages()[-1][0] == "resolved"
    remind(bank.settings, at("15:16"))
    assert bank.messages()[-1] == ("opened", "Overdue: slo-b, 2026-03-03")


def test_one_that_is_acknowledged_itself_stays_so_when_its_cause_ends(bank: Bank) -> None:
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.sends("core/a", "START 01:00", "FAIL 01:20")
    bank.at("04:10")
    standing = bank.open()
    acknowledge(bank.settings, standing["overdue slo-a"].incident_id, by="ann")
    acknowledge(bank.settings, standing["overdue slo-b"].incident_id, by="bob")
    bank.sends("core/a", "SUCCEED 04:20", run="r2")
    bank.at("04:30")
    assert bank.open()["overdue slo-b"].acknowledged_by == "bob"


def test_another_unregistered_job_is_told_although_the_first_is_acknowledged(bank: Bank) -> None:
    bank.sends("core/stray", "SUCCEED 01:00")
    bank.at("02:00")
    acknowledge(bank.settings, bank.open()["unregistered_job core/stray"].incident_id, by="ann")
    bank.sends("core/waif", "SUCCEED 01:10")
    bank.at("02:10")
    assert [title for _, title in bank.messages()] == ["Unregistered: core/stray", "Unregistered: core/waif"]
    bank.at("02:20")
    assert len(bank.messages()) == 2


def test_an_acknowledgement_ends_when_it_gets_worse(bank: Bank) -> None:
    from sensors.oncall.incidents.model import KINDS, Ending
    from sensors.oncall.incidents.store import in_transaction, reconcile, tell

    routes = Routes({"all": ALL})

    def look(severity: Severity, minutes: int, *hosts: str) -> None:
        now = NOON + timedelta(minutes=minutes)
        one = replace(wanted(1), severity=severity, detail={"hosts": hosts})

        def work(cursor: object) -> None:
            reconcile(cursor, KINDS, [one], lambda _: Ending("over", ""), now=now)  # type: ignore[arg-type]
            tell(cursor, routes, now)  # type: ignore[arg-type]

        in_transaction(bank.settings, work)

    look("warning", 0)
    acknowledge(bank.settings, 1, by="ann", now=NOON)
    look("info", 1)
    assert len(bank.messages()) == 1
    look("critical", 2)
    assert bank.messages()[1:] == [("repeated", "1 (still open)")]
    look("critical", 3)
    assert len(bank.messages()) == 2
    acknowledge(bank.settings, 1, by="ann", now=NOON)
    look("warning", 4, "h1")
    look("warning", 5, "h1")
    acknowledge(bank.settings, 1, by="ann", now=NOON)
    look("warning", 6)
    assert len(bank.messages()) == 3


# Windows


def test_a_window_missed_early_does_not_mute_the_day(bank: Bank) -> None:
    bank.write("slos/window.yml", INTRADAY)
    bank.write("slos/bank.yml", "slos: []\n")
    for slot in ("06:00", "06:30", "07:00", "07:30", "08:00"):
        bank.sends("core/window", f"START 2 {slot}", f"SUCCEED 2 {slot}", date="2026-03-02", run=slot)
    bank.sends("core/lone", "SUCCEED 06:15")
    bank.at("06:20")
    # 06:00 came and went; 06:30 is on time; then nothing but failures.
    bank.sends("core/window", "START 06:31", "SUCCEED 06:35", run="r1")
    for start, end in (("07:01", "07:05"), ("07:31", "07:35")):
        bank.sends("core/window", f"START {start}", f"FAIL {end}", run=start)
    bank.at("07:11")
    bank.at("07:41")
    assert {
        name[-5:]: cause and cause[-5:] for name, cause in bank.grouping().items() if "overdue" in name
    } == {
        "06:00": None,
        "07:00": None,
        "07:30": "07:00",
    }
    assert ("opened", "Overdue: slo-window, 2026-03-03 07:00") in bank.messages()
    said = [title for event, title in bank.messages() if event == "opened" and "Overdue" in title]
    assert [one[-5:] for one in said] == ["06:00", "07:00"]
    again = replay(bank.settings, at("00:00"), at("07:41"))
    told_then = [one.title[-5:] for one in again.sent if one.event == "opened" and "Overdue" in one.title]
    assert told_then == ["06:00", "07:00"]


def windows(*ends: int | None, jobs: tuple[str, ...] = ("a",)) -> list[PastOccurrence]:
    """Windows of ten minutes from noon on; each complete so many minutes after its due time, or never."""
    from sensors.oncall.incidents.model import OccurrenceKey

    made = []
    for number, end in enumerate(ends):
        due = NOON + timedelta(minutes=10 * number + 10)
        ended = None if end is None else due + timedelta(minutes=end)
        states = [PastJob(("x", name), None, due, ended, None, rank) for rank, name in enumerate(jobs)]
        slot = f"{due - timedelta(minutes=10):%H:%M}"
        made.append(
            PastOccurrence(OccurrenceKey("s", date(2026, 3, 3), slot), "x", "s", None, due, ended, states)
        )
    return made


def opened(occurrences: list[PastOccurrence]) -> list[str]:
    result = replay_of(
        occurrences, {}, Routes({"all": ALL}, Rules()), NOON - timedelta(hours=1), NOON + timedelta(hours=2)
    )
    return [
        one.title[-5:] for one in result.sent if one.event == "opened" and one.title.startswith("Overdue")
    ]


def test_only_an_unbroken_row_of_windows_is_one_incident() -> None:
    assert opened(windows(None, None, None)) == ["12:00"]
    assert opened(windows(None, -1, None, None, -1, None)) == ["12:00", "12:20", "12:50"]
    # A late one in between does not break the row.
    assert opened(windows(None, 1, None)) == ["12:00"]
    # Another job to blame does: here the first one's own came, and the second's did not.
    two = windows(None, None, jobs=("a", "b"))
    two[1].jobs[0].actual_end_at = two[1].expected_end_at - timedelta(minutes=1)
    assert opened(two) == ["12:00", "12:10"]


# Files


def file(number: int, path: str, status: str = "loaded", application: str = "") -> LandedFile:
    return LandedFile(number, "job_status", path, status, 10, 10, "", NOON, application)


def test_rejected_files_stand_together_by_their_sender() -> None:
    files = [
        file(1, "/landing/job_status/x.csv", application="cards"),
        file(2, "/landing/job_status/y.csv", application="cards"),
        file(3, "/landing/job_status/z.csv", application="billing"),
        file(4, "/landing/job_status/bank/x.csv", application="cards"),
        file(5, "/landing/job_status/bank/y.csv", application="billing"),
        file(6, "/landing/job_status/bank/q.csv", "quarantined"),
        file(7, "/landing/job_status/unknown.csv"),
        file(8, "/landing/job_status/stranger.csv"),
    ]
    made = group_by(rejected_incidents(files, Rules()), [], by_sender)
    found = {one.key.occurrence: one.cause.occurrence if one.cause else None for one in made}
    assert found == {"1": None, "2": "1", "3": None, "4": None, "5": "4", "6": None, "7": None, "8": None}


def test_a_file_that_could_not_be_read_is_told_beside_one_with_rejected_records(bank: Bank) -> None:
    good = (
        '{"application_id": "core", "job_id": "window", "status_code": "START", "status_at": "%s",'
        ' "business_date": "2026-03-03"}'
    )
    bank.lands(good % at("02:00").isoformat() + "\n{}" * 6)
    bank.tick("02:20")
    now = bank.query("select now()")[0][0]
    evaluate(bank.settings, now)
    bank.lands("no json at all")
    bank.tick("02:30")
    evaluate(bank.settings, now)
    assert len(bank.messages()) == 2
    (first, second) = sorted(incidents(bank.settings), key=lambda one: one["incident_id"])
    assert second["grouped_under"] is None
    acknowledge(bank.settings, first["incident_id"], by="ann")
    evaluate(bank.settings, now)
    assert [one["incident_id"] for one in incidents(bank.settings)] == [second["incident_id"]]
