"""Runs of a job in this very process, against the real instance: no daemon and no code server has to be up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.errors import DuemarkError
from pipelines.orchestration.instance import load_instance
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from dagster import Definitions
    from dagster._core.remote_origin import RemoteJobOrigin

# By its origin the web interface draws a run on the timeline, by this tag it lists it under its job.
REPOSITORY_TAG = ".dagster/repository"
# The events are in the instance; the terminal is the caller's.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class JobRun:
    """A run that ended well. `metadata` is by asset key ("marts/slo_performance"), as its materialisation told it."""

    run_id: str
    metadata: Mapping[str, Mapping[str, Any]]


def run_tick_job(
    settings: Settings, definitions: Definitions, as_of: str | None = None, *, rebuild: bool = False
) -> JobRun:
    """Run the job `tick` here and now; `as_of` is ISO 8601 with an offset, None for now.

    Raises DuemarkError with what the failed step said.
    """
    config = {"ops": {"transform": {"config": {"as_of": as_of or "", "rebuild": rebuild}}}}
    return run_job(settings, definitions, "tick", config)


def run_job(
    settings: Settings, definitions: Definitions, name: str, config: Mapping[str, Any] | None = None
) -> JobRun:
    """Run a job of `definitions` here and now; the web interface shows it as any other run.

    Raises DuemarkError with what the failed step said.
    """
    # What `dagster job execute` does, with our instance, and with the origin that files the run under its job.
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.execution.api import execute_run

    job = definitions.resolve_job_def(name)
    origin = _origin(name)
    tags = {**job.run_tags, REPOSITORY_TAG: origin.repository_origin.get_label()}
    with load_instance(settings) as instance:
        run = instance.create_run_for_job(
            job, run_config={**(config or {}), **QUIET}, tags=tags, remote_job_origin=origin
        )
        result = execute_run(InMemoryJob(job), run, instance)
    if not result.success:
        raise DuemarkError(
            f"The run {result.run_id} of {name} failed: {_reason(result.all_events)}",
            "`duemark up` shows it in the web interface, with its events.",
        )
    metadata = {
        event.asset_key.to_user_string(): {
            key: value.value for key, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    return JobRun(result.run_id, metadata)


def _origin(job_name: str) -> RemoteJobOrigin:
    """The job as the code location of `workspace.yaml` offers it."""
    from dagster._core.remote_origin import RemoteJobOrigin, RemoteRepositoryOrigin
    from dagster._core.workspace.load import location_origin_from_module_name

    location = location_origin_from_module_name(
        "pipelines.definitions", None, None, location_name="pipelines"
    )
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job_name)


def _reason(events: Any) -> str:
    for event in events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return str(data.user_failure_data.description)
            cause = data.error.cause or data.error
            return str(cause.message).strip()
    return next((str(event.message) for event in events if event.is_failure), "no step told why")
