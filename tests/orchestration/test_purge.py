"""Old runs and events go; what says when something last happened stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus
from psycopg import sql

from pipelines.errors import DuemarkError
from pipelines.orchestration.instance import load_instance
from pipelines.orchestration.purge import purge
from pipelines.warehouse.connect import connect, with_database
from pipelines.warehouse.migrate import migrate
from pipelines.warehouse.settings import Settings
from tests.watch.support import Watched

KEEP = timedelta(days=30)


@pytest.fixture(scope="module")
def settings(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    name = f"test_purge_{os.getpid()}"
    found = replace(
        Settings.from_env({}),
        home=tmp_path_factory.mktemp(name),
        database_url=with_database(server_url, name),
        dagster_database=f"{name}_dagster",
    )
    migrate(found)
    yield found
    with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
        for database in (name, found.dagster_database):
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(database)))


@dg.op
def work() -> None:
    """Do nothing."""


@dg.job
def nightly() -> None:
    work()


@dg.job
def yearly() -> None:
    work()


def test_the_newest_of_each_stays(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.orchestration.purge.EVENTS_KEPT", 2)
    key = dg.AssetKey("report")
    with load_instance(settings) as instance:
        nightly_runs = [nightly.execute_in_process(instance=instance).run_id for _ in range(3)]
        yearly_run = yearly.execute_in_process(instance=instance).run_id
        for number in range(3):
            instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata={"number": number}))
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(asset_key=key, check_name="met", passed=number == 2)
            )
        instance.report_runless_asset_event(dg.AssetMaterialization("other"))
        now = datetime.now(UTC)

        nothing = purge(settings, instance, KEEP, now=now)
        assert (nothing.runs, nothing.events, nothing.is_done) == (0, 0, True)

        later = now + KEEP + timedelta(minutes=1)
        assert purge(settings, instance, KEEP, now=later, seconds=-1).is_done is False
        gone = purge(settings, instance, KEEP, now=later)
        assert gone.is_done
        assert gone.runs == 2
        assert {run.run_id for run in instance.get_runs()} == {nightly_runs[-1], yearly_run}
        assert instance.get_records_for_run(nightly_runs[0]).records == []
        assert instance.get_records_for_run(nightly_runs[-1]).records
        told = [one.asset_materialization for one in instance.fetch_materializations(key, limit=10).records]
        assert [one.metadata["number"].value for one in told if one is not None] == [2, 1]
        assert instance.get_latest_materialization_event(dg.AssetKey("other")) is not None
        again = purge(settings, instance, KEEP, now=later)
        assert (again.runs, again.events) == (0, 0)
    with connect(settings, database=settings.dagster_database) as connection:
        checks = connection.execute("select execution_status from asset_check_executions").fetchall()
    assert checks == [("SUCCEEDED",)]


def test_a_run_under_way_stays(settings: Settings) -> None:
    with load_instance(settings) as instance:
        run = instance.create_run_for_job(nightly)
        nightly.execute_in_process(instance=instance)
        purge(settings, instance, KEEP, now=datetime.now(UTC) + KEEP * 2)
        assert instance.get_run_by_id(run.run_id) is not None


def test_what_evaluations_did_can_be_read_for_a_week(settings: Settings) -> None:
    with load_instance(settings) as instance:
        for kind in (InstigatorType.SENSOR, InstigatorType.SCHEDULE):
            assert instance.get_tick_retention_settings(kind)[TickStatus.SKIPPED] == 7
        watched = Watched(settings, instance, datetime.now(UTC))
        state = watched.sensor("pipelines/arrivals", interval=9)
        did = ["1 of 1 files loaded, 3 records", "published up to load 7 in 1.2 s: no row changed"]
        idle = [
            "nothing has landed",
            "nothing to do any more",
            "0 delivered, 0 refused, 2 waiting",
            "1 open: a b",
        ]
        for reason in (*idle, *did, "nothing has landed"):
            watched.tick(state, reason=reason)
            watched.now += timedelta(seconds=9)

        def told() -> list[str | None]:
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id)
            return [tick.skip_reason for tick in reversed(ticks)]

        assert purge(settings, instance, KEEP, now=watched.now + timedelta(hours=23)).idle == 0
        assert len(told()) == 7
        assert purge(settings, instance, KEEP, now=watched.now + timedelta(hours=25)).idle == 4
        assert told() == [*did, "nothing has landed"]
        assert purge(settings, instance, KEEP, now=watched.now + timedelta(days=6)).idle == 0
        assert told() == [*did, "nothing has landed"]


def test_how_long_runs_are_kept() -> None:
    def kept(text: str) -> timedelta:
        return Settings.from_env({"DUEMARK_KEEP_RUNS": text}).keep_runs

    assert kept("") == timedelta(days=30)
    assert kept("10d") == timedelta(days=10)
    with pytest.raises(DuemarkError, match="'soon' is no duration to keep runs for"):
        kept("soon")
    with pytest.raises(DuemarkError, match="7d is too short to keep runs for"):
        kept("7d")
