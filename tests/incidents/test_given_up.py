"""How incidents end that nobody puts right: given up as missed, or waived."""

from __future__ import annotations

from datetime import date

import pytest

from pipelines.catalog.exceptions import excepted, waive, withdraw
from pipelines.warehouse import homes
from pipelines.warehouse.connect import connect
from sensors.oncall.incidents.evaluate import MEMORY
from tests.incidents.conftest import Bank, at

SLO_A = """
slos:
  - {{id: slo-a, name: The load, application: core, calendar: every_day, effective_from: 2026-03-03,
     gives_up_after: {}, jobs: [{{job: a, end: "03:00"}}]}}
"""


def ended(bank: Bank, kind: str = "overdue") -> list[tuple[str, str | None]]:
    """Occurrences and resolutions of the incidents of the load."""
    return sorted(
        (one.key.occurrence.partition(" ")[0], one.resolution)
        for one in bank.all()
        if one.key.kind == kind and one.slo_id == "slo-a"
    )


def forget(bank: Bank) -> None:
    """What the last look remembered, so that the next one reads everything."""
    homes.of(bank.settings).put(MEMORY, None)


@pytest.mark.parametrize("remembers", [True, False])
def test_overdue_ends_as_missed_when_it_is_given_up(bank: Bank, remembers: bool) -> None:
    bank.write("slos/bank.yml", SLO_A.format("20h"))
    bank.at("03:10")
    assert set(bank.open()) == {"overdue slo-a"}
    bank.at("23:00")
    if not remembers:
        forget(bank)
    assert ended(bank) == [("2026-03-03", None)]
    bank.at("23:01")
    assert ended(bank) == [("2026-03-03", "missed")]
    (one,) = bank.all()
    assert one.message.startswith("Missed, given up at 2026-03-03 23:00:00: nothing reported")
    assert [event for event, _ in bank.messages()] == ["opened", "repeated", "resolved"]
    # What comes after all is late, and on record.
    bank.sends("core/a", "SUCCEED 23:05")
    bank.at("23:10")
    assert ended(bank, "late") == [("2026-03-03", "late")]


def test_a_newer_one_that_falls_due_ends_nothing(bank: Bank) -> None:
    """Not even when it fell due longer ago than what opens incidents."""
    bank.write("slos/bank.yml", SLO_A.format("5d"))
    for moment in ("03:10", "4 03:10", "5 03:10", "6 03:10", "7 03:10"):
        bank.at(moment)
    days = [f"2026-03-0{day}" for day in range(3, 8)]
    assert ended(bank) == [(day, None) for day in days]
    forget(bank)
    bank.at("7 12:00")
    assert ended(bank) == [(day, None) for day in days]
    bank.at("8 03:01")
    assert ended(bank)[:2] == [("2026-03-03", "missed"), ("2026-03-04", None)]


def test_failed_is_over_when_it_is_given_up(bank: Bank) -> None:
    bank.write("slos/bank.yml", SLO_A.format("2h"))
    bank.sends("core/a", "START 02:00", "FAIL 02:10")
    bank.at("02:20")
    bank.at("03:10")
    assert set(bank.open()) == {"failed slo-a", "overdue slo-a"}
    bank.at("05:01")
    assert (ended(bank), ended(bank, "failed")) == ([("2026-03-03", "missed")], [("2026-03-03", "missed")])


@pytest.mark.parametrize("remembers", [True, False])
def test_waived_ends_and_opens_nothing(bank: Bank, remembers: bool) -> None:
    bank.write("slos/bank.yml", SLO_A.format("20h"))
    bank.sends("core/a", "START 02:00", "FAIL 02:10")
    bank.at("03:10")
    waive(bank.settings, excepted("slo-a", date(2026, 3, 3), date(2026, 3, 4), None, None, "Closed", "ann"))
    if not remembers:
        forget(bank)
    bank.at("03:20")
    assert (ended(bank), ended(bank, "failed")) == ([("2026-03-03", "waived")], [("2026-03-03", "waived")])
    assert {one.message.partition(":")[0] for one in bank.all()} == {"Waived by ann (Closed)"}
    bank.at("4 06:00")
    assert bank.open() == {}
    withdraw(bank.settings, excepted("slo-a", date(2026, 3, 3), date(2026, 3, 4), None, None, "Open", "ann"))
    bank.at("4 06:10")
    # The one before was given up at 23:00, while it was waived.
    assert set(bank.open()) == {"overdue slo-a 2026-03-04 00:00"}


def test_put_off_ends_until_it_is_due_again(bank: Bank) -> None:
    bank.write("slos/bank.yml", SLO_A.format("20h"))
    bank.at("03:10")
    waive(bank.settings, excepted("slo-a", date(2026, 3, 3), None, None, "05:00", "Slow", "ann"))
    bank.at("03:20")
    assert ended(bank) == [("2026-03-03", "changed")]
    bank.at("05:00")
    assert bank.open() == {}
    bank.at("05:01")
    assert set(bank.open()) == {"overdue slo-a"}
    assert bank.open()["overdue slo-a"].began_at == at("05:00")


def test_what_an_upgrade_finds_given_up_ends_without_a_word(bank: Bank) -> None:
    bank.write("slos/bank.yml", SLO_A.format("2h"))
    bank.at("03:10")
    with connect(bank.settings) as connection:
        connection.execute("update ops.evaluation set missed_before = %s", [at("06:00")])
    bank.at("05:30")
    assert ended(bank) == [("2026-03-03", "missed")]
    assert [event for event, _ in bank.messages()] == ["opened"]
