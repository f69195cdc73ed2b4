"""dbt's data tests as checks of their assets, and whether the tick keeps up."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from pipelines.orchestration.failures import explained
from pipelines.transform.assets import Translator
from pipelines.transform.project import DataTestResult, project_of
from pipelines.transform.waiting import waiting
from pipelines.warehouse.settings import Settings

UNIQUE_ID = "dagster_dbt/unique_id"
# Work that waits longer than this has been forgotten: ticks come every minute.
PATIENCE = timedelta(minutes=5)


def dbt_checks(manifest: Mapping[str, Any]) -> list[dg.AssetChecksDefinition]:
    """The data tests of the project, in the op `check_data`; one dbt invocation for all that are asked for."""
    translator = Translator()
    specs = []
    for unique_id, node in sorted(manifest["nodes"].items()):
        if node["resource_type"] != "test" or not node.get("attached_node"):
            continue
        spec = translator.get_asset_check_spec(
            translator.get_asset_spec(manifest, node["attached_node"], None), manifest, unique_id, None
        )
        if spec is not None:
            # Nothing waits for the checks: a tick publishes what the constraints of the marts let through.
            specs.append(
                spec._replace(blocking=False, description=node.get("description") or "A data test of dbt.")
            )
    if not specs:
        return []
    by_id = {str(spec.metadata[UNIQUE_ID]): spec for spec in specs if spec.metadata}

    @dg.multi_asset_check(
        name="check_data", specs=specs, can_subset=True, description="Run dbt's data tests."
    )
    def _check_data(
        context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.AssetCheckResult]:
        keys = context.selected_asset_check_keys
        names = [
            manifest["nodes"][unique_id]["name"] for unique_id, spec in by_id.items() if spec.key in keys
        ]
        with explained():
            results = project_of(settings).test(names)
        for result in results:
            spec = by_id.get(result.unique_id)
            if spec is not None and spec.key in keys:
                yield _result(spec, result)

    return [_check_data]


def _result(spec: dg.AssetCheckSpec, result: DataTestResult) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {"rows": result.failures, "status": result.status}
    if result.status != "pass":
        metadata["query"] = dg.MetadataValue.md(f"```sql\n{result.sql.strip()}\n```")
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=result.status == "pass",
        severity=dg.AssetCheckSeverity.WARN if result.status == "warn" else dg.AssetCheckSeverity.ERROR,
        description=result.message or "No row breaks the rule.",
        metadata=metadata,
    )


def tick_checks(mart: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Whether the marts are up to date, shown on `mart`, in the op `check_tick`.

    An old tick is no fault where nothing came and no time passed that matters: what counts is how long work waits.
    """
    spec = dg.AssetCheckSpec(
        "up_to_date",
        asset=mart,
        description=f"Nothing has waited for a tick longer than {PATIENCE.seconds // 60} minutes.",
    )

    @dg.multi_asset_check(name="check_tick", specs=[spec])
    def _check_tick(settings: dg.ResourceParam[Settings]) -> Iterator[dg.AssetCheckResult]:
        now = datetime.now(UTC)
        with explained():
            work = waiting(settings, now)
        waits = now - work.since if work.since else timedelta()
        metadata: dict[str, Any] = {
            "minutes waited": waits.total_seconds() / 60,
            "loads that wait": work.loads,
        }
        if work.published_at is not None:
            metadata["last tick"] = dg.MetadataValue.timestamp(work.published_at)
        yield dg.AssetCheckResult(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=waits <= PATIENCE,
            severity=dg.AssetCheckSeverity.ERROR,
            description="Nothing waits."
            if work.since is None
            else f"Work has been waiting since {work.since:%Y-%m-%d %H:%M:%S}Z: is the daemon up?",
            metadata=metadata,
        )

    return _check_tick
