"""Replay: what the rules say of the past is what they had said at the time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pipelines.errors import DuemarkError
from sensors.oncall.incidents.commands import render, replay_days, replay_rows
from sensors.oncall.incidents.evaluate import remind
from sensors.oncall.incidents.replay import replay
from sensors.oncall.incidents.routes import load_routes
from tests.incidents.conftest import Bank, at

EVERY_MINUTE = timedelta(minutes=1)


def night(bank: Bank) -> None:
    """A failure and a restart, a late end with what it holds up, a job that never comes."""
    bank.sends("core/a", "START 01:00", "FAIL 01:20")
    bank.sends("core/a", "START 01:40", "FAIL 02:10", run="r2")
    bank.sends("core/a", "START 02:30", "SUCCEED 05:20", run="r3")
    bank.sends("desk/b", "START 05:21", "SUCCEED 05:50")
    bank.sends("desk/c", "START 05:51", "SUCCEED 05:55")


def test_replay_says_what_a_tick_every_minute_said(bank: Bank) -> None:
    bank.write(
        "routes/on_call.yml",
        """
routes:
  - {id: all, to: "file:a.jsonl", repeat: 1h, escalate: {after: 30m, to: boss}}
  - {id: boss, to: "file:b.jsonl", when: escalated, repeat: 0m}
rules: {regroup_after: 10m}
""",
    )
    bank.usual_day()
    bank.at("00:10")
    night(bank)
    # Ticks where something happens, at 03:10 that what failed twice has not failed for an hour; in the minutes between,
    # time alone may have something told.
    ticks = {
        "01:00", "01:20", "01:40", "02:10", "02:30", "03:01", "03:10", "03:31", "04:01", "05:01", "05:20", "05:21",
        "05:50", "05:51", "05:55",
    }  # fmt: skip
    moment = at("00:11")
    while moment <= at("07:01"):
        if f"{moment:%H:%M}" in ticks:
            bank.at(f"{moment:%H:%M}")
        else:
            remind(bank.settings, moment)
        moment += EVERY_MINUTE
    said = bank.query(
        "select created_at, route, event, title from ops.alert_outbox order by created_at, route, title"
    )
    assert len(said) > 10
    result = replay(bank.settings, at("00:10"), at("07:01"))
    found = [(one.at, one.route, one.event, one.title) for one in result.sent]
    assert sorted(found) == sorted(said)
    assert result.opened == {"overdue": 4, "failed": 1, "late": 3}
    rows = bank.query("select count(*) from ops.incident")
    assert rows == [(sum(result.opened.values()),)]


def test_replay_with_other_rules_before_they_are_switched_on(bank: Bank) -> None:
    bank.usual_day()
    bank.at("00:10")
    night(bank)
    bank.tick("07:00")
    routes = load_routes(bank.settings.catalog)
    quiet = replace(routes, routes={"all": routes.routes["all"].model_copy(update={"kinds": ("failed",)})})
    every = replay(bank.settings, at("00:10"), at("07:00"), routes=routes)
    failed = replay(bank.settings, at("00:10"), at("07:00"), routes=quiet)
    assert {one.kinds for one in failed.sent} == {("failed",)}
    assert 0 < len(failed.sent) < len(every.sent)
    assert bank.outbox() == []


def test_what_was_open_before_is_not_counted(bank: Bank) -> None:
    bank.usual_day()
    bank.at("00:10")
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.tick("4 02:00")
    result = replay(bank.settings, at("06:00"), at("06:30"))
    assert (result.sent, result.opened) == ([], {})


def test_days_as_rows(bank: Bank) -> None:
    bank.usual_day()
    bank.at("00:10")
    night(bank)
    bank.tick("4 00:00")
    result = replay_days(bank.settings, at("00:00").date(), at("00:00").date())
    table = render(replay_rows(result))
    assert "opened" in table
    assert "all" in table
    details = replay_rows(result, detail=True)
    assert [row["at"] for row in details] == sorted(row["at"] for row in details)
    assert render(details, "json").startswith("[")
    assert render(details, "csv").startswith("at,route,event")
    assert render([]) == "nothing\n"


def test_moments_in_the_wrong_order(bank: Bank) -> None:
    with pytest.raises(DuemarkError, match="is before"):
        replay(bank.settings, at("06:00"), at("05:00"))
    with pytest.raises(DuemarkError, match="offset"):
        replay(bank.settings, at("06:00").replace(tzinfo=None), at("05:00"))
