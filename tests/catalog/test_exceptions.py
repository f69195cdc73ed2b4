"""Exceptions in the files of a catalog: what is told of them, and what is read."""

from __future__ import annotations

from datetime import date

import pytest

from pipelines.catalog.read import read_catalog
from tests.catalog.conftest import Write
from tests.catalog.test_errors import CLOCK, only

KEYS = "application, by, due, from, reason, slo, slot, to"
NO_LATER = (
    "the time is of the date on which it is due; of the date after it write hours past 24, such as "
    '"27:00"; nothing due at all is `due: none`'
)
POSTED = {
    "slos/posted.yml": """\
        slos:
          - id: posted
            application: deposits
            calendar: every_day
            every: {minutes: 30, from: "06:00", to: "08:00", due_after: 10m}
            jobs: [{job: summarize}]
        """
}


def exceptions(*lines: str) -> dict[str, str]:
    """A file with these exceptions, from line 2 on, and an SLO with windows."""
    return {"exceptions/one.yml": "exceptions:\n" + "".join(f"  - {{{one}}}\n" for one in lines), **POSTED}


@pytest.mark.parametrize(
    ("line", "key", "message", "hint"),
    [
        ("slo: charge, from: 2026-03-02, reason: r", "slo", "there is no SLO `charge`", "did you mean `charges`?"),
        (
            "application: deposit, from: 2026-03-02, reason: r",
            "application",
            "there is no application `deposit`",
            "did you mean `deposits`?",
        ),
        ("from: 2026-03-02, reason: r", "", "an exception of nothing", "name an SLO, or an application: slo: ID"),
        (
            "slo: charges, application: deposits, from: 2026-03-02, reason: r",
            "application",
            "both `slo` and `application`",
            "keep one: an application stands for all its SLOs",
        ),
        (
            "slo: charges, from: 2026-03-02, to: 2026-03-01, reason: r",
            "to",
            "`to` 2026-03-01 is before `from` 2026-03-02",
            "`to` is the last business date of the exception",
        ),
        (
            "slo: charges, from: 2026-03-02",
            "reason",
            "`reason` is missing",
            "add `reason`: why; whoever wonders will read it",
        ),
        (
            'slo: charges, from: 2026-03-02, reason: " "',
            "reason",
            "a reason without words",
            "say why; whoever wonders will read it",
        ),
        ("slo: charges, from: 2026-03-02, due: noon, reason: r", "due", '"noon" is no time of day', CLOCK),
        (
            'slo: charges, from: 2026-03-02, due: "03:00", reason: r',
            "due",
            "03:00 is not later than the promise, which is due at 03:00",
            NO_LATER,
        ),
        (
            'slo: charges, from: 2026-03-02, slot: "06:00", reason: r',
            "slot",
            "the SLO `charges` has no windows",
            "it is due once a date: remove `slot`",
        ),
        (
            'slo: posted, from: 2026-03-02, slot: "06:15", reason: r',
            "slot",
            "the SLO `posted` has no window `06:15`",
            "did you mean `06:30`?",
        ),
        (
            "slo: charges, from: 2026-03-02, until: 2026-03-04, reason: r",
            "until",
            "unknown key `until`",
            f"known keys: {KEYS}",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong(write: Write, line: str, key: str, message: str, hint: str) -> None:
    place = "exceptions[0]" + (f".{key}" if key else "")
    assert only(write(exceptions(line))) == ("exceptions/one.yml", 2, place, message, hint)


def test_declared_twice(write: Write) -> None:
    same = "slo: charges, from: 2026-03-02, reason: r"
    file, line, key, message, _ = only(write(exceptions(same, f"{same}, due: none, to: null")))
    assert (file, line, key) == ("exceptions/one.yml", 3, "exceptions[1].from")
    assert "is declared twice, first in" in message


def test_a_misspelled_folder(write: Write) -> None:
    text = exceptions("slo: charges, from: 2026-03-02, reason: r")["exceptions/one.yml"]
    assert only(write({"exeptions/one.yml": text}))[-1] == "did you mean `exceptions`?"


def test_what_is_read(write: Write) -> None:
    lines = (
        "slo: charges, from: 2026-03-02, reason: Closed",
        'application: deposits, from: 2026-03-02, to: 2026-03-05, due: "27:00", reason: Slow, by: ann',
        'slo: posted, from: 2026-03-02, slot: "6:30", due: None, reason: Disks',
        # Later than the first of its windows.
        'slo: posted, from: 2026-03-02, due: "06:30", reason: Disks',
    )
    found = read_catalog(write(exceptions(*lines))).exceptions
    assert [(one.slo, one.application, one.last, one.slot, one.due_minutes, one.by) for one in found] == [
        ("charges", None, date(2026, 3, 2), None, None, None),
        (None, "deposits", date(2026, 3, 5), None, 27 * 60, "ann"),
        ("posted", None, date(2026, 3, 2), "06:30", None, None),
        ("posted", None, date(2026, 3, 2), None, 390, None),
    ]


def test_given_up_as_soon_as_it_is_due(write: Write) -> None:
    text = """\
        slos:
          - id: charges
            application: overdrafts
            calendar: every_day
            gives_up_after: 0m
            jobs: [{job: charge, end: "03:00"}]
        """
    _, line, key, message, hint = only(write({"slos/bank.yml": text}))
    assert (line, key, message) == (5, "slos[0].gives_up_after", "given up as soon as it is due")
    assert hint == "give it some time, such as 6h; without the key: until the next business date falls due"
