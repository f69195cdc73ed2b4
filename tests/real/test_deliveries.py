"""Five years of deliveries of four real feeds, judged by the marts and by pandas: they must agree row for row.

The data: when the Dipartimento della Protezione Civile published its COVID-19 files (times and file names from the
history of pcm-dpc/COVID-19, CC BY 4.0). Ends only: a delivery is a SUCCEED, a later one of the same date a revision.

Promised were 18:30 at first and 18:00 from 19 April 2020. From 30 October 2022 seven dates arrived together on a
Friday: first Friday to Thursday, the day after; from 17 August 2023 Thursday to Wednesday, two days after.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.warehouse.settings import ROOT
from tests.transform.support import Rows, Status, Warehouse

DELIVERIES = ROOT.parent / "shared/data/deliveries/pcm_dpc_deliveries.csv"
pytestmark = pytest.mark.skipif(not DELIVERIES.is_file(), reason=f"the real input {DELIVERIES} is not here")

ZONE = "Europe/Rome"
# Ten days after the last delivery: a whole week is overdue, and another not due yet.
AS_OF = pd.Timestamp("2025-01-20T12:00Z")
JOBS = {
    "national": "dati-andamento-nazionale",
    "regions": "dati-regioni",
    "provinces": "dati-province",
    "bulletin": "schede-riepilogative/regioni",
}
SLOS = {slo: [job] for slo, job in JOBS.items()} | {"all-data": list(JOBS.values())}
PROMISES: tuple[dict[str, str], ...] = (
    {"effective_from": "2020-03-07", "end": "18:30"},
    {"effective_from": "2020-04-19", "end": "18:00"},
    {"effective_from": "2022-10-30", "end": "18:00", "due_weekday": "fri"},
    # The Friday at least two days on is the next Thursday's 42nd hour.
    {"effective_from": "2023-08-17", "end": "42:00", "due_weekday": "thu"},
)
CATALOG: dict[str, list[dict[str, Any]]] = {
    "applications": [{"id": "covid-19", "timezone": ZONE}],
    "calendars": [{"id": "every_day", "weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}],
    "jobs": [{"id": job, "application": "covid-19"} for job in JOBS.values()],
    "slos": [
        {
            "id": slo,
            "application": "covid-19",
            "calendar": "every_day",
            "effective_from": promise["effective_from"],
            "jobs": [
                {"job": job} | {k: v for k, v in promise.items() if k != "effective_from"} for job in jobs
            ],
        }
        for slo, jobs in SLOS.items()
        for promise in PROMISES
    ],
}
COLUMNS = (
    "expected_end_at", "actual_end_at", "last_success_at", "late_by", "outcome", "progress", "revisions",
    "completed_job_count", "blocking_job",
)  # fmt: skip


@pytest.fixture(scope="module")
def deliveries() -> pd.DataFrame:
    """The file as it is, with `day` and `at` (UTC) read."""
    frame = pd.read_csv(DELIVERIES, dtype=str)
    return frame.assign(
        day=pd.to_datetime(frame["business_date"]), at=pd.to_datetime(frame["delivered_at"], utc=True)
    )


@pytest.fixture(scope="module")
def statuses(deliveries: pd.DataFrame) -> list[Status]:
    """The converter: a job status per delivery, its instant with the offset that stands in the file."""
    return [
        {
            "application_id": "covid-19",
            "job_id": job,
            "status_code": "SUCCEED",
            "status_at": delivered_at,
            "business_date": business_date,
        }
        for job, business_date, delivered_at in zip(
            deliveries["job"], deliveries["business_date"], deliveries["delivered_at"], strict=True
        )
    ]


@pytest.fixture(scope="module")
def built(deployed: Warehouse, statuses: list[Status]) -> Rows:
    """The marts of one ingest and one tick."""
    deployed.reset()
    deployed.write_catalog(CATALOG)
    (outcome,) = deployed.ingest(statuses).files
    assert (outcome.record_count, outcome.rejected_count) == (len(statuses), 0)
    deployed.tick(AS_OF.to_pydatetime())
    return deployed.marts()


def due(day: pd.Timestamp) -> pd.Timestamp:
    """When the data of `day` was promised."""
    if day < pd.Timestamp("2020-04-19"):
        clock = day + pd.Timedelta(hours=18, minutes=30)
    elif day < pd.Timestamp("2022-10-30"):
        clock = day + pd.Timedelta(hours=18)
    else:
        last_weekday = 3 if day < pd.Timestamp("2023-08-17") else 2
        last_of_week = day + pd.Timedelta(days=(last_weekday - day.weekday()) % 7)
        clock = last_of_week + pd.Timedelta(days=4 - last_weekday, hours=18)
        assert clock.day_name() == "Friday"
    return clock.tz_localize(ZONE).tz_convert("UTC")


def given_up(day: pd.Timestamp) -> pd.Timestamp:
    """When the data of `day` is given up: once what its promise says of the next day or week has fallen due."""
    if day < pd.Timestamp("2020-04-19"):
        clock = day + pd.Timedelta(days=1, hours=18, minutes=30)
    elif day < pd.Timestamp("2022-10-30"):
        clock = day + pd.Timedelta(days=1, hours=18)
    else:
        clock = due(day).tz_convert(ZONE).tz_localize(None) + pd.Timedelta(days=7)
    return min(clock.tz_localize(ZONE).tz_convert("UTC"), due(day) + pd.Timedelta(days=7))


def verdicts(deliveries: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """COLUMNS by slo_id and business_date, from the deliveries up to `as_of` alone."""
    days = pd.date_range("2020-03-07", as_of.tz_convert(ZONE).date(), name="day")
    seen = deliveries[deliveries["at"] <= as_of]
    each = seen.groupby(["job", "day"])["at"].agg(["min", "max", "size"])
    slos = []
    for slo, jobs in SLOS.items():
        index = pd.MultiIndex.from_product([sorted(jobs), days], names=["job", "day"])
        one = each.reindex(index).reset_index()
        by_day = one.groupby("day")
        frame = pd.DataFrame({"expected_end_at": [due(day) for day in days]}, index=days)
        frame["completed_job_count"] = by_day["min"].count()
        is_complete = frame["completed_job_count"] == len(jobs)
        frame["actual_end_at"] = by_day["min"].max().where(is_complete)
        frame["last_success_at"] = by_day["max"].max()
        frame["revisions"] = by_day["size"].sum().astype(int) - frame["completed_job_count"]
        frame["late_by"] = frame["actual_end_at"] - frame["expected_end_at"]
        frame["progress"] = is_complete.map({True: "complete", False: "pending"})
        frame.loc[~is_complete & (frame["completed_job_count"] > 0), "progress"] = "running"
        is_over = frame["expected_end_at"] < as_of
        frame["outcome"] = is_over.map({True: "overdue", False: "not_due"})
        frame.loc[pd.Series([given_up(day) for day in days], index=days) < as_of, "outcome"] = "missed"
        frame.loc[is_complete, "outcome"] = "on_time"
        frame.loc[frame["late_by"] > pd.Timedelta(0), "outcome"] = "late"
        # To blame: the first by name that is missing, else the first by name of those that came last.
        one["rank"] = one["min"].fillna(pd.Timestamp.max.tz_localize("UTC"))
        last = one.sort_values(["rank", "job"], ascending=[False, True]).groupby("day")["job"].first()
        frame["blocking_job"] = "covid-19/" + last
        slos.append(frame.assign(slo_id=slo, business_date=days))
    return _comparable(pd.concat(slos))


def _comparable(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(
        business_date=pd.to_datetime(frame["business_date"]).astype("datetime64[s]"),
        late_by=pd.to_timedelta(frame["late_by"]).astype("timedelta64[us]"),
    )
    for name in ("expected_end_at", "actual_end_at", "last_success_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
    return frame.set_index(["slo_id", "business_date"]).sort_index()[list(COLUMNS)]


def in_marts(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    assert {row["slot"] for row in rows} == {"00:00"}
    return _comparable(pd.DataFrame(rows))


def test_every_verdict_is_that_of_pandas(built: Rows, deliveries: pd.DataFrame) -> None:
    expected = verdicts(deliveries, AS_OF)
    pd.testing.assert_frame_equal(in_marts(built["slo_performance"]), expected)
    # All that can happen to a complete or absent delivery did.
    assert set(expected["outcome"]) == {"on_time", "late", "overdue", "not_due"}


def test_figures_by_year_asked_in_sql(built: Rows, deployed: Warehouse, deliveries: pd.DataFrame) -> None:
    rows = deployed.query(
        """
        select slo_id, extract(year from business_date)::int as year, count(*)::int as occurrences,
            (count(*) filter (where outcome = 'on_time'))::int as on_time, sum(revisions)::int as revisions
        from marts.slo_performance
        where outcome <> 'not_due'
        group by 1, 2 order by 1, 2
        """
    )
    expected = verdicts(deliveries, AS_OF).query("outcome != 'not_due'").reset_index()
    expected = expected.assign(
        year=expected["business_date"].dt.year, on_time=expected["outcome"] == "on_time"
    )
    by_year = expected.groupby(["slo_id", "year"]).agg(
        occurrences=("outcome", "size"), on_time=("on_time", "sum"), revisions=("revisions", "sum")
    )
    assert [tuple(row.values()) for row in rows] == list(
        by_year.reset_index().itertuples(index=False, name=None)
    )


def test_the_worst_ten(built: Rows, deployed: Warehouse, deliveries: pd.DataFrame) -> None:
    rows = deployed.query(
        "select slo_id, business_date::text, late_by from marts.slo_performance where outcome = 'late'"
        " order by late_by desc, business_date, slo_id limit 10"
    )
    expected = verdicts(deliveries, AS_OF).query("outcome == 'late'").reset_index()
    worst = expected.sort_values(["late_by", "business_date", "slo_id"], ascending=[False, True, True]).head(
        10
    )
    assert [tuple(row.values()) for row in rows] == [
        (slo, f"{day:%Y-%m-%d}", late.to_pytimedelta())
        for slo, day, late in zip(worst["slo_id"], worst["business_date"], worst["late_by"], strict=True)
    ]


def test_a_date_of_a_job_is_one_run_that_only_ended(built: Rows, deliveries: pd.DataFrame) -> None:
    first = deliveries.groupby(["job", "day"], as_index=False)["at"].min()
    runs = {(row["job_id"], pd.Timestamp(row["business_date"]), row["ended_at"]) for row in built["job_run"]}
    assert len(built["job_run"]) == len(first)
    assert runs == set(zip(first["job"], first["day"], first["at"], strict=True))
    assert {
        (row["attempt"], row["final_status"], row["started_at"], row["duration"], row["run_id"])
        for row in built["job_run"]
    } == {(1, "SUCCEED", None, None, None)}


@pytest.mark.parametrize(
    "moment",
    [
        "2020-03-07T12:43:14Z",  # of the first delivery: its own date's is missing
        "2020-03-29T16:04:00Z",  # clocks were set forward in the night
        "2020-12-06T17:30:00Z",  # the bulletin is two hours behind the rest
        "2020-12-20T23:00:00Z",  # midnight in Rome: a date begins
        "2021-08-02T16:00:00Z",  # the due time itself
        "2023-01-20T12:59:59Z",  # before a Friday's delivery
        "2023-08-18T16:00:01Z",  # the weeks have just begun to end on Wednesdays
        "2024-12-27T17:30:00Z",  # a whole week overdue
    ],
)
def test_any_moment_of_the_past(
    built: Rows, deployed: Warehouse, deliveries: pd.DataFrame, moment: str
) -> None:
    as_of = pd.Timestamp(moment)
    expected = verdicts(deliveries, as_of)
    is_overdue = expected["outcome"] == "overdue"
    # The function, unlike the mart, says how late an overdue one is by then.
    expected["late_by"] = expected["late_by"].mask(is_overdue, as_of - expected["expected_end_at"])
    expected["late_by"] = expected["late_by"].astype("timedelta64[us]")
    actual = in_marts(deployed.query("select * from marts.slo_performance_at(%s)", as_of.to_pydatetime()))
    pd.testing.assert_frame_equal(actual, expected)


def test_delivered_again_it_changes_nothing(built: Rows, deployed: Warehouse, statuses: list[Status]) -> None:
    (outcome,) = deployed.ingest(statuses).files
    assert outcome.status == "duplicate"
    report = deployed.tick(AS_OF.to_pydatetime())
    assert sum(publication.inserted for publication in report.publications) == 0
    assert deployed.marts() == built


# From here on the tests empty the warehouse that those above ask.


def test_fifty_shuffled_files_with_duplicates_give_the_same_marts(
    built: Rows, warehouse: Warehouse, statuses: list[Status], tmp_path: Path
) -> None:
    randomness = random.Random(20200307)
    mixed = statuses + randomness.sample(statuses, 2000)
    randomness.shuffle(mixed)
    warehouse.write_catalog(CATALOG)
    for number in range(50):
        warehouse.ingest(mixed[number::50])
        if number == 25:
            warehouse.tick(AS_OF.to_pydatetime())
    warehouse.tick(AS_OF.to_pydatetime())
    assert warehouse.marts() == built


@pytest.mark.deep
def test_year_by_year_gives_the_same_marts(
    built: Rows, warehouse: Warehouse, statuses: list[Status], deliveries: pd.DataFrame
) -> None:
    warehouse.write_catalog(CATALOG)
    ends = pd.DatetimeIndex([*pd.date_range("2020-04-01", AS_OF.date(), freq="YS", tz="UTC"), AS_OF])
    places = ends.searchsorted(pd.DatetimeIndex(deliveries["at"]))
    for year, end in enumerate(ends):
        warehouse.ingest([status for status, at in zip(statuses, places, strict=True) if at == year])
        warehouse.tick(end.to_pydatetime())
        rows = warehouse.query("select * from marts.slo_performance")
        pd.testing.assert_frame_equal(in_marts(rows), verdicts(deliveries, end))
    assert warehouse.marts() == built
