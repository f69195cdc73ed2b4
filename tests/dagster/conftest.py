"""A warehouse and a Dagster instance of their own for each module: a tick's first run deploys, which takes seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from pipelines.definitions import build_defs
from pipelines.orchestration.instance import load_instance
from pipelines.orchestration.runs import JobRun, run_job, run_tick_job
from pipelines.warehouse.connect import with_database
from pipelines.warehouse.migrate import migrate
from pipelines.warehouse.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
HEADER = "application_id,job_id,status_code,status_at,business_date,run_id\n"
_numbers = count()


@dataclass
class House:
    """Duemark as a person has it: settings, definitions, and ways to land files and run jobs."""

    settings: Settings
    defs: dg.Definitions

    def land(self, name: str, content: str | bytes) -> Path:
        folder = Path(self.settings.landing) / "job_status"
        folder.mkdir(exist_ok=True, parents=True)
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def tick(self, as_of: str | None = None, *, rebuild: bool = False) -> JobRun:
        return run_tick_job(self.settings, self.defs, as_of, rebuild=rebuild)

    def checks(self) -> dict[str, dg.AssetCheckEvaluation]:
        """Run the job `checks`; what each found, by asset and name ("raw/job_status registered_jobs")."""
        run = run_job(self.settings, self.defs, "checks")
        found: dict[str, dg.AssetCheckEvaluation] = {}
        with load_instance(self.settings) as instance:
            for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
                event = entry.get_dagster_event().asset_check_evaluation_data
                found[f"{event.asset_key.to_user_string()} {event.check_name}"] = event
        return found


def values(metadata: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, Any]:
    return {key: value.value for key, value in metadata.items()}


@pytest.fixture(scope="session", autouse=True)
def quiet_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever imports `pipelines.definitions` builds them for the environment: not in the developer's own home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUEMARK_HOME", str(tmp_path_factory.mktemp("dagster-home")))
        yield


@contextmanager
def new_house(server_url: str, home: Path, **changes: Any) -> Iterator[House]:
    """Fresh databases and an empty landing folder in `home`; `changes` to the settings. The databases go with it."""
    name = f"test_dagster_{os.getpid()}_{next(_numbers)}"
    settings = replace(
        Settings.from_env({}),
        home=home,
        database_url=with_database(server_url, name),
        landing=str(home / "landing"),
        dagster_database=f"{name}_dagster",
        **changes,
    )
    settings = settings.having(DUEMARK_LISTEN_SECONDS="0")
    migrate(settings)
    yield House(settings, build_defs(settings))
    with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
        for database in (name, settings.dagster_database):
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database))
            )


@pytest.fixture(scope="module")
def house(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with the demonstration catalog."""
    with new_house(server_url, tmp_path_factory.mktemp("house")) as made:
        yield made


@pytest.fixture
def nowhere(tmp_path: Path) -> Callable[..., Settings]:
    """Settings whose database does not answer: for what must not ask it."""

    def make(**changes: Any) -> Settings:
        settings = replace(
            Settings.from_env({}),
            home=tmp_path / "home",
            database_url="postgresql://nobody@127.0.0.1:1/duemark",
        )
        return replace(settings, **changes)

    return make
