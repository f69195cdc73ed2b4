"""What stops an ingest: one clear error, nothing half loaded, and the files are still there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipelines.errors import DuemarkError
from pipelines.landing.feed import Checked, Column, Feed
from pipelines.landing.ingest import Progress, ingest
from pipelines.landing.ledger import pending
from pipelines.slo.job_status import JOB_STATUS
from pipelines.subject import FeedEntry, Subject, Subjects, in_use, using
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
LINE = "deposits,load,START,2026-03-02T00:31:07-05:00,2026-03-01,r1,h1\n"

Query = Callable[..., list[tuple[Any, ...]]]
Drop = Callable[..., Path]


def test_no_permission(settings: Settings, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.landing.ingest.MOST_FILES", 1)
    # Root may read all, so for the second file we are somebody else; both lie where everybody may pass.
    with contextlib.ExitStack() as stack:
        landing = Path(tempfile.mkdtemp(prefix="landing-"))
        stack.callback(shutil.rmtree, landing)
        landing.chmod(0o755)
        (landing / "job_status").mkdir()
        first, second = landing / "job_status" / "a.csv", landing / "job_status" / "b.csv"
        first.write_text(HEADER + LINE)
        second.write_text(HEADER + LINE.replace("r1", "r2"))
        second.chmod(0)
        os.utime(first, (1, 1))
        settings = replace(settings, landing=str(landing))

        def drop_rights(_: Progress) -> None:
            if os.geteuid() == 0:
                os.seteuid(65534)
                stack.callback(os.seteuid, 0)

        outcomes = ingest(settings, progress=drop_rights).files
        assert [outcome.status for outcome in outcomes] == ["loaded", "quarantined"]
        assert outcomes[1].message == "It cannot be read: Permission denied."
        assert outcomes[1].hint == "Let the user that runs Duemark read it; the next ingest tries again."
        if os.getuid() == 0:
            os.seteuid(0)
        else:
            # Told again, but written down once; and a sensor is not woken for it.
            assert pending(settings) == []
            assert [outcome.status for outcome in ingest(settings).files] == ["quarantined"]
        assert query("select count(*) from raw.landed_file where status = 'quarantined'") == [(1,)]

        # A permission changes neither size nor time: it is tried again all the same.
        second.chmod(0o644)
        assert [file.path for file in pending(settings)] == [str(second)]
        assert [outcome.status for outcome in ingest(settings).files] == ["loaded"]
        assert query("select run_id from raw.job_status order by load_id") == [("r1",), ("r2",)]
        assert ingest(settings).files == ()


@pytest.fixture
def full_disk(settings: Settings, server_url: str) -> Iterator[None]:
    """Let the test's database write into a file system of eight megabytes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = Path(tempfile.mkdtemp(prefix="small-"))
    folder.chmod(0o755)
    space = f"small_{os.getpid()}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=777", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.decode().strip()}")
    try:
        with connect(settings, autocommit=True) as connection:
            database = connection.info.dbname
            row = connection.execute("select current_setting('data_directory')").fetchone()
            assert row is not None
            if not Path(str(row[0])).exists():
                pytest.skip("the server is on another machine")
            owner = Path(str(row[0])).stat()
            os.chown(folder, owner.st_uid, owner.st_gid)
            connection.execute(f"create tablespace {space} location '{folder}'")
            connection.execute(f"grant create on tablespace {space} to ingest")
            connection.execute(f"alter database {database} set default_tablespace = {space}")
        yield
        with connect(settings, autocommit=True) as connection:
            connection.execute(f"alter database {database} reset default_tablespace")
            for (table,) in connection.execute(
                "select format('%%I.%%I', schemaname, tablename) from pg_tables where tablespace = %s",
                [space],
            ).fetchall():
                connection.execute(f"drop table {table}")
            connection.execute(f"drop tablespace {space}")
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


