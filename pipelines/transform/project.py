"""The dbt project: where it is, how it is parsed, and one way to run it, in process."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
from psycopg import pq

from pipelines.errors import DuemarkError
from pipelines.logs import get_logger
from pipelines.subject import in_use
from pipelines.warehouse import homes
from pipelines.warehouse.connect import database_url
from pipelines.warehouse.homes import Slot
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

log = get_logger(__name__)


# By which a model that ticks bring up to date knows that it is Duemark which runs dbt, and nobody by hand.
OURS = {"DUEMARK_DBT_RUNS_FOR": "duemark"}

# dbt keeps its flags and its adapter in globals: one invocation at a time.
_one_at_a_time = threading.Lock()


# What the core's files were when they were read last, and their digest.
DIGEST: Slot[tuple[Any, str] | None] = Slot(lambda _: None)


class DbtError(DuemarkError):
    """dbt failed; the message names the models."""


@dataclass(frozen=True)
class ModelResult:
    """What dbt says of one model: `relation` is quoted, `sql` its compiled query, `seconds` its wall time."""

    unique_id: str
    name: str
    materialized: str
    relation: str
    columns: tuple[str, ...]
    meta: dict[str, Any]
    sql: str
    seconds: float


@dataclass(frozen=True)
class DataTestResult:
    """What dbt says of one data test: `status` is pass, warn, fail or error; `failures` counts the rows it found."""

    unique_id: str
    status: str
    failures: int
    message: str
    sql: str


def target_folder(settings: Settings) -> Path:
    """Where dbt writes: manifest, partial parse, compiled SQL."""
    return settings.dbt_target or settings.home / "target"


def fingerprint(settings: Settings) -> str:
    """Of the effective project, `<core>` or `<core>+<generated>`: what has to be deployed when it differs."""
    core = core_fingerprint(settings)
    files = generated(settings, core)
    return f"{core}+{_digest(files)}" if files else core


def core_fingerprint(settings: Settings) -> str:
    """sha256 of the files of `settings.dbt_project`, and of what they take of Python.

    Ticks ask several times: the files are read again where their names, sizes or times are others than before.
    """
    paths, given = _core_files(settings), constants()
    stats = [path.stat() for path in paths.values()]
    seen = (
        tuple(paths.items()),
        tuple((one.st_size, one.st_mtime_ns) for one in stats),
        tuple(given.items()),
    )
    home = homes.of(settings)
    if (known := home.get(DIGEST)) is not None and known[0] == seen:
        return known[1]
    digest = _digest({name: path.read_text("utf-8") for name, path in paths.items()} | given)
    # A file that was written just now may be written again without another time.
    is_settled = max((one.st_mtime for one in stats), default=0.0) < time.time() - 2
    home.put(DIGEST, (seen, digest) if is_settled else None)
    return digest


def constants() -> dict[str, str]:
    """What the project's SQL takes of Python, by the name of its variable."""
    return {name: value() for one in in_use() for name, value in one.constants.items()}


def generated(settings: Settings, core: str | None = None) -> Mapping[str, str]:
    """Text of what subjects generate of the catalog, by path within the project; what stands there is replaced.

    `core`: the core's fingerprint, where the caller has it. A subject that can't make them leaves those made before.
    """
    files: dict[str, str] = {}
    for generator in in_use().generators():
        files |= generator.models(settings, core or core_fingerprint(settings))
    return files


def generators_problems(settings: Settings) -> list[DuemarkError]:
    """What kept generators from making new models, as of the last call of `generated`."""
    found = (generator.refused(settings) for generator in in_use().generators())
    return [problem for problem in found if problem is not None]


def project_folder(settings: Settings) -> Path:
    """The project that dbt runs: `settings.dbt_project`, or a copy of it with what subjects bring and generate."""
    if not _is_copied(generated(settings)):
        return settings.dbt_project
    return target_folder(settings) / "project"


def _is_copied(generated_files: Mapping[str, str]) -> bool:
    return bool(generated_files) or any(one.dbt is not None for one in in_use())


def _core_files(settings: Settings) -> dict[str, Path]:
    """The project's files and those of subjects that bring a folder of their own, by path within the project."""
    files = _files(settings.dbt_project)
    for subject in in_use():
        if subject.dbt is None:
            continue
        own = _files(subject.dbt)
        if twice := sorted(files.keys() & own.keys()):
            raise DuemarkError(
                f"The subject {subject.name} brings {twice[0]}, which the dbt project has already.",
                f"Give the file in {subject.dbt} another name.",
            )
        files |= own
    return files


def _files(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in {"target", "logs"}]
        for name in names:
            if name.endswith((".sql", ".yml")):
                path = Path(folder, name)
                found[path.relative_to(root).as_posix()] = path
    return dict(sorted(found.items()))


