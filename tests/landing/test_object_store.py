"""A landing folder in an S3-compatible store: a real server on loopback, real requests."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import DuemarkError
from pipelines.landing.ingest import Progress, ingest
from pipelines.landing.ledger import pending
from pipelines.landing.source import Remote, landed
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
LINE = "deposits,load,START,2026-03-02T00:31:07-05:00,2026-03-01,r1,h1\n"

Query = Callable[..., list[tuple[Any, ...]]]
Put = Callable[[str, bytes], None]


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Iterator[Put]:
    """Put an object into the bucket `bank` of a fresh store."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import boto3
    import requests

    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    # What is stored belongs to the process, not to the server.
    requests.post(f"{endpoint}/moto-api/reset", timeout=30).raise_for_status()
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="bank")
    yield lambda key, body: client.put_object(Bucket="bank", Key=key, Body=body)
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_files_in_a_bucket(settings: Settings, put: Put, query: Query) -> None:
    settings = replace(settings, landing="s3://bank/landing")
    assert ingest(settings).files == ()
    columns = HEADER.strip().split(",")
    table = pa.table(
        {
            name: [value]
            for name, value in zip(columns, LINE.strip().replace("r1", "r3").split(","), strict=True)
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    put("landing/job_status/a.csv", (HEADER + LINE).encode())
    put("landing/job_status/2026/b.csv", (HEADER + LINE.replace("r1", "r2")).encode())
    put("landing/job_status/2026/c.parquet", sink.getvalue())
    put("landing/job_status/d.csv.part", HEADER.encode())
    put("landing/job_status/.e/f.csv", HEADER.encode())
    put("landing/job_status/g.csv", b"no header\n")
    put("landing/other/h.csv", b"x")

    assert len(pending(settings)) == 4
    report = ingest(settings)
    assert {(outcome.path, outcome.status) for outcome in report.files} == {
        ("s3://bank/landing/job_status/a.csv", "loaded"),
        ("s3://bank/landing/job_status/2026/b.csv", "loaded"),
        ("s3://bank/landing/job_status/2026/c.parquet", "loaded"),
        ("s3://bank/landing/job_status/g.csv", "quarantined"),
    }
    assert report.warnings == ("other/ lies in s3://bank/landing, but in no feed's folder: it is not read.",)
    assert query("select run_id from raw.job_status order by run_id") == [("r1",), ("r2",), ("r3",)]
    assert pending(settings) == []
    assert ingest(settings).files == ()

    put("landing/job_status/g.csv", (HEADER + LINE).encode())
    assert [outcome.status for outcome in ingest(settings).files] == ["duplicate"]


def test_an_object_that_changes_while_it_is_read(settings: Settings, put: Put, query: Query) -> None:
    settings = replace(settings, landing="s3://bank/landing")
    put("landing/job_status/a.csv", (HEADER + LINE).encode())
    new = (HEADER + LINE.replace("r1", "r2")).encode()
    outcomes = ingest(settings, progress=lambda _: put("landing/job_status/a.csv", new)).files
    assert [outcome.status for outcome in outcomes] == ["changed"]
    assert ingest(settings).loaded
    assert query("select run_id from raw.job_status") == [("r2",)]


def names(prefix: str = "landing/job_status/") -> list[str]:
    """Keys of the bucket below a prefix, without it."""
    import boto3

    found = boto3.client("s3").list_objects_v2(Bucket="bank", Prefix=prefix).get("Contents", [])
    return sorted(each["Key"].removeprefix(prefix) for each in found)


@pytest.mark.parametrize("how", ["archive", "delete"])
def test_what_is_loaded_goes_and_nothing_else(
    settings: Settings, put: Put, query: Query, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    settings = replace(settings, landing="s3://bank/landing")
    odd = "2026/a b+c#d?e%20ü*[1]=1.csv"
    put("landing/job_status/before.csv", (HEADER + LINE).encode())
    put("landing/job_status/twin.csv", (HEADER + LINE).encode())
    put("landing/job_status/bad.csv", b"no header\n")
    put("landing/job_status/c.csv.part", HEADER.encode())
    put("landing/uptime/x.log", b"no line of any log\n")
    ingest(settings)
    assert names() == ["bad.csv", "before.csv", "c.csv.part", "twin.csv"]
    settings = settings.having(DUEMARK_LOADED_FILES=how)
    put(f"landing/job_status/{odd}", (HEADER + LINE.replace("r1", "r2")).encode())
    assert [outcome.status for outcome in ingest(settings).files] == ["loaded"]
    left = ["bad.csv", "c.csv.part"]
    kept = [f".loaded/{odd}", ".loaded/before.csv", ".loaded/twin.csv"]
    assert names() == sorted(left + kept * (how == "archive"))
    # The same name again, with other content; stores tell times by the second, so it has another length too.
    put("landing/job_status/before.csv", (HEADER + LINE.replace("r1", "r3-again")).encode())
    assert ingest(settings).loaded
    kept.append(".loaded/1/before.csv")
    assert names() == sorted(left + kept * (how == "archive"))
    assert pending(settings) == []
    assert ingest(settings).files == ()
    assert names("landing/uptime/") == ["x.log"]
    assert query("select run_id from raw.job_status order by run_id") == [("r1",), ("r2",), ("r3-again",)]


@pytest.mark.parametrize("how", ["archive", "delete"])
def test_an_object_that_changed_after_it_was_loaded_stays(
    settings: Settings, put: Put, query: Query, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    settings = replace(settings, landing="s3://bank/landing")
    put("landing/job_status/a.csv", (HEADER + LINE).encode())
    settings = settings.having(DUEMARK_LOADED_FILES=how)
    put_away = Remote.put_away

    def late(*arguments: Any, **rest: Any) -> bool:
        put("landing/job_status/a.csv", (HEADER + LINE.replace("r1", "r2") * 2).encode())
        return put_away(*arguments, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "put_away", late)
        ingest(settings)
    assert names() == ["a.csv"]
    assert ingest(settings).loaded
    assert query("select distinct run_id from raw.job_status order by run_id") == [("r1",), ("r2",)]


def test_an_object_that_changes_while_it_is_archived_stays(
    settings: Settings, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    settings = replace(settings, landing="s3://bank/landing")
    put("landing/job_status/a.csv", (HEADER + LINE).encode())
    settings = settings.having(DUEMARK_LOADED_FILES="archive")
    copy = s3fs.S3FileSystem._cp_file

    async def late(*arguments: Any, **rest: Any) -> None:
        await copy(*arguments, **rest)
        put("landing/job_status/a.csv", (HEADER + LINE.replace("r1", "r2") * 2).encode())

    with monkeypatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, "_cp_file", late)
        ingest(settings)
    assert "a.csv" in names()
    assert ingest(settings).loaded


def test_a_store_that_cannot_copy_is_told(
    settings: Settings, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    settings = replace(settings, landing="s3://bank/landing")
    put("landing/job_status/a.csv", (HEADER + LINE).encode())
    put("landing/job_status/b.csv", (HEADER + LINE.replace("r1", "r2")).encode())
    settings = settings.having(DUEMARK_LOADED_FILES="archive")

    async def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(s3fs.S3FileSystem, "_cp_file", refuse)
    report = ingest(settings)
    assert len(report.loaded) == 2
    first, second = report.warnings
    assert first.startswith("s3://bank/landing/job_status/a.csv is loaded, but cannot be put away: ")
    assert second == "So it is with 1 more."
    assert names() == ["a.csv", "b.csv"]


@pytest.mark.parametrize("how", ["archive", "delete"])
def test_an_object_put_anew_in_the_second_of_the_one_that_was_loaded_stays(
    settings: Settings, put: Put, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    settings = replace(settings, landing="s3://bank/landing")
    put("landing/job_status/a.csv", (HEADER + LINE).encode())
    put("landing/job_status/b.csv", (HEADER + LINE.replace("r1", "r3")).encode())
    ingest(settings)
    # As long as the one before, and of the same time: only what is in it tells.
    put("landing/job_status/a.csv", (HEADER + LINE.replace("r1", "r2")).encode())
    (found,) = [each for each in landed(settings.landing, ["job_status"]) if each.path.endswith("a.csv")]
    with connect(settings, autocommit=True) as connection:
        connection.execute(
            "update raw.landed_file set modified_at = %s where path = %s",
            [found.stamp.modified_at, found.path],
        )
    settings = settings.having(DUEMARK_LOADED_FILES=how)
    ingest(settings)
    assert [name for name in names() if not name.startswith(".")] == ["a.csv"]


def test_objects_that_are_named(settings: Settings, put: Put) -> None:
    put("elsewhere/a.csv", (HEADER + LINE).encode())
    put("elsewhere/job_status/b.csv", (HEADER + LINE.replace("r1", "r2")).encode())
    assert ingest(settings, ["s3://bank/elsewhere/a.csv"]).files[0].path == "s3://bank/elsewhere/a.csv"
    assert [outcome.status for outcome in ingest(settings, ["s3://bank/elsewhere"]).files] == ["loaded"]
    with pytest.raises(DuemarkError, match="There is no file or folder s3://bank/missing"):
        ingest(settings, ["s3://bank/missing.csv"])


def test_a_store_that_does_not_let_us_in(settings: Settings, put: Put) -> None:
    with pytest.raises(DuemarkError, match="s3://nobodys/landing cannot be listed: ") as caught:
        ingest(replace(settings, landing="s3://nobodys/landing"))
    assert "permissions and the connection" in caught.value.hint


def test_progress_is_told_for_objects_too(settings: Settings, put: Put) -> None:
    put("landing/job_status/a.csv", (HEADER + LINE).encode())
    seen: list[Progress] = []
    ingest(replace(settings, landing="s3://bank/landing"), progress=seen.append)
    assert seen[-1].done_bytes == seen[-1].total_bytes == len(HEADER + LINE)
