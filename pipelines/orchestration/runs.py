"""Runs of a job in this very process, against the real instance: no daemon and no code server has to be up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.errors import DuemarkError
from pipelines.orchestration.dagster_private.calls import run_here
from pipelines.orchestration.instance import load_instance
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from dagster import Definitions

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
    job = definitions.resolve_job_def(name)
    with load_instance(settings) as instance:
        result = run_here(
            instance, job, {**(config or {}), **QUIET}, module="pipelines.definitions", location="pipelines"
        )
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


def _reason(events: Any) -> str:
    for event in events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return str(data.user_failure_data.description)
            cause = data.error.cause or data.error
            return str(cause.message).strip()
    return next((str(event.message) for event in events if event.is_failure), "no step says why")