def _digest(files: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name, text in sorted(files.items()):
        digest.update(name.encode() + b"\0" + text.encode() + b"\0")
    return digest.hexdigest()


def _synchronise(settings: Settings) -> None:
    """Make the effective project as it has to be, writing only the files that differ. Call it under the parse lock."""
    core = core_fingerprint(settings)
    files = generated(settings, core)
    if not _is_copied(files):
        return
    folder = target_folder(settings) / "project"
    wanted = {name: path.read_text("utf-8") for name, path in _core_files(settings).items()}
    wanted |= files
    for name, text in wanted.items():
        path = folder / name
        if _read(path) != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in wanted:
            path.unlink()


def environment(settings: Settings) -> dict[str, str]:
    """What the project asks for: of profiles.yml, from the warehouse's URL and libpq's own defaults, and `constants`.

    The server need not run.
    """
    given: dict[str, str] = {}
    for option in [*pq.Conninfo.get_defaults(), *pq.Conninfo.parse(database_url(settings).encode())]:
        if option.val:
            given[option.keyword.decode()] = option.val.decode()
    user = given.get("user") or getpass.getuser()
    return {
        "DUEMARK_DBT_HOST": given.get("host") or "localhost",
        "DUEMARK_DBT_PORT": given.get("port") or "5432",
        "DUEMARK_DBT_USER": user,
        "DUEMARK_DBT_PASSWORD": given.get("password") or "",
        "DUEMARK_DBT_DATABASE": given.get("dbname") or user,
        "DUEMARK_DBT_SSLMODE": given.get("sslmode") or "prefer",
        **constants(),
    }


def manifest_json(settings: Settings) -> dict[str, Any]:
    """The manifest.json of the project as it is now, parsed beforehand or else parsed now. Needs no database.

    Whoever only wants to know what is in the project reads this: neither dbt nor its parser is imported when the
    manifest is there (`duemark build-manifest` makes it, and every tick after a change).
    """
    path, stamp = target_folder(settings) / "manifest.json", _stamp(settings)
    with _parse_lock(settings):
        if _read(_stamp_file(settings)) != stamp or not path.exists():
            _synchronise(settings)
            Project(settings).parse()
        return cast("dict[str, Any]", orjson.loads(path.read_bytes()))


def _stamp_file(settings: Settings) -> Path:
    return target_folder(settings) / "manifest.stamp"


def _stamp(settings: Settings) -> str:
    """What manifest.json was made of: the project's files, dbt, and the database that its relations name."""
    database = environment(settings)["DUEMARK_DBT_DATABASE"]
    return f"{fingerprint(settings)} dbt-core {version('dbt-core')} {database}"


def _read(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text("utf-8")
    return ""


@contextlib.contextmanager
def _parse_lock(settings: Settings) -> Iterator[None]:
    """Two processes that start at once must not write one manifest over the other."""
    target = target_folder(settings)
    target.mkdir(parents=True, exist_ok=True)
    with (target / "parse.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


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
            "--project-dir", str(project_folder(self.settings)), "--profiles-dir", str(self.settings.dbt_project),
            "--target-path", str(target), "--log-path", str(self.settings.home / "logs" / "dbt"),
        ]  # fmt: skip

    @property
    def manifest(self) -> Manifest:
        """The parsed project, parsed again when a file of it has changed."""
        now = fingerprint(self.settings)
        if self._manifest is None or now != self._parsed_fingerprint:
            with _parse_lock(self.settings):
                _synchronise(self.settings)
                self._manifest = self.parse()
            self._parsed_fingerprint = now
        return self._manifest

    def parse(self) -> Manifest:
        """Parse the project and write manifest.json; quick when little has changed. `manifest` is what to call."""
        stamp, stamp_file = _stamp(self.settings), _stamp_file(self.settings)
        is_written = _read(stamp_file) == stamp and (target_folder(self.settings) / "manifest.json").exists()
        if not is_written:
            # Whoever reads it while it is written must not take it for the one that the stamp tells of.
            stamp_file.unlink(missing_ok=True)
        manifest: Manifest = self._invoke(["parse", *(["--no-write-json"] if is_written else [])], None)
        stamp_file.write_text(stamp, "utf-8")
        return manifest

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

    def test(self, names: Sequence[str] = (), *, unit: bool = False) -> list[DataTestResult]:
        """Run data tests (or unit tests), all or those of these names; a test that fails is a result, no error."""
        kind = "unit_test" if unit else "test"
        selection = (
            ["--select", *(f"{name},resource_type:{kind}" for name in names)]
            if names
            else ["--resource-type", kind]
        )
        outcome = self._invoke(["test", *selection], self.manifest, fails=False)
        return [
            DataTestResult(
                unique_id=result.node.unique_id,
                status=str(result.status),
                failures=result.failures or 0,
                message=result.message or "",
                # a unit test that could not be compiled has none
                sql=getattr(result.node, "compiled_code", None) or "",
            )
            for result in outcome.results
        ]

    def _invoke(self, args: list[str], manifest: Manifest | None, *, fails: bool = True) -> Any:
        from dbt.cli.main import dbtRunner

        (self.settings.home / "logs" / "dbt").mkdir(parents=True, exist_ok=True)
        command = [
            "--quiet", "--log-level", "none", "--log-level-file", "warn", "--no-use-colors", "--no-print",
            "--no-send-anonymous-usage-stats", "--no-version-check",
            *args, *self._flags(),
        ]  # fmt: skip
        if manifest is not None:
            command.append("--no-write-json")
        with _one_at_a_time:
            given = self._environment | OURS
            saved = {name: os.environ.get(name) for name in given}
            os.environ.update(given)
            try:
                outcome = dbtRunner(manifest=manifest).invoke(command)
            finally:
                for name, value in saved.items():
                    os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        if outcome.exception is not None:
            raise DbtError(f"dbt {args[0]} stopped: {outcome.exception}") from outcome.exception
        if not fails and outcome.result is not None:
            return outcome.result
        results: list[Any] = getattr(outcome.result, "results", [])
        failed = [r for r in results if str(r.status) in {"error", "fail", "runtime error"}]
        if failed:
            lines = "\n".join(
                f"  {r.node.resource_type} {r.node.name} ({r.node.original_file_path}): {r.message}"
                for r in failed
            )
            raise DbtError(f"dbt {args[0]}: {len(failed)} of {len(results)} failed\n{lines}")
        if not outcome.success:
            raise DbtError(f"dbt {args[0]} did not succeed")
        return outcome.result


PROJECT: Slot[Project] = Slot(Project)


def project_of(settings: Settings) -> Project:
    """The project of `settings`, one for the life of the process, so that only its first tick pays for the parse."""
    return homes.of(settings).get(PROJECT)
