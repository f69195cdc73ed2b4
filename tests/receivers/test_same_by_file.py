"""The same statuses by file and by HTTP, in any mix and order, give the same marts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.landing.append import Delivery, feed_of_rows, receive
from pipelines.landing.ingest import ingest
from pipelines.landing.limits import Limits
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from tests.examples import examples

AS_OF = datetime(2026, 3, 6, 12, tzinfo=UTC)
STATUSES = st.builds(
    lambda job, code, minutes, day, run, host: {
        "application_id": "deposits",
        "job_id": job,
        "status_code": code,
        "status_at": (datetime(2026, 3, day + 1, 5, tzinfo=UTC) + timedelta(minutes=minutes)).isoformat(),
        "business_date": f"2026-03-0{day}",
        "run_id": run,
        "host_id": host,
    },
    st.sampled_from(["load", "unheard-of"]),
    st.sampled_from(["START", "SUCCEED", "FAIL", "GO"]),
    st.integers(0, 3).map(lambda hours: hours * 120),
    st.integers(1, 3),
    st.sampled_from([None, "r1", "r2"]),
    st.sampled_from([None, "h1"]),
)
MARTS = {
    "slo_performance": "select * from marts.slo_performance order by slo_id, business_date, slot",
    "job_run": "select * from marts.job_run order by application_id, job_id, business_date, run_id",
    "rejected_record": "select distinct record::jsonb, reasons from marts.rejected_record order by 1, 2",
}


@pytest.fixture(scope="module")
def project(home: Settings) -> Project:
    return Project(home)


@given(
    batches=st.lists(st.lists(STATUSES, min_size=1, max_size=6), min_size=1, max_size=4),
    by_file=st.lists(st.booleans(), min_size=8, max_size=8),
    again=st.integers(0, 3),
)
@examples(3)
def test_the_way_makes_no_difference(
    project: Project, batches: list[list[dict[str, Any]]], by_file: list[bool], again: int
) -> None:
    settings = project.settings
    plain = told(project, settings, batches, [True] * len(batches))
    # Some come twice, by whichever way.
    mixed = [*reversed(batches), batches[again % len(batches)]]
    assert told(project, settings, mixed, by_file[: len(mixed)]) == plain


def told(
    project: Project, settings: Settings, batches: list[list[dict[str, Any]]], by_file: list[bool]
) -> dict[str, list[Any]]:
    """The marts that came of batches, each landed as a file or received."""
    with connect(settings, autocommit=True) as connection:
        for table in ("raw.job_status", "raw.rejected_record", "raw.landed_file"):
            connection.execute(f"truncate {table}".encode())
    folder = Path(settings.landing) / "job_status"
    folder.mkdir(exist_ok=True)
    feed = feed_of_rows("job_status")
    for number, (batch, is_file) in enumerate(zip(batches, by_file, strict=True)):
        lines = [json.dumps(one, separators=(",", ":")).encode() for one in batch]
        path = folder / f"{number}.ndjson"
        if is_file:
            path.write_bytes(b"\n".join(lines) + b"\n")
            ingest(settings)
            path.unlink()
        else:
            with connect(settings, "ingest", autocommit=True) as connection:
                receive(
                    connection, feed, [Delivery("http a", lines)], feed.context(settings), Limits.of(settings)
                )
    tick(project, AS_OF, rebuild=True)
    with connect(settings) as connection:
        return {name: connection.execute(query.encode()).fetchall() for name, query in MARTS.items()}
