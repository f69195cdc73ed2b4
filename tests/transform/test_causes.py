"""The cause of what is late follows what happens to others: incrementally, by both clocks, and as rebuilt."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.transform.support import Row, Warehouse, examples

EVERY_DAY = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
COLUMNS = ("slo_id", "cause_job", "cause_business_date::text", "cause_kind")


def catalog(jobs: dict[str, list[str]], slos: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """One application in UTC; `jobs`: whom each waits for; `slos`: the job of each, by its name."""
    return {
        "applications": [{"id": "bank", "timezone": "UTC"}],
        "calendars": [
            {"id": "every_day", "weekdays": EVERY_DAY},
            {"id": "fridays", "weekdays": ["fri"]},
        ],
        "jobs": [{"id": job, "application": "bank", "depends_on": ups} for job, ups in jobs.items()],
        "slos": [
            {
                "id": slo,
                "application": "bank",
                "calendar": said.pop("calendar", "every_day"),
                "effective_from": said.pop("effective_from", "2026-03-02"),
                "effective_to": said.pop("effective_to", "2026-03-09"),
                "jobs": [{"job": slo, "day_offset": 1, **said}],
            }
            for slo, said in ((slo, dict(said)) for slo, said in slos.items())
        ],
    }


def status(job: str, code: str, at: str, day: str = "2026-03-02") -> Row:
    return {
        "application_id": "bank",
        "job_id": job,
        "status_code": code,
        "status_at": f"{at}Z",
        "business_date": day,
    }


def asked(warehouse: Warehouse, *arguments: Any) -> list[Row]:
    """The function's rows, in the columns that do not depend on how late it is."""
    marks = ", ".join(["%s"] * len(arguments))
    return warehouse.query(
        f"select slo_id, business_date, slot, outcome, cause_job, cause_business_date, cause_kind, explanation"
        f" from marts.slo_performance_at({marks}) order by 1, 2, 3",
        *arguments,
    )


def told(warehouse: Warehouse, where: str = "true") -> list[Row]:
    return warehouse.query(
        "select slo_id, business_date, slot, outcome, cause_job, cause_business_date, cause_kind, explanation"
        f" from marts.slo_performance where {where} order by 1, 2, 3"
    )


def test_the_cause_follows_what_happens_upstream(warehouse: Warehouse) -> None:
    chain = {"raw": [], "load": ["raw"], "mart": ["load"], "report": ["mart"]}
    promised = {
        "load": {"start": "00:30", "end": "01:30", "effective_to": "2026-03-02"},
        "mart": {"start": "02:00", "end": "03:00", "effective_to": "2026-03-02"},
        "report": {"start": "04:00", "end": "05:00", "effective_to": "2026-03-02"},
    }
    warehouse.store_catalog(catalog(chain, promised))
    warehouse.tick("2026-03-03 06:00")
    assert warehouse.rows("slo_performance", *COLUMNS) == [
        ("load", "bank/load", "2026-03-02", "never_started"),
        ("mart", "bank/load", "2026-03-02", "late_upstream"),
        ("report", "bank/load", "2026-03-02", "late_upstream"),
    ]
    late = warehouse.rows("slo_late", "slo_id", "blocking_job", "cause_job", "waits_for")
    assert late[2] == ("report", "bank/report", "bank/load", "bank/load")

    # Nothing but a job of another SLO has changed, and the sentence about the report does.
    warehouse.ingest([status("load", "FAIL", "2026-03-03T01:10:00")])
    warehouse.tick("2026-03-03 06:10")
    (report,) = told(warehouse, "slo_id = 'report'")
    assert report["explanation"] == (
        "Overdue: nothing reported, waiting for bank/report, due 2026-03-03 05:00:00 UTC;"
        " cause: bank/load, upstream, failed at 2026-03-03 01:10:00."
    )

    # A job without an SLO, by its runs.
    warehouse.ingest(
        [
            status("raw", "SUCCEED", "2026-03-03T05:00:00"),
            status("load", "START", "2026-03-03T05:01:00"),
            status("load", "SUCCEED", "2026-03-03T05:30:00"),
        ]
    )
    as_of = "2026-03-03 06:20+00"
    warehouse.tick(as_of)
    assert {row["cause_job"] for row in told(warehouse)} == {"bank/raw"}
    assert told(warehouse) == asked(warehouse, as_of)
    known = warehouse.query("select max(received_at) as at from raw.load")[0]["at"]

    # Other edges: of the report's way, one in the middle.
    warehouse.store_catalog(catalog({**chain, "mart": []}, promised))
    warehouse.tick(as_of)
    assert warehouse.rows("slo_performance", *COLUMNS) == [
        ("load", "bank/raw", "2026-03-02", "late_upstream"),
        ("mart", "bank/mart", "2026-03-02", "never_started"),
        ("report", "bank/mart", "2026-03-02", "late_upstream"),
    ]
    assert told(warehouse) == asked(warehouse, as_of)
    before = asked(warehouse, as_of, known, "report", "2026-03-02", "2026-03-02")
    assert [row["cause_job"] for row in before] == ["bank/raw"]

    grown = warehouse.marts()
    warehouse.tick(as_of, rebuild=True)
    assert grown == warehouse.marts()


