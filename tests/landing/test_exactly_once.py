"""All of a file or none of it, once, whatever happens: kills, two at once, copies, files that change."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import pipelines.subjects  # noqa: F401 # processes of their own begin here
from pipelines.landing.ingest import Progress, ingest
from pipelines.landing.ledger import pending
from pipelines.warehouse.settings import Settings
from tests.waiting import HUNG

HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
LINE = "deposits,load,START,2026-03-02T00:31:07-05:00,2026-03-01,r1,h1\n"

Query = Callable[..., list[tuple[Any, ...]]]
Drop = Callable[..., Path]

# Children that start in milliseconds, and without the threads of this process.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["pipelines.landing.ingest", "pipelines.slo.job_status"])


def run_ingest(settings: Settings, ready: Connection) -> None:
    ready.send("ready")
    ready.recv()
    ingest(settings)


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[[], tuple[Any, Connection]]]:
    """Start an ingest in a process of its own; it waits for a word on the pipe."""
    children = []

    def begin() -> tuple[Any, Connection]:
        ours, theirs = processes.Pipe()
        child = processes.Process(target=run_ingest, args=(settings, theirs))
        child.start()
        children.append(child)
        assert ours.recv() == "ready"
        return child, ours

    yield begin
    for child in children:
        child.kill()
        child.join()


def statuses(file: int, count: int) -> str:
    lines = (
        f"deposits,job-{file},START,2026-{1 + n % 9:02d}-02T00:{n % 60:02d}:07Z,2026-{1 + n % 9:02d}-01,r{n},h\n"
        for n in range(count)
    )
    return HEADER + "".join(lines) + "broken\n"


def assert_all_there_once(query: Query, files: dict[str, int]) -> None:
    """Every file is there with all its records, numbered without a gap in its load, and nothing else is there."""
    loaded = query(
        """
        select file.path, file.record_count, file.rejected_count, good.*, rejected.*
        from raw.landed_file as file,
            lateral (
                select
                    count(*),
                    count(distinct (seq, line_no)),
                    sum(seq - first_seq)::bigint,
                    bool_and(run_id = 'r' || seq - first_seq and line_no = seq - first_seq + 2)
                from raw.job_status
                where load_id = file.load_id and seq >= first_seq and seq < first_seq + record_count
            ) as good,
            lateral (
                select count(*) from raw.rejected_record where load_id = file.load_id and path = file.path
            ) as rejected
        where status = 'loaded'
        order by file.path
        """
    )
    assert loaded == [(path, n, 1, n, n, n * (n - 1) // 2, True, 1) for path, n in sorted(files.items())]
    assert query("select count(*) from raw.job_status") == [(sum(files.values()),)]
    assert query("select count(*) from raw.rejected_record") == [(len(files),)]
    # Numbers in the order in which loads became visible, and what each says of itself.
    loads = query("select load_id, record_count, rejected_count from raw.load order by received_at")
    assert loads == query(
        "select load_id, sum(record_count), sum(rejected_count) from raw.landed_file"
        " where status = 'loaded' group by 1 order by 1"
    )
    assert [row[0] for row in loads] == list(range(1, len(loads) + 1))


def test_killed_at_any_moment(settings: Settings, drop: Drop, query: Query, start: Callable[[], Any]) -> None:
    files = {str(drop(f"{n}.csv", statuses(n, 20_000 + 15_000 * n))): 20_000 + 15_000 * n for n in range(8)}
    chance = random.Random(7)
    kills = 0
    for _ in range(12):
        child, pipe = start()
        pipe.send("go")
        child.join(chance.uniform(0.05, 0.8))
        if child.is_alive():
            child.kill()
            kills += 1
        child.join()
    assert kills >= 5
    ingest(settings)
    assert_all_there_once(query, files)
    assert ingest(settings).files == ()


def test_small_files_are_killed_at_any_moment(
    settings: Settings, drop: Drop, query: Query, start: Callable[[], Any]
) -> None:
    names = [str(drop(f"{n:04}.csv", statuses(n, 3))) for n in range(3000)]
    chance = random.Random(11)
    for _ in range(4):
        child, pipe = start()
        pipe.send("go")
        child.join(chance.uniform(0.3, 1.2))
        child.kill()
        child.join()
    ingest(settings)
    # Every row is of one file, and every file has all of its own.
    assert query(
        """
        select file.path, file.record_count, file.rejected_count,
            count(status.load_id), min(status.job_id), max(status.job_id), min(line_no), max(line_no)
        from raw.landed_file as file
        left join raw.job_status as status
            on status.load_id = file.load_id
            and status.seq >= file.first_seq and status.seq < file.first_seq + file.record_count
        group by file.landed_file_id order by file.path
        """
    ) == [(name, 3, 1, 3, f"job-{n}", f"job-{n}", 2, 4) for n, name in enumerate(names)]
    assert query("select count(*) from raw.job_status") == [(9000,)]
    assert query("select path, line_no from raw.rejected_record order by path") == [
        (name, 5) for name in names
    ]
    assert query("select sum(record_count), sum(rejected_count) from raw.load") == [(9000, 3000)]


def test_several_at_once(settings: Settings, drop: Drop, query: Query, start: Callable[[], Any]) -> None:
    files = {str(drop(f"{n:02d}.csv", statuses(n, 500 + 500 * n))): 500 + 500 * n for n in range(24)}
    children = [start() for _ in range(3)]
    for _, pipe in children:
        pipe.send("go")
    for child, _ in children:
        child.join(HUNG)
        assert child.exitcode == 0
    assert_all_there_once(query, files)


def test_the_same_file_again_adds_nothing(settings: Settings, drop: Drop, query: Query) -> None:
    path = drop("a.csv", HEADER + LINE)
    assert [file.path for file in pending(settings)] == [str(path)]
    assert [outcome.status for outcome in ingest(settings).files] == ["loaded"]
    assert pending(settings) == []
    assert ingest(settings).files == ()
    # Touched, it is looked at again, and its content is known.
    os.utime(path, (1_800_000_000, 1_800_000_000))
    (outcome,) = ingest(settings).files
    assert (outcome.status, outcome.load_id, outcome.record_count) == ("duplicate", 1, 1)
    assert query("select count(*) from raw.job_status") == [(1,)]


def test_the_same_content_under_another_name_is_a_duplicate(
    settings: Settings, drop: Drop, query: Query
) -> None:
    first, second = drop("a.csv", HEADER + LINE), drop("b.csv", HEADER + LINE)
    os.utime(first, (1, 1))
    outcomes = ingest(settings).files
    assert [(outcome.path, outcome.status) for outcome in outcomes] == [
        (str(first), "loaded"),
        (str(second), "duplicate"),
    ]
    assert outcomes[1].message == f"Its content was loaded before, from {first}."
    assert query(
        "select path, status, load_id, record_count from raw.landed_file order by landed_file_id"
    ) == [
        (str(first), "loaded", 1, 1),
        (str(second), "duplicate", 1, 0),
    ]
    assert query("select count(*), max(load_id) from raw.load") == [(1, 1)]
    assert ingest(settings).files == ()


def test_a_big_duplicate_is_found_before_it_is_written(
    settings: Settings, drop: Drop, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.landing.ingest.HEAD_BYTES", 1)
    monkeypatch.setattr("pipelines.landing.formats.lines.BLOCK_BYTES", 1000)
    drop("a.csv", statuses(1, 500))
    assert ingest(settings).files[0].record_count == 500
    drop("b.csv", statuses(1, 500))
    seen: list[Progress] = []
    assert ingest(settings, progress=seen.append).files[0].status == "duplicate"
    assert seen == []
    assert query("select count(*) from raw.job_status") == [(500,)]


def test_a_file_that_grows_while_it_is_read_is_left_for_the_next_time(
    settings: Settings, drop: Drop, query: Query
) -> None:
    path = drop("a.csv", HEADER + LINE)

    def grow(_: Progress) -> None:
        with path.open("a") as file:
            file.write(LINE)

    (outcome,) = ingest(settings, progress=grow).files
    assert outcome.status == "changed"
    assert (
        outcome.message == "It changed while it was read; nothing of it was loaded, the next ingest takes it."
    )
    assert outcome.hint == "Write files under a name ending in .part, and rename them when they are complete."
    assert query("select count(*) from raw.job_status") == [(0,)]
    assert query("select count(*) from raw.landed_file") == [(0,)]
    (outcome,) = ingest(settings).files
    assert (outcome.status, outcome.record_count) == ("loaded", 2)


def test_a_file_that_is_replaced_while_it_is_read(settings: Settings, drop: Drop, query: Query) -> None:
    path = drop("a.csv", HEADER + LINE)
    before = path.stat()

    def replace(_: Progress) -> None:
        other = drop(".new", HEADER + LINE.replace("r1", "r2"))
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.rename(path)

    assert ingest(settings, progress=replace).files[0].status == "changed"
    assert ingest(settings).files[0].status == "loaded"
    assert query("select run_id from raw.job_status") == [("r2",)]


def test_a_file_that_goes_away(settings: Settings, drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.landing.ingest.MOST_FILES", 1)
    drop("a.csv", HEADER + LINE)
    second = drop("b.csv", HEADER + LINE.replace("r1", "r2"))
    os.utime(second, (2_000_000_000, 2_000_000_000))
    outcomes = ingest(settings, progress=lambda _: second.unlink(missing_ok=True)).files
    assert [outcome.status for outcome in outcomes] == ["loaded", "gone"]


def test_what_is_not_looked_at(settings: Settings, drop: Drop) -> None:
    drop(".hidden.csv", HEADER + LINE)
    part = drop("a.csv.part", HEADER + LINE)
    (part.parent / ".folder").mkdir()
    (part.parent / ".folder" / "b.csv").write_text(HEADER + LINE)
    assert ingest(settings).files == ()
    part.rename(part.with_suffix(""))
    assert ingest(settings).loaded


def test_files_are_taken_by_time_then_name(settings: Settings, drop: Drop) -> None:
    names = ["c.csv", "b.csv", "a.csv"]
    for n, name in enumerate(names):
        os.utime(drop(name, HEADER + LINE.replace("r1", f"r{n}")), (10 if name != "c.csv" else 5,) * 2)
    deep = Path(settings.landing) / "job_status" / "2026" / "03"
    deep.mkdir(parents=True)
    (deep / "d.csv").write_text(HEADER + LINE)
    assert [Path(outcome.path).name for outcome in ingest(settings).files] == [
        "c.csv",
        "a.csv",
        "b.csv",
        "d.csv",
    ]


def test_names_that_are_not_utf_8(settings: Settings, drop: Drop, query: Query) -> None:
    drop(os.fsdecode(b"a\xff.csv"), HEADER + LINE)
    (outcome,) = ingest(settings).files
    assert outcome.status == "loaded"
    assert outcome.path.endswith("a\\xff.csv")
    assert ingest(settings).files == ()


def test_received_at_is_the_end_of_the_load(settings: Settings, drop: Drop, query: Query) -> None:
    drop("a.csv", HEADER + LINE)
    before = time.time()
    ingest(settings, progress=lambda _: time.sleep(0.3))
    ((received,),) = query("select extract(epoch from received_at)::float8 from raw.load")
    assert received >= before + 0.3
