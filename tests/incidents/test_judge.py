"""`duemark judge`: one look of the sensors, by the real command, at any moment that is not before the last one."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from pipelines.cli import main
from pipelines.warehouse.connect import connect
from sensors.oncall.incidents.delivery import Delivered, deliver
from sensors.oncall.incidents.judge import judge, look
from tests.incidents.conftest import Bank, Hook, at
from tests.waiting import HUNG

HEADER = "event,kind,subject,occurrence,route\n"


def run(bank: Bank, *arguments: str) -> Result:
    before = structlog.get_config()
    try:
        return CliRunner().invoke(
            main, ["judge", *arguments], env=bank.settings.as_env(), catch_exceptions=False
        )
    finally:
        # A command sets up logging for its own stderr, which is closed when it is over.
        structlog.configure(**before)


def told(result: Result) -> list[tuple[str, ...]]:
    return [tuple(row.values()) for row in csv.DictReader(io.StringIO(result.stdout))]


@pytest.fixture
def late(bank: Bank) -> Bank:
    """The load is overdue at 03:01, and nobody has looked yet since the evening before."""
    bank.usual_day()
    bank.at("2 23:00")
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.tick("03:01")
    return bank


def test_a_look_writes_sends_and_says_what_was_told(late: Bank) -> None:
    done = run(late, "--as-of", "2026-03-03T03:01:00Z", "--format", "csv")
    assert done.exit_code == 0
    assert done.stdout == HEADER + "opened,overdue,slo-a,2026-03-03 00:00,all\n"
    assert "judged the marts as of 2026-03-03T03:01:00+00:00: 1 opened, 0 closed, 1 messages" in done.stderr
    assert "1 delivered, 0 refused, 0 waiting" in done.stderr
    assert list(late.open()) == ["overdue slo-a"]
    (line,) = (late.settings.home / "alerts.jsonl").read_text().splitlines()
    assert json.loads(line)["event"] == "opened"
    # Once more: the sensors would find nothing to do, and so does it.
    again = run(late, "--as-of", "2026-03-03T03:01:00Z", "--format", "csv")
    assert (again.exit_code, again.stdout) == (0, HEADER)
    late.sends("core/a", "SUCCEED 03:05")
    late.tick("03:06")
    ended = run(late, "--as-of", "2026-03-03T03:06:00Z", "--format", "json")
    assert json.loads(ended.stdout) == [
        {"event": "resolved", "kind": "overdue", "subject": "slo-a", "occurrence": "2026-03-03 00:00", "route": "all"}
    ]  # fmt: skip
    assert late.open() == {}


def test_what_is_grouped_is_said_with_its_root_and_time_alone_repeats(late: Bank) -> None:
    late.write("routes/on_call.yml", 'routes:\n  - {id: all, to: "file:alerts.jsonl", repeat: 1h}\n')
    late.tick("05:30")
    first = run(late, "--as-of", "2026-03-03T05:30:00Z", "--format", "csv")
    assert ("opened", "overdue", "slo-a", "2026-03-03 00:00", "all") in told(first)
    assert told(run(late, "--as-of", "2026-03-03T06:29:00Z", "--format", "csv")) == []
    repeated = run(late, "--as-of", "2026-03-03T06:30:00Z", "--format", "csv")
    assert ("repeated", "overdue", "slo-a", "2026-03-03 00:00", "all") in told(repeated)


def test_it_is_what_the_sensors_do(late: Bank) -> None:
    """Two looks of the sensors, and the same two by hand on the same facts: the same messages, word for word."""
    late.write("routes/on_call.yml", 'routes:\n  - {id: all, to: "file:alerts.jsonl", repeat: 1h}\n')
    late.tick("05:30")
    outboxes = []
    for by_hand in (True, False):
        forget_all(late)
        for moment in (at("05:30"), at("06:40")):
            if by_hand:
                judge(late.settings, moment)
            else:
                look(late.settings, moment)
                deliver(late.settings, moment)
        outboxes.append(
            late.query("select route, event, title, body, delivered_at, attempts from ops.alert_outbox")
        )
    assert outboxes[0] == outboxes[1]
    assert {event for _, event, *_ in outboxes[0]} == {"opened", "repeated"}


def forget_all(bank: Bank) -> None:
    """Forget all that was ever opened or told."""
    with connect(bank.settings) as connection:
        connection.execute(
            "truncate ops.notice, ops.alert_outbox, ops.incident, ops.held, ops.untold restart identity"
        )
        connection.execute("delete from ops.evaluation")
        connection.execute("insert into ops.evaluation default values")


def test_before_the_last_look_it_is_refused(late: Bank) -> None:
    assert run(late, "--as-of", "2026-03-03T03:01:00Z").exit_code == 0
    outbox = late.outbox()
    back = run(late, "--as-of", "2026-03-03T03:00:59Z")
    assert back.exit_code == 2
    assert back.stdout == ""
    assert "The last look was as of 2026-03-03T03:01:00+00:00" in back.stderr
    assert "incidents --replay" in back.stderr
    assert late.outbox() == outbox
    # A look that found nothing to do was one, too.
    assert run(late, "--as-of", "2026-03-03T03:02:00Z").exit_code == 0
    assert run(late, "--as-of", "2026-03-03T03:01:30Z").exit_code == 2
    assert run(late, "--as-of", "2026-03-03T03:02:00Z").exit_code == 0
    # The default is the clock, unless a look was told a moment that is yet to come.
    ahead = late.query("select now() + interval '1 day'")[0][0]
    assert run(late).exit_code == 0
    assert run(late, "--as-of", ahead.isoformat()).exit_code == 0
    refused = run(late)
    assert refused.exit_code == 2
    assert "a moment that is yet to come" in refused.stderr


@pytest.mark.parametrize("text", ["yesterday", "2026-03-03T03:01:00", "0001-01-01T00:00:00Z"])
def test_a_moment_that_is_none(bank: Bank, text: str) -> None:
    assert run(bank, "--as-of", text).exit_code == 2


def test_without_a_tick_nothing_is_judged(bank: Bank) -> None:
    done = run(bank, "--as-of", "2026-03-03T03:01:00Z", "--format", "csv")
    assert (done.exit_code, done.stdout) == (1, HEADER)
    assert "there was no tick yet" in done.stderr


def test_a_message_that_was_refused_makes_the_exit_code_1(late: Bank, hook: Hook) -> None:
    late.write("routes/on_call.yml", f'routes:\n  - {{id: all, to: "{hook.url}"}}\n')
    hook.codes += [503]
    refused = run(late, "--as-of", "2026-03-03T03:01:00Z", "--format", "csv")
    assert refused.exit_code == 1
    assert len(told(refused)) == 1
    assert "0 delivered, 1 refused, 1 waiting" in refused.stderr
    # Its route may be asked again after ten seconds of the same clock.
    assert run(late, "--as-of", "2026-03-03T03:01:09Z").exit_code == 1
    taken = run(late, "--as-of", "2026-03-03T03:01:10Z", "--format", "csv")
    assert (taken.exit_code, taken.stdout) == (0, HEADER)
    assert len(hook.taken()) == 1


def test_routes_with_problems_make_the_exit_code_1(late: Bank) -> None:
    assert run(late, "--as-of", "2026-03-03T03:01:00Z").exit_code == 0
    late.write("routes/on_call.yml", "routes: [{id: all}]\n")
    done = run(late, "--as-of", "2026-03-03T03:02:00Z")
    assert done.exit_code == 1
    assert "routes/on_call.yml" in done.stderr


def test_all_of_a_back_fill_is_looked_through(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensors.oncall.incidents.marts.RECORDS_AT_ONCE", 2)
    for number in range(6):
        bank.sends(f"core/stray{number}", "START 01:00", "SUCCEED 01:10")
    bank.tick("02:00")
    assert judge(bank.settings, at("02:00")).summary.opened == 6
    assert judge(bank.settings, at("02:00")).summary.opened == 0


def test_several_at_once_tell_it_once(late: Bank) -> None:
    """As beside a running `up`: processes of their own, each by its own clock."""
    command = [str(Path(sys.executable).with_name("duemark")), "judge", "--format", "csv", "--as-of"]
    processes = [
        subprocess.Popen(
            [*command, at("03:01").isoformat()],
            env={**os.environ, **late.settings.as_env()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    beside = look(late.settings, at("03:01"))
    deliver(late.settings, at("03:01"))
    outputs = [process.communicate(timeout=HUNG) for process in processes]
    lines = [line for stdout, _ in outputs for line in stdout.splitlines() if not line.startswith("event,")]
    assert len(lines) + beside.messages == 1
    assert deliver(late.settings, at("03:01") + timedelta(minutes=20)) == Delivered()
    assert len((late.settings.home / "alerts.jsonl").read_text().splitlines()) == 1
