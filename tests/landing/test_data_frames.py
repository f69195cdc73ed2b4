"""What pandas and others write by default is understood where it can mean one thing only."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.landing.ledger import FileOutcome

Query = Callable[..., list[tuple[Any, ...]]]
Load = Callable[..., FileOutcome]

MOMENT = pd.Timestamp("2026-03-02T05:31:07.123456789Z")


def frame(**columns: Any) -> pd.DataFrame:
    """Two statuses, as somebody who never thinks of types would have them."""
    whole = {
        "application_id": pd.Categorical(["deposits", "deposits"]),
        "job_id": ["load", "post"],
        "status_code": ["START", "SUCCEED"],
        "status_at": [MOMENT, MOMENT],
        "business_date": pd.to_datetime(["2026-03-01", "2026-03-01"]),
        "run_id": [12, None],
        "host_id": [None, np.nan],
    }
    return pd.DataFrame(whole | columns)


def as_parquet(rows: pd.DataFrame, **options: Any) -> bytes:
    sink = io.BytesIO()
    rows.to_parquet(sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("index", ["range", "labels"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_frame_by_default(load_one: Load, query: Query, kind: str, index: str) -> None:
    rows = frame()
    if index == "labels":
        rows.index = pd.Index(["x", "y"])
    outcome = load_one(f"a.{kind}", rows.to_csv() if kind == "csv" else as_parquet(rows))
    assert (outcome.status, outcome.record_count, outcome.rejected_count) == ("loaded", 2, 0)
    assert query(
        "select application_id, job_id, status_at, business_date, run_id, host_id from raw.job_status order by seq"
    ) == [
        ("deposits", "load", datetime(2026, 3, 2, 5, 31, 7, 123456, UTC), date(2026, 3, 1), "12", None),
        ("deposits", "post", datetime(2026, 3, 2, 5, 31, 7, 123456, UTC), date(2026, 3, 1), None, None),
    ]
    # A Parquet file says itself what is a number; of a text it is told.
    assert [(w["line"], w["column"]) for w in outcome.warnings] == ([(2, "run_id")] if kind == "csv" else [])


def test_a_frame_that_was_read_from_csv_and_written_again(load_one: Load) -> None:
    again = pd.read_csv(io.StringIO(frame().to_csv()))
    assert next(iter(again.columns)) == "Unnamed: 0"
    outcome = load_one("a.csv", again.to_csv())
    assert (outcome.record_count, [w["column"] for w in outcome.warnings]) == (2, ["run_id"])


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "NULL", "null", r"\N", "<NA>", "NaT"])
def test_words_for_nothing_are_no_run(load_one: Load, query: Query, word: str) -> None:
    rows = frame(run_id=["r1", word], host_id=[word, "h"], status_at=[MOMENT.isoformat()] * 2)
    outcome = load_one("a.csv", rows.to_csv(index=False) + rows.to_csv(index=False, header=False))
    assert query("select run_id, host_id from raw.job_status order by seq") == [
        ("r1", None), (None, "h"), ("r1", None), (None, "h"),
    ]  # fmt: skip
    # Once for each column, with the first line.
    assert [(w["line"], w["column"]) for w in outcome.warnings] == [(3, "run_id"), (2, "host_id")]
    assert outcome.warnings[0]["message"] == (
        f"run_id is {word!r}, which stands for no value: it is taken as missing."
    )


def test_ids_that_only_look_like_nothing_stay(load_one: Load, query: Query) -> None:
    ids = ["nano", "nonesuch", "0", "-", "1.0.0", "v12.0", "12.50", "NA"]
    rows = pd.concat([frame()] * 4, ignore_index=True).assign(run_id=ids)
    assert load_one("a.csv", rows.to_csv(index=False)).warnings == ()
    assert [row[0] for row in query("select run_id from raw.job_status order by seq")] == ids


@pytest.mark.parametrize(
    "value", ["2026-03-01 07:30:00", "2026-03-01 00:00:00+00:00", "2026-03-01T00:00:00Z", "2026-03-01 24:00"]
)
def test_a_time_is_no_business_date(load_one: Load, query: Query, value: str) -> None:
    outcome = load_one("a.csv", frame(business_date=["2026-03-01 00:00:00", value]).to_csv(index=False))
    assert (outcome.record_count, outcome.rejected_count) == (1, 1)
    assert query("select line_no, reasons -> 0 ->> 'hint' from raw.rejected_record") == [
        (3, "An ISO date without time and zone, such as 2026-03-01.")
    ]


def test_numbers_that_are_no_ids(load_one: Load, query: Query) -> None:
    outcome = load_one("a.parquet", as_parquet(frame(run_id=[1.5, 2.0], job_id=[7.0, np.inf])))
    assert (outcome.record_count, outcome.rejected_count) == (0, 2)
    assert [
        row[0] for row in query("select reasons -> 0 ->> 'message' from raw.rejected_record order by 1")
    ] == [
        "job_id is the number inf; text is wanted.",
        "run_id is the number 1.5; text is wanted.",
    ]


@pytest.mark.parametrize("year", [1583, 1676, 2263, 9999])
def test_int96_does_not_wrap(load_one: Load, query: Query, year: int) -> None:
    moment = datetime(year, 3, 2, 5, 31, 7, tzinfo=UTC)
    table = pa.table(
        {
            "application_id": ["deposits"],
            "job_id": ["load"],
            "status_code": ["START"],
            "status_at": pa.array([moment], pa.timestamp("us", "UTC")),
            "business_date": [date(year, 3, 1)],
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, use_deprecated_int96_timestamps=True, store_schema=False)
    # Int96 has no zone: it is taken as a local time, which needs a registered application.
    outcome = load_one("a.parquet", sink.getvalue())
    assert (outcome.status, outcome.rejected_count) == ("loaded", 1)
    ((record,),) = query("select record from raw.rejected_record")
    assert f'"{year}-03-02T05:31:07' in record


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("ms", "UTC"), pa.date32(), pa.date64()])
def test_instants_that_no_calendar_has_do_not_wrap(load_one: Load, query: Query, kind: pa.DataType) -> None:
    most = 2**31 - 1 if pa.types.is_date32(kind) else 2**62
    number = pa.array([most], pa.int32() if pa.types.is_date32(kind) else pa.int64())
    column = "business_date" if pa.types.is_date(kind) else "status_at"
    values = frame().iloc[:1].astype(str).to_dict("list")
    table = pa.table({**values, column: number.view(kind)})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    outcome = load_one("a.parquet", sink.getvalue())
    assert (outcome.status, outcome.rejected_count) == ("loaded", 1)
    assert query("select reasons -> 0 ->> 'message' from raw.rejected_record") == [
        (f"{column} lies outside the years 1 to 9999.",)
    ]
