"""The job `tick`, from a landed file to the marts, against a real instance; then the checks of what came of it."""

from __future__ import annotations

import dagster as dg
import pytest

from pipelines.errors import DuemarkError
from pipelines.orchestration.instance import load_instance
from pipelines.orchestration.runs import JobRun
from pipelines.transform.waiting import waiting
from pipelines.warehouse.connect import connect
from tests.dagster.conftest import HEADER, House, values

# Monday's overdrafts on time, Tuesday's an hour late; one record is refused, one job is nobody's.
STATUSES = (
    HEADER
    + """\
overdrafts,charge-overdrafts,START,2026-03-03T00:30:00-05:00,2026-03-02,a
overdrafts,charge-overdrafts,SUCCEED,2026-03-03T02:45:00,2026-03-02,a
overdrafts,charge-overdrafts,START,2026-03-04T00:30:00-05:00,2026-03-03,b
overdrafts,charge-overdrafts,SUCCEED,2026-03-04T04:00:00-05:00,2026-03-03,b
overdrafts,charge-overdrafts,DONE,2026-03-04T04:00:00-05:00,2026-03-03,b
nobodys,sweep,SUCCEED,2026-03-04T04:00:00Z,2026-03-03,c
"""
)
AS_OF = "2026-03-04T12:00:00-05:00"


@pytest.fixture(scope="module")
def first(house: House) -> JobRun:
    """The run that took the file, and a file that no one can read."""
    house.land("statuses.csv", STATUSES)
    house.land("broken.csv", "no such columns\n1\n")
    return house.tick(AS_OF)


def test_a_landed_file_becomes_a_verdict(house: House, first: JobRun) -> None:
    with connect(house.settings, "analyst") as connection:
        rows = connection.execute(
            "select business_date::text, outcome, late_by::text from marts.slo_performance"
            " where slo_id = 'overdraft-charges' order by 1"
        ).fetchall()
    assert rows == [
        ("2026-03-02", "on_time", "-00:15:00"),
        ("2026-03-03", "late", "01:00:00"),
        ("2026-03-04", "not_due", None),
    ]


def test_the_feed_tells_what_came(first: JobRun) -> None:
    told = first.metadata["raw/job_status"]
    assert (told["files"], told["rows"], told["rejected"], told["quarantined files"]) == (1, 5, 1, 1)
    assert "statuses.csv" in told["files with rejected records"]
    assert "broken.csv" in told["quarantined"]


def test_the_mart_tells_what_is_late(first: JobRun) -> None:
    told = first.metadata["marts/slo_performance"]
    assert told["rows inserted"] == told["rows, estimated"] == 3
    assert (told["late, last 24 h"], told["overdue"], told["not due yet"]) == (1, 0, 1)
    assert (
        "| overdraft-charges | 2026-03-03 | 04 Mar 08:00Z | 1:00 | overdrafts/charge-overdrafts |"
        in told["late now"]
    )
    assert first.metadata["catalog/promise"]["rows inserted"] > 0
    assert first.metadata["catalog/slo_version"]["rows inserted"] > 0


def test_the_run_is_filed_under_its_job_and_location(house: House, first: JobRun) -> None:
    with load_instance(house.settings) as instance:
        run = instance.get_run_by_id(first.run_id)
        assert run is not None
        assert run.job_name == "tick"
        assert run.tags[".dagster/repository"] == "__repository__@pipelines"
        event = instance.get_latest_materialization_event(dg.AssetKey(["marts", "slo_performance"]))
        assert event is not None


def test_a_tick_with_nothing_to_do_tells_so(house: House, first: JobRun) -> None:
    second = house.tick(AS_OF)
    told = second.metadata["raw/job_status"]
    assert (told["files"], told["rows"], told["quarantined files"]) == (0, 0, 0)
    assert "rows inserted" not in second.metadata["marts/slo_performance"], "no mart was published"
    assert "catalog/slo_version" not in second.metadata, "a catalog that did not change is not told of"


