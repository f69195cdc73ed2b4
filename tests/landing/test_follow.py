"""Every whole line once: logs that grow, are renamed, copied, packed, truncated, and readers that are killed."""

from __future__ import annotations

import gzip
import itertools
import multiprocessing
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

import pipelines.subjects  # noqa: F401 # processes of their own begin here
from pipelines.landing import follow
from pipelines.landing.follow import grown
from pipelines.landing.ingest import IngestReport, ingest
from pipelines.landing.ledger import pending
from pipelines.warehouse.connect import connect, with_database
from pipelines.warehouse.settings import Settings
from tests.conftest import _database, _drop
from tests.transform.support import examples

START = datetime(2026, 3, 2, tzinfo=UTC)

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["pipelines.landing.ingest", "pipelines.metrics.uptime"])


def beat(number: int) -> str:
    """The line with this number: a minute of its own."""
    return f"{START + timedelta(minutes=number):%Y-%m-%dT%H:%M:%SZ}\n"


@dataclass
class Logs:
    """Files of the feed `uptime`, whose lines all differ, and what was read of them."""

    settings: Settings
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def folder(self) -> Path:
        folder = Path(self.settings.landing) / "uptime"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def append(self, name: str, count: int = 1, partial: str = "") -> list[int]:
        """Append new lines (and the beginning of one more); return their numbers."""
        numbers = list(itertools.islice(self.numbers, count))
        with (self.folder / name).open("a") as file:
            file.write("".join(map(beat, numbers)) + partial)
        return numbers

    def read(self) -> IngestReport:
        return ingest(self.settings, feeds=["uptime"])

    def found(self) -> list[int]:
        """Numbers of the lines that were read, each as often as it was."""
        with connect(self.settings) as connection:
            rows: list[Any] = connection.execute("select minute_at, amount from raw.metric_input").fetchall()
        return sorted((at - START) // timedelta(minutes=1) for at, amount in rows for _ in range(amount))

    def rejected(self) -> list[tuple[Any, ...]]:
        with connect(self.settings) as connection:
            return connection.execute(
                "select line_no, record, reasons -> 0 ->> 'message' from raw.rejected_record order by path, line_no"
            ).fetchall()


@pytest.fixture
def logs(settings: Settings) -> Logs:
    return Logs(settings)


def test_a_log_that_grows(logs: Logs) -> None:
    logs.append("beats.log", 3)
    (outcome,) = logs.read().files
    assert (outcome.status, outcome.record_count, outcome.feed) == ("loaded", 3, "uptime")
    assert logs.read().files == ()
    logs.append("beats.log", 2)
    (outcome,) = logs.read().files
    assert outcome.record_count == 2
    assert logs.found() == [0, 1, 2, 3, 4]


def test_a_partial_last_line_waits_for_its_newline(logs: Logs) -> None:
    logs.append("beats.log", 2, partial="2026-03-02T")
    logs.read()
    assert logs.found() == [0, 1]
    with (logs.folder / "beats.log").open("a") as file:
        file.write("00:02:00Z")
    assert logs.read().files == ()
    with (logs.folder / "beats.log").open("a") as file:
        file.write("\n")
    logs.read()
    assert logs.found() == [0, 1, 2]
    assert logs.rejected() == []


@pytest.mark.parametrize("unread", [0, 2])
def test_rotation_by_rename(logs: Logs, unread: int) -> None:
    logs.append("beats.log", 3)
    logs.read()
    logs.append("beats.log", unread)
    (logs.folder / "beats.log").rename(logs.folder / "beats.log.1")
    logs.append("beats.log", 2)
    logs.read()
    assert logs.found() == list(range(5 + unread))
    # Rotated further, and what was begun before goes on where it is.
    (logs.folder / "beats.log.1").rename(logs.folder / "beats.log.2")
    (logs.folder / "beats.log").rename(logs.folder / "beats.log.1")
    logs.append("beats.log.1", 1)
    logs.read()
    assert logs.found() == list(range(6 + unread))


@pytest.mark.parametrize("unread", [0, 2])
def test_rotation_by_copy_and_truncation(logs: Logs, unread: int) -> None:
    logs.append("beats.log", 3)
    logs.read()
    logs.append("beats.log", unread)
    shutil.copy(logs.folder / "beats.log", logs.folder / "beats.log.1")
    # Both are there for a moment.
    logs.read()
    os.truncate(logs.folder / "beats.log", 0)
    logs.read()
    logs.append("beats.log", 9)
    logs.read()
    assert logs.found() == list(range(12 + unread))


def test_copied_and_truncated_between_two_looks(logs: Logs) -> None:
    logs.append("beats.log", 3)
    logs.read()
    logs.append("beats.log", 2)
    shutil.copy(logs.folder / "beats.log", logs.folder / "beats.log.1")
    os.truncate(logs.folder / "beats.log", 0)
    logs.append("beats.log", 1)
    logs.read()
    assert logs.found() == list(range(6))


@pytest.mark.parametrize("unread", [0, 2])
@pytest.mark.parametrize("both", [False, True])
def test_a_rotated_log_is_packed(logs: Logs, unread: int, both: bool) -> None:
    logs.append("beats.log", 400)
    logs.read()
    logs.append("beats.log", unread)
    plain = logs.folder / "beats.log"
    packed = logs.folder / "beats.log.1.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    if both:
        logs.read()
    plain.unlink()
    logs.append("beats.log", 1)
    logs.read()
    logs.read()
    assert logs.found() == list(range(401 + unread))


def test_a_packed_log_that_is_still_being_written(logs: Logs) -> None:
    content = "".join(beat(number) for number in range(9000)).encode()
    packed = gzip.compress(content)
    path = logs.folder / "beats.log.gz"
    for end in (1, 20, len(packed) // 2, len(packed) - 3, len(packed)):
        path.write_bytes(packed[:end])
        assert [outcome.message for outcome in logs.read().files if outcome.status != "loaded"] == []
    assert logs.found() == list(range(9000))


def test_a_packed_log_that_is_damaged_is_told_of_and_stops_no_other(logs: Logs) -> None:
    packed = bytearray(gzip.compress("".join(beat(number) for number in range(10, 60)).encode()))
    packed[40:44] = b"\xff\xff\xff\xff"
    (logs.folder / "a.log.gz").write_bytes(packed)
    logs.append("b.log", 2)
    outcomes = {Path(outcome.path).name: outcome for outcome in logs.read().files}
    assert outcomes["a.log.gz"].status == "quarantined"
    assert outcomes["a.log.gz"].message.startswith("It cannot be read: ")
    assert "put a sound file in its place" in outcomes["a.log.gz"].hint
    assert outcomes["b.log"].record_count == 2


def test_a_truncated_log_is_a_new_one(logs: Logs) -> None:
    logs.append("beats.log", 5)
    logs.read()
    os.truncate(logs.folder / "beats.log", 0)
    logs.append("beats.log", 2)
    logs.read()
    assert logs.found() == list(range(7))
    os.truncate(logs.folder / "beats.log", 0)
    # Longer than what was read, at once.
    logs.append("beats.log", 40)
    logs.read()
    assert logs.found() == list(range(47))


def test_a_log_that_is_shorter_than_what_was_read_takes_nothing_away(logs: Logs) -> None:
    logs.append("beats.log", 500)
    logs.read()
    os.truncate(logs.folder / "beats.log", 300 * len(beat(0)))
    assert logs.read().files == ()
    assert logs.found() == list(range(500))


def test_two_logs_with_the_same_first_bytes(logs: Logs) -> None:
    head = "".join(beat(number) for number in range(1000, 1300))
    for name, number in (("a.log", 1), ("b.log", 2)):
        (logs.folder / name).write_text(head + beat(number))
    logs.read()
    both = Counter(range(1000, 1300)) + Counter(range(1000, 1300)) + Counter([1, 2])
    assert Counter(logs.found()) == both
    for name, number in (("a.log", 3), ("b.log", 4)):
        with (logs.folder / name).open("a") as file:
            file.write(beat(number))
    logs.read()
    assert Counter(logs.found()) == both + Counter([3, 4])


@pytest.mark.parametrize("stepwise", [False, True])
def test_logs_that_begin_alike_and_part_later(logs: Logs, stepwise: bool) -> None:
    """What counts does not depend on when they were looked at."""
    for number in range(1, 4):
        for name in ("a.log", "b.log"):
            with (logs.folder / name).open("a") as file:
                file.write(beat(0) if number == 1 else beat(number + 10 * (name == "b.log")))
            if stepwise:
                logs.read()
    logs.read()
    assert logs.found() == [0, 0, 2, 3, 12, 13]


def test_a_log_that_goes_and_comes_back(logs: Logs, tmp_path: Path) -> None:
    logs.append("beats.log", 3)
    logs.read()
    (logs.folder / "beats.log").rename(tmp_path / "aside")
    logs.append("other.log", 2)
    logs.read()
    shutil.copy(tmp_path / "aside", logs.folder / "beats.log")
    logs.append("beats.log", 1)
    logs.read()
    assert logs.found() == list(range(6))


def test_what_is_hidden_or_still_written_is_not_looked_at(logs: Logs) -> None:
    logs.append(".beats.log", 1)
    logs.append("beats.log.part", 1)
    assert logs.read().files == ()
    assert grown(logs.settings) == []


def test_a_line_of_ten_megabytes(logs: Logs) -> None:
    logs.append("beats.log", 1)
    with (logs.folder / "beats.log").open("a") as file:
        file.write("x" * (10 << 20) + "\n")
    logs.append("beats.log", 1)
    with (logs.folder / "beats.log").open("a") as file:
        file.write("y" * (3 << 20))
    logs.read()
    assert logs.found() == [0, 1]
    assert logs.rejected() == [(2, "", "The line has 10,485,761 bytes.")]
    with (logs.folder / "beats.log").open("a") as file:
        file.write("\n")
    logs.append("beats.log", 1)
    logs.read()
    assert logs.found() == [0, 1, 2]
    assert logs.rejected()[1] == (4, "", "The line has 3,145,729 bytes.")


def test_the_words_of_rejected_lines(logs: Logs) -> None:
    (logs.folder / "beats.log").write_bytes(
        b"2026-03-02T00:00:00\n\nlater\n\xff\xfe\n2026-03-02T00:07:00+00:00\n"
    )
    (outcome,) = logs.read().files
    assert (outcome.record_count, outcome.rejected_count) == (1, 3)
    assert logs.found() == [7]
    assert logs.rejected() == [
        (1, "", "The instant has no offset."),
        (3, "", "The line of 5 bytes is no instant."),
        (4, "", "The line of 2 bytes is no instant."),
    ]


def test_logs_wake_nobody(logs: Logs) -> None:
    logs.append("beats.log", 1)
    assert pending(logs.settings) == []
    assert [(Path(each.file.path).name, each.unread_bytes) for each in grown(logs.settings)] == [
        ("beats.log", len(beat(0)))
    ]
    logs.read()
    assert grown(logs.settings) == []
    logs.append("beats.log", 2)
    assert [each.unread_bytes for each in grown(logs.settings)] == [2 * len(beat(0))]


def test_a_look_is_noted_also_if_nothing_was_there(logs: Logs) -> None:
    before = datetime.now(UTC)
    ingest(logs.settings)
    with connect(logs.settings) as connection:
        rows: list[Any] = connection.execute(
            "select feed, began_at from raw.feed_read order by feed"
        ).fetchall()
    assert [feed for feed, _ in rows] == ["job_status", "metric_log", "openlineage", "uptime"]
    assert all(began_at >= before for _, began_at in rows)


# Killed, and several at once.


def run_ingest(settings: Settings, batch: int, ready: Connection) -> None:
    follow.BATCH_BYTES = follow.CHUNK_BYTES = batch
    ready.send("ready")
    ready.recv()
    ingest(settings, feeds=["uptime"])


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[[], tuple[Any, Connection]]]:
    """Start an ingest with small batches in a process of its own; it waits for a word on the pipe."""
    children = []

    def begin() -> tuple[Any, Connection]:
        ours, theirs = processes.Pipe()
        child = processes.Process(target=run_ingest, args=(settings, 2000, theirs))
        child.start()
        children.append(child)
        assert ours.recv() == "ready"
        return child, ours

    yield begin
    for child in children:
        child.kill()
        child.join()


def test_killed_at_any_moment(logs: Logs, start: Callable[[], Any]) -> None:
    for name in ("a.log", "b.log"):
        logs.append(name, 30_000)
    chance = random.Random(5)
    kills = 0
    for turn in range(8):
        child, pipe = start()
        pipe.send("go")
        child.join(chance.uniform(0.02, 0.2))
        if child.is_alive():
            child.kill()
            kills += 1
        child.join()
        if turn == 3:
            (logs.folder / "a.log").rename(logs.folder / "a.log.1")
    assert kills >= 3
    logs.read()
    assert logs.found() == list(range(60_000))


def test_several_at_once(logs: Logs, start: Callable[[], Any]) -> None:
    for name in ("a.log", "b.log"):
        logs.append(name, 5_000)
    children = [start() for _ in range(3)]
    for _, pipe in children:
        pipe.send("go")
    for child, _ in children:
        child.join()
        assert child.exitcode == 0
    assert logs.found() == list(range(10_000))


# Whatever happens to files.

ACTIONS = [
    "append",
    "append",
    "partial",
    "read",
    "read",
    "rename",
    "copytruncate",
    "pack",
    "pack both",
    "copy",
    "drop",
]


@pytest.fixture(scope="module")
def many(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of one database for many examples."""
    name = _database(server_url, template)
    home = tmp_path_factory.mktemp("many")
    with connect(Settings.from_env({"DUEMARK_DATABASE_URL": with_database(server_url, name)})) as connection:
        connection.execute(
            sql.SQL("alter database {} set synchronous_commit = off").format(sql.Identifier(name))
        )
    yield Settings.from_env(
        {
            "DUEMARK_HOME": str(home),
            "DUEMARK_LANDING": str(home / "landing"),
            "DUEMARK_DATABASE_URL": with_database(server_url, name),
        }
    )
    _drop(server_url, name)


@given(
    actions=st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(0, 3), st.integers(1, 250)), max_size=25
    ),
    chunk=st.sampled_from([7, 100, 5000]),
)
@examples(40)
def test_every_line_once(many: Settings, actions: list[tuple[str, int, int]], chunk: int) -> None:
    with connect(many) as connection:
        for table in ("log_stream", "log_read", "metric_input", "load", "rejected_record"):
            connection.execute(sql.SQL("delete from {}").format(sql.Identifier("raw", table)))
    logs = Logs(many)
    shutil.rmtree(logs.folder)
    names = (f"beats-{number}.log" for number in itertools.count(1))
    partial = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow, "CHUNK_BYTES", chunk)
        patch.setattr(follow, "BATCH_BYTES", 3 * chunk)
        for action, which, count in actions:
            live = logs.folder / "live.log"
            rotated = sorted(logs.folder.glob("beats-*.log"))
            one = rotated[which % len(rotated)] if rotated else None
            if action in {"append", "partial"}:
                numbers = list(itertools.islice(logs.numbers, count))
                text = "".join(map(beat, numbers))[len(partial) :]
                keep = 9 if action == "partial" else 0
                if keep:
                    text += beat(numbers[-1] + 1)[:keep]
                with live.open("a") as file:
                    file.write(text)
                partial = beat(numbers[-1] + 1)[:keep]
            elif action == "read":
                logs.read()
            elif action in {"rename", "copytruncate"} and live.exists() and not partial:
                if action == "rename":
                    live.rename(logs.folder / next(names))
                else:
                    shutil.copy(live, logs.folder / next(names))
                    os.truncate(live, 0)
            elif action in {"pack", "pack both"} and one is not None:
                Path(f"{one}.gz").write_bytes(gzip.compress(one.read_bytes()))
                if action == "pack both":
                    logs.read()
                one.unlink()
            elif action == "copy" and one is not None:
                shutil.copy(one, f"{one}.copy")
            elif action == "drop" and one is not None:
                logs.read()
                one.unlink()
        logs.read()
        written = next(logs.numbers)
        assert logs.found() == list(range(written))
        assert logs.rejected() == []
        assert logs.read().files == ()
