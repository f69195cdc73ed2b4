"""`landing/openlineage`: events in any order and batches give the same statuses and marts; what is bad says why."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.catalog.store import store_catalog
from pipelines.landing.ingest import ingest
from pipelines.landing.unload import unload
from pipelines.slo.lineage.derive import derive_statuses, last_derived
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import connect
from pipelines.warehouse.loads import begin_load, end_load
from pipelines.warehouse.settings import ROOT, Settings
from tests.examples import examples

AS_OF = datetime(2026, 3, 6, 12, tzinfo=UTC)
REAL = ROOT.parent / "shared/data/openlineage"
RUN = "01936893-9751-7000-8000-{:012}"


def event(state: str | None, at: str, run: int = 1, job: str = "load", **values: Any) -> dict[str, Any]:
    """A run event; `nominal`, `tag`, `parent` (of a run by its number) and `namespace` where they are given."""
    facets: dict[str, Any] = {}
    if nominal := values.get("nominal"):
        facets["nominalTime"] = {"nominalStartTime": nominal}
    if tag := values.get("tag"):
        facets["tags"] = {"tags": [{"key": "business_date", "value": tag, "source": "CONFIG"}]}
    if parent := values.get("parent"):
        facets["parent"] = {
            "run": {"runId": RUN.format(parent)}, "job": {"namespace": "prod", "name": "dag"},
        }  # fmt: skip
    return {
        "eventType": state,
        "eventTime": at,
        "run": {"runId": RUN.format(run), "facets": facets},
        "job": {"namespace": values.get("namespace", "prod"), "name": job},
        "inputs": [],
        "outputs": [],
    }


@pytest.fixture(scope="module")
def project(home: Settings) -> Project:
    return Project(home)


PUBLISHED = "update control.tick set published_high = (select max(load_id) from raw.load)"
Land = Callable[..., Sequence[Any]]


@pytest.fixture
def land(project: Project) -> Land:
    """Lands events, or lines as they are, as one file; what was there before is forgotten by the first of a test."""
    settings = project.settings
    empty(settings)
    numbers = iter(range(1000))

    def landed(*lines: dict[str, Any] | str) -> Sequence[Any]:
        return drop(settings, f"{next(numbers)}.ndjson", lines)

    return landed


def empty(settings: Settings) -> None:
    with connect(settings, autocommit=True) as connection:
        for table in ("job_status", "openlineage_event", "openlineage_status", "unload", "rejected_record",
                      "landed_file"):  # fmt: skip
            connection.execute(f"truncate raw.{table}".encode())
        connection.execute(PUBLISHED)


def drop(settings: Settings, name: str, lines: Sequence[dict[str, Any] | str]) -> Sequence[Any]:
    path = Path(settings.landing) / "openlineage" / name
    path.parent.mkdir(exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", "utf-8")
    report = ingest(settings)
    path.unlink()
    return report.files


def rows(settings: Settings, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    with connect(settings) as connection:
        return connection.execute(query.encode(), parameters or None).fetchall()


def standing(settings: Settings) -> list[tuple[Any, ...]]:
    """Job, code, UTC time, business date and rule of the statuses that stand."""
    derive_statuses(settings)
    return rows(
        settings,
        "select application_id, job_id, status_code, to_char(status_at at time zone 'UTC', 'DD HH24:MI'),"
        " business_date::text, business_date_rule from marts.job_status order by run_id, status_at, status_code",
    )


def test_a_run_becomes_statuses_and_a_verdict(project: Project, land: Land) -> None:
    settings = project.settings
    [file] = land(
        event("START", "2026-03-02T05:31:07.123456789Z", nominal="2026-03-02T02:00:00Z"),
        event("COMPLETE", "2026-03-02T00:41:07-05:00"),
    )
    assert (file.status, file.record_count, file.rejected_count) == ("loaded", 2, 0)
    assert standing(settings) == [
        ("deposits", "load", "START", "02 05:31", "2026-03-01", "nominal_time"),
        ("deposits", "load", "SUCCEED", "02 05:41", "2026-03-01", "nominal_time"),
    ]
    tick(project, AS_OF, rebuild=True)
    assert rows(
        settings,
        "select outcome, actual_end_at = '2026-03-02T05:41:07Z' from marts.slo_performance"
        " where business_date = '2026-03-01'",
    ) == [("on_time", True)]
    assert rows(settings, "select run_id, final_status from marts.job_run") == [(RUN.format(1), "SUCCEED")]
    # What the tick itself wrote, promises among it, it has published.
    assert rows(
        settings, "select published_high = (select max(load_id) from raw.load) from control.tick"
    ) == [(True,)]
    # Nothing came since: nothing is written.
    before = rows(settings, "select max(load_id) from raw.load")
    derive_statuses(settings)
    assert rows(settings, "select max(load_id) from raw.load") == before


def test_a_tick_looks_no_further_than_events_were_dealt_with(project: Project, land: Land) -> None:
    settings = project.settings
    derived = derive_statuses(settings)
    with connect(settings, "ingest") as connection, connection.cursor() as cursor:
        end_load(cursor, begin_load(cursor), "promises", "a plan", 0, months=())
    assert last_derived(settings, derived, derived + 1) == derived + 1
    land(event("START", "2026-03-04T10:00:00Z"))
    assert last_derived(settings, derived, derived + 2) == derived + 1


def test_what_comes_later_corrects_what_stood(project: Project, land: Land) -> None:
    settings = project.settings
    land(event("COMPLETE", "2026-03-04T10:41:00Z"), event("RUNNING", "2026-03-04T10:20:00Z"))
    assert standing(settings) == [
        ("deposits", "load", "START", "04 10:20", "2026-03-04", "cut_off"),
        ("deposits", "load", "SUCCEED", "04 10:41", "2026-03-04", "cut_off"),
    ]
    tick(project, AS_OF, rebuild=True)
    land(event("START", "2026-03-04T10:10:00Z", tag="2026-03-02"))
    tick(project, AS_OF)
    assert standing(settings) == [
        ("deposits", "load", "START", "04 10:10", "2026-03-02", "tag"),
        ("deposits", "load", "SUCCEED", "04 10:41", "2026-03-02", "tag"),
    ]
    # By a tick of what is new alone the run has moved from one date to the other.
    assert rows(settings, "select business_date::text, run_id from marts.job_run") == [
        ("2026-03-02", RUN.format(1))
    ]


def test_a_parent_that_comes_later_dates_its_children(project: Project, land: Land) -> None:
    settings = project.settings
    land(
        event("START", "2026-03-04T10:00:00Z", parent=2),
        event("START", "2026-03-04T10:00:00Z", 3, "sum", parent=1),
    )
    assert {row[4:] for row in standing(settings)} == {("2026-03-04", "cut_off")}
    land(event("START", "2026-03-04T09:00:00Z", 2, "dag", nominal="2026-03-03T12:00:00Z"))
    assert [row[1:2] + row[4:] for row in standing(settings)] == [
        ("load", "2026-03-03", "parent"), ("dag", "2026-03-03", "nominal_time"), ("sum", "2026-03-03", "parent"),
    ]  # fmt: skip


def test_a_file_taken_out_takes_its_word_back(project: Project, land: Land) -> None:
    settings = project.settings
    land(event("START", "2026-03-04T10:00:00Z"))
    land(event("COMPLETE", "2026-03-04T10:30:00Z", tag="2026-03-03"))
    assert {row[4] for row in standing(settings)} == {"2026-03-03"}
    with connect(settings) as connection:
        path = connection.execute("select path from raw.landed_file where path like '%1.ndjson'").fetchone()
    assert path is not None
    unload(settings, str(path[0]), "a mistake")
    assert standing(settings) == [("deposits", "load", "START", "04 10:00", "2026-03-04", "cut_off")]


def test_a_namespace_of_nobody_is_an_application_until_one_has_it(project: Project, land: Land) -> None:
    settings = project.settings
    land(event("START", "2026-03-04T10:00:00Z", namespace="nobody"))
    assert standing(settings)[0][:2] == ("nobody", "load")
    file = settings.catalog / "applications/a.yml"
    text = file.read_text("utf-8")
    file.write_text(text.replace("Singapore,", "Singapore, namespaces: [nobody],"), "utf-8")
    try:
        store_catalog(settings)
        assert [row[:2] for row in standing(settings)] == [("treasury", "load")]
    finally:
        file.write_text(text, "utf-8")
        store_catalog(settings)
    assert [row[:2] for row in standing(settings)] == [("nobody", "load")]


def test_events_without_a_status_are_kept(project: Project, land: Land) -> None:
    settings = project.settings
    job = {"eventTime": "2026-03-04T10:00:00Z", "job": {"namespace": "prod", "name": "load"}}
    streaming = event("START", "2026-03-04T10:00:00Z", 7, "stream")
    streaming["job"]["facets"] = {"jobType": {"processingType": "STREAMING", "integration": "FLINK"}}
    [file] = land(
        event("OTHER", "2026-03-04T10:00:00Z"),
        event(None, "2026-03-04T10:00:01Z"),
        event("PAUSED", "2026-03-04T10:00:02Z"),
        job,
        {"eventTime": "2026-03-04T10:00:00Z", "dataset": {"namespace": "s3://b", "name": "d"}},
        streaming,
        # Another version of the specification, with what nobody knows yet.
        event("START", "2026-03-04T10:00:00Z", 8)
        | {"schemaURL": "https://openlineage.io/spec/9-0-0/x", "y": [1]},
    )
    assert (file.record_count, file.rejected_count) == (7, 0)
    assert [row[2] for row in standing(settings)] == ["START"]
    assert rows(settings, "select kind, count(*)::int from raw.openlineage_event group by 1 order by 1") == [
        ("dataset", 1), ("job", 1), ("run", 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"eventTime": None}, "eventTime", "eventTime is missing."),
        ({"eventTime": "2026-03-04T10:00:00"}, "eventTime", "it has no offset"),
        ({"eventTime": "2026-02-30T10:00:00Z"}, "eventTime", "no instant that exists"),
        ({"eventTime": "0001-01-01T00:00:00+05:00"}, "eventTime", "no instant that exists"),
        ({"eventTime": 1_700_000_000}, "eventTime", "no instant that exists"),
        ({"eventType": 3}, "eventType", "eventType is no text."),
        ({"run": {"runId": "{{ is_uuid(result) }}"}}, "run.runId", "no UUID of a run"),
        ({"run": {"runId": "********"}}, "run.runId", "no UUID of a run"),
        ({"run": {"runId": "00000000-0000-0000-0000-000000000000"}}, "run.runId", "no UUID of a run"),
        ({"run": {"runId": 7}}, "run.runId", "no UUID of a run"),
        ({"run": None}, "run.runId", "run.runId is missing."),
        ({"run": {"runId": RUN.format(1), "facets": {"nominalTime": {"nominalStartTime": "soon"}}}},
         "run.facets.nominalTime.nominalStartTime", "no instant that exists"),
        ({"run": {"runId": RUN.format(1), "facets": {"tags": {"tags": [{"key": "Business_Date", "value": "3/4"}]}}}},
         "run.facets.tags", "no date"),
        ({"job": {"namespace": "prod"}}, "job.name", "job.name is missing."),
        ({"job": {"namespace": 3, "name": "x" * 201}}, "job.name", "job.name has 201 characters."),
        ({"job": {"namespace": "n" * 201, "name": "x"}}, "job.namespace", "No application has the namespace"),
        ({"job": [1]}, "job.namespace", "job.namespace is missing."),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_bad_says_where_and_why(
    project: Project, land: Land, change: dict[str, Any], field: str, words: str
) -> None:
    good = event("START", "2026-03-04T10:00:00Z")
    [file] = land(good, good | change)
    assert (file.record_count, file.rejected_count) == (1, 1)
    [(path, line_no, reasons)] = rows(
        project.settings, "select path, line_no, reasons from raw.rejected_record"
    )
    assert (path.rpartition("/")[2], line_no) == ("0.ndjson", 2)
    [reason] = [one for one in reasons if one["field"] == field]
    assert words in reason["message"]
    assert reason["hint"]


def test_lines_that_are_no_events(project: Project, land: Land) -> None:
    long = event("START", "2026-03-04T10:00:00Z")
    long["run"]["facets"]["sourceCode"] = {"sourceCode": "x" * (5 << 20)}
    [file] = land(
        "{", "[1]", '{"eventTime": "2026-03-04T10:00:00Z"}', '{"a": ' * 2000 + "1" + "}" * 2000, long
    )
    assert (file.record_count, file.rejected_count) == (1, 4)
    assert rows(project.settings, "select length(document) > 5000000 from raw.openlineage_event") == [(True,)]


def test_a_status_that_breaks_its_contract_is_told_once(project: Project, land: Land) -> None:
    settings = project.settings
    for minute in ("10:00", "10:01"):
        land(
            event("START", f"2026-03-02T{minute}:00Z", tag="2026-03-03"),
            event("OTHER", f"2026-03-02T{minute}:00Z"),
        )
        assert standing(settings) == []
    found = rows(settings, "select path, reasons -> 0 ->> 'field' from raw.rejected_record")
    assert found == [("openlineage", "business_date")] * 2


def test_edges_of_the_graph_of_jobs(project: Project, land: Land) -> None:
    settings = project.settings
    writes, reads = (
        event("COMPLETE", "2026-03-04T10:00:00Z", 1),
        event("START", "2026-03-04T11:00:00Z", 2, "sum"),
    )
    writes["outputs"] = reads["inputs"] = [{"namespace": "s3://b", "name": "loaded", "facets": {}}]
    named = event("START", "2026-03-04T11:00:00Z", 3, "report")
    named["run"]["facets"]["jobDependencies"] = {
        "upstream": [
            {"job": {"namespace": "prod", "name": "sum"}, "run": {"runId": RUN.format(2)}},
            {"job": {}},
        ]
    }
    land(writes, reads, named)
    tick(project, AS_OF, rebuild=True)
    query = (
        "select upstream_job_id, job_id, origin, dataset, is_declared from marts.job_lineage"
        " where application_id = 'deposits' and upstream_application_id = 'deposits' order by 1"
    )
    assert rows(settings, query) == [
        ("load", "sum", "dataset", "s3://b/loaded", False),
        ("sum", "report", "dependency", None, False),
    ]


EVENTS = st.builds(
    lambda state, minute, run, job, nominal, tag, parent, namespace: event(
        state, f"2026-03-04T{5 + minute:02}:30:00Z", run, job,
        nominal=nominal, tag=tag, parent=parent, namespace=namespace,
    ),
    st.sampled_from(["START", "RUNNING", "COMPLETE", "FAIL", "OTHER"]),
    st.integers(0, 8),
    st.integers(1, 3),
    st.sampled_from(["load", "sum"]),
    st.sampled_from([None, None, "2026-03-03T12:00:00Z", "2026-03-02T12:00:00Z"]),
    st.sampled_from([None, None, None, "2026-03-01"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from(["prod", "nights", "nobody"]),
)  # fmt: skip
MARTS = {
    "statuses": "select distinct application_id, job_id, status_code, status_at, business_date, run_id,"
    " business_date_rule from marts.job_status order by 1, 2, 3, 4, 5, 6",
    "slo_performance": "select * from marts.slo_performance order by slo_id, business_date, slot",
    "job_run": "select * from marts.job_run order by application_id, job_id, business_date, run_id",
}


@given(
    batches=st.lists(st.lists(EVENTS, min_size=1, max_size=5), min_size=1, max_size=4),
    again=st.integers(0, 3),
)
@examples(3)
def test_order_repetition_and_batches_make_no_difference(
    project: Project, batches: list[list[dict[str, Any]]], again: int
) -> None:
    plain = told(project, [[one for batch in batches for one in batch]])
    mixed = [*(batch[::-1] for batch in reversed(batches)), [*batches[again % len(batches)], batches[0][0]]]
    assert told(project, mixed) == plain


def told(project: Project, batches: list[list[dict[str, Any]]]) -> dict[str, list[Any]]:
    """The marts that came of batches, with the statuses derived after each."""
    empty(project.settings)
    for number, batch in enumerate(batches):
        # A file that is a copy of another adds nothing.
        drop(project.settings, f"{number}.ndjson", batch)
        derive_statuses(project.settings)
        # As by a tick that published all of it: the next look is at what is new alone.
        with connect(project.settings, autocommit=True) as connection:
            connection.execute(PUBLISHED)
    tick(project, AS_OF, rebuild=True)
    return {name: rows(project.settings, query) for name, query in MARTS.items()}


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there")
def test_what_clients_really_sent(project: Project, land: Land) -> None:
    settings = project.settings
    for name in ("airflow_32.jsonl", "marquez_seed_2020.jsonl"):
        [file] = land(*(REAL / name).read_text("utf-8").splitlines())
        assert file.rejected_count == 0
    got = standing(settings)
    assert {row[0] for row in got} == {"airflow", "food_delivery"}
    # Every run ended well, and each of their statuses has a nominal time to be dated by.
    assert [row[2] for row in got].count("START") == [row[2] for row in got].count("SUCCEED") == 29
    assert {row[4:] for row in got} == {("2024-11-26", "nominal_time"), ("2020-02-22", "nominal_time")}
