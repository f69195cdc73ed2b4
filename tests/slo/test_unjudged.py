"""SLOs that can never be judged: what `duemark check` says of them, with a database and without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.catalog.read import read_catalog
from pipelines.slo.unjudged import warnings
from tests.slo.test_exceptions import HEADER, STATUS, catalog, run
from tests.transform.conftest import deployed, warehouse
from tests.transform.support import Warehouse

__all__ = ["deployed", "warehouse"]

UNSEEN = "which SLOs can never be judged (no `effective_from`, and no job that ever sent a status): "


def undated(slo_id: str, job: str, **more: Any) -> dict[str, Any]:
    jobs = [{"job": job, "end": "03:00"}]
    return {"id": slo_id, "application": "bank", "calendar": "every_day", "jobs": jobs, **more}


def said(bank: Warehouse) -> tuple[list[str], list[str]]:
    """The SLOs warned of, and what was not looked at."""
    found, unseen = warnings(bank.settings, read_catalog(bank.settings.catalog))
    return [one.message.split("`")[1] for one in found], unseen


def test_none_of_its_jobs_ever_sent_a_status(warehouse: Warehouse) -> None:
    slos = [
        undated("reports", "load"),
        undated("silent", "post"),
        undated("since", "post", effective_from="2026-03-02"),
        undated("later", "post"),
        undated("later", "post", effective_from="2026-04-01"),
    ]
    warehouse.store_catalog({**catalog(), "slos": slos})
    assert said(warehouse) == ([], [UNSEEN + "no status was loaded yet"])
    warehouse.ingest(HEADER + STATUS.format("SUCCEED", "2026-03-03T09:00:00Z", "2026-03-02"))
    assert said(warehouse) == (["silent"], [])
    done = run(warehouse, "check")
    assert done.returncode == 0
    first, second = done.stderr.splitlines()
    assert first == (
        f"warning: {warehouse.settings.catalog}/slos/all.yml:15: slos[1].id: nothing is due of the SLO `silent`:"
        " it has no `effective_from`, and bank/post never sent a status"
    )
    assert (
        second
        == "    give it an `effective_from`, or correct the ids of application and job to those that report"
    )


def test_one_that_had_a_first_date_is_judged(warehouse: Warehouse) -> None:
    warehouse.ingest(HEADER)
    warehouse.store_catalog({**catalog(), "slos": [undated("one", "post", effective_from="2026-03-02")]})
    warehouse.store_catalog({**catalog(), "slos": [undated("one", "post")]})
    warehouse.ingest(HEADER + STATUS.format("SUCCEED", "2026-03-03T09:00:00Z", "2026-03-02"))
    assert said(warehouse) == ([], [])


def test_without_a_database_it_is_left_out_and_said(warehouse: Warehouse, tmp_path: Path) -> None:
    warehouse.write_catalog({**catalog(), "slos": [undated("silent", "post")]})
    found = read_catalog(warehouse.settings.catalog)
    alone = replace(warehouse.settings, database_url=None, home=tmp_path / "home")
    assert warnings(alone, found) == ([], [UNSEEN + "the database does not run"])
    assert not (tmp_path / "home").exists(), "no server was started for it"
    gone = replace(warehouse.settings, database_url="postgresql://localhost:1/nowhere")
    _, (unseen,) = warnings(gone, found)
    assert "The database does not answer" in unseen
    # Where every SLO has a first date there is nothing to look at.
    warehouse.write_catalog(catalog())
    assert warnings(alone, read_catalog(warehouse.settings.catalog)) == ([], [])
