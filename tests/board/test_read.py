"""The board of real marts: what the engine computed, as it is shown, told and listed."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import psutil
import pytest
from click.testing import CliRunner

from pipelines.board.follow import Follower
from pipelines.board.read import read
from pipelines.board.render import render
from pipelines.board.write import make
from pipelines.cli import main
from pipelines.errors import DuemarkError
from pipelines.kpi import short
from pipelines.kpi.assets import kpi_checks, kpi_metadata
from pipelines.kpi.model import Threshold
from pipelines.processes.parts import run_folder
from pipelines.processes.status import PartStatus, report
from pipelines.transform.assets import changed_marts
from pipelines.transform.tick import TickReport
from pipelines.warehouse.connect import connect
from sensors.oncall.incidents.evaluate import evaluate
from tests.kpi.test_engine import ON_TIME, kpi, run, variable
from tests.transform.support import Warehouse, utc

Define = Callable[..., None]
SHARE = replace(
    ON_TIME,
    name="On-time share",
    unit="share",
    thresholds=Threshold("lower", (Decimal("0.9"),), (Decimal("0.5"),)),
    slos=("charges",),
)
DONE = kpi("done", '"n"', variable("n", "sum", column="completed_job_count"))


@pytest.fixture
def bad(no_incidents: Warehouse, define: Define) -> Warehouse:
    """On Monday the charges were late, and on Tuesday nothing of the deposits came."""
    define(SHARE, DONE)
    run(no_incidents, (1, "START"), (4, "SUCCEED"))
    no_incidents.tick("2026-03-04 12:00")
    return no_incidents


def test_kpis_are_read_as_the_engine_computed_them(bad: Warehouse) -> None:
    board = read(bad.settings)
    assert board.as_of == utc("2026-03-04 12:00")
    assert [one.id for one in board.kpis] == ["done", "on-time"]
    done, share = board.kpis
    assert [(p.period, p.value) for p in done.series["day"]] == [
        ("2026-03-02", Decimal(2)),
        ("2026-03-03", Decimal(0)),
    ]
    assert [p.is_provisional for p in done.series["month"]] == [True]
    assert done.trouble == ()
    assert share.definition.threshold is not None
    assert share.definition.threshold.critical == (Decimal("0.5"),)
    assert [(one.dimensions, one.status, one.since_period) for one in share.trouble] == [
        ("", "critical", "2026-03-02"),
        ("application deposits", "critical", "2026-03-03"),
        ("application overdrafts", "critical", "2026-03-02"),
        ("application support", "critical", "2026-03-02"),
    ]
    assert share.complete_to == utc("2026-03-04 00:00")


def test_who_moved_the_total(bad: Warehouse) -> None:
    (done, _) = read(bad.settings).kpis
    (days,) = [one for one in done.members if one.grain == "day"]
    assert (days.dimension, days.period, days.count) == ("application", "2026-03-03", 3)
    # Who had something on Monday and nothing on Tuesday moved the total as well.
    assert [(one.name, one.point.value, one.effect) for one in days.members] == [
        ("overdrafts", None, Decimal(-1)),
        ("support", None, Decimal(-1)),
        ("deposits", Decimal(0), Decimal(0)),
    ]


def test_the_pages_of_real_marts(bad: Warehouse) -> None:
    pages = render(read(bad.settings))
    assert set(pages) >= {"index.html", "today.html", "slos.html", "kpi-done.html", "kpi-on-time.html"}
    assert {"application-overdrafts.html", "slo-charges.html"} <= set(pages)
    assert "On-time share</a>" in pages["index.html"].split("</header>")[0]
    assert pages == render(read(bad.settings))


def test_now_is_read_as_the_marts_have_it(bad: Warehouse) -> None:
    board = read(bad.settings)
    # The zone of most SLOs, unless another is asked for.
    assert board.timezone == Counter(slo.timezone for slo in board.tracked).most_common(1)[0][0]
    assert {one.id for one in board.applications} >= {"deposits", "overdrafts"}
    overdue = bad.query(
        "select slo_id, business_date, slot from marts.slo_performance where outcome = 'overdue'"
    )
    assert {(one.slo_id, one.business_date, one.slot) for one in board.late if one.outcome == "overdue"} == {
        tuple(row.values()) for row in overdue
    }
    due = bad.query(
        "select slo_id, business_date, slot from marts.slo_performance cross join marts.tick"
        " where (expected_end_at at time zone %s)::date = (as_of at time zone %s)::date",
        board.timezone,
        board.timezone,
    )
    shown = {(one.slo_id, one.business_date, one.slot) for one in board.today}
    assert {tuple(row.values()) for row in due} <= shown
    assert [one.due_at for one in board.today] == sorted(one.due_at for one in board.today)


def test_a_written_board_is_kept_fresh(no_incidents: Warehouse, define: Define, tmp_path: Path) -> None:
    define(DONE)
    index = tmp_path / "board" / "index.html"
    follower = Follower(no_incidents.settings, index.parent, "UTC")
    no_incidents.tick("2026-03-04 12:00")
    assert [follower.step(), follower.step()] == [True, False]
    assert 'As of <time datetime="2026-03-04T12:00:00+00:00">' in index.read_text("utf-8")
    no_incidents.tick("2026-03-04 12:01")
    assert [follower.step(), follower.step()] == [True, False]
    assert "2026-03-04T12:01:00" in index.read_text("utf-8")
    # What is in the way is told, and left alone until it is gone.
    index.write_text("mine", "utf-8")
    no_incidents.tick("2026-03-04 12:02")
    assert not follower.step()
    assert index.read_text("utf-8") == "mine"
    index.unlink()
    assert follower.step()


def test_the_status_tells_where_the_board_is_and_when_it_is_not_kept_fresh(
    no_incidents: Warehouse, define: Define
) -> None:
    define(DONE)
    settings = no_incidents.settings
    index = settings.board / "index.html"

    def board() -> PartStatus:
        (found,) = [part for part in report(settings).parts if part.name == "board"]
        return found

    shutil.rmtree(settings.board, ignore_errors=True)
    no_incidents.tick("2026-03-04 12:00")
    assert (board().is_ready, board().reason) == (True, "not written yet: `duemark board`, or `duemark up`")
    make(settings, settings.board)
    assert board().reason.startswith(f"{index.as_uri()}, written ")
    # An hour later; nobody runs, so it is as old as who wrote it wants it.
    now = datetime.now(UTC)
    earlier = (now - timedelta(hours=2)).timestamp()
    os.utime(index, (earlier, earlier))
    with connect(settings) as connection:
        connection.execute("update control.tick set published_at = %s", [now - timedelta(hours=1)])
    assert board().is_ready
    me = psutil.Process()
    state = {"pid": me.pid, "created": me.create_time(), "started_at": (now - timedelta(hours=3)).isoformat()}
    up = run_folder(settings) / "up.json"
    up.parent.mkdir(parents=True, exist_ok=True)
    up.write_text(json.dumps(state), "utf-8")
    try:
        assert not board().is_ready
        assert "logs/up/board.log says why" in board().reason
    finally:
        up.unlink()


def test_old_periods_need_no_attention(bad: Warehouse) -> None:
    bad.tick("2026-03-20 12:00")
    (_, share) = read(bad.settings).kpis
    assert share.trouble == ()


def test_the_short_table_and_what_dagster_is_told(bad: Warehouse) -> None:
    with connect(bad.settings, "transform") as connection:
        heads, rows, more = short.table(connection)
        assert heads[0] == "kpi"
        assert rows[0] == ["on-time", "2026-03-03", "0 %", "", "critical", "3 beyond"]
        assert [row[0] for row in rows] == ["on-time", "done"]
        assert more == 0
        assert short.table(connection, most=1)[2] == 1
        told = kpi_metadata(connection, TickReport.__new__(TickReport))
    assert (told["KPIs"], told["KPIs critical"], told["KPIs warning"]) == (2, 1, 0)


def test_the_short_table_while_no_period_is_closed(no_incidents: Warehouse, define: Define) -> None:
    define(replace(SHARE, grains=("month",)), DONE)
    run(no_incidents, (1, "START"), (4, "SUCCEED"))
    no_incidents.tick("2026-03-04 12:00")
    with connect(no_incidents.settings, "transform") as connection:
        _, rows, _ = short.table(connection)
    assert rows == [
        ["done", "2026-03-03", "0", "↓ 100 %", "ok", ""],
        ["on-time", "2026-03", "0 %", "", "provisional", ""],
    ]


def test_a_tick_tells_of_all_kpis_as_one_mart(no_incidents: Warehouse, define: Define) -> None:
    define(SHARE, DONE)
    run(no_incidents, (1, "START"), (4, "SUCCEED"))
    report = no_incidents.tick("2026-03-04 12:00")
    assert len([one for one in report.publications if one.name.startswith("kpi_")]) >= 2
    events = changed_marts(no_incidents.settings, report)
    told = {event.asset_key.path[-1]: event.metadata for event in events}
    assert "kpi_value" in told
    assert not [name for name in told if name.startswith(("kpi_state", "kpi_values"))]
    metadata = {name: value.value for name, value in told["kpi_value"].items()}
    assert metadata["KPIs critical"] == 1
    assert "| On-time share | 0 % | critical, 3 members |" in str(metadata["KPIs now"]).replace("\u00a0", " ")
    assert len(str(metadata["KPIs now"])) < 1000
    assert str(metadata["board"]).endswith("board/index.html")


def test_the_check_of_thresholds(bad: Warehouse, define: Define) -> None:
    def check() -> dg.AssetCheckEvaluation:
        definitions = dg.Definitions(
            assets=[dg.AssetSpec(["marts", "kpi_value"])],
            asset_checks=[kpi_checks()],
            resources={"settings": bad.settings},
            jobs=[dg.define_asset_job("checks", dg.AssetSelection.all_asset_checks())],
        )
        run_ = definitions.resolve_job_def("checks").execute_in_process()
        (found,) = run_.get_asset_check_evaluations()
        return found

    found = check()
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description == "Beyond a threshold: On-time share."
    define(DONE)
    bad.tick("2026-03-04 12:05")
    assert check().passed


def test_a_threshold_crossed_is_an_incident_until_it_is_well_again(bad: Warehouse, define: Define) -> None:
    (bad.settings.catalog / "routes").mkdir()
    (bad.settings.catalog / "routes" / "all.yml").write_text(
        'routes: [{id: all, to: "file:alerts.jsonl"}]\n', "utf-8"
    )

    def rows() -> list[tuple[object, ...]]:
        found = bad.query(
            "select subject, occurrence, severity, resolution, message from ops.incident"
            " where kind = 'kpi_threshold' order by incident_id"
        )
        return [tuple(row.values()) for row in found]

    evaluate(bad.settings, utc("2026-03-04 12:00"))
    subjects = [(subject, occurrence, severity, end) for subject, occurrence, severity, end, _ in rows()]
    assert subjects[0] == ("on-time", "day", "critical", None)
    assert len(subjects) == 4
    # Nothing else is told of the members: they stand under the total.
    grouped = bad.query("select count(*) as n from ops.incident where cause_incident_id is not null")
    assert grouped[0]["n"] >= 3
    # The bounds are widened: what was bad by the old ones is withdrawn, and says so.
    wide = Threshold("lower", (), (Decimal(-1),))
    define(replace(SHARE, thresholds=wide, version="v2"), DONE)
    bad.tick("2026-03-04 12:05")
    evaluate(bad.settings, utc("2026-03-04 12:05"))
    assert {end for _, _, _, end, _ in rows()} == {"withdrawn"}
    assert all("definition was changed" in str(message) for *_, message in rows())


def test_what_is_restated_away_is_withdrawn(bad: Warehouse) -> None:
    """A file that came late says that the work was done in time."""
    member = 'day {"application": "overdrafts"}'
    statement = (
        "select resolution, message from ops.incident where kind = 'kpi_threshold' and occurrence = %s"
    )
    evaluate(bad.settings, utc("2026-03-04 12:00"))
    assert [row["resolution"] for row in bad.query(statement, member)] == [None]
    run(bad, (2, "SUCCEED"))
    bad.tick("2026-03-04 12:05")
    evaluate(bad.settings, utc("2026-03-04 12:05"))
    (row,) = bad.query(statement, member)
    assert row["resolution"] == "withdrawn"
    assert row["message"] == (
        "Restated: no period since 2026-03-02 is bad any more. Now 100 % in 2026-03-02."
    )
    (_, share) = read(bad.settings).kpis
    found = [one for one in share.restatements if one.grain == "day" and "overdrafts" in one.dimensions]
    assert [(one.period, one.reported, one.restated) for one in found] == [
        ("2026-03-02", Decimal(0), Decimal(1))
    ]


def test_the_command(bad: Warehouse, tmp_path: Path) -> None:
    env = bad.settings.as_env()
    result = CliRunner().invoke(main, ["board", "--output", str(tmp_path / "b")], env=env)
    assert result.exit_code == 0, result.output
    assert result.output == f"{tmp_path / 'b' / 'index.html'}: 2 KPIs, 4 SLOs\n"
    single = tmp_path / "mail.html"
    result = CliRunner().invoke(main, ["board", "--output", str(single)], env=env)
    assert result.output.startswith(f"{single}: 2 KPIs")
    assert "On-time share" in single.read_text("utf-8")
    refused = CliRunner().invoke(main, ["board", "--timezone", "Nowhere"], env=env)
    assert refused.exit_code == 2
    assert "no zone" in refused.output


def test_an_alert_is_held_while_its_slo_is_overdue(no_incidents: Warehouse, define: Define) -> None:
    warehouse = no_incidents
    define(replace(SHARE, slos=("decisions",)), DONE)
    run(warehouse, (1, "START"), (4, "SUCCEED"))
    warehouse.tick("2026-03-04 12:00")
    evaluate(warehouse.settings, utc("2026-03-04 12:00"))
    (row,) = warehouse.query(
        "select message, cause_incident_id from ops.incident"
        " where kind = 'kpi_threshold' and occurrence = 'day'"
    )
    assert "Held: its data wait for decisions" in row["message"]
    assert row["cause_incident_id"] is not None


def test_before_the_first_tick(warehouse: Warehouse) -> None:
    board = read(warehouse.settings)
    assert (board.as_of, board.kpis) == (None, ())
    assert "there was no tick" in render(board)["index.html"]


def test_a_zone_that_is_none(warehouse: Warehouse) -> None:
    with pytest.raises(DuemarkError, match="no zone"):
        make(warehouse.settings, warehouse.settings.home / "board", "Mars/Olympus")
