"""Checks of job statuses that only the subject knows about."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import dagster as dg
import psycopg

from pipelines.catalog.assets import job_key, slo_key
from pipelines.catalog.names import WORD, safe_name
from pipelines.orchestration.failures import explained
from pipelines.orchestration.tables import markdown_table
from pipelines.slo.events import MET, ON_TIME, JobKey, job_verdicts, slo_verdicts
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

Connection = psycopg.Connection[Any]
Key = TypeVar("Key")

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
    """The check `met` of each SLO, in the op `check_slos`: whether the last occurrence that was due was on time."""
    return _told_check(
        MET,
        "check_slos",
        {slo_key(slo): slo for slo in slos},
        slo_verdicts,
        "The last occurrence that was due: on time passes, late warns, overdue and missed fail.",
    )


def on_time_check(jobs: Iterable[JobKey]) -> dg.AssetChecksDefinition:
    """The check `on_time` of each tracked job, in the op `check_jobs`: how it stands for who promises it."""
    return _told_check(
        ON_TIME,
        "check_jobs",
        {job_key(*job): job for job in jobs},
        job_verdicts,
        "Its newest work, by the SLO for which it stands worst: late warns; failed, overdue and given up fail.",
    )


def _told_check(
    name: str,
    op: str,
    by_key: Mapping[dg.AssetKey, Key],
    verdicts: Callable[[Connection, Iterable[Key]], Iterator[tuple[Key, dg.AssetCheckEvaluation]]],
    description: str,
) -> dg.AssetChecksDefinition:
    """A check of many assets that is told without a run when a tick changes it; a person can ask for it at any time."""
    # Names of Dagster's own making for inputs and outputs have the signs of the ids, and take `a-b` and `a_b` for one.
    words = {key: safe_name("/".join(key.path), WORD) for key in by_key}

    @dg.op(
        name=op,
        ins={word: dg.In(dg.Nothing) for word in words.values()},
        out={f"{name}_{word}": dg.Out(dg.Nothing, is_required=False) for word in words.values()},
    )
    def _check(
        context: dg.AssetCheckExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> Iterator[dg.AssetCheckResult]:
        wanted = [by_key[key.asset_key] for key in context.selected_asset_check_keys]
        with explained(), connect(settings, "transform") as connection:
            events = [event for _, event in verdicts(connection, wanted)]
        for event in events:
            yield dg.AssetCheckResult(
                asset_key=event.asset_key,
                check_name=name,
                passed=event.passed,
                severity=event.severity,
                description=event.description,
                metadata=event.metadata,
            )

    definition: dg.AssetChecksDefinition = dg.AssetChecksDefinition.create(
        keys_by_input_name={word: key for key, word in words.items()},
        node_def=_check,
        check_specs_by_output_name={
            f"{name}_{word}": dg.AssetCheckSpec(name, asset=key, description=description)
            for key, word in words.items()
        },
        can_subset=True,
    )
    return definition
