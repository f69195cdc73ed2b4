"""Checks of job statuses that only the subject knows about."""

from collections.abc import Iterator

import dagster as dg

from pipelines.orchestration.failures import explained
from pipelines.orchestration.tables import markdown_table
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