@pytest.mark.usefixtures("full_disk")
def test_the_disk_of_the_database_is_full(settings: Settings, drop: Drop, query: Query) -> None:
    small = drop("a.csv", HEADER + LINE)
    os.utime(small, (1, 1))
    big = drop("b.csv", HEADER + "".join(LINE.replace("r1", f"r{n}") for n in range(100_000)))
    with pytest.raises(DuemarkError) as caught:
        ingest(settings)
    assert caught.value.message.startswith("The disk of the database is full: could not extend file ")
    assert caught.value.hint == (
        "Make room for it. Files done before: 1. Nothing is half loaded; run it again,"
        " it goes on where it stopped."
    )
    assert query("select count(*), max(load_id) from raw.job_status") == [(1, 1)]
    assert query("select path from raw.landed_file") == [(str(small),)]
    assert [file.path for file in pending(settings)] == [str(big)]


def test_the_database_is_down(settings: Settings, drop: Drop) -> None:
    drop("a.csv", HEADER + LINE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"postgresql://postgres@127.0.0.1:{free.getsockname()[1]}/duemark"
    with pytest.raises(DuemarkError, match="The database does not answer: ") as caught:
        ingest(replace(settings, database_url=url))
    assert "Nothing was changed" in caught.value.hint


def test_the_database_goes_down_in_the_middle(settings: Settings, drop: Drop, query: Query) -> None:
    drop("a.csv", HEADER + LINE)

    def cut(_: Progress) -> None:
        with connect(settings, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )

    with pytest.raises(DuemarkError, match="The database does not answer any more: ") as caught:
        ingest(settings, progress=cut)
    assert "Nothing is half loaded" in caught.value.hint
    assert query("select count(*) from raw.job_status") == [(0,)]
    assert ingest(settings).loaded


def test_a_database_without_our_tables(settings: Settings, drop: Drop) -> None:
    drop("a.csv", HEADER + LINE)
    with connect(settings, autocommit=True) as connection:
        connection.execute("drop table raw.landed_file")
    with pytest.raises(DuemarkError, match="The database is not up to date: ") as caught:
        ingest(settings)
    assert "duemark deploy" in caught.value.hint


def test_a_check_that_fails_costs_its_file_only(
    settings: Settings, drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = drop("a.csv", HEADER + LINE.replace("deposits", "odd"))
    os.utime(odd, (1, 1))
    drop("b.csv", HEADER + LINE)

    def check(frame: Any, context: Any) -> Checked:
        if "odd" in set(frame["application_id"]):
            raise ZeroDivisionError("by zero")
        return JOB_STATUS.check(frame, context)

    monkeypatch.setattr("pipelines.slo.job_status.JOB_STATUS", replace(JOB_STATUS, check=check))
    first, second = ingest(settings).files
    assert (first.status, second.status) == ("quarantined", "loaded")
    assert first.message == "The check of the feed job_status failed: ZeroDivisionError: by zero."
    monkeypatch.undo()
    assert ingest(settings).files == ()
    assert ingest(settings, [str(odd)]).loaded


def test_what_the_database_refuses_costs_its_file_only(
    settings: Settings, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(settings, role="ingest", autocommit=True) as connection:
        connection.execute(
            "create table raw.pair (load_id bigint, seq int, line_no bigint, a text check (a <> 'x'))"
        )
    folder = Path(settings.landing) / "pair"
    folder.mkdir()
    for n, value in enumerate("xy"):
        (folder / f"{value}.csv").write_text(f"a\n{value}\n")
        os.utime(folder / f"{value}.csv", (n, n))

    def check(frame: Any, context: Any) -> Checked:
        import pyarrow as pa

        from pipelines.landing.feed import Breaches

        return Checked(pa.table({"a": pa.array(frame["a"])}), Breaches(len(frame)))

    feed = Feed("pair", "raw.pair", check, (Column("a"),))
    pair = Subject("pair", feeds=(FeedEntry("pair", "pair", whole=lambda: feed),))
    with using(Subjects((*in_use(), pair))):
        _refused_by_the_database(settings, query, folder, monkeypatch)


def _refused_by_the_database(
    settings: Settings, query: Query, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ingest(settings).files
    assert (first.status, second.status) == ("quarantined", "loaded")
    assert first.message.startswith(
        'The database refused its records: new row for relation "pair" violates check'
    )
    assert first.hint == "A defect of the feed pair: report it."

    # The next part is being read when the database refuses one: the fingerprint is still that of the file.
    monkeypatch.setattr("pipelines.landing.ingest.HEAD_BYTES", 1)
    monkeypatch.setattr("pipelines.landing.formats.lines.BLOCK_BYTES", 1000)
    big = folder / "big.csv"
    big.write_text("a\n" + "x\n" * 20_000)
    assert ingest(settings).files[0].status == "quarantined"
    assert query("select fingerprint from raw.landed_file order by landed_file_id desc limit 1") == [
        (hashlib.sha256(big.read_bytes()).hexdigest(),)
    ]


def test_paths_and_names_that_are_wrong(settings: Settings, drop: Drop) -> None:
    path = drop("a.csv.part", HEADER + LINE)
    with pytest.raises(DuemarkError, match="There is no file or folder "):
        ingest(settings, ["/no/such.csv", str(path)])
    with pytest.raises(DuemarkError, match="hidden or still being written"):
        ingest(settings, [str(path)])
    with pytest.raises(DuemarkError, match=r"There is no feed 'job_states'\."):
        ingest(settings, feeds=["job_states"])
    with pytest.raises(DuemarkError, match="cannot be reached"):
        ingest(replace(settings, landing="nowhere://bucket"))


def test_paths_that_are_named(settings: Settings, tmp_path: Path, query: Query) -> None:
    folder = tmp_path / "delivery"
    folder.mkdir()
    (folder / "a.csv").write_text(HEADER + LINE)
    (folder / "b.csv").write_text(HEADER + LINE.replace("r1", "r2"))
    assert ingest(settings).files == ()
    assert [outcome.feed for outcome in ingest(settings, [str(folder / "a.csv")]).files] == ["job_status"]
    assert [
        Path(outcome.path).name for outcome in ingest(settings, [f"file://{folder}"], feed="job_status").files
    ] == ["b.csv"]
    assert query("select count(*) from raw.job_status") == [(2,)]


def test_what_lies_in_no_feeds_folder_is_told(settings: Settings) -> None:
    landing = Path(settings.landing)
    (landing / "job_states").mkdir()
    (landing / "job_status").mkdir()
    (landing / "a.csv").write_text(HEADER + LINE)
    assert ingest(settings).warnings == (
        f"a.csv lies in {landing}, but in no feed's folder: it is not read.",
        f"job_states/ lies in {landing}, but in no feed's folder: it is not read.",
    )
    shutil.rmtree(landing)
    assert ingest(settings).files == ()


def test_tables_that_grew_are_analysed(settings: Settings, drop: Drop, query: Query) -> None:
    drop("a.csv", HEADER + "".join(LINE.replace("r1", f"r{n}") for n in range(50_001)))
    ingest(settings)
    assert query("select reltuples::int from pg_class where relname = 'job_status_p2026_03'") == [(50_001,)]


def test_progress(settings: Settings, drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.landing.ingest.HEAD_BYTES", 1)
    monkeypatch.setattr("pipelines.landing.formats.lines.BLOCK_BYTES", 2000)
    path = drop("a.csv", HEADER + "".join(LINE.replace("r1", f"r{n}") for n in range(100)))
    seen: list[Progress] = []
    ingest(settings, progress=seen.append)
    assert [progress.record_count for progress in seen] == sorted(
        {progress.record_count for progress in seen}
    )
    assert seen[-1] == Progress(str(path), path.stat().st_size, path.stat().st_size, 100, 1, 1)


def test_errors_of_the_database_are_ours_to_explain(settings: Settings, drop: Drop) -> None:
    drop("a.csv", HEADER + LINE)
    with connect(settings, autocommit=True) as connection:
        connection.execute("revoke insert on raw.load from ingest")
    with pytest.raises(
        DuemarkError, match="The database refused: permission denied for table load"
    ) as caught:
        ingest(settings)
    assert isinstance(caught.value.__cause__, psycopg.Error)