def test_what_happens_on_a_friday_is_the_cause_until_the_next(warehouse: Warehouse) -> None:
    promised = {
        "weekly": {"end": "03:00", "calendar": "fridays"},
        "daily": {"start": "04:00", "end": "05:00", "effective_from": "2026-03-05"},
    }
    warehouse.store_catalog(catalog({"weekly": [], "daily": ["weekly"]}, promised))
    as_of = "2026-03-10 12:00+00"
    warehouse.tick(as_of)
    columns = ("business_date::text", "cause_job", "cause_business_date::text", "cause_kind")
    assert warehouse.rows("slo_performance", *columns, where="slo_id = 'daily'") == [
        ("2026-03-05", "bank/daily", "2026-03-05", "never_started"),
        *[(f"2026-03-0{day}", "bank/weekly", "2026-03-06", "late_upstream") for day in range(6, 10)],
    ]
    # For one SLO and later dates than that of the cause, too.
    assert asked(warehouse, as_of, "infinity", "daily", "2026-03-08", "2026-03-08") == told(
        warehouse, "slo_id = 'daily' and business_date = '2026-03-08'"
    )
    warehouse.ingest([status("weekly", "SUCCEED", "2026-03-07T12:00:00", "2026-03-06")])
    warehouse.tick(as_of)
    # Those after it were not held up by it any more.
    assert warehouse.rows("slo_performance", *columns, where="slo_id = 'daily'") == [
        ("2026-03-05", "bank/daily", "2026-03-05", "never_started"),
        ("2026-03-06", "bank/weekly", "2026-03-06", "late_upstream"),
        *[(f"2026-03-0{day}", "bank/daily", f"2026-03-0{day}", "never_started") for day in range(7, 10)],
    ]
    assert told(warehouse) == asked(warehouse, as_of)
    grown = warehouse.marts()
    warehouse.tick(as_of, rebuild=True)
    assert grown == warehouse.marts()


JOBS = ("a", "b", "c", "d")
# The first has no SLO: it is known by its runs alone.
CHAIN = {
    "b": {"start": "00:30", "end": "02:00"},
    "c": {"start": "02:30", "end": "04:00", "calendar": "fridays"},
    "d": {"start": "04:30", "end": "06:00"},
}
DAYS = ("2026-03-05", "2026-03-06", "2026-03-07")


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Steps: edges of the graph, each job waiting for some of those before it, or statuses. The last are edges."""
    chance = Random(f"edits {draw(st.integers(0, 2**32 - 1))}")

    def graph() -> dict[str, list[str]]:
        return {job: [up for up in JOBS[:place] if chance.random() < 0.5] for place, job in enumerate(JOBS)}

    def sent() -> Row:
        day = chance.choice(DAYS)
        moment = f"2026-03-0{int(day[-1]) + 1}T0{chance.randint(0, 8)}:15:00"
        return status(chance.choice(JOBS), chance.choice(["START", "FAIL", "SUCCEED"]), moment, day)

    loads = [[sent() for _ in range(chance.randint(2, 5))] for _ in range(2)]
    first, *more = (graph() for _ in range(chance.randint(3, 4)))
    steps = [*(("load", load) for load in loads), *(("edges", edges) for edges in more[1:])]
    chance.shuffle(steps)
    return [("edges", first), *steps, ("edges", more[0])]


@examples(2)
@given(steps=edits())
def test_whatever_edges_change_meanwhile_the_cause_is_that_of_one_build(
    deployed: Warehouse, steps: list[tuple[str, Any]]
) -> None:
    deployed.reset()
    as_of = ""
    for number, (step, value) in enumerate(steps):
        if step == "edges":
            deployed.store_catalog(
                catalog(
                    value,
                    {
                        slo: {"effective_from": DAYS[0], "effective_to": DAYS[-1], **said}
                        for slo, said in CHAIN.items()
                    },
                )
            )
        else:
            deployed.ingest(value)
        # From the first date to after the last, while some of what came is yet to happen.
        as_of = f"2026-03-0{6 + number // 2} {5 if number % 2 else 3:02}:30+00"
        deployed.tick(as_of)
    assert told(deployed) == asked(deployed, as_of)
    grown = deployed.marts()
    deployed.tick(as_of, rebuild=True)
    assert grown == deployed.marts()
