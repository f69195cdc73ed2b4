"""What is going to be late is told before it is, once, by real ticks over a past of three weeks."""

from __future__ import annotations

from datetime import date, timedelta

from sensors.oncall.incidents.commands import acknowledge
from sensors.oncall.incidents.evaluate import evaluate
from tests.incidents.conftest import Bank, at

FIRST = date(2026, 2, 9)
DAYS = 22


def usual(bank: Bank) -> None:
    """Up to 2 March a takes an hour from 01:00, b half an hour from 03:05, c as long from 04:05; all in time."""
    lines = []
    for number in range(DAYS):
        day = FIRST + timedelta(days=number)
        for job, start, length in (
            ("core/a", 60, 60),
            ("desk/b", 185, 30),
            ("desk/c", 245, 30),
            ("core/lone", 120, 20),
        ):
            application, name = job.split("/")
            # It varies, and does not grow.
            begins = start + number * 5 % 4
            for code, minute in (("START", begins), ("SUCCEED", begins + length + number * 7 % 9 - 4)):
                moment = at("00:00") + (day - date(2026, 3, 3)) + timedelta(minutes=minute)
                lines.append(
                    f'{{"application_id": "{application}", "job_id": "{name}", "status_code": "{code}",'
                    f' "status_at": "{moment.isoformat()}", "business_date": "{day}"}}'
                )
    bank.lands("\n".join(lines))


def risks(bank: Bank) -> list[str]:
    return sorted(subject for subject in bank.open() if subject.startswith("at_risk"))


def test_a_late_start_is_told_before_the_due_time_and_silent_once_it_came_true(bank: Bank) -> None:
    usual(bank)
    assert bank.at("01:10").messages == 0
    bank.sends("core/a", "START 02:25")
    bank.at("02:26")
    assert "at_risk slo-a" in risks(bank)
    (incident,) = [one for one in bank.open().values() if one.key.subject == "slo-a"]
    assert incident.severity == "warning"
    assert incident.title == "At risk: The load, 2026-03-03"
    assert "Due 2026-03-03 03:00 UTC; it is likely to be there at 2026-03-03 03:2" in incident.message
    assert "A miss: " in incident.message
    assert "by 22 past dates" in incident.message
    # What waits for it stands under it: one message.
    assert bank.messages() == [("opened", "At risk: The load, 2026-03-03")]
    said = incident.message
    for minute in range(27, 40, 3):
        assert bank.at(f"02:{minute}").messages == 0
    assert bank.open()["at_risk slo-a"].message == said, "it stays as it was told"
    bank.at("03:01")
    assert bank.messages()[1:] == [("opened", "Overdue: The load, 2026-03-03")]
    ended = next(one for one in bank.all() if one.key.kind == "at_risk" and one.key.subject == "slo-a")
    assert ended.resolution == "came_true"


def test_one_that_is_done_in_time_after_all_is_back_on_track(bank: Bank) -> None:
    usual(bank)
    bank.at("01:10")
    bank.sends("core/a", "START 02:25")
    bank.at("02:26")
    bank.sends("core/a", "SUCCEED 02:40")
    bank.at("02:41")
    assert risks(bank) == []
    assert bank.messages() == [
        ("opened", "At risk: The load, 2026-03-03"),
        ("back_on_track", "At risk: The load, 2026-03-03 (back on track)"),
    ]
    assert {one.resolution for one in bank.all() if one.key.kind == "at_risk"} <= {"on_time", "recovered"}


def test_an_ordinary_day_warns_of_nothing(bank: Bank) -> None:
    usual(bank)
    bank.sends("core/a", "START 01:02", "SUCCEED 02:03")
    bank.sends("core/lone", "START 02:01", "SUCCEED 02:21")
    bank.sends("desk/b", "START 03:06", "SUCCEED 03:36")
    bank.sends("desk/c", "START 04:06", "SUCCEED 04:36")
    for clock in ("00:10", "01:30", "02:10", "02:50", "03:30", "03:50", "04:30", "04:59", "05:10"):
        assert bank.at(clock).messages == 0, clock
    assert bank.all() == []


def test_what_is_acknowledged_is_not_told_again_and_a_rebuild_tells_nothing(bank: Bank) -> None:
    usual(bank)
    bank.at("01:10")
    bank.sends("core/a", "START 02:25")
    bank.at("02:26")
    (incident,) = [one for one in bank.open().values() if one.key == ("at_risk", "slo-a", "2026-03-03 00:00")]
    acknowledge(bank.settings, incident.incident_id, by="ann", now=at("02:27"))
    before = bank.query("select * from marts.slo_forecast order by slo_id, business_date")
    assert bank.at("02:26", rebuild=True).messages == 0
    assert bank.query("select * from marts.slo_forecast order by slo_id, business_date") == before
    assert evaluate(bank.settings, at("02:50")).messages == 0


def test_a_few_past_dates_warn_nobody(bank: Bank) -> None:
    bank.usual_day()
    bank.at("01:10")
    bank.sends("core/a", "START 02:50")
    assert bank.at("02:51").messages == 0
