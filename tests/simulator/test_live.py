"""`simulate --live`: files as time passes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.errors import DuemarkError
from pipelines.landing.source import landed
from pipelines.simulator.live import Sent, live
from pipelines.warehouse.settings import ROOT

NOW = datetime(2026, 3, 4, 13, 0, tzinfo=UTC)
CATALOG = ROOT / "catalog"


def send(out: Path, speed: float = 21_600.0, seconds: float = 0.5) -> list[Sent]:
    """Half a second of wall time, in which three hours pass."""
    return list(live(out, CATALOG, 1, now=NOW, speed=speed, seconds=seconds))


def statuses(out: Path) -> list[str]:
    """Every record of CSV files, in order of files and lines."""
    return [
        line
        for path in sorted((out / "job_status").glob("*.csv"))
        for line in path.read_text("utf-8").splitlines()[1:]
    ]


def test_what_happened_comes_at_once_and_the_rest_in_its_time(tmp_path: Path) -> None:
    first, *later = send(tmp_path)
    assert first.statuses > 20
    assert later
    assert all(NOW < sent.up_to <= NOW + timedelta(hours=8) for sent in later)
    assert not list(tmp_path.rglob("*.part"))
    assert len(landed(str(tmp_path), ["job_status"])) == sum(len(sent.files) for sent in [first, *later])


def test_nothing_is_sent_before_it_happens(tmp_path: Path) -> None:
    (first,) = send(tmp_path, seconds=0.0)
    text = "".join(path.read_text("utf-8") for path in first.files)
    at = [
        datetime.fromisoformat(found)
        for found in re.findall(r"\d{4}-\d\d-\d\dT[\d:.]+(?:[+-]\d\d:\d\d|Z)", text)
    ]
    assert at
    assert max(at) <= first.up_to


def test_started_again_it_says_the_same(tmp_path: Path) -> None:
    once, again = tmp_path / "once", tmp_path / "again"
    send(once, seconds=0.0)
    send(again, seconds=0.0)
    assert statuses(once) == statuses(again)


def test_a_clock_that_stands_still_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DuemarkError, match="stand still"):
        send(tmp_path, speed=0.0)
