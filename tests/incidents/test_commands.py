"""What the command line and the two sensors do with incidents."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import structlog
from click.testing import CliRunner, Result

from pipelines.catalog.store import store_catalog
from pipelines.cli import main
from pipelines.errors import DuemarkError
from pipelines.warehouse.connect import connect
from sensors.definitions import build_defs
from sensors.oncall.incidents.commands import (
    INCIDENT_COLUMNS,
    acknowledge,
    end_silence,
    incidents,
    render,
    silence,
    silence_row,
    silences,
    story,
)
from sensors.oncall.incidents.dagster_sensors import delivery_sensor, incidents_sensor
from sensors.oncall.incidents.delivery import deliver
from sensors.oncall.incidents.evaluate import evaluate
from sensors.oncall.incidents.judge import look
from tests.incidents.conftest import Bank, at


@pytest.fixture
def overdue(bank: Bank) -> Bank:
    bank.usual_day()
    bank.sends("core/a", "START 01:00", "FAIL 01:20")
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.at("05:30")
    return bank


def test_the_list(overdue: Bank) -> None:
    rows = incidents(overdue.settings)
    assert [(row["state"], row["title"]) for row in rows] == [
        ("open", "Overdue: The load, 2026-03-03"),
        ("grouped", "Overdue: slo-b, 2026-03-03"),
        ("grouped", "Overdue: slo-c, 2026-03-03"),
        ("grouped", "Failed: The load, 2026-03-03"),
    ]
    assert rows[0]["grouped"] == 3
    assert [row["title"] for row in incidents(overdue.settings, kind="failed")] == [
        "Failed: The load, 2026-03-03"
    ]
    assert len(incidents(overdue.settings, application="desk")) == 2
    assert len(incidents(overdue.settings, slo="slo-c")) == 1
    assert len(incidents(overdue.settings, limit=1)) == 1
    table = render(rows, columns=INCIDENT_COLUMNS, width=160)
    assert "Overdue: The load, 2026-03-03" in table
    assert max(map(len, table.splitlines())) <= 160
    assert json.loads(render(rows, "json"))[0]["kind"] == "overdue"


def test_all_of_them_newest_first(overdue: Bank) -> None:
    overdue.sends("core/a", "SUCCEED 05:31")
    overdue.at("05:32")
    rows = incidents(overdue.settings, show="all")
    ids = [row["incident_id"] for row in rows]
    assert ids == sorted(ids, reverse=True)
    assert {row["state"] for row in rows} == {"open", "grouped", "resolved"}


def test_acknowledging_takes_what_is_grouped_along(overdue: Bank) -> None:
    rows = incidents(overdue.settings)
    acknowledge(overdue.settings, rows[0]["incident_id"], by="ann", now=at("05:31"))
    assert {one.acknowledged_by for one in overdue.open().values()} == {"ann"}
    with pytest.raises(DuemarkError, match="no incident 999"):
        acknowledge(overdue.settings, 999)
    overdue.sends("core/a", "SUCCEED 05:31")
    overdue.at("05:32")
    with pytest.raises(DuemarkError, match=r"is over \(late, "):
        acknowledge(overdue.settings, rows[0]["incident_id"])


def test_silences(overdue: Bank) -> None:
    settings = overdue.settings
    made = silence(settings, application="core", reason=" move ", duration=timedelta(hours=2), by="ann")
    assert (made.reason, made.created_by, made.ends_at - made.starts_at) == (
        "move",
        "ann",
        timedelta(hours=2),
    )
    assert silences(settings) == [made]
    assert incidents(settings)[0]["state"] == "silenced"
    assert silence_row(made)["application_id"] == "core"
    end_silence(settings, made.silence_id)
    assert silences(settings) == []
    with pytest.raises(DuemarkError, match="no silence"):
        end_silence(settings, made.silence_id)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reason": "x", "duration": timedelta(hours=1)}, "something to match"),
        ({"reason": " ", "slo": "a", "duration": timedelta(hours=1)}, "needs a reason"),
        ({"reason": "x", "slo": "a"}, "needs one end"),
        ({"reason": "x", "slo": "a", "end": at("01:00"), "duration": timedelta(hours=1)}, "needs one end"),
        ({"reason": "x", "slo": "a", "end": at("01:00")}, "would be over"),
        ({"reason": "x", "slo": "a", "end": at("01:00").replace(tzinfo=None)}, "need an offset"),
        ({"reason": "x", "slo": "slo-", "end": at("03:00")}, "There is no SLO 'slo-'"),
        ({"reason": "x", "application": "cor", "end": at("03:00")}, "There is no application 'cor'"),
        ({"reason": "x", "kind": "overdew", "end": at("03:00")}, "There is no kind of incident 'overdew'"),
    ],
)
def test_silences_that_make_no_sense(bank: Bank, given: dict[str, object], message: str) -> None:
    store_catalog(bank.settings)
    with pytest.raises(DuemarkError, match=message):
        silence(bank.settings, now=at("02:00"), **given)  # type: ignore[arg-type]


def test_misspelled_names_match_nothing_and_are_refused(overdue: Bank) -> None:
    assert incidents(overdue.settings, application="core", kind="overdue")
    with pytest.raises(DuemarkError, match="no application 'Core'") as refused:
        incidents(overdue.settings, application="Core")
    assert refused.value.hint == "did you mean `core`?"
    with pytest.raises(DuemarkError, match="no kind of incident 'overdu'"):
        incidents(overdue.settings, kind="overdu")
    assert len(incidents(overdue.settings, show="all", limit=1)) == 1


def run(bank: Bank, *arguments: str) -> Result:
    before = structlog.get_config()
    try:
        return CliRunner().invoke(main, arguments, env=bank.settings.as_env())
    finally:
        # A command sets up logging for its own stderr, which is closed when it is over.
        structlog.configure(**before)


def test_the_whole_story_of_one(overdue: Bank) -> None:
    deliver(overdue.settings, at("05:31"))
    acknowledge(overdue.settings, 1, by="ann", now=at("05:32"))
    overdue.sends("core/a", "SUCCEED 05:40", run="r2")
    overdue.at("05:41")
    (told,) = [one for one in overdue.all() if one.key == ("overdue", "slo-a", "2026-03-03 00:00")]
    found = story(overdue.settings, told.incident_id, now=at("05:42"))
    assert [(one["event"], one["to"], one["delivery"]) for one in found.events] == [
        ("found", "", ""),
        ("opened", "all", "delivered 05:31Z"),
        ("acknowledged", "", ""),
        ("over", "", ""),
        ("resolved", "all", "waits"),
    ]
    assert found.events[2]["said"] == "by ann"
    assert found.events[3]["said"].startswith("late: Late: core/a succeeded at 2026-03-03 05:40:00")
    text = run(overdue, "incidents", str(told.incident_id)).stdout
    assert f"{told.incident_id}  Overdue: The load, 2026-03-03\ncritical, resolved (late)\n" in text
    assert "delivered 05:31Z" in text
    (under,) = [one for one in overdue.open().values() if one.slo_id == "slo-c"]
    content = json.loads(run(overdue, "incidents", str(under.incident_id), "--format", "json").stdout)
    assert content["cause"]["title"] == "Overdue: slo-b, 2026-03-03"
    assert "Cause (late upstream): core/a was complete at 2026-03-03 05:40 UTC" in content["said"]
    assert "Way: core/a -> desk/b -> desk/c" in content["said"]
    table = run(overdue, "incidents", str(told.incident_id), "--format", "csv").stdout
    assert table.splitlines()[0] == "at,event,to,delivery,said"
    nobody = run(overdue, "incidents", "999")
    assert (nobody.exit_code, nobody.stdout) == (2, "")
    assert "There is no incident 999." in nobody.stderr


def test_where_nobody_judged_it_says_so(bank: Bank) -> None:
    said = run(bank, "incidents")
    assert (said.exit_code, said.stdout) == (0, "")
    assert "There was no tick yet, so nothing could be judged" in said.stderr
    bank.usual_day()
    bank.tick("03:01")
    said = run(bank, "incidents")
    assert said.stdout == ""
    assert "Nobody has judged the marts yet: `duemark judge` does so once" in said.stderr
    assert run(bank, "incidents", "--format", "json").stdout == "[]\n"
    evaluate(bank.settings, at("03:01"))
    assert "Nobody" not in run(bank, "incidents").stderr
    bank.tick("03:02")
    assert "Nobody" not in run(bank, "incidents").stderr
    with connect(bank.settings, "transform") as connection:
        connection.execute("update control.tick set published_at = published_at - interval '10 minutes'")
    said = run(bank, "incidents")
    assert "Nobody has judged the last tick" in said.stderr
    assert "Overdue: The load" in said.stdout


def test_several_are_taken_on_at_once(overdue: Bank) -> None:
    ids = [str(row["incident_id"]) for row in incidents(overdue.settings)[:2]]
    done = run(overdue, "ack", *ids, "--by", "ann")
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 2)
    assert run(overdue, "ack").exit_code == 2


@pytest.mark.parametrize(
    ("given", "length", "said"),
    [
        ("4h", timedelta(hours=4), ""),
        ("90m", timedelta(minutes=90), ""),
        ("4", timedelta(hours=4), "--for 4 is taken for 4h: a number without a unit will be refused."),
        ("0.5", timedelta(minutes=30), "--for 0.5 is taken for 0.5h"),
        ("0h", None, "--for 0h is no length of time."),
        ("4 hours", None, "--for 4 hours is no length of time."),
        ("-1h", None, "--for -1h is no length of time."),
        ("400d", None, "--for 400d is no length of time."),
    ],
)
def test_lengths_are_spelled_as_in_the_catalog(
    bank: Bank, given: str, length: timedelta | None, said: str
) -> None:
    store_catalog(bank.settings)
    done = run(bank, "silence", "--slo", "slo-a", f"--for={given}", "--reason", "x")
    assert said in done.stderr
    made = silences(bank.settings)
    assert [one.ends_at - one.starts_at for one in made] == ([length] if length else [])
    assert done.exit_code == (0 if length else 2)


def test_the_sensors(bank: Bank) -> None:
    context = dg.build_sensor_context(resources={"settings": bank.settings})
    assert incidents_sensor(context) == dg.SkipReason("no tick yet")
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.tick("03:01")
    assert incidents_sensor(context) == dg.SkipReason("opened 1, closed 0, 1 messages")
    assert incidents_sensor(context) == dg.SkipReason("nothing new as of 2026-03-03T03:01:00+00:00")
    assert delivery_sensor(context) == dg.SkipReason("1 delivered, 0 refused, 0 waiting")
    assert len((Path(bank.settings.home) / "alerts.jsonl").read_text().splitlines()) == 1


def test_a_back_fill_is_looked_through_in_parts(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensors.oncall.incidents.marts.RECORDS_AT_ONCE", 2)
    for number in range(6):
        bank.sends(f"core/stray{number}", "START 01:00", "SUCCEED 01:10")
    bank.tick("02:00")
    summary = look(bank.settings, at("02:00"))
    assert summary.is_complete
    assert summary.opened == 6
    assert look(bank.settings, at("02:00")).opened == 0


def test_the_location_has_both_sensors_running() -> None:
    sensors = list(build_defs().sensors or [])
    assert {"incidents", "delivery"} <= {one.name for one in sensors}
    assert {one.default_status for one in sensors} == {dg.DefaultSensorStatus.RUNNING}
