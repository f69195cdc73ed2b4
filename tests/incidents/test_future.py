"""A sender whose clock is ahead: told once, whatever it sends, and ended when all its hosts are right again."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from sensors.oncall.incidents.commands import acknowledge
from sensors.oncall.incidents.evaluate import evaluate
from tests.incidents.conftest import Bank

Sends = Callable[..., None]
HOUR = timedelta(hours=1)


@pytest.fixture
def sender(bank: Bank) -> Sends:
    """Land statuses of `core/lone`, each so far ahead of the database's clock, and look at them.

    Receipt is the database's own instant, so that the tests hold on any date.
    """
    # The rest of the bank is silent on the day of the test, which is another matter.
    bank.write("slos/bank.yml", "slos: []\n")
    bank.tick(_now(bank))
    evaluate(bank.settings, _now(bank))

    def sends(*ahead: timedelta, host: str | None = None, job: str = "lone") -> None:
        now = _now(bank)
        bank.lands(
            "\n".join(
                json.dumps(
                    {
                        "application_id": "core", "job_id": job, "status_code": "START",
                        "status_at": (now + each).isoformat(), "business_date": now.date().isoformat(),
                        "host_id": host, "run_id": f"{job} {now.timestamp()} {number}",
                    }
                )
                for number, each in enumerate(ahead)
            )
        )  # fmt: skip
        bank.tick(_now(bank))
        evaluate(bank.settings, _now(bank))

    return sends


def _now(bank: Bank) -> datetime:
    return datetime.fromisoformat(str(bank.query("select clock_timestamp()::text")[0][0]))


def events(bank: Bank) -> list[str]:
    return [event for event, title in bank.messages() if "from the future" in title]


def test_more_than_five_minutes_ahead_is_told_and_less_is_not(bank: Bank, sender: Sends) -> None:
    sender(timedelta(0), timedelta(minutes=4))
    assert bank.open() == {}
    sender(timedelta(minutes=6), timedelta(0), host="app-3")
    (incident,) = bank.open().values()
    assert incident.key == ("future_status", "core", "")
    assert incident.detail["count"] == 1
    assert "core sent 1 status from the future of their receipt" in incident.message
    assert "The clock or the zone of app-3 is wrong." in incident.message
    assert events(bank) == ["opened"]


def test_it_is_told_once_and_ends_when_the_sender_is_right(bank: Bank, sender: Sends) -> None:
    sender(HOUR)
    sender(HOUR, HOUR, job="window")
    (incident,) = bank.open().values()
    assert incident.detail["count"] == 3
    assert events(bank) == ["opened"]
    sender(timedelta(seconds=-5))
    assert bank.open() == {}
    assert [one.resolution for one in bank.all()] == ["right"]
    assert events(bank) == ["opened", "resolved"]
    # Wrong again is another incident.
    sender(HOUR)
    assert events(bank) == ["opened", "resolved", "opened"]


def test_another_host_that_is_right_ends_nothing(bank: Bank, sender: Sends) -> None:
    sender(HOUR, host="wrong")
    for _ in range(2):
        sender(timedelta(0), host="right")
        sender(HOUR, host="wrong")
    assert events(bank) == ["opened"]
    sender(timedelta(0), host="wrong")
    assert events(bank) == ["opened", "resolved"]


def test_what_was_right_again_before_anybody_looked_is_told(bank: Bank, sender: Sends) -> None:
    now = _now(bank)
    record = {
        "application_id": "core", "job_id": "lone", "status_code": "START", "business_date": now.date().isoformat(),
    }  # fmt: skip
    bank.lands(json.dumps(record | {"status_at": (now + HOUR).isoformat(), "run_id": "ahead"}))
    bank.tick(_now(bank))
    sender(timedelta(0))
    assert events(bank) == ["opened"]
    sender(timedelta(0))
    assert events(bank) == ["opened", "resolved"]


def test_an_acknowledged_one_stays_until_the_sender_is_right(bank: Bank, sender: Sends) -> None:
    sender(HOUR)
    (incident,) = bank.open().values()
    acknowledge(bank.settings, incident.incident_id, by="ann")
    sender(HOUR)
    assert [one.acknowledged_by for one in bank.open().values()] == ["ann"]
    assert events(bank) == ["opened"]
    sender(timedelta(0))
    assert bank.open() == {}


def test_a_sender_that_falls_silent_is_forgotten_after_a_day(bank: Bank, sender: Sends) -> None:
    sender(HOUR)
    now = _now(bank)
    evaluate(bank.settings, now + 23 * HOUR)
    assert len(bank.open()) == 1
    evaluate(bank.settings, now + 25 * HOUR)
    assert [one.resolution for one in bank.all()] == ["expired"]


def test_the_limit_is_a_setting_of_the_catalog(bank: Bank, sender: Sends) -> None:
    bank.write(
        "routes/on_call.yml", 'rules: {future_status: 2h}\nroutes:\n  - {id: all, to: "file:alerts.jsonl"}\n'
    )
    sender(HOUR)
    assert bank.open() == {}
    sender(3 * HOUR)
    assert list(bank.open()) == ["future_status core"]
