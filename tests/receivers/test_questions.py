"""Questions by HTTP: what was reported is seen to be late, as of now and of any moment, by who may ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.receivers.conftest import AS_OF, Receiver


@pytest.fixture
def ask(judged: Receiver) -> Callable[..., Any]:
    def get(path: str, sender: str | None = "dashboards", **parameters: object) -> Any:
        with judged.client(sender) as client:
            return client.get(f"/api/v1{path}", params=parameters or None)  # type: ignore[arg-type]

    return get


def test_what_is_late_and_why(ask: Callable[..., Any]) -> None:
    found = ask("/late", slo_id="loaded").json()
    assert found["as_of"] == AS_OF
    late = {row["business_date"]: row for row in found["late"]}
    row = late["2026-03-02"]
    assert (row["outcome"], row["blocking_job"], row["late_by"]) == ("overdue", "deposits/load", 22 * 3600)
    assert ask("/late", application_id="treasury").json()["late"] == []
    assert ask("/late", at_risk=True).json()["late"] == []


def test_an_answer_stands_until_the_next_tick(ask: Callable[..., Any], judged: Receiver) -> None:
    etag = ask("/slos").headers["etag"]
    with judged.client("dashboards") as client:
        again = client.get("/api/v1/slos", headers={"If-None-Match": etag})
        other = client.get("/api/v1/slos", headers={"If-None-Match": '"0"'})
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200


def test_an_slo_and_its_occurrences(ask: Callable[..., Any]) -> None:
    assert [one["slo_id"] for one in ask("/slos", application_id="deposits").json()["slos"]] == ["loaded"]
    one = ask("/slos/loaded").json()
    assert (one["slo"]["timezone"], [job["job_id"] for job in one["jobs"]]) == ("America/New_York", ["load"])
    assert one["forecast"] == [
        row for row in ask("/forecast").json()["forecast"] if row["slo_id"] == "loaded"
    ]
    assert ask("/slos/loaded/occurrences").json()["occurrences"]
    found = ask("/slos/loaded/occurrences", **{"from": "2026-03-01", "to": "2026-03-02", "limit": 1}).json()
    assert [(row["business_date"], row["outcome"]) for row in found["occurrences"]] == [
        ("2026-03-02", "overdue")
    ]
    assert found["more"]


def test_as_of_another_moment(ask: Callable[..., Any]) -> None:
    path = "/slos/loaded/occurrences"
    then = ask(path, **{"as_of": "2026-03-03T09:30:00Z", "from": "2026-03-02"}).json()["occurrences"]
    assert ("2026-03-02", "not_due") in {(row["business_date"], row["outcome"]) for row in then}
    # All of it was received long after: then nothing was known.
    known = ask(path, as_of="2026-03-03T09:30:00Z", known_at="2026-03-03T09:30:00Z").json()["occurrences"]
    assert {row["progress"] for row in known} <= {"not_started"}
    refused = ask(path, as_of="2026-03-03T09:30:00")
    assert (refused.status_code, refused.json()["message"]) == (400, "as_of has no offset.")


def test_a_kpi_its_history_and_its_members(ask: Callable[..., Any]) -> None:
    one = ask("/kpis/on-time-share").json()
    assert {"kpiId", "name", "value", "trend"} <= one.keys()
    assert (one["kpiId"], one["name"], one["trend"].keys()) == (
        "on-time-share", "On-time share", {"direction", "percentage"},
    )  # fmt: skip
    assert [row["kpiId"] for row in ask("/kpis").json()["kpis"]] == ["on-time-share"]
    days = ask("/kpis/on-time-share/history", aggregation="day").json()["history"]
    assert {row["period"]: row["value"] for row in days}["2026-03-01"] == 1.0
    some = {"timeRange.start": "2026-03-02T00:00:00-05:00", "timeRange.end": "2026-03-03T00:00:00-05:00"}
    some_days = ask("/kpis/on-time-share/history", aggregation="day", **some).json()["history"]
    assert [row["period"] for row in some_days] == ["2026-03-02"]
    members = ask("/kpis/on-time-share/dimensions", dimensions="application", aggregation="day").json()
    assert {row["dimensions"]["application"] for row in members["dimensions"]} == {"deposits"}
    assert ask("/kpis/on-time-share/dimensions", dimensions="region").json()["dimensions"] == []
    refused = ask("/kpis/on-time-share/history", aggregation="month")
    assert (refused.status_code, refused.json()["hint"]) == (400, "It has them by day, week.")


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/slos/nope", 404, "There is no SLO 'nope'."),
        ("/slos/nope/occurrences", 404, "There is no SLO 'nope'."),
        ("/slos/';drop table marts.tick--", 404, "There is no SLO"),
        ("/kpis/nope", 404, "There is no KPI 'nope'."),
        ("/late?limit=0", 400, "limit"),
        ("/slos/loaded/occurrences?from=yesterday", 400, "from"),
    ],
)
def test_what_is_not_there_or_cannot_be_read(
    ask: Callable[..., Any], path: str, status: int, said: str
) -> None:
    found = ask(path)
    assert found.status_code == status
    assert said in found.json()["message"]


def test_only_analysts_ask(ask: Callable[..., Any]) -> None:
    for path in ("/late", "/slos", "/slos/loaded", "/slos/loaded/occurrences", "/forecast", "/kpis"):
        assert ask(path, None).status_code == 401
        assert ask(path, "scheduler").status_code == 403
