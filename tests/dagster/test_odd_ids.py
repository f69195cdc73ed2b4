"""Ids as schedulers have them: spaces, slashes, quotes, other scripts, and as long as they may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.board.write import make
from pipelines.catalog.assets import job_key, slo_key, tracked_specs
from pipelines.catalog.graph import JobGraph, JobNode, SloNode
from pipelines.catalog.read import read_catalog
from pipelines.definitions import build_defs
from pipelines.orchestration.instance import load_instance
from pipelines.slo.checks import met_check, on_time_check
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.ticks.report import report
from tests.dagster.conftest import House, new_house
from tests.examples import examples

# Signs that no compression makes shorter: 800 bytes of UTF-8, 2,400 where Dagster keeps them.
LONG = "".join(chr(0x1F300 + number * 7 % 600) for number in range(199))
ODD = [
    "plain", "Daily close", "Tagesabschluß", "load/balances", "[brackets]", "{braces}", "it's", 'a "quote"', "a-b",
    "a_b", "a.b", "A-B", "a~2db", "%s %(x)s", "{{ dbt }}", "日次締め", "e\u0301", "é", "👍", "*", "a:b", "a,b", "a|b",
    "\\", "..", "class", "context", "null", "<b>&amp;", "${HOME}", "$1", "--x", "a\u00a0b", "x" * 200,
    LONG + "a", LONG + "b",
]  # fmt: skip
AS_OF = "2026-03-03T12:00:00Z"


def catalog_of(folder: Path, ids: Sequence[str]) -> Path:
    """An application (without slashes), a calendar, a job and an SLO of each id. JSON is YAML."""
    contents: dict[str, list[dict[str, object]]] = {
        "applications": [{"id": one.replace("/", "∕"), "timezone": "UTC", "owner": f"team:{one}"} for one in ids],
        "calendars": [{"id": one, "weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]} for one in ids],
        "jobs": [{"id": one, "application": one.replace("/", "∕")} for one in ids],
        "slos": [
            {
                "id": one, "application": one.replace("/", "∕"), "calendar": one, "effective_from": "2026-03-01",
                "jobs": [{"job": one, "end": "10:00"}],
            }
            for one in ids
        ],
    }  # fmt: skip
    for kind, rows in contents.items():
        (folder / kind).mkdir(parents=True)
        (folder / kind / "odd.yml").write_text(json.dumps({kind: rows}, ensure_ascii=False), "utf-8")
    return folder


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=200),
        min_size=1,
        unique=True,
    )
)
@examples(20)
def test_any_ids_make_definitions(ids: list[str]) -> None:
    jobs = [JobNode(one, one, one, "", f"team:{one}", []) for one in ids]
    slos = [SloNode(one, one, "", one, one, one, "UTC", 0.95, "05:00", [[one, one]]) for one in ids]
    specs = tracked_specs(JobGraph(jobs, slos))
    checks = [met_check(ids), on_time_check((one, one) for one in ids)]
    defs = dg.Definitions(specs, asset_checks=checks, resources={"settings": Settings.from_env({})})
    graph = defs.resolve_asset_graph()
    assert len(graph.get_all_asset_keys()) == 2 * len(ids)
    assert {key.asset_key for key in graph.asset_check_keys} == graph.get_all_asset_keys()


def test_plain_ids_keep_their_keys() -> None:
    assert job_key("core.banking", "load/balances_1").path == ["jobs", "core.banking", "load/balances_1"]
    assert slo_key("card-settlement").path == ["slos", "card-settlement"]


def test_the_check_of_each_slo_is_its_own(nowhere: Callable[..., Settings], tmp_path: Path) -> None:
    graph = build_defs(nowhere(catalog=catalog_of(tmp_path / "catalog", ODD))).resolve_asset_graph()
    wanted = {slo_key(one) for one in ODD} | {job_key(one.replace("/", "∕"), one) for one in ODD}
    assert len(wanted) == 2 * len(ODD)
    assert wanted <= graph.get_all_asset_keys()
    assert {key.asset_key for key in graph.asset_check_keys if key.name in {"met", "on_time"}} == wanted


@pytest.fixture(scope="module")
def odd(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose catalog has nothing but odd ids."""
    home = tmp_path_factory.mktemp("odd")
    with new_house(server_url, home, catalog=catalog_of(home / "catalog", ODD)) as made:
        yield made


def test_all_of_them_are_judged_told_and_shown(odd: House) -> None:
    statuses = [
        {
            "application_id": one.replace("/", "∕"), "job_id": one, "status_code": code, "status_at": at,
            "business_date": "2026-03-02", "run_id": "r" * 50, "host_id": LONG[:150],
        }
        for one in ODD
        for code, at in (("START", "2026-03-02T08:00:00Z"), ("SUCCEED", "2026-03-02T09:00:00Z"))
    ]  # fmt: skip
    odd.land("odd.ndjson", "\n".join(json.dumps(one, ensure_ascii=False) for one in statuses))
    odd.tick(AS_OF)
    with connect(odd.settings, "transform") as connection:
        outcomes = connection.execute(
            "select slo_id, outcome from marts.slo_performance where business_date = '2026-03-02'"
        ).fetchall()
        assert connection.execute("select count(*) from marts.unregistered_job").fetchone() == (0,)
    assert {str(slo): outcome for slo, outcome in outcomes} == dict.fromkeys(ODD, "on_time")
    with load_instance(odd.settings) as instance:
        done = report(odd.settings, instance)
        assert (done.jobs, done.slos, done.verdicts) == (len(ODD), len(ODD), 2 * len(ODD))
        for one in ODD:
            for key in (slo_key(one), job_key(one.replace("/", "∕"), one)):
                assert len(instance.fetch_materializations(key, limit=2).records) == 1
    board = make(odd.settings, odd.settings.home / "board")
    assert {slo.id for slo in board.tracked} == set(ODD)


def test_a_person_can_ask_for_the_checks(odd: House) -> None:
    catalog = read_catalog(odd.settings.catalog)
    checks = [met_check(catalog.slos), on_time_check(catalog.jobs)]
    check = dg.define_asset_job("told", selection=dg.AssetSelection.checks(*checks))
    asked = dg.Definitions.merge(odd.defs, dg.Definitions(jobs=[check]))
    with load_instance(odd.settings) as instance:
        run = asked.resolve_job_def("told").execute_in_process(instance=instance)
        found = run.get_asset_check_evaluations()
    wanted = {slo_key(one) for one in ODD} | {job_key(one.replace("/", "∕"), one) for one in ODD}
    assert {one.asset_key for one in found} == wanted
    assert len(found) == len(wanted)
