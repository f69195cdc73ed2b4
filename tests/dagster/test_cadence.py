"""The sensor `arrivals` and the schedule `tick`: what they do at once, ask a run for, leave alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from pipelines.definitions import build_defs
from pipelines.landing.append import append
from pipelines.landing.ingest import ingest
from pipelines.orchestration.instance import load_instance
from pipelines.transform.project import DbtError
from pipelines.warehouse.connect import connect
from pipelines.warehouse.loads import LOADED
from pipelines.warehouse.locks import Lock, held
from pipelines.warehouse.settings import ROOT
from tests.dagster.conftest import HEADER, House
from tests.waiting import HUNG, until


@pytest.fixture(scope="module")
def instance(house: House) -> Iterator[dg.DagsterInstance]:
    with load_instance(house.settings) as instance:
        yield instance


@pytest.fixture(scope="module")
def built(house: House) -> House:
    """Deployed and ticked once, with a catalog of its own."""
    shutil.copytree(ROOT / "catalog", house.settings.home / "catalog")
    settings = replace(house.settings, catalog=house.settings.home / "catalog")
    built = House(settings, build_defs(settings))
    built.land("first.csv", HEADER + record("2026-03-02", "first"))
    built.tick()
    return built


def record(day: str, run: str) -> str:
    return f"overdrafts,charge-overdrafts,SUCCEED,{day}T20:45:00Z,{day},{run}\n"


def arrivals(house: House, instance: dg.DagsterInstance) -> dg.SensorExecutionData:
    context = dg.build_sensor_context(instance=instance, resources={"settings": house.settings})
    return house.defs.get_repository_def().get_sensor_def("arrivals").evaluate_tick(context)


def minute(house: House, instance: dg.DagsterInstance) -> dg.ScheduleExecutionData:
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime.now(UTC),
        resources={"settings": house.settings},
    )
    return house.defs.get_repository_def().get_schedule_def("tick").evaluate_tick(context)


def rest(house: House, instance: dg.DagsterInstance) -> str:
    """What the minute says when all is done: a day that begins meanwhile gives it something to do once."""
    looks = (str(minute(house, instance).skip_message) for _ in range(3))
    return next((said for said in looks if said.startswith("nothing to do")), "never at rest")


def runs_shown(house: House) -> set[str]:
    with connect(house.settings, "analyst") as connection:
        return {str(row[0]) for row in connection.execute("select run_id from marts.job_run")}


def is_shown(house: House, run: str) -> bool:
    return run in runs_shown(house)


def told(instance: dg.DagsterInstance, *key: str) -> int:
    return len(instance.fetch_materializations(dg.AssetKey(key), limit=100).records)


def test_a_house_that_was_never_deployed_asks_for_a_run(house: House, instance: dg.DagsterInstance) -> None:
    done = minute(house, instance)
    assert len(done.run_requests) == 1
    assert "loads wait" in done.run_requests[0].tags["duemark/reason"]


def test_nothing_is_done_when_there_is_nothing_to_do(built: House, instance: dg.DagsterInstance) -> None:
    # A day that begins is told of by a look that has nothing else to do, and taken up by the next.
    rest(built, instance)
    arrivals(built, instance)
    before = told(instance, "marts", "slo_performance")
    seen, waited = arrivals(built, instance), minute(built, instance)
    assert (seen.run_requests, seen.skip_message) == ([], "nothing has landed")
    assert waited.run_requests == []
    assert waited.skip_message.startswith("nothing to do")
    assert seen.cursor is None
    assert told(instance, "marts", "slo_performance") == before


def test_a_small_file_is_published_at_once(built: House, instance: dg.DagsterInstance) -> None:
    before = [told(instance, *key) for key in (("raw", "job_status"), ("marts", "job_run"))]
    runs = instance.get_runs_count()
    built.land("small.csv", HEADER + record("2026-03-03", "small"))
    done = arrivals(built, instance)
    assert done.run_requests == []
    assert "1 of 1 files loaded, 1 records; published up to load" in done.skip_message
    assert "small" in runs_shown(built)
    assert [told(instance, *key) for key in (("raw", "job_status"), ("marts", "job_run"))] == [
        count + 1 for count in before
    ]
    assert instance.get_runs_count() == runs
    assert arrivals(built, instance).skip_message == "nothing has landed"


def test_loads_that_a_tick_left_are_published_by_the_next_look(
    built: House, instance: dg.DagsterInstance
) -> None:
    """As a warm tick leaves them that dies: loaded, and nothing in the landing folder says so."""
    built.land("left.csv", HEADER + record("2026-03-10", "left"))
    ingest(built.settings)
    assert "published up to load" in arrivals(built, instance).skip_message
    assert "left" in runs_shown(built)


def test_a_tick_that_raises_is_not_hammered(built: House, instance: dg.DagsterInstance) -> None:
    built.land("refused.csv", HEADER + record("2026-03-11", "refused"))
    with connect(built.settings, autocommit=True) as connection:
        # Not valid: the rows that are there may break it, no new one may.
        connection.execute(
            "alter table marts.job_run add constraint refusal check (run_id <> 'refused') not valid"
        )
        with pytest.raises(DbtError, match="job_run was not published"):
            arrivals(built, instance)
        waits = arrivals(built, instance)
        connection.execute("alter table marts.job_run drop constraint refusal")
    assert "the last tick failed, and the minute's tries again" in waits.skip_message
    assert "published up to load" in minute(built, instance).skip_message
    assert "refused" in runs_shown(built)


def test_much_is_left_to_one_run(built: House, instance: dg.DagsterInstance) -> None:
    cold = House(built.settings.having(DUEMARK_WARM_BYTES="10"), built.defs)
    built.land("big.csv", HEADER + record("2026-03-04", "big"))
    (request,) = arrivals(cold, instance).run_requests
    assert request.tags["duemark/reason"].startswith("1 files landed")
    started = instance.create_run_for_job(
        built.defs.resolve_job_def("tick"), status=dg.DagsterRunStatus.STARTED
    )
    waiting = arrivals(cold, instance)
    assert waiting.run_requests == []
    assert "a run of the job tick is under way" in waiting.skip_message
    instance.report_run_canceled(started)
    assert len(arrivals(cold, instance).run_requests) == 1
    arrivals(built, instance)
    assert "big" in runs_shown(built)


def test_many_files_are_left_to_a_run_however_small(
    built: House, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensors.ticks.advance.WARM_FILES", 3)
    for n in range(4):
        built.land(f"small-{n}.csv", HEADER + record(f"2026-02-0{n + 2}", f"small-{n}"))
    (request,) = arrivals(built, instance).run_requests
    assert request.tags["duemark/reason"].startswith("4 files landed")
    monkeypatch.undo()
    arrivals(built, instance)
    assert "small-3" in runs_shown(built)


def test_a_tick_under_way_is_not_waited_for(built: House, instance: dg.DagsterInstance) -> None:
    built.land("beside.csv", HEADER + record("2026-03-05", "beside"))
    with connect(built.settings, "transform", autocommit=True) as other, held(other, Lock.TICK):
        done = arrivals(built, instance)
    assert "1 of 1 files loaded" in done.skip_message
    assert "Another tick is under way" in done.skip_message
    assert "beside" not in runs_shown(built)
    assert "published up to load" in minute(built, instance).skip_message
    assert "beside" in runs_shown(built)


def test_a_catalog_that_changed_is_seen_by_the_minute(built: House, instance: dg.DagsterInstance) -> None:
    page = built.settings.catalog / "slos" / "own.yml"
    page.write_text("slos: [{id: broken}]\n")
    for _ in range(2):
        assert rest(built, instance).startswith("nothing to do")
    page.write_text(
        "slos:\n  - id: own\n    name: Own\n    application: overdrafts\n    calendar: every_day\n"
        "    effective_from: 2026-03-02\n    jobs: [{job: overdrafts/charge-overdrafts, end: '21:00'}]\n"
    )
    assert "published up to load" in minute(built, instance).skip_message
    with connect(built.settings, "analyst") as connection:
        row = connection.execute("select count(*) from marts.slo_performance where slo_id = 'own'").fetchone()
    assert row is not None
    assert row[0] != 0


def test_logs_are_read_by_the_minute_and_wake_nobody(built: House, instance: dg.DagsterInstance) -> None:
    def beat(text: str) -> None:
        with log.open("a") as file:
            file.write(f"{text}\n")

    log = Path(built.settings.landing) / "uptime" / "beats.log"
    log.parent.mkdir()
    beat("2026-03-02T08:00:30Z")
    before = told(instance, "raw", "metric_input")
    assert arrivals(built, instance).skip_message == "nothing has landed"
    done = minute(built, instance)
    assert "1 of 1 files loaded, 1 records; published up to load" in done.skip_message
    beat("2026-03-02T08:01:10Z")
    assert "published up to load" in minute(built, instance).skip_message
    with connect(built.settings, "analyst") as connection:
        rows = connection.execute(
            "select value from marts.indicator_record where indicator_id = 1004 and hour_at = '2026-03-02T08:00Z'"
        ).fetchall()
    # Whenever this runs: the hour may be older than what is kept.
    assert rows in ([(2,)], [])
    assert told(instance, "raw", "metric_input") == before + 2
    assert rest(built, instance).startswith("nothing to do")


def test_what_is_stored_while_it_stays_is_published_at_once(
    built: House, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("sensors.ticks.arrivals.monotonic", lambda: clock[0])
    staying = House(built.settings.having(DUEMARK_LISTEN_SECONDS="600"), built.defs)
    with ThreadPoolExecutor(1) as pool, connect(built.settings, autocommit=True) as connection:
        looked = pool.submit(arrivals, staying, instance)

        def listens() -> bool:
            asked = (
                "select from pg_stat_activity where datname = current_database() and query like 'listen %'"
            )
            return connection.execute(asked).fetchone() is not None

        try:
            until(lambda: looked.done() or listens())
            for day, run in (("2026-03-12", "woken"), ("2026-03-13", "woken-again")):
                append(built.settings, "job_status", [status(day, run)], source="http test")
                until(lambda: looked.done() or is_shown(built, run))  # noqa: B023 - asked before the next run
                assert not looked.done(), looked.exception() or looked.result()
        finally:
            # Whatever failed, nobody waits for an evaluation whose clock stands still.
            clock[0] = 600.0
            connection.execute(f"notify {LOADED}")
        said = looked.result(HUNG).skip_message
    assert said.count("published up to load") == 2


def status(day: str, run: str) -> dict[str, object]:
    names = HEADER.strip().split(",")
    return dict(zip(names, record(day, run).strip().split(","), strict=True))
