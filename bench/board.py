"""The board of a large catalog: writing all pages, how large they are, and how large the first one is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

from bench.measure import best
from bench.scale import Scale
from bench.table import Row
from bench.warehouse import Bank, Workshop
from pipelines.board.read import read
from pipelines.board.render import render
from pipelines.board.write import make, write
from pipelines.catalog.store import store_catalog
from pipelines.landing.ingest import ingest
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import connect

# Jobs of about so many SLOs: 1,000 and 5,000.
MANY, MOST = 2_500, 12_500
KPIS = (200, 10)
# So many dates are simulated; those before are copies of the days in between, which are all well behind them.
DAYS = 4
COPIED = (6, 2)
# A page shows so many dates.
HISTORY = 60
OUTCOMES = ("on_time", "late", "missed", "overdue")


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """A board of many SLOs and KPIs, then the first page of most SLOs."""
    jobs, kpis = (MANY, KPIS[0]) if scale.is_full else (scale.jobs, KPIS[1])
    bank = _built(shop, "board", jobs, kpis, HISTORY if scale.is_full else scale.days)
    folder = bank.folder / "board"
    make(bank.settings, folder)
    costs = [shop.meter.measure(lambda: make(bank.settings, folder)) for _ in range(scale.repeats)]
    board = read(bank.settings)
    pages = render(board)
    copied = [shop.meter.measure(lambda: write(pages, folder)) for _ in range(scale.repeats)]
    size = sum(page.stat().st_size for page in folder.iterdir())
    slos, count = len(list(folder.glob("slo-*"))), len(list(folder.glob("kpi-*")))
    what = f"board of {slos:,} SLOs, {jobs:,} jobs and {count} KPIs"
    yield Row(f"{what}, wall", best(costs, lambda cost: cost.wall), goal=3.0, limits="value")
    yield Row(
        f"{what}, CPU with the database",
        best(costs, lambda cost: cost.whole),
        yardstick=best(copied, lambda cost: cost.whole),
        yardstick_is="writing the same files once they are made",
    )
    yield Row("of it CPU of the database", best(costs, lambda cost: cost.database))
    yield Row("its pages", size / 1e6, unit="MB", goal=20.0, limits="value")
    if scale.is_full:
        bank = _built(shop, "board_most", MOST, KPIS[0], 0)
        board = read(bank.settings)
        slos, pages = len(board.tracked), render(board)
    yield Row(
        f"first page of {slos:,} SLOs",
        len(pages["index.html"].encode()) / 1e3,
        unit="KB",
        goal=300.0,
        limits="value",
    )


def _built(shop: Workshop, name: str, jobs: int, kpis: int, history: int) -> Bank:
    """A bank whose marts stand as of the end of its few days, with copies of these before them, and KPIs over all."""
    bank = shop.bank(name, jobs, DAYS)
    folder = bank.settings.catalog / "kpis"
    folder.mkdir()
    (folder / "all.yml").write_text(json.dumps({"kpis": [_kpi(number) for number in range(kpis)]}), "utf-8")
    store_catalog(bank.settings)
    ingest(bank.settings)
    project = Project(bank.settings)
    tick(project, bank.as_of)
    if history:
        _copy(bank, history)
        # The KPIs' values of the dates that were copied.
        tick(project, bank.as_of + timedelta(minutes=1))
    return bank


def _copy(bank: Bank, history: int) -> None:
    """Add dates before those that there are, as many as `history` says: by SQL, a tick over so many takes half an hour.

    Each is one of the days from six to two before as_of, at other minutes.
    """
    first, last = COPIED
    with connect(bank.settings) as connection:
        for statement in COPIES:
            connection.execute(
                f"""
                with
                    copied as (
                        select age, make_interval(days => age) as back from generate_series(5, %(most)s, 5) as age
                    )
                {statement}
                """,
                {
                    "most": history,
                    "from": bank.as_of.date() - timedelta(first),
                    "to": bank.as_of.date() - timedelta(last),
                },
            )
    with connect(bank.settings, autocommit=True) as connection:
        connection.execute("analyze")


EARLIER = "make_interval(mins => abs(hashtext({0} || age) %% 12))"
COPIES = (
    """
    insert into marts.slo_performance (
        slo_id, business_date, slot, application_id, expected_start_at, expected_end_at, actual_start_at, actual_end_at,
        progress, outcome, is_waived, gives_up_at, late_by, revisions, last_success_at, last_status, job_count,
        completed_job_count, blocking_job, cause_job, cause_business_date, cause_kind, explanation
    )
    select
        slo_id, business_date - age, slot, application_id, expected_start_at - back, expected_end_at - back,
        actual_start_at - back, actual_end_at - back - earlier, progress, outcome, is_waived, gives_up_at - back,
        late_by - earlier, revisions, last_success_at - back, last_status, job_count, completed_job_count, blocking_job,
        cause_job, cause_business_date - age, cause_kind, explanation
    from marts.slo_performance
    cross join copied
    cross join lateral (
        -- what is late stays late
        select case when outcome = 'late' then interval '0' else EARLIER end as earlier
    ) as moved
    where business_date between %(from)s and %(to)s
    """.replace("EARLIER", EARLIER.format("slo_id")),
    """
    insert into marts.slo_job_performance (
        slo_id, business_date, slot, application_id, job_id, expected_start_at, expected_end_at, actual_start_at,
        actual_end_at, failed_at, progress, run_count, revisions, last_success_at, last_status_at, last_status,
        upstream_rank, is_ahead
    )
    select
        slo_id, business_date - age, slot, application_id, job_id, expected_start_at - back, expected_end_at - back,
        actual_start_at - back, actual_end_at - back - EARLIER, failed_at - back, progress, run_count, revisions,
        last_success_at - back, last_status_at - back, last_status, upstream_rank, is_ahead
    from marts.slo_job_performance
    cross join copied
    where business_date between %(from)s and %(to)s
    """.replace("EARLIER", EARLIER.format("job_id")),
    """
    insert into marts.job_run (
        application_id, job_id, business_date, run_key, run_id, attempt, first_status_at, started_at, ended_at,
        duration, final_status, host_id
    )
    select
        application_id, job_id, business_date - age, run_key, run_id || '-' || age, attempt, first_status_at - back,
        started_at - back, ended_at - back - EARLIER, greatest(duration - EARLIER, interval '20 seconds'), final_status,
        host_id
    from marts.job_run
    cross join copied
    where business_date between %(from)s and %(to)s
    """.replace("EARLIER", EARLIER.format("job_id")),
)


def _kpi(number: int) -> dict[str, object]:
    """Occurrences of one outcome, by application."""
    outcome = OUTCOMES[number % len(OUTCOMES)]
    return {
        "id": f"kpi-{number}",
        "category": "performance",
        "description": f"Occurrences that are {outcome}, with few revisions.",
        "formula": {
            "type": "simple",
            "expression": "COUNT(slo_id)",
            "variables": {
                "slo_id": {
                    "source": {"table": "marts.slo_performance", "column": "slo_id", "aggregation": "count"},
                    "time_column": "business_date",
                    "filters": [f"outcome = '{outcome}'", f"revisions < {number + 1}"],
                    "dimensions": {"application": "application_id"},
                }
            },
        },
        "aggregations": ["day", "week", "month"],
        "dimensions": ["application"],
        "thresholds": {"warning": 5, "critical": 50, "direction": "higher"},
    }
