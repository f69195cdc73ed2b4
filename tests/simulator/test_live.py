"""`simulate --live`: files as time passes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.errors import DuemarkError
from pipelines.landing.source import landed
from pipelines.simulator.access_log import LiveLogs
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


def logged(out: Path) -> dict[str, bytes]:
    """What stands in every log, by the file's path."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for feed in ("metric_log", "uptime")
        for path in sorted((out / feed).iterdir())
    }


def logs(out: Path, since: datetime = NOW) -> LiveLogs:
    return LiveLogs(out, CATALOG, 1, 400, since)


def test_logs_grow_with_the_clock_over_midnight(tmp_path: Path) -> None:
    growing = logs(tmp_path / "a")
    counts = [growing.write(NOW + timedelta(hours=hours)) for hours in (0, 5, 5, 30)]
    assert counts[0] == counts[2] == 0
    assert min(counts[1], counts[3]) > 250
    assert [name.rpartition("/")[2][:21] for name in logged(tmp_path / "a")] == [
        "live-1-400-2026-03-04", "live-1-400-2026-03-05",
    ] * 2  # fmt: skip
    # Looked at less often it is the same.
    assert logs(tmp_path / "b").write(NOW + timedelta(hours=30)) == sum(counts)
    assert logged(tmp_path / "b") == logged(tmp_path / "a")


def test_logs_go_on_where_they_were_cut_off(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    logs(whole).write(NOW + timedelta(hours=6))
    logs(cut).write(NOW + timedelta(hours=3))
    for path in cut.rglob("live-*"):
        path.write_bytes(path.read_bytes()[:-7])
    logs(cut).write(NOW + timedelta(hours=6))
    assert logged(cut) == logged(whole)


def test_logs_of_something_else_go_on_from_now(tmp_path: Path) -> None:
    (tmp_path / "uptime").mkdir()
    path = tmp_path / "uptime" / "live-1-400-2026-03-04.log"
    path.write_bytes(b"2026-03-04T12:00:00Z\n")
    growing = logs(tmp_path)
    growing.write(NOW + timedelta(hours=1))
    assert path.read_bytes() == b"2026-03-04T12:00:00Z\n"
    growing.write(NOW + timedelta(hours=1, minutes=2))
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert lines[1] > "2026-03-04T14:00"


def test_logs_beside_the_statuses(tmp_path: Path) -> None:
    first, *later = live(tmp_path, CATALOG, 1, now=NOW, speed=21_600.0, seconds=0.5, requests=400)
    # From 08:15 in New York on, when the demonstration ends, unless this is before.
    assert first.lines
    assert sum(sent.lines for sent in later) > 100
    assert sum(text.count(b"\n") for text in logged(tmp_path).values()) >= first.lines + sum(
        sent.lines for sent in later
    )
