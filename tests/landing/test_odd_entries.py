"""What lies in a landing folder and is no file of it: told by name, never opened, and no reason to stop."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.landing import source
from pipelines.landing.checks import _quarantined_files
from pipelines.landing.follow import grown
from pipelines.landing.ingest import ingest
from pipelines.landing.ledger import FileOutcome, pending
from pipelines.warehouse.settings import Settings
from sensors.ticks.advance import look_at_landing

HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
LINE = "deposits,load,START,2026-03-02T00:31:07-05:00,2026-03-01,r1,h1\n"
SECRET = "a line that nobody shows to analysts\n"

Query = Callable[..., list[tuple[Any, ...]]]
Drop = Callable[..., Path]

FIFO = "It is a named pipe, and no file."
OUT = "It is a link that leads out of the landing folder; it is not followed."
TO_NOTHING = "It is a link to nothing."
LOOP = "It is a link that cannot be followed: Too many levels of symbolic links."
TO_FOLDER = "It is a link to a folder, and no file."


def by_name(outcomes: tuple[FileOutcome, ...]) -> dict[str, tuple[str, str]]:
    return {Path(one.path).name: (one.status, one.message) for one in outcomes}


@pytest.fixture
def odd(settings: Settings, drop: Drop, tmp_path: Path) -> dict[str, str]:
    """A good file among all that is none; each name with what is said of it."""
    drop("good.csv", HEADER + LINE)
    folder = Path(settings.landing) / "job_status"
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    (tmp_path / "landing-2").mkdir()
    (tmp_path / "landing-2" / "a.csv").write_text(HEADER + LINE)
    (folder / "deep").mkdir()
    (folder / "loop.csv").symlink_to("loop.csv")
    (folder / "one.csv").symlink_to("two.csv")
    (folder / "two.csv").symlink_to("one.csv")
    (folder / "x.ndjson").symlink_to(secret)
    (folder / "chain.csv").symlink_to("x.ndjson")
    (folder / "deep" / "up.csv").symlink_to(f"../../../{secret.name}")
    (folder / "beside.csv").symlink_to("../../landing-2/a.csv")
    (folder / "zero.csv").symlink_to("/dev/zero")
    (folder / "nowhere.csv").symlink_to("missing.csv")
    (folder / "back").symlink_to("..")
    os.mkfifo(folder / "pipe.csv")
    (folder / "pipe-too.csv.gz").symlink_to("pipe.csv")
    with closing(socket.socket(socket.AF_UNIX)) as listener, _in(folder):
        listener.bind("socket.csv")
    return {
        "loop.csv": LOOP,
        "one.csv": LOOP,
        "two.csv": LOOP,
        "x.ndjson": OUT,
        "chain.csv": OUT,
        "up.csv": OUT,
        "beside.csv": OUT,
        "zero.csv": OUT,
        "nowhere.csv": TO_NOTHING,
        "back": TO_FOLDER,
        "pipe.csv": FIFO,
        "pipe-too.csv.gz": "It is a link to a named pipe, and no file.",
        "socket.csv": "It is a socket, and no file.",
    }


class _in:  # noqa: N801 # a path of a socket is short
    def __init__(self, folder: Path) -> None:
        self._folder, self._before = folder, Path.cwd()

    def __enter__(self) -> None:
        os.chdir(self._folder)

    def __exit__(self, *_: object) -> None:
        os.chdir(self._before)


def test_all_that_is_no_file_is_told_by_name_once(
    settings: Settings, odd: dict[str, str], query: Query
) -> None:
    assert len(pending(settings)) == len(odd) + 1
    assert by_name(ingest(settings).files) == {
        "good.csv": ("loaded", ""),
        **{name: ("quarantined", message) for name, message in odd.items()},
    }
    assert query("select count(*), count(record) from raw.rejected_record") == [(0, 0)]
    assert query(f"select count(*) from raw.landed_file as file where file::text like '%{SECRET[:10]}%'") == [
        (0,)
    ]
    # No sensor is woken again, and nothing is said twice.
    assert pending(settings) == []
    assert ingest(settings).files == ()


def test_the_trouble_ends_when_they_go(settings: Settings, odd: dict[str, str]) -> None:
    ingest(settings)
    assert not _quarantined_files(settings, ["job_status"]).passed
    folder = Path(settings.landing) / "job_status"
    for name in odd:
        next(folder.rglob(name), folder / name).unlink(missing_ok=True)
    (folder / "deep" / "up.csv").unlink(missing_ok=True)
    look_at_landing(settings)
    assert _quarantined_files(settings, ["job_status"]).passed
    # What comes again is told again.
    os.mkfifo(folder / "pipe.csv")
    assert by_name(ingest(settings).files) == {"pipe.csv": ("quarantined", FIFO)}
    (folder / "pipe.csv").unlink()
    (folder / "pipe.csv").write_text(HEADER + LINE.replace("r1", "r2"))
    assert by_name(ingest(settings).files) == {"pipe.csv": ("loaded", "")}
    assert _quarantined_files(settings, ["job_status"]).passed


def test_links_to_files_inside_are_files(settings: Settings, tmp_path: Path, query: Query) -> None:
    # The landing folder and the feed's are links themselves.
    disk, other = tmp_path / "disk", tmp_path / "other"
    disk.mkdir()
    (other / "..2026").mkdir(parents=True)
    (disk / "job_status").symlink_to(other)
    linked = tmp_path / "linked"
    linked.symlink_to(disk)
    (other / "..2026" / "a.csv").write_text(HEADER + LINE)
    (other / "..data").symlink_to("..2026")
    (other / "a.csv").symlink_to("..data/a.csv")
    (disk / "store").mkdir()
    (disk / "store" / "b.csv").write_text(HEADER + LINE.replace("r1", "r2"))
    (other / "b.csv").symlink_to(disk / "store" / "b.csv")
    report = ingest(replace(settings, landing=str(linked)))
    assert by_name(report.files) == {"a.csv": ("loaded", ""), "b.csv": ("loaded", "")}
    assert query("select run_id from raw.job_status order by run_id") == [("r1",), ("r2",)]


def test_what_is_put_there_after_the_look_is_not_opened(
    settings: Settings, drop: Drop, tmp_path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "c.csv").write_text(SECRET)
    names = ("link.csv", "pipe.csv", "gone.csv", "c.csv")
    (drop("a.csv", HEADER + LINE).parent / "sub").mkdir()
    for n, name in enumerate(names):
        drop(f"sub/{name}" if name == "c.csv" else name, HEADER + LINE.replace("r1", f"s{n}"))
    folder = Path(settings.landing) / "job_status"
    listed = source.landed

    def swapped(landing: str, feeds: list[str]) -> list[source.LandedFile]:
        found = listed(landing, feeds)
        for name in names[:3]:
            (folder / name).unlink()
        (folder / "link.csv").symlink_to(secret / "c.csv")
        os.mkfifo(folder / "pipe.csv")
        shutil.rmtree(folder / "sub")
        (folder / "sub").symlink_to(secret)
        return found

    monkeypatch.setattr(source, "landed", swapped)
    outcomes = by_name(ingest(settings).files)
    assert {name: status for name, (status, _) in outcomes.items()} == {
        "a.csv": "loaded",
        "link.csv": "quarantined",
        "pipe.csv": "quarantined",
        "gone.csv": "gone",
        "c.csv": "quarantined",
    }
    assert query("select count(*) from raw.rejected_record") == [(0,)]


def test_a_feeds_folder_that_is_none(settings: Settings, drop: Drop) -> None:
    drop("a.csv", HEADER + LINE)
    landing = Path(settings.landing)
    (landing / "uptime").symlink_to("uptime")
    os.mkfifo(landing / "metric_log")
    (landing / "stray").symlink_to("stray")
    report = ingest(settings)
    assert by_name(report.files) == {"a.csv": ("loaded", "")}
    assert report.warnings == (
        f"metric_log in {landing} is no folder: nothing of this feed is read.",
        f"stray lies in {landing}, but in no feed's folder: it is not read.",
        f"uptime in {landing} is no folder: nothing of this feed is read.",
    )


def test_logs_are_looked_at_by_the_same_rule(settings: Settings, tmp_path: Path, query: Query) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    folder = Path(settings.landing) / "uptime"
    folder.mkdir()
    os.mkfifo(folder / "pipe.log")
    (folder / "out.log").symlink_to(secret)
    assert {each.file.path.rpartition("/")[2] for each in grown(settings)} == {"pipe.log", "out.log"}
    assert by_name(ingest(settings).files) == {
        "pipe.log": ("quarantined", FIFO),
        "out.log": ("quarantined", OUT),
    }
    assert grown(settings) == []
    assert query("select count(*) from raw.log_read") == [(0,)]


def test_what_somebody_names(settings: Settings, odd: dict[str, str], tmp_path: Path, query: Query) -> None:
    folder = Path(settings.landing) / "job_status"
    named = tmp_path / "named.csv"
    named.symlink_to(folder / "good.csv")
    pipe = tmp_path / "mine.csv"
    os.mkfifo(pipe)
    # A link that is named is meant, but what a pattern finds in the landing folder is not; the others are loaded.
    paths = [pipe, named, folder / "loop.csv", folder / "x.ndjson", folder / "nowhere.csv"]
    assert by_name(ingest(settings, [str(path) for path in paths]).files) == {
        "mine.csv": ("quarantined", FIFO),
        "named.csv": ("loaded", ""),
        "loop.csv": ("quarantined", LOOP),
        "x.ndjson": ("quarantined", OUT),
        "nowhere.csv": ("quarantined", TO_NOTHING),
    }
    # What is no file is told each time that it is named.
    assert by_name(ingest(settings, [str(pipe)]).files) == {"mine.csv": ("quarantined", FIFO)}
    assert query("select count(*) from raw.landed_file where path like '%mine.csv'") == [(1,)]
    # In a folder that is named, only what lies in it.
    outcomes = by_name(ingest(settings, [str(folder)]).files)
    assert {name: outcomes[name] for name in odd} == {
        name: ("quarantined", message) for name, message in odd.items()
    }


def test_names_that_a_terminal_would_obey(settings: Settings, drop: Drop, query: Query) -> None:
    names = {
        "a\nb.csv": "a\\x0ab.csv",
        "a\\x0ab.csv": "a\\\\x0ab.csv",
        "c\x1b[2J.csv": "c\\x1b[2J.csv",
        "d\u2028.csv": "d\\u2028.csv",
        "\x85.csv": "\\u0085.csv",
        os.fsdecode(b"\x85.csv"): "\\x85.csv",
        "e" * 251 + ".csv": "e" * 251 + ".csv",
        "ü.csv": "ü.csv",
    }
    for n, name in enumerate(names):
        # As alike as files can be.
        os.utime(drop(name, HEADER + LINE.replace("r1", f"r{n}")), (10, 10))
    assert set(by_name(ingest(settings).files)) == set(names.values())
    assert query("select count(distinct path) from raw.landed_file where status = 'loaded'") == [(8,)]
    assert ingest(settings).files == ()


def test_a_tree_that_is_deeper_than_a_path_may_be(settings: Settings, drop: Drop) -> None:
    drop("a.csv", HEADER + LINE)
    before = Path.cwd()
    os.chdir(Path(settings.landing) / "job_status")
    try:
        for _ in range(25):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
    finally:
        os.chdir(before)
    statuses = sorted(status for status, _ in by_name(ingest(settings).files).values())
    assert statuses == ["loaded", "quarantined"]
    assert ingest(settings).files == ()


def test_a_label_is_what_the_ledger_looks_for(tmp_path: Path) -> None:
    ((_, prefix),) = source.folder_labels(f"{tmp_path}/a\\b", ["job_status"])
    file = source.LandedFile(
        "job_status", f"{tmp_path}/a\\b/job_status/c.csv", source.Stamp(0, source.EPOCH), source.Local()
    )
    assert file.label.startswith(prefix)
