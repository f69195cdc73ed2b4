"""Many small files become one load, and each is still what it would have been alone."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipelines.landing import small
from pipelines.landing.feed import Checked
from pipelines.landing.ingest import ingest
from pipelines.landing.ledger import FileOutcome
from pipelines.slo.job_status import JOB_STATUS
from pipelines.warehouse.settings import Settings

HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
LINE = "deposits,load,START,2026-03-02T00:31:07-05:00,2026-03-01,%s,h1\n"
NAMES = HEADER.strip().split(",")

Query = Callable[..., list[tuple[Any, ...]]]
Drop = Callable[..., Path]

# Each row with the file that it is of, as anybody can find it out.
ROWS = """
    select file.path, status.line_no, status.run_id, status.business_date
    from raw.job_status as status
    inner join raw.landed_file as file
        on file.load_id = status.load_id and file.status = 'loaded'
        and status.seq >= file.first_seq and status.seq < file.first_seq + file.record_count
    order by status.load_id, status.seq
"""
LEDGER = """
    select path, fingerprint, status, record_count, rejected_count, rejected_kept, message, hint, warnings
    from raw.landed_file order by landed_file_id
"""
REJECTED = "select path, line_no, record, reasons from raw.rejected_record order by path, line_no"


def ndjson(*runs: str, **extra: str) -> str:
    lines = [dict(zip(NAMES, (LINE % run).strip().split(","), strict=True)) | extra for run in runs]
    return "".join(json.dumps(line) + "\n" for line in lines)


# Of each kind one, and what is odd about a file, in the order in which they landed.
FILES: dict[str, str | bytes] = {
    "one.csv": HEADER + LINE % "a1" + LINE % "a2",
    "wrong.csv": HEADER + LINE % "b1" + "x,y\n" + (LINE % "b2").replace("START", "BEGIN") + LINE % "b3",
    "twice.csv": HEADER + LINE % "a1" + LINE % "a2",
    "header-alone.csv": HEADER,
    "no-end.csv": HEADER + (LINE % "c1")[:-1],
    "windows.csv": (HEADER + LINE % "d1" + '"' + LINE % "d2" + LINE % "d3").replace("\n", "\r\n"),
    "bom.csv": "\ufeff" + HEADER + LINE % "e1" + "\n\n" + (LINE % "e2").replace("2026-03-01", "2026-02-28"),
    "other.csv": HEADER.replace("host_id", "remark").replace(",", ";") + (LINE % "f1").replace(",", ";"),
    "other2.csv": HEADER.replace("host_id", "remark").replace(",", ";") + (LINE % "f2").replace(",", ";"),
    "not-a-header.csv": "a,b,c\n" + LINE % "g1",
    "empty.csv": b"",
    "nul.csv": HEADER + LINE % "h1" + "\0" + LINE % "h2",
    "nan.csv": HEADER + LINE % "nan" + LINE % "i2",
    "nan2.csv": HEADER + LINE % "i3" + LINE % "nan",
    "latin.csv": (HEADER + LINE % "ü" + LINE % "j2").encode("latin-1"),
    "packed.csv.gz": gzip.compress((HEADER + LINE % "k1").encode()),
    "damaged.csv.gz": gzip.compress((HEADER + LINE % "k2").encode())[:-9],
    "a.ndjson": ndjson("l1", "l2"),
    "b.ndjson": ndjson("m1") + "7\n" + "[]\n" + ndjson("m2"),
    "array.ndjson": "[" + ndjson("m3").strip() + "]",
    "c.ndjson": ndjson("n1", why="disk"),
    "d.ndjson": ndjson("n2") + ndjson("n3", why="net"),
    "no-format": HEADER + LINE % "o1",
    "last.csv": HEADER + LINE % "p1",
}


@pytest.fixture
def landed(drop: Drop) -> list[Path]:
    paths = [drop(name, content) for name, content in FILES.items()]
    for n, path in enumerate(paths):
        os.utime(path, (n + 1, n + 1))
    return paths


def facts(outcomes: tuple[FileOutcome, ...]) -> list[FileOutcome]:
    return [replace(outcome, load_id=None) for outcome in outcomes]


@pytest.mark.usefixtures("landed")
def test_each_file_is_what_it_would_be_alone(
    settings: Settings, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = ingest(settings).files
    found = [query(sql) for sql in (ROWS, LEDGER, REJECTED)]
    (loads,) = query("select count(*) from raw.load")
    assert [outcome.status for outcome in together].count("loaded") == 18 > loads[0]
    assert len(found[0]) == len(query("select from raw.job_status"))
    assert query("select count(*), sum(record_count), sum(rejected_count) from raw.load") == [
        (loads[0], len(found[0]), len(found[2]))
    ]

    query_empty(settings)
    monkeypatch.setattr("pipelines.landing.ingest.MOST_FILES", 1)
    alone = ingest(settings).files
    assert facts(together) == facts(alone)
    assert [query(sql) for sql in (ROWS, LEDGER, REJECTED)] == found
    assert query("select count(*) from raw.load") == [(18,)]
    assert ingest(settings).files == ()


def query_empty(settings: Settings) -> None:
    from pipelines.warehouse.connect import connect

    with connect(settings, autocommit=True) as connection:
        connection.execute("truncate raw.job_status, raw.landed_file, raw.rejected_record, raw.load")


def many(drop: Drop, count: int = 40) -> list[Path]:
    paths = [drop(f"{n:03}.csv", HEADER + LINE % f"r{n}" + LINE % f"s{n}") for n in range(count)]
    for n, path in enumerate(paths):
        os.utime(path, (n + 1, n + 1))
    return paths


def test_a_load_for_many_in_their_order(settings: Settings, drop: Drop, query: Query) -> None:
    paths = many(drop)
    assert {outcome.load_id for outcome in ingest(settings).files} == {1}
    assert [row[:3] for row in query(ROWS)] == [
        (str(path), line, f"{letter}{n}")
        for n, path in enumerate(paths)
        for line, letter in ((2, "r"), (3, "s"))
    ]
    assert query("select source, record_count from raw.load") == [(f"{paths[0]} and 39 more", 80)]


def test_a_defect_of_a_check_costs_its_file_only(
    settings: Settings, drop: Drop, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(drop, 5)

    def check(frame: Any, context: Any) -> Checked:
        if "r2" in set(frame["run_id"]):
            raise ZeroDivisionError("by zero")
        return JOB_STATUS.check(frame, context)

    monkeypatch.setattr("pipelines.slo.job_status.JOB_STATUS", replace(JOB_STATUS, check=check))
    statuses = [outcome.status for outcome in ingest(settings).files]
    assert statuses == ["loaded", "loaded", "quarantined", "loaded", "loaded"]
    assert query("select count(*) from raw.job_status") == [(8,)]


def test_what_the_database_refuses_costs_its_file_only(settings: Settings, drop: Drop, query: Query) -> None:
    from pipelines.warehouse.connect import connect

    many(drop, 5)
    with connect(settings, autocommit=True) as connection:
        connection.execute("alter table raw.job_status add check (run_id <> 's3')")
    statuses = [outcome.status for outcome in ingest(settings).files]
    assert statuses == ["loaded", "loaded", "loaded", "quarantined", "loaded"]
    assert query("select count(*) from raw.job_status") == [(8,)]


def test_all_or_none_when_it_stops_before_the_commit(
    settings: Settings, drop: Drop, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(drop, 5)

    def dies(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("the server went away")

    with monkeypatch.context() as patch:
        patch.setattr(small, "end_load", dies)
        with pytest.raises(Exception, match="went away"):
            ingest(settings)
    assert query("select count(*) from raw.job_status") == [(0,)]
    assert query("select count(*) from raw.landed_file") == [(0,)]
    assert len(ingest(settings).loaded) == 5


def test_a_file_that_changed_while_others_were_read(
    settings: Settings, drop: Drop, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = many(drop, 3)
    read = small.read_small

    def change(file: Any, *rest: Any) -> Any:
        found = read(file, *rest)
        if file.path == str(paths[0]):
            paths[1].write_text(HEADER + LINE % "new")
            paths[2].unlink()
        return found

    monkeypatch.setattr("pipelines.landing.ingest.read_small", change)
    assert [outcome.status for outcome in ingest(settings).files] == ["loaded", "loaded", "gone"]
    assert [row[2] for row in query(ROWS)] == ["r0", "s0", "new"]
    monkeypatch.undo()
    assert ingest(settings).files == ()


def test_another_ingest_was_faster(
    settings: Settings, drop: Drop, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(drop, 4)
    load = small.load_small

    def late(*arguments: Any) -> Any:
        monkeypatch.undo()
        assert len(ingest(settings).loaded) == 4
        return load(*arguments)

    monkeypatch.setattr("pipelines.landing.ingest.load_small", late)
    assert ingest(settings).files == ()
    assert query("select count(*), count(distinct load_id) from raw.job_status") == [(8, 1)]
