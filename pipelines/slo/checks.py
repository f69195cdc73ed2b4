"""Checks of job statuses that only the subject knows about."""

from collections.abc import Iterator, Sequence

import dagster as dg

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


def met_check(slos: Sequence[dg.AssetKey]) -> dg.AssetChecksDefinition:
    """The check `met` of each SLO, in the op `check_slos`: whether the last occurrence that was due was on time.

    It is evaluated without a run when a tick changes the verdict; a person can ask for it at any time.
    """
    specs = [
        dg.AssetCheckSpec(
            MET,
            asset=key,
            description="The last occurrence that was due: on time passes, late warns, overdue fails.",
        )
        for key in slos
    ]

    @dg.multi_asset_check(name="check_slos", specs=specs, can_subset=True)
    def _check_slos(
        context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.AssetCheckResult]:
        wanted = {key.asset_key.path[-1] for key in context.selected_asset_check_keys}
        with explained(), connect(settings, "transform") as connection:
            verdicts = [event for _, event in verdict_events(connection, latest_decided(connection, wanted))]
        for event in verdicts:
            wanted.discard(event.asset_key.path[-1])
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
                asset_key=dg.AssetKey(["slos", slo]),
                check_name=MET,
                passed=True,
                description="Nothing of it has been due yet.",
            )

    return _check_slos
