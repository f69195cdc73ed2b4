"""The one place where Dagster's Definitions are put together: what each subject offers, merged."""

from __future__ import annotations

import dagster as dg

from pipelines import logs
from pipelines.catalog.assets import catalog_specs, tracked_specs
from pipelines.catalog.graph import job_graph
from pipelines.landing.assets import feed_assets
from pipelines.landing.checks import feed_checks
from pipelines.orchestration.jobs import checks_job, checks_schedule, tick_job
from pipelines.slo.checks import met_check, on_time_check
from pipelines.subject import Subjects, hand_in
from pipelines.subjects import subjects as all_subjects
from pipelines.transform.assets import TickConfig, model_specs, source_specs, tick_assets
from pipelines.transform.checks import dbt_checks, tick_checks
from pipelines.transform.project import manifest_json
from pipelines.warehouse.settings import Settings
from sensors.ticks.arrivals import arrivals_sensor, tick_schedule
from sensors.ticks.report import report_sensor


def build_defs(
    settings: Settings | None = None,
    executor: dg.ExecutorDefinition | None = None,
    subjects: Subjects | None = None,
) -> dg.Definitions:
    """All assets, checks, jobs and schedules, for `settings` (default: the environment's).

    Opens no connection. dbt parses its project only where the home has no manifest of it yet. `executor` is for runs
    of more than a tick: all runs are in process unless another one is given. `subjects`, when given, are those of the
    process from here on, because what is defined runs later.
    """
    settings = settings or Settings.from_env()
    if subjects is not None:
        hand_in(lambda: subjects)
    house = subjects if subjects is not None else all_subjects()
    manifest = manifest_json(settings)
    computed, shown = model_specs(manifest)
    prepared = [spec for one in house if one.assets is not None for spec in one.assets(manifest)]
    before = [*catalog_specs(manifest), *prepared]
    kept = [spec for one in house if one.kept is not None for spec in one.kept(manifest)]
    feeds = feed_assets(manifest)
    tick = tick_assets(computed, before, kept)
    graph = job_graph(settings)
    tracked_assets = tracked_specs(graph)
    told = [
        met_check(node.slo for node in graph.slos),
        on_time_check((node.application, node.job) for node in graph.jobs),
    ]
    checks = checks_job(told)

    landing = dg.Definitions(assets=[feeds], asset_checks=[feed_checks()])
    transform = dg.Definitions(
        assets=[tick, *shown, *source_specs(manifest, [*feeds.specs, *before, *computed, *kept, *shown])],
        asset_checks=[*dbt_checks(manifest), tick_checks(dg.AssetKey(["marts", "slo_performance"]))],
    )
    of_subjects = [dg.Definitions(asset_checks=one.checks()) for one in house if one.checks is not None]
    tracked = dg.Definitions(
        assets=tracked_assets, asset_checks=[check for check in told if check.check_keys]
    )
    jobs = dg.Definitions(
        jobs=[tick_job([feeds, tick], dg.RunConfig(ops={"transform": TickConfig()})), checks],
        schedules=[checks_schedule(checks), tick_schedule],
        sensors=[arrivals_sensor, report_sensor],
    )
    shared = dg.Definitions(resources={"settings": settings}, executor=executor or dg.in_process_executor)
    return dg.Definitions.merge(landing, transform, *of_subjects, tracked, jobs, shared)


logs.ensure()
defs = build_defs()