def test_an_instant_that_is_none_fails_with_what_to_do(house: House, first: JobRun) -> None:
    with pytest.raises(DuemarkError, match=r"'yesterday' is no instant.*\n.*2026-03-03T03:00:00-05:00"):
        house.tick("yesterday")
    with pytest.raises(DuemarkError, match="has no offset"):
        house.tick("2026-03-05T12:00:00")


def test_an_earlier_instant_needs_a_rebuild(house: House, first: JobRun) -> None:
    # Wednesday has begun, and Tuesday's run.
    earlier = "2026-03-04T01:00:00-05:00"
    with pytest.raises(DuemarkError, match="--rebuild"):
        house.tick(earlier)
    told = house.tick(earlier, rebuild=True).metadata["marts/slo_performance"]
    assert (told["rows deleted"], told["rows inserted"]) == (3, 3)
    assert told["not due yet"] == 2
    assert house.tick(AS_OF).metadata["marts/slo_performance"]["not due yet"] == 1


def test_the_defaults_of_the_launchpad_do(house: House, first: JobRun) -> None:
    job = house.defs.resolve_job_def("tick")
    assert job.run_config is not None
    assert job.run_config["ops"] == {"transform": {"config": {"as_of": "", "rebuild": False}}}


def test_the_checks_find_what_is_wrong_and_what_is_not(house: House, first: JobRun) -> None:
    found = house.checks()
    passed = {name for name, check in found.items() if check.passed}
    failed = {name: check.severity.value for name, check in found.items() if not check.passed}
    assert passed >= {"marts/slo_performance complete_occurrences_have_all_jobs_slo_performance_"}
    # Of three occurrences one was late.
    assert failed.pop("marts/kpi_value thresholds") in {"WARN", "ERROR"}
    assert failed == {
        "raw/job_status rejected_share": "WARN",
        "raw/job_status quarantined_files": "WARN",
        "raw/job_status registered_jobs": "WARN",
        # the marts stand as of an instant long past
        "marts/slo_performance up_to_date": "ERROR",
    }
    share = values(found["raw/job_status rejected_share"].metadata)
    assert (share["rejected"], share["accepted"]) == (1, 5)
    assert "status_code" in share["why"]
    assert (
        "| nobodys | sweep | application |"
        in values(found["raw/job_status registered_jobs"].metadata)["unregistered"]
    )
    assert "broken.csv" in values(found["raw/job_status quarantined_files"].metadata)["quarantined"]


def test_a_check_recovers(house: House, first: JobRun) -> None:
    good = HEADER + "overdrafts,charge-overdrafts,START,2026-03-05T00:30:00-05:00,2026-03-04,d\n"
    house.land("broken.csv", good)
    house.tick()
    found = house.checks()
    assert found["raw/job_status quarantined_files"].passed
    assert found["marts/slo_performance up_to_date"].passed
    assert waiting(house.settings).since is None


def test_what_lands_waits_until_the_next_tick(house: House, first: JobRun) -> None:
    from pipelines.landing.ingest import ingest

    house.tick()
    assert waiting(house.settings).loads == 0
    house.land(
        "more.csv", HEADER + "overdrafts,charge-overdrafts,FAIL,2026-03-05T01:30:00-05:00,2026-03-04,d\n"
    )
    ingest(house.settings)
    work = waiting(house.settings)
    assert work.loads == 1
    assert work.since is not None
    house.tick()
    assert waiting(house.settings).since is None


def test_a_data_test_of_dbt_that_fails_names_the_rows(house: House, first: JobRun) -> None:
    with connect(house.settings, "transform") as connection:
        connection.execute(
            "update marts.slo_job_performance set progress = 'running', actual_end_at = null"
            " where slo_id = 'overdraft-charges' and business_date = '2026-03-03'"
        )
    check = house.checks()["marts/slo_performance complete_occurrences_have_all_jobs_slo_performance_"]
    assert not check.passed
    assert values(check.metadata)["rows"] == 1
    assert "slo_job_performance" in values(check.metadata)["query"]
