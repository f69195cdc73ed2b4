"""A file, or a load, taken out again: as if it had never come, but for who asks what was known before."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import DuemarkError
from pipelines.landing.ingest import ingest
from pipelines.landing.unload import unload
from pipelines.warehouse.connect import connect
from tests.transform.support import Warehouse
from tests.transform.test_open_start import (
    AGES_AGO,
    CATALOG,
    assert_as_rebuilt,
    done,
    first_and_count,
    lone,
    noon,
)


@pytest.fixture
def bank(warehouse: Warehouse) -> Warehouse:
    """With a landing folder in which nothing lies yet."""
    for path in (Path(warehouse.settings.landing) / "job_status").glob("*"):
        path.unlink()
    warehouse.store_catalog(CATALOG)
    return warehouse


def landed(bank: Warehouse, *statuses: dict[str, object]) -> Path:
    """Land these in a file of their own."""
    (file,) = bank.ingest(statuses).files
    return Path(file.path)


def test_what_a_file_opened_is_gone_with_it(bank: Warehouse) -> None:
    landed(bank, done(-2), done(-1))
    bank.tick(noon())
    before = bank.marts()
    wrong = landed(bank, done(AGES_AGO), done(AGES_AGO + 1), done(-1, "report"))
    bank.tick(noon())
    assert first_and_count(bank) == (AGES_AGO, 1 - AGES_AGO)
    (then,) = bank.query("select max(received_at) as at from raw.load")

    done_by = unload(bank.settings, str(wrong), "mistyped years", by="ann")
    assert done_by.paths == [str(wrong)]
    # Not before the next tick: readers see the marts of one.
    assert first_and_count(bank) == (AGES_AGO, 1 - AGES_AGO)
    bank.tick(noon())
    assert bank.marts() == before
    assert lone(bank) == []
    assert_as_rebuilt(bank, noon())
    known = bank.query("select count(*) as n from marts.slo_performance_at(%s, %s)", noon(), then["at"])
    assert known == [{"n": 1 - AGES_AGO}]
    assert bank.query("select count(*) as n from raw.job_status") == [{"n": 5}]
    columns = ("status", "unloaded_by", "unload_reason")
    assert bank.rows("landed_file", *columns, where="unloaded_at is not null") == [
        ("unloaded", "ann", "mistyped years")
    ]

    # It lies there still, and is not taken for new; landed again it is loaded again, and once.
    assert ingest(bank.settings).files == ()
    for name in ("again.csv", "twice.csv"):
        wrong.with_name(name).write_bytes(wrong.read_bytes())
    assert [file.status for file in ingest(bank.settings).files] == ["loaded", "duplicate"]
    bank.tick(noon())
    assert first_and_count(bank) == (AGES_AGO, 1 - AGES_AGO)
    assert_as_rebuilt(bank, noon())


def test_of_copies_the_one_that_stays_counts(bank: Warehouse) -> None:
    first = landed(bank, done(-1, run_id="a", host_id="h1"), done(-1, "report"))
    landed(bank, done(-1, run_id="b", host_id="h2"))
    bank.tick(noon())
    columns = ("job_id", "run_id", "host_id")
    assert bank.rows("job_run", *columns) == [("load", "a", "h1"), ("report", None, None)]
    unload(bank.settings, str(first), "of the test system")
    bank.tick(noon())
    assert bank.rows("job_run", *columns) == [("load", "b", "h2")]
    assert_as_rebuilt(bank, noon())


def test_a_status_that_waits_for_its_time_never_comes(bank: Warehouse) -> None:
    landed(bank, done(-1))
    held = landed(bank, done(1))
    bank.tick(noon())
    unload(bank.settings, str(held), "a clock was wrong")
    bank.tick(noon(2))
    assert bank.rows("job_run", "job_id") == [("load",)]
    assert_as_rebuilt(bank, noon(2))


def test_a_file_is_named_as_people_name_files(bank: Warehouse) -> None:
    file = landed(bank, done(-1))
    other = landed(bank, done(-2))
    # All that a file ever brought, in a landing folder of whatever name.
    for each, name in ((file, str(file)), (other, f"job_status/{other.name}")):
        each.write_text(each.read_text() + each.read_text().splitlines()[1].replace("load", "report") + "\n")
        ingest(bank.settings)
        assert len(unload(bank.settings, name, "a test").parts) == 2
    bank.tick(noon())
    assert bank.rows("job_run", "job_id") == []
    # By hand it is loaded again, though it is the same file: that is how somebody changes their mind.
    (again,) = ingest(bank.settings, [str(file)]).files
    assert (again.status, again.record_count) == ("loaded", 2)
    assert again.load_id is not None
    unload(bank.settings, str(again.load_id), "a test")
    bank.tick(noon())
    assert bank.rows("job_run", "job_id") == []


def test_what_cannot_be_taken_out_is_refused_with_the_way_out(bank: Warehouse) -> None:
    file = landed(bank, done(-1))
    copy = file.with_name("copy.csv")
    copy.write_bytes(file.read_bytes())
    empty = file.with_name("empty.csv")
    empty.write_bytes(b"")
    ingest(bank.settings)
    bank.tick(noon())
    rows = bank.query("select load_id, feed from raw.load order by load_id desc")
    loads = {row["feed"]: row["load_id"] for row in rows}

    def refusal(target: str, reason: str = "a test") -> tuple[str, str]:
        with pytest.raises(DuemarkError) as caught:
            unload(bank.settings, target, reason)
        return caught.value.message, caught.value.hint

    assert "is missing" in refusal(str(file), " ")[0]
    assert refusal(str(file.with_name("fil.csv")))[1] != ""
    assert str(file) in refusal(f"elsewhere/{file.name}")[1]
    assert f"duemark unload {file}" in refusal(str(copy))[1]
    assert "quarantined" in refusal(str(empty))[0]
    assert refusal("999999")[0] == "There is no load 999999."
    assert "brought no records of a feed, but catalog" in refusal(str(loads["catalog"]))[0]
    assert "brought no records of a feed, but promises" in refusal(str(loads["promises"]))[0]
    assert bank.query("select count(*) as n from raw.unload") == [{"n": 0}]
    done_by = unload(bank.settings, str(file), "first", by="ann")
    message, hint = refusal(str(file))
    assert "by ann: first" in message
    assert hint == "To have it back, land the same content again."
    assert "took out" in refusal(str(done_by.load_id))[0]
    assert bank.query("select count(*) as n from raw.unload") == [{"n": 1}]


def test_rejected_records_of_it_are_nobodys_to_mend(bank: Warehouse) -> None:
    file = landed(bank, done(-1), {**done(-1), "status_code": "DONE"})
    assert bank.rows("rejected_record", "path") == [(str(file),)]
    unload(bank.settings, str(file), "a test")
    assert bank.rows("rejected_record", "path") == []


def test_of_a_load_of_several_files_one_is_taken_out(bank: Warehouse) -> None:
    file = landed(bank, done(-1), done(-2), done(-1, "report"))
    other = file.with_name("other.csv")
    with connect(bank.settings) as connection:
        # As if its last record had been another file's, loaded with it.
        connection.execute("update raw.landed_file set record_count = 2 where path = %s", [str(file)])
        connection.execute(
            "insert into raw.landed_file"
            " (feed, path, fingerprint, size_bytes, status, load_id, first_seq, record_count)"
            " select feed, %s, 'other', 1, 'loaded', load_id, 2, 1 from raw.landed_file where path = %s",
            [str(other), str(file)],
        )
    bank.tick(noon())
    assert unload(bank.settings, str(other), "a test").paths == [str(other)]
    bank.tick(noon())
    assert bank.rows("job_run", "job_id") == [("load",), ("load",)]
    assert_as_rebuilt(bank, noon())
    # By the number of the load the rest goes too.
    load = bank.query("select load_id from raw.landed_file where path = %s", str(file))[0]["load_id"]
    assert unload(bank.settings, str(load), "a test").paths == [str(file)]
    bank.tick(noon())
    assert bank.rows("job_run", "job_id") == []
