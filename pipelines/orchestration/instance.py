"""Dagster's instance: its settings in the home, its storage in the warehouse's server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from pipelines.warehouse.connect import connect, database_url, with_database
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

FIRST_LINE = "# Written by Duemark at every start. Remove this line to keep changes of your own."

CONFIGURATION = """\
{first_line}
# One server for all: Dagster's own storage is another database beside the warehouse.
storage:
  custom:
    module: pipelines.orchestration.storage
    class: PooledPostgresStorage
    config: {{postgres_url: {storage_url}}}

# A tick is one run in one process, and two never overlap: the pool `tick` has one place, and runs wait in the queue.
concurrency:
  pools:
    default_limit: 1
    granularity: run
  runs:
    max_concurrent_runs: 4
run_queue:
  dequeue_interval_seconds: 1

run_launcher:
  module: pipelines.orchestration.launcher
  class: CodeServerRunLauncher

# A run whose process died is found out and done again, once; a run that failed is not: it would fail again.
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
  cancel_timeout_seconds: 60
  max_runtime_seconds: 14400
  poll_interval_seconds: 20
  free_slots_after_run_end_seconds: 60
run_retries:
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false

# Small work is done in evaluations, which say so by the reason why they asked for no run: they can be read for a week.
# Those that found nothing to do, which are nearly all, are taken out by the sensor `purge` after a day.
sensors:
  use_threads: true
  num_workers: 4
schedules:
  use_threads: true
  num_workers: 2
retention:
  sensor:
    purge_after_days: {{skipped: 7, success: 14, failure: 30, started: 7}}
  schedule:
    purge_after_days: {{skipped: 7, success: 14, failure: 30, started: 7}}
  auto_materialize:
    purge_after_days: 1

local_artifact_storage:
  module: dagster.core.storage.root
  class: LocalArtifactStorage
  config: {{base_dir: {storage_folder}}}
compute_logs:
  module: dagster.core.storage.local_compute_log_manager
  class: LocalComputeLogManager
  config: {{base_dir: {log_folder}}}

code_servers:
  local_startup_timeout: 180
telemetry:
  enabled: false
nux:
  enabled: false
"""


def dagster_home(settings: Settings) -> Path:
    """What DAGSTER_HOME has to be for every process of Dagster."""
    return settings.home / "dagster"


def storage_url(settings: Settings) -> str:
    """SQLAlchemy URL of Dagster's storage. SQLAlchemy and libpq both take a socket's folder as `?host=`."""
    url = urlsplit(with_database(database_url(settings), settings.dagster_database))
    return urlunsplit(url._replace(scheme="postgresql+psycopg2"))


def instance_env(settings: Settings) -> dict[str, str]:
    """Environment of a process of Dagster (webserver, daemon, code server, run)."""
    return settings.as_env() | {
        "DAGSTER_HOME": str(dagster_home(settings)),
        # How the connections of its storage name themselves.
        "PGAPPNAME": "duemark dagster",
        # Events that a step tells together are written together.
        "DAGSTER_EVENT_BATCH_SIZE": "100",
    }


def write_instance(settings: Settings) -> Path:
    """Write `dagster.yaml` where it is missing or not as it should be; return the folder, DAGSTER_HOME.

    The file holds the password of the warehouse's URL, where there is one: only its owner can read it. A file whose
    first line somebody removed is left alone.
    """
    home = dagster_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    path = home / "dagster.yaml"
    content = CONFIGURATION.format(
        first_line=FIRST_LINE,
        # JSON strings are YAML too, whatever a URL or a path holds.
        storage_url=json.dumps(storage_url(settings)),
        storage_folder=json.dumps(str(home / "storage")),
        log_folder=json.dumps(str(settings.home / "logs" / "dagster")),
    )
    present = path.read_text("utf-8") if path.exists() else FIRST_LINE
    if present.startswith(FIRST_LINE) and present != content:
        draft = home / f".dagster.yaml.{os.getpid()}"
        with os.fdopen(
            os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(content)
        draft.replace(path)
    return home


def load_instance(settings: Settings) -> DagsterInstance:
    """Dagster's instance; its tables are made at the first call. Use it as a context manager.

    Starts the embedded server where it does not run. Raises DuemarkError when the database does not answer, or is
    not there yet (`pipelines.warehouse.migrate` makes it).
    """
    connect(settings, database=settings.dagster_database).close()
    from dagster import DagsterInstance

    return DagsterInstance.from_config(str(write_instance(settings)))
