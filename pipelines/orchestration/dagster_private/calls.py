"""Functions of Dagster's own; it is imported when they are called."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster import (
        AssetCheckKey,
        AssetMaterialization,
        AssetObservation,
        DagsterInstance,
        JobDefinition,
        JobExecutionResult,
    )
    from dagster._core.remote_origin import RemoteJobOrigin

# What `dagster-daemon` runs, as `python -m` takes it.
DAEMON_MODULE = "dagster._daemon"
# By this tag the web interface lists a run under its job.
REPOSITORY_TAG = ".dagster/repository"


def run_here(
    instance: DagsterInstance, job: JobDefinition, config: Mapping[str, Any], *, module: str, location: str
) -> JobExecutionResult:
    """Run a job in this process, filed under the job as the code location offers it; `module` is the location's.

    What `dagster job execute` does, on an instance of one's own. A step that fails does not raise.
    """
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.execution.api import execute_run

    # By its origin the web interface draws a run on the timeline.
    origin = _origin(job.name, module, location)
    tags = {**job.run_tags, REPOSITORY_TAG: origin.repository_origin.get_label()}
    run = instance.create_run_for_job(job, run_config=config, tags=tags, remote_job_origin=origin)
    return execute_run(InMemoryJob(job), run, instance)


def _origin(job_name: str, module: str, location: str) -> RemoteJobOrigin:
    from dagster._core.remote_origin import RemoteJobOrigin, RemoteRepositoryOrigin
    from dagster._core.workspace.load import location_origin_from_module_name

    place = location_origin_from_module_name(module, None, None, location_name=location)
    return RemoteJobOrigin(RemoteRepositoryOrigin(place, "__repository__"), job_name)


def last_moment(cron: str, timezone: str, before: datetime) -> datetime:
    """The last instant at or before `before` that the cron names in its time zone, as Dagster's scheduler reads it."""
    from dagster._utils.schedules import reverse_cron_string_iterator

    return next(reverse_cron_string_iterator(before.timestamp(), cron, timezone))


def tell_past(
    instance: DagsterInstance,
    events: Sequence[tuple[AssetMaterialization | AssetObservation, datetime]],
) -> None:
    """Write events of one asset outside of any run, each at a time of its own; all of one kind, the last the latest.

    What `report_runless_asset_event` does for one, at the present, with some statements for all of them.
    """
    from dagster import AssetMaterialization
    from dagster._core.events import (
        AssetObservationData,
        DagsterEvent,
        DagsterEventType,
        StepMaterializationData,
    )
    from dagster._core.events.log import EventLogEntry
    from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID

    def entry(event: AssetMaterialization | AssetObservation, at: datetime) -> EventLogEntry:
        kind, data = (
            (DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(event))
            if isinstance(event, AssetMaterialization)
            else (DagsterEventType.ASSET_OBSERVATION, AssetObservationData(event))
        )
        return EventLogEntry(  # type: ignore[no-untyped-call]
            error_info=None,
            level=logging.INFO,
            user_message="",
            run_id=RUNLESS_RUN_ID,
            timestamp=at.timestamp(),
            job_name=RUNLESS_JOB_NAME,
            dagster_event=DagsterEvent(kind.value, RUNLESS_JOB_NAME, event_specific_data=data),
        )

    instance.event_log_storage.store_event_batch([entry(event, at) for event, at in events])


def never_run(instance: DagsterInstance, checks: Sequence[AssetCheckKey]) -> list[AssetCheckKey]:
    """Those of these asset checks that no run has done, or is about to do, and nobody has told."""
    known = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    return [key for key in checks if key not in known]
