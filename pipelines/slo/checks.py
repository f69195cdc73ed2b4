"""Checks of job statuses that only the subject knows about."""

from collections.abc import Iterable, Iterator

import dagster as dg

from pipelines.catalog.assets import slo_key
from pipelines.catalog.names import WORD, safe_name
from pipelines.orchestration.failures import explained
from pipelines.orchestration.tables import markdown_table
from pipelines.slo.events import MET, latest_decided, verdict_events
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

FEED = dg.AssetKey(["raw", "job_status"])


def slo_checks() -> dg.AssetChecksDefinition:
    """The checks of the subject, in the op `check_job_statuses`."""
    spec = dg.AssetCheckSpec(
        "registered_jobs",
        asset=FEED,
        description="Every job that reports is in the catalog. Statuses of others are kept, and promise nothing.",
    )

    @dg.multi_asset_check(name="check_job_statuses", specs=[spec])
    def _check_job_statuses(settings: dg.ResourceParam[Settings]) -> Iterator[dg.AssetCheckResult]:
        with explained(), connect(settings, "transform") as connection:
            unregistered = connection.execute(
                "select application_id, job_id, unknown, run_count, last_business_date from marts.unregistered_job"
                " order by application_id, job_id"
            ).fetchall()
        count = len(unregistered)
        yield dg.AssetCheckResult(
            asset_key=FEED,
            check_name="registered_jobs",
            passed=not unregistered,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{count} jobs report and are not in the catalog."
            if count != 1
            else "1 job reports and is not in the catalog.",
            metadata={
                "jobs": count,
                "unregistered": dg.MetadataValue.md(
                    markdown_table(
                        ["application", "job", "unknown", "runs", "last business date"], unregistered
                    )
                ),
            },
        )

    return _check_job_statuses


def met_check(slos: Iterable[str]) -> dg.AssetChecksDefinition:
    """The check `met` of each SLO, in the op `check_slos`: whether the last occurrence that was due was on time.

    It is evaluated without a run when a tick changes the verdict; a person can ask for it at any time.
    """
    by_key = {slo_key(slo): slo for slo in slos}
    # Names of Dagster's own making for inputs and outputs have the signs of the ids, and take `a-b` and `a_b` for one.
    words = {key: f"slo_{safe_name(slo, WORD)}" for key, slo in by_key.items()}

    @dg.op(
        name="check_slos",
        ins={word: dg.In(dg.Nothing) for word in words.values()},
        out={f"{MET}_{word}": dg.Out(dg.Nothing, is_required=False) for word in words.values()},
    )
    def _check_slos(
        context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.AssetCheckResult]:
        wanted = {by_key[key.asset_key] for key in context.selected_asset_check_keys}
        with explained(), connect(settings, "transform") as connection:
            verdicts = list(verdict_events(connection, latest_decided(connection, wanted)))
        for (slo, *_), event in verdicts:
            wanted.discard(slo)
            yield dg.AssetCheckResult(
                asset_key=event.asset_key,
                check_name=MET,
                passed=event.passed,
                severity=event.severity,
                description=event.description,
                metadata=event.metadata,
            )
        for slo in sorted(wanted):
            yield dg.AssetCheckResult(
                asset_key=slo_key(slo),
                check_name=MET,
                passed=True,
                description="Nothing of it has been due yet.",
            )

    definition: dg.AssetChecksDefinition = dg.AssetChecksDefinition.create(
        keys_by_input_name={word: key for key, word in words.items()},
        node_def=_check_slos,
        check_specs_by_output_name={
            f"{MET}_{word}": dg.AssetCheckSpec(
                MET,
                asset=key,
                description="The last occurrence that was due: on time passes, late warns, overdue and missed fail.",
            )
            for key, word in words.items()
        },
        can_subset=True,
    )
    return definition
