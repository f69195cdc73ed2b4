"""The dbt project: where it is, how it is parsed, and one way to run it, in process."""

from __future__ import annotations

import getpass
import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import DuemarkError
from pipelines.logs import get_logger
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

log = get_logger(__name__)

# dbt keeps its flags and its adapter in globals: one invocation at a time.
_one_at_a_time = threading.Lock()


class DbtError(DuemarkError):
    """dbt failed; the message names the models."""


@dataclass(frozen=True)
class ModelResult:
    """What dbt says of one model: `relation` is "schema"."name" quoted, `sql` its compiled query, `seconds` its wall time."""

    unique_id: str
    name: str
    materialized: str
    relation: str
    columns: tuple[str, ...]
    meta: dict[str, Any]
    sql: str
    seconds: float


def target_folder(settings: Settings) -> Path:
    """dbt's target folder, in the home: manifest, partial parse, compiled SQL."""
    return settings.home / "target"


def fingerprint(settings: Settings) -> str:
    """sha256 of the project's files: what has to be deployed when it differs."""
    digest = hashlib.sha256()
    for path in sorted(settings.dbt_project.rglob("*")):
        if path.suffix in {".sql", ".yml"} and "target" not in path.relative_to(settings.dbt_project).parts:
            digest.update(str(path.relative_to(settings.dbt_project)).encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def environment(settings: Settings) -> dict[str, str]:
    """What profiles.yml asks for, taken from a connection to the warehouse."""
    with connect(settings) as connection:
        info = connection.info
        return {
            "DUEMARK_DBT_HOST": info.host or "localhost",
            "DUEMARK_DBT_PORT": str(info.port),
            "DUEMARK_DBT_USER": info.user or getpass.getuser(),
            "DUEMARK_DBT_PASSWORD": info.password or "",
            "DUEMARK_DBT_DATABASE": info.dbname,
        }


class Project:
    """The dbt project of `settings`, parsed once for the life of the object.

    Keep one for a process that ticks often: parsing, and reading the parse back, is most of the cost of a dbt call.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._environment = environment(settings)
        self._manifest: Manifest | None = None
        self._parsed_fingerprint = ""

    def _flags(self) -> list[str]:
        target = target_folder(self.settings)
        return [
            "--project-dir", str(self.settings.dbt_project), "--profiles-dir", str(self.settings.dbt_project),
            "--target-path", str(target), "--log-path", str(self.settings.home / "logs" / "dbt"),
        ]  # fmt: skip

    @property
    def manifest(self) -> Manifest:
        """The parsed project, parsed again when a file of it has changed."""
        now = fingerprint(self.settings)
        if self._manifest is None or now != self._parsed_fingerprint:
            self._manifest = self._invoke(["parse"], None)
            self._parsed_fingerprint = now
        return self._manifest

    def run(self, *args: str) -> list[ModelResult]:
        """Run dbt (`"run", "--selector", "tick"`); return what it says of each model, in the order of the graph.

        Raises DbtError naming each node that failed.
        """
        outcome = self._invoke(list(args), self.manifest)
        return [
            ModelResult(
                unique_id=result.node.unique_id,
                name=result.node.name,
                materialized=result.node.config.materialized,
                relation=f'"{result.node.schema}"."{result.node.alias}"',
                columns=tuple(result.node.columns),
                meta=dict(result.node.config.meta),
                sql=result.node.compiled_code or "",
                seconds=result.execution_time,
            )
            for result in outcome.results
            if result.node.resource_type == "model"
        ]

    def _invoke(self, args: list[str], manifest: Manifest | None) -> Any:
        from dbt.cli.main import dbtRunner

        (self.settings.home / "logs" / "dbt").mkdir(parents=True, exist_ok=True)
        command = [
            "--quiet", "--log-level", "none", "--log-level-file", "warn", "--no-use-colors", "--no-send-anonymous-usage-stats",
            "--no-version-check", "--no-print",
            *args, *self._flags(),
        ]  # fmt: skip
        if manifest is not None:
            command.append("--no-write-json")
        with _one_at_a_time:
            saved = {name: os.environ.get(name) for name in self._environment}
            os.environ.update(self._environment)
            try:
                outcome = dbtRunner(manifest=manifest).invoke(command)
            finally:
                for name, value in saved.items():
                    os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        if outcome.exception is not None:
            raise DbtError(f"dbt {args[0]} stopped: {outcome.exception}") from outcome.exception
        failed = [r for r in getattr(outcome.result, "results", []) if str(r.status) in {"error", "fail", "runtime error"}]
        if failed:
            lines = "\n".join(f"  {r.node.resource_type} {r.node.name} ({r.node.original_file_path}): {r.message}" for r in failed)
            raise DbtError(f"dbt {args[0]}: {len(failed)} of {len(outcome.result.results)} failed\n{lines}")
        if not outcome.success:
            raise DbtError(f"dbt {args[0]} did not succeed")
        return outcome.result
