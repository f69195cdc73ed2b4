"""Questions of docs/marts.md about the catalog, and their answers worked out without SQL."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest

from pipelines.catalog.calendars import business_dates, calendar_days
from pipelines.catalog.read import Catalog, read_catalog
from pipelines.console import answer
from pipelines.warehouse.settings import Settings
from tests.docs.conftest import Ask, page

Rows = list[dict[str, str]]
Query = Callable[[str], Rows]


@pytest.fixture(scope="module")
def query(demonstration: Ask, empty: Settings) -> Query:
    """Asks the demonstration; gives the rows as csv has them."""

    def ask(text: str) -> Rows:
        out = io.StringIO()
        answer(empty, text, "csv", out)
        return list(csv.DictReader(io.StringIO(out.getvalue())))

    return ask


@pytest.fixture(scope="module")
def catalog(empty: Settings) -> Catalog:
    return read_catalog(empty.catalog)


@pytest.fixture(scope="module")
def as_of(query: Query) -> datetime:
    return datetime.fromisoformat(query("select as_of from tick")[0]["as_of"])


@pytest.fixture(scope="module")
def due(query: Query) -> Rows:
    """Occurrences that are due."""
    return [row for row in query("select * from slo_performance") if row["outcome"] != "not_due"]


def question(words: str) -> str:
    """The query below the paragraph of docs/marts.md that begins so."""
    found = re.search(rf"\n\n{re.escape(words)}.*?```sql\n(.*?)```", page("docs/marts.md"), re.DOTALL)
    assert found is not None
    return found[1]


def share(misses: int, of: int) -> str:
    return f"{float(round(Fraction(of - misses, of) + Fraction(1, 10**9), 3)):.3f}"


def owner(catalog: Catalog, slo_id: str) -> str:
    return catalog.applications[catalog.slos[slo_id][-1].application].owner or ""


def test_slos_below_their_objective(query: Query, catalog: Catalog, due: Rows) -> None:
    expected = []
    for slo_id, entries in catalog.slos.items():
        own = [row for row in due if row["slo_id"] == slo_id]
        last = sorted({row["business_date"] for row in own})[-28:]
        outcomes = Counter(row["outcome"] == "on_time" for row in own if row["business_date"] in last)
        if outcomes and Fraction(outcomes[True], outcomes.total()) < Fraction(str(entries[0].objective)):
            expected.append((slo_id, owner(catalog, slo_id), str(outcomes[False])))
    found = query(question("Which SLOs are below their objective"))
    assert sorted((row["slo_id"], row["owner"], row["misses_spent"]) for row in found) == sorted(expected)
    assert expected


def test_misses_by_owner(query: Query, catalog: Catalog, due: Rows, as_of: datetime) -> None:
    since = (as_of.date() - timedelta(days=28)).isoformat()
    recent = [row for row in due if row["business_date"] > since]
    counts = Counter(owner(catalog, row["slo_id"]) for row in recent)
    misses = Counter(owner(catalog, row["slo_id"]) for row in recent if row["outcome"] != "on_time")
    found = query(question("How many misses has each owner"))
    assert {row["owner"]: (row["due"], row["misses"], row["on_time"]) for row in found} == {
        name: (str(count), str(misses[name]), share(misses[name], count)) for name, count in counts.items()
    }
    assert sum(misses.values()) > 0


def test_share_on_time_by_month(query: Query, due: Rows) -> None:
    counts = Counter(row["business_date"][:7] for row in due)
    misses = Counter(row["business_date"][:7] for row in due if row["outcome"] != "on_time")
    found = query(question("Which share was on time, month by month"))
    assert [(row["month"], row["due"], row["misses"], row["on_time"]) for row in found] == [
        (month, str(count), str(misses[month]), share(misses[month], count))
        for month, count in sorted(counts.items())
    ]


def test_slos_that_promise_something_for_a_date(query: Query, catalog: Catalog, as_of: datetime) -> None:
    day = as_of.date()
    found = {row["slo_id"]: row for row in query(question("Which SLOs promise something for a date"))}
    assert set(found) == {
        slo_id
        for slo_id, entries in catalog.slos.items()
        if business_dates(catalog.calendars[entries[0].calendar], day, day)
    }
    for slo_id, row in found.items():
        entry = catalog.slos[slo_id][0]
        ends = [job.end for job in entry.jobs if job.end is not None and job.due_weekday is None]
        if len(ends) < len(entry.jobs):
            assert row["due_at"] == ""
            continue
        minutes = max((job.day_offset or 0) * 1440 + (job.end or 0) for job in entry.jobs)
        zone = ZoneInfo(entry.timezone or catalog.applications[entry.application].timezone)
        local = datetime.combine(day, datetime.min.time(), zone) + timedelta(minutes=minutes)
        assert datetime.fromisoformat(row["due_at"]) == local
        assert f"complete by {local:%H:%M}" in row["promise"]


def test_when_a_calendar_rests(query: Query, catalog: Catalog, as_of: datetime) -> None:
    first = as_of.date()
    expected = [
        (str(one.day), one.reason, one.holiday or "")
        for one in calendar_days(catalog.calendars["back_office_days"], first, first + timedelta(days=365))
        if one.reason in ("holiday", "excluded")
    ]
    found = query(question("When does a calendar rest"))
    assert [(row["business_date"], row["reason"], row["holiday"]) for row in found] == expected
    assert {"Christmas Day", "Good Friday"} <= {row["holiday"] for row in found}


def test_how_a_promise_changed(query: Query) -> None:
    first, second = query(question("How did a promise change"))
    assert (
        first["promise"]
        == "complete by 04:30 on the next day (Asia/Singapore), for every date of singapore_days"
    )
    assert (first["version"], first["last_date"], first["is_current"]) == ("1", "2027-02-28", "t")
    assert second["promise"].startswith("complete by 04:00 on the next day")
    assert (second["first_date"], second["last_date"]) == ("2027-03-01", "")
    assert date.fromisoformat(first["first_date"]) < date(2027, 3, 1)


def test_what_is_upstream_of_a_job(query: Query) -> None:
    found = query(question("What is upstream of a job"))
    assert [(row["distance"], row["upstream_job_id"], row["owner"]) for row in found] == [
        ("1", "load-overdrafts", "team:analytics"),
        ("2", "charge-overdrafts", "team:deposits"),
        ("3", "post-transactions", "team:deposits"),
    ]


def test_what_is_downstream_of_a_job(query: Query) -> None:
    found = query(question("And what is downstream of one"))
    assert [(row["distance"], row["job_id"], row["slos"]) for row in found] == [
        ("1", "load-overdrafts", "{decision-support-load}"),
        ("1", "general-ledger", "{general-ledger,month-end-close}"),
        ("2", "overdraft-report", "{overdraft-report}"),
        ("2", "close-month", "{month-end-close}"),
        ("2", "liquidity-report", "{weekly-liquidity}"),
        ("3", "risk-briefing", "{risk-briefing}"),
    ]


def test_jobs_of_an_slo(query: Query) -> None:
    found = query(question("Which SLO needs which jobs"))
    assert [(row["job_id"], row["start_time"], row["end_time"], row["day_offset"]) for row in found] == [
        ("general-ledger", "04:30", "06:30", "1"), ("close-month", "08:00", "18:00", "1"),
    ]  # fmt: skip


def test_every_occurrence_is_due_when_its_version_says(query: Query) -> None:
    assert query(
        """
        select
            count(*) > 100 as many,
            bool_and(expected_end_at = (business_date + due_time) at time zone timezone) as due
        from slo_performance inner join slo_version using (slo_id)
        where business_date between first_date and coalesce(last_date, 'infinity') and due_time is not null
        """
    ) == [{"many": "t", "due": "t"}]
