"""Logs taken out again: what was read of them does not count, what they hold later does."""

from __future__ import annotations

import gzip
import os
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.errors import DuemarkError
from pipelines.landing.unload import unload
from tests.metrics.conftest import Server
from tests.metrics.support import START, line

AT = datetime.fromtimestamp(START, UTC)
HOUR = ("2026-03-02T08", "Wiki")


def at(minute: float) -> bytes:
    return line(ts=START + 60 * minute)


def visits(server: Server, clock: str) -> int:
    """Home visits of the hour, after an ingest and a tick."""
    server.ingest()
    server.tick(f"2026-03-02 {clock}")
    return server.values(1001).get(HOUR, 0)


def test_a_log_taken_out_is_read_on_and_counts_again_when_it_lands_again(server: Server) -> None:
    log = server.folder("metric_log") / "access.json"
    server.log([at(1), at(2)])
    assert visits(server, "12:00") == 2
    done = unload(server.warehouse.settings, "metric_log/access.json", "of another server", by="ann")
    assert (done.paths, done.feed) == ([str(log)], "metric_log")
    assert visits(server, "12:01") == 0
    assert server.records().empty
    columns = "record_count, unloaded_by, unload_reason"
    assert server.warehouse.query(f"select {columns} from marts.metric_log") == [
        {"record_count": 0, "unloaded_by": "ann", "unload_reason": "of another server"}
    ]
    with pytest.raises(DuemarkError, match="taken out already"):
        unload(server.warehouse.settings, str(log), "twice")

    # The writer goes on: what comes after counts, and no line before it.
    server.log([at(3)])
    assert visits(server, "12:02") == 1
    unload(server.warehouse.settings, str(log), "that too")
    # Rotated and packed it is the same log.
    packed = log.with_name("access.json.1.gz")
    packed.write_bytes(gzip.compress(log.read_bytes()))
    content = log.read_bytes()
    log.unlink()
    assert visits(server, "12:03") == 0
    # Landed again it is read again, and once.
    log.write_bytes(content)
    assert visits(server, "12:04") == 3
    log.with_name("copy.json").write_bytes(content)
    assert visits(server, "12:05") == 3
    with pytest.raises(DuemarkError, match="is a copy of a log") as refused:
        unload(server.warehouse.settings, str(log.with_name("copy.json")), "a copy")
    assert f"duemark unload {log}" in refused.value.hint
    # What was in order is as a rebuild has it.
    found = server.records()
    server.tick("2026-03-02 12:05", rebuild=True)
    assert server.records().equals(found)


def test_a_log_written_anew_in_its_place_lands_again(server: Server) -> None:
    log = server.folder("metric_log") / "access.json"
    server.log([at(1), at(2)])
    assert visits(server, "12:00") == 2
    unload(server.warehouse.settings, str(log), "a test")
    assert visits(server, "12:01") == 0
    later = log.stat().st_mtime + 60
    os.utime(log, (later, later))
    assert visits(server, "12:02") == 2


def test_one_load_of_a_log_is_taken_out_by_its_number(server: Server) -> None:
    loads = []
    for part in range(2):
        server.beat([AT + timedelta(minutes=10 * part + minute) for minute in range(3)])
        (file,) = server.ingest().files
        loads.append(file.load_id)
    server.tick("2026-03-02 12:00")
    assert server.values(1004) == {("2026-03-02T08", ""): 6}
    unload(server.warehouse.settings, str(loads[0]), "a test")
    server.tick("2026-03-02 12:01")
    assert server.values(1004) == {("2026-03-02T08", ""): 3}
