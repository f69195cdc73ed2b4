"""The jobs: `tick`, which does all there is to do, and `checks`, which looks at what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

TICK = "tick"
CHECKS = "checks"


def tick_job(assets: Sequence[dg.AssetsDefinition], config: dg.RunConfig) -> dg.UnresolvedAssetJobDefinition:
    """Load what landed and bring the marts up to date, in one run.

    `config` is what the launchpad shows. Checks are left out: they cost a run more than they tell it.
    """
    return dg.define_asset_job(
        TICK,
        selection=dg.AssetSelection.assets(*assets).without_checks(),
        description="Load what has landed and bring the marts up to date. Launch it at any time: what is"
        " done is not done again. In the launchpad, `as_of` judges as of another instant, and `rebuild` computes"
        " every row anew.",
        config=config,
        executor_def=dg.in_process_executor,
        tags={"duemark/job": TICK},
    )


def checks_job(told: Sequence[dg.AssetChecksDefinition]) -> dg.UnresolvedAssetJobDefinition:
    """Every check of every asset in one run, less those that are `told` when something changes."""
    return dg.define_asset_job(
        CHECKS,
        selection=dg.AssetSelection.all_asset_checks() - dg.AssetSelection.checks(*told),
        description="Data tests, rejected records, quarantine, unregistered jobs, and whether the tick keeps up.",
        executor_def=dg.in_process_executor,
        tags={"duemark/job": CHECKS},
    )


def checks_schedule(job: dg.UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """Once an hour, past the minute in which most schedulers start their jobs."""
    return dg.ScheduleDefinition(
        name="hourly_checks",
        job=job,
        cron_schedule="7 * * * *",
        execution_timezone="UTC",
        description="Runs all checks once an hour.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
