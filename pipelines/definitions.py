"""The one place where Dagster's Definitions are put together: what each subject offers, merged."""

from __future__ import annotations

import dagster as dg

from pipelines import logs
from pipelines.board.assets import kpi_checks, kpi_metadata
from pipelines.catalog.assets import catalog_specs, tracked_specs
from pipelines.catalog.graph import job_graph
from pipelines.kpi.checks import proof_checks
from pipelines.landing.assets import feed_assets
from pipelines.landing.checks import feed_checks
from pipelines.orchestration.jobs import checks_job, checks_schedule, tick_job
from pipelines.slo.assets import performance_metadata, promise_specs
from pipelines.slo.checks import met_check, slo_checks
from pipelines.transform.assets import TickConfig, model_specs, source_specs, tick_assets
from pipelines.transform.checks import dbt_checks, tick_checks
from pipelines.transform.project import manifest_json
from pipelines.warehouse.settings import Settings
from sensors.ticks.arrivals import arrivals_sensor, tick_schedule
from sensors.ticks.report import report_sensor

# What subjects tell of their marts after a tick, by the mart's name.
DESCRIBE = {"slo_performance": performance_metadata, "kpi_value": kpi_metadata}


def build_defs(
    settings: Settings | None = None, executor: dg.ExecutorDefinition | None = None
) -> dg.Definitions:
    """All assets, checks, jobs and schedules, for `settings` (default: the environment's).

    Opens no connection. dbt parses its project only where the home has no manifest of it yet. `executor` is for runs
    of more than a tick: all runs are in process unless another one is given.
    """
    settings = settings or Settings.from_env()
    manifest = manifest_json(settings)
    computed, shown = model_specs(manifest)
    before = [*catalog_specs(manifest), *promise_specs(manifest)]
    feeds = feed_assets(manifest)
    tick = tick_assets(computed, before, DESCRIBE)
    graph = job_graph(settings)
    tracked_assets = tracked_specs(graph)
    met = met_check(node.slo for node in graph.slos)
    checks = checks_job(met)

    landing = dg.Definitions(assets=[feeds], asset_checks=[feed_checks()])
    transform = dg.Definitions(
        assets=[tick, *shown, *source_specs(manifest, [*feeds.specs, *before, *computed, *shown])],
        asset_checks=[*dbt_checks(manifest), tick_checks(dg.AssetKey(["marts", "slo_performance"]))],
    )
    slo = dg.Definitions(asset_checks=[slo_checks()])
    kpi = dg.Definitions(asset_checks=[kpi_checks(), proof_checks()])
    tracked = dg.Definitions(assets=tracked_assets, asset_checks=[met] if met.check_keys else [])
    jobs = dg.Definitions(
        jobs=[tick_job([feeds, tick], dg.RunConfig(ops={"transform": TickConfig()})), checks],
        schedules=[checks_schedule(checks), tick_schedule(DESCRIBE)],
        sensors=[arrivals_sensor(DESCRIBE), report_sensor],
    )
    shared = dg.Definitions(resources={"settings": settings}, executor=executor or dg.in_process_executor)
    return dg.Definitions.merge(landing, transform, slo, kpi, tracked, jobs, shared)


logs.ensure()
defs = build_defs()
