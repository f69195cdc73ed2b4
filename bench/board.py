"""The board of a large catalog: writing all pages, how large they are, and how large the first one is."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench.measure import best
from bench.scale import Scale
from bench.table import Row
from bench.warehouse import Bank, Workshop
from pipelines.board.write import make
from pipelines.catalog.store import store_catalog
from pipelines.landing.ingest import ingest
from pipelines.transform.project import Project
from pipelines.transform.tick import tick

# Jobs of about so many SLOs, 1,000 and 5,000, and the dates behind them: a page shows sixty.
MANY, MOST = (2_500, 60), (12_500, 5)
KPIS = (200, 10)
OUTCOMES = ("on_time", "late", "missed", "overdue")


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """A board of many SLOs and KPIs, then the first page of most SLOs."""
    jobs, days = MANY if scale.is_full else (scale.jobs, scale.days)
    bank = _built(shop, "board", jobs, days, KPIS[0] if scale.is_full else KPIS[1])
    folder = bank.folder / "board"
    make(bank.settings, folder)
    costs = [shop.meter.measure(lambda: make(bank.settings, folder)) for _ in range(scale.repeats)]
    size = sum(page.stat().st_size for page in folder.iterdir())
    slos, kpis = len(list(folder.glob("slo-*"))), len(list(folder.glob("kpi-*")))
    what = f"board of {slos:,} SLOs, {jobs:,} jobs and {kpis} KPIs"
    yield Row(f"{what}, wall", best(costs, lambda cost: cost.wall), goal=3.0, limits="value")
    yield Row(f"{what}, all CPU", best(costs, lambda cost: cost.whole))
    yield Row("its pages", size / 1e6, unit="MB", goal=20.0, limits="value")
    if scale.is_full:
        bank = _built(shop, "board_most", *MOST, KPIS[0])
        folder = bank.folder / "board"
        make(bank.settings, folder)
        slos = len(list(folder.glob("slo-*")))
    first = (folder / "index.html").stat().st_size
    yield Row(f"first page of {slos:,} SLOs", first / 1e3, unit="KB", goal=300.0, limits="value")


def _built(shop: Workshop, name: str, jobs: int, days: int, kpis: int) -> Bank:
    """A bank whose marts stand as of the end of its history, with so many KPIs over them."""
    bank = shop.bank(name, jobs, days)
    folder = bank.settings.catalog / "kpis"
    folder.mkdir()
    (folder / "all.yml").write_text(json.dumps({"kpis": [_kpi(number) for number in range(kpis)]}), "utf-8")
    store_catalog(bank.settings)
    ingest(bank.settings)
    tick(Project(bank.settings), bank.as_of)
    return bank


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
