"""The check of job statuses against its rules written down once more, record by record."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.catalog.zones import zone
from pipelines.landing.formats.records import TEXT
from pipelines.slo.job_status import JOB_STATUS, check
from tests.examples import examples

ZONES = {"deposits": "America/New_York", "treasury": "Asia/Singapore"}
NAMES = ["application_id", "job_id", "status_code", "status_at", "business_date", "run_id", "host_id"]

EDGES = [
    "2026-06-01T16:00:00Z", "2026-06-01T15:59:59.9999999Z", "2026-06-02", "2026-W23-2", "20260602", "20260601T160000Z",
    "2026-06-01 16:00", "2026-06-01T16", "2026-06-01T24:00:00Z", "2026-06-01T16:00:60Z", "2026-06-01T16:00:00z",
    "2026-06-01T16:00:00,5+08:00", "2026-11-01T01:30:00", "2026-03-08T02:30:00", "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00", "0000-01-01T00:00:00Z", "0000-01-01", "2026-06-01T16:00:00+23:59", "", " ", "x",
    " 2026-06-01T16:00:00Z ", "２０２６-06-01T16:00:00Z", "2026-06-01T16:00:00+08:00:30.5", "-2026-06-01T16:00:00Z",
    "10000-01-01T00:00:00Z", "0001-01-01", "9999-12-31", "1969-12-31T23:59:59.999999Z",
]  # fmt: skip
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(timezones=st.none() | OFFSETS).map(datetime.isoformat) | st.sampled_from(EDGES)
NEAR = st.datetimes(datetime(2026, 5, 31), datetime(2026, 6, 4), timezones=OFFSETS).map(datetime.isoformat)  # noqa: DTZ001
DATES = st.dates().map(str) | st.dates(date(2026, 5, 31), date(2026, 6, 4)).map(str) | st.sampled_from(EDGES)
RECORDS = st.tuples(
    st.sampled_from(["deposits", "treasury", "nobody", "", " ", "é" * 200, "é" * 201]) | st.none(),
    st.sampled_from(["load", "a/b", "x" * 200, "x" * 201, ""]) | st.none(),
    st.sampled_from(["START", "fail", " Succeed ", "GO", "", "ſtart"]) | st.none(),
    TIMES | NEAR | st.none(),
    DATES | st.none(),
    st.sampled_from(["r" * 50, "r" * 51, "", " r "]) | st.none(),
    st.sampled_from(["h" * 150, "h" * 151, ""]) | st.none(),
)
Record = tuple[str | None, ...]


def expected(record: Record) -> list[str] | tuple[object, ...]:
    """The fields that are in breach, or the row."""
    application, job, code, at, day, run, host = (
        None if value is None else value.strip() or None for value in record
    )
    bad = [
        name
        for name, value, longest, is_required in (
            ("application_id", application, 200, True),
            ("job_id", job, 200, True),
            ("run_id", run, 50, False),
            ("host_id", host, 150, False),
        )
        if (value is None and is_required) or (value is not None and len(value) > longest)
    ]
    if code is None or code.upper() not in {"START", "SUCCEED", "FAIL"}:
        bad.append("status_code")
    instant, is_ambiguous = read_instant(at, application)
    if instant is None:
        bad.append("status_at")
    business_date = None
    with contextlib.suppress(ValueError):
        business_date = None if day is None else date.fromisoformat(day)
    if business_date is None:
        bad.append("business_date")
    elif instant is not None:
        offset = timedelta(hours=14)
        if application in ZONES:
            offset = instant.astimezone(zone(ZONES[application])).utcoffset() or timedelta()
        days = (instant - datetime(1, 1, 1, tzinfo=UTC) + offset) // timedelta(days=1)
        if business_date.toordinal() - 1 > days:
            bad.append("business_date")
    return bad or (application, job, (code or "").upper(), instant, business_date, run, host, is_ambiguous)


def read_instant(text: str | None, application: str | None) -> tuple[datetime | None, bool]:
    if text is None:
        return None, False
    try:
        moment = datetime.fromisoformat(text.replace("z", "Z"))
    except ValueError:
        return None, False
    try:
        date.fromisoformat(text)
    except ValueError:
        pass
    else:
        return None, False
    try:
        if moment.tzinfo is not None:
            return moment.astimezone(UTC), False
        if application not in ZONES:
            return None, False
        local = moment.replace(tzinfo=zone(ZONES[application]))
        first, second = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
    except OverflowError:
        return None, False
    return first, first < second


@given(st.lists(RECORDS, min_size=1, max_size=20))
@examples(400)
def test_check(records: list[Record]) -> None:
    columns = zip(NAMES, zip(*records, strict=True), strict=True)
    frame = pd.DataFrame({name: pd.array(list(values), dtype=TEXT) for name, values in columns})
    checked = check(frame, ZONES)
    wanted = [expected(record) for record in records]
    reasons = [[reason.field for reason in checked.breaches.reasons(place)] for place in range(len(records))]
    assert reasons == [answer if isinstance(answer, list) else [] for answer in wanted]
    rows = [tuple(row.values()) for row in checked.rows.to_pylist()]
    assert rows == [answer for answer in wanted if isinstance(answer, tuple)]


@given(st.lists(TIMES | NEAR, min_size=1, max_size=4))
@example(["0001-01-01T00:00:00+00:00"])
@examples(300)
def test_the_fast_way_and_the_careful_way_agree(times: list[str]) -> None:
    def read(values: list[str]) -> list[tuple[object, ...]]:
        frame = pd.DataFrame({name: pd.array(["x"] * len(values), dtype=TEXT) for name in NAMES})
        frame["application_id"] = pd.array(["deposits"] * len(values), dtype=TEXT)
        frame["status_code"] = pd.array(["FAIL"] * len(values), dtype=TEXT)
        frame["business_date"] = pd.array(["0001-01-01"] * len(values), dtype=TEXT)
        frame["status_at"] = pd.array(values, dtype=TEXT)
        checked = check(frame, ZONES)
        rows = iter(checked.rows.to_pylist())
        return [
            tuple(next(rows).values()) if good else tuple(checked.breaches.reasons(place))
            for place, good in enumerate(checked.breaches.good.tolist())
        ]

    # One that cannot be read sends the whole column the careful way.
    assert read([*times, "never"])[:-1] == [row for time in times for row in read([time])]


def test_the_columns_of_the_answer_are_the_tables() -> None:
    frame = pd.DataFrame({name: pd.array([], dtype=TEXT) for name in NAMES})
    rows = check(frame, {}).rows
    assert rows.column_names == [*NAMES, "is_ambiguous"]
    assert rows.schema.field("status_at").type == pa.timestamp("us", "UTC")
    assert [column.name for column in JOB_STATUS.columns] == NAMES
