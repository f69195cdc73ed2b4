"""From definitions to values: through the real dbt project, ticks and marts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from pipelines.kpi.model import Kpi, Kpis, Source, Variable, Window
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from tests.transform.support import Warehouse
from tests.transform.test_golden import CATALOG, CHARGE, HEADER

SLO = Source(
    "warehouse",
    "marts.slo_performance",
    "marts.slo_performance",
    (
        ("late_by", "interval"),
        ("business_date", "date"),
        ("application_id", "text"),
        ("outcome", "text"),
        ("completed_job_count", "integer"),
    ),
)
DEFINED: dict[str, Kpi] = {}


def defined(settings: Settings) -> Kpis:
    """What stands for the files of catalog/kpis here."""
    assert settings.catalog.exists()
    return Kpis(dict(DEFINED))


def variable(
    name: str, aggregation: str = "count", condition: str = "", column: str | None = None
) -> Variable:
    return Variable(
        name, SLO, aggregation, column, "business_date", is_date=True, condition=condition,
        dimensions=(("application", "application_id"),),
    )  # fmt: skip


def kpi(kpi_id: str, expression: str, *variables: Variable, version: str = "v1") -> Kpi:
    return Kpi(
        kpi_id, kpi_id, "performance", "", "team:bank", "simple", expression, variables, ("day", "month"),
        ("application",), version=version,
    )  # fmt: skip


ON_TIME = kpi(
    "on-time",
    '"good" / nullif("due", 0)',
    variable("good", condition="outcome = 'on_time'"),
    variable("due", condition="outcome <> 'not_due'"),
)
ROLLING = replace(
    kpi("rolling", '"c"', replace(variable("c"), window=Window(days=30))), grains=("day",), dimensions=()
)
MEDIAN = kpi("median", '"m"', variable("m", "median", column="late_by"))


@pytest.fixture
def define(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put these KPIs in place of those that stand."""
    monkeypatch.setattr("pipelines.kpi.definitions.check.resolved", defined)
    warehouse.store_catalog(CATALOG)
    with connect(warehouse.settings) as connection:
        connection.execute("truncate kpi.definition, kpi.restatement")

    def write(*kpis: Kpi) -> None:
        DEFINED.clear()
        DEFINED.update({each.id: each for each in kpis})
        folder = warehouse.settings.catalog / "kpis"
        folder.mkdir(exist_ok=True)
        path = folder / "all.yml"
        path.unlink(missing_ok=True)
        if kpis:
            path.write_text("kpis: []\n" + "".join(f"# {each!r}\n" for each in kpis), "utf-8")

    yield write
    write()
    warehouse.tick("2026-03-09 00:00", rebuild=True)


def run(warehouse: Warehouse, *steps: tuple[int, str]) -> None:
    """Statuses of the job `charge` of 2 March, by their hour on the 3rd."""
    lines = [CHARGE.format(code, f"{hour:02}:00:00", f"r,h{hour}") for hour, code in steps]
    warehouse.ingest(HEADER + "".join(lines))


def values(warehouse: Warehouse, kpi_id: str, grain: str = "day") -> dict[tuple[str, str], Decimal | None]:
    rows = warehouse.query(
        "select period, dimension_key, value from marts.kpi_value where kpi_id = %s and grain = %s",
        kpi_id,
        grain,
    )
    return {(row["period"], row["dimension_key"]): row["value"] for row in rows}


def by_hand(warehouse: Warehouse, formula: str, unit: str) -> dict[tuple[str, str], Decimal | None]:
    rows = warehouse.query(
        f"""
        select case '{unit}' when 'day' then business_date::text else to_char(business_date, 'YYYY-MM') end as period,
            case when grouping(application_id) = 1 then ''
                else jsonb_build_object('application', application_id)::text end as dimension_key,
            ({formula})::numeric as value
        from marts.slo_performance
        group by 1, rollup (application_id)
        """
    )
    return {(row["period"], row["dimension_key"]): row["value"] for row in rows}


SHARE = "count(*) filter (where outcome = 'on_time')::numeric / nullif(count(*) filter (where outcome <> 'not_due'), 0)"
MIDDLE = "(percentile_cont(0.5) within group (order by extract(epoch from late_by)::double precision))"


def test_values_are_those_of_sql_by_hand_at_every_grain(
    warehouse: Warehouse, define: Callable[..., None]
) -> None:
    define(ON_TIME, ROLLING, MEDIAN)
    run(warehouse, (1, "START"), (4, "SUCCEED"))
    for moment in ("2026-03-03 06:30", "2026-03-04 12:00", "2026-03-06 12:00"):
        warehouse.tick(moment)
        for grain in ("day", "month"):
            assert values(warehouse, "on-time", grain) == by_hand(warehouse, SHARE, grain)
            assert values(warehouse, "median", grain) == by_hand(warehouse, MIDDLE, grain)
    days = warehouse.query(
        "select day::date::text as day, (select count(*) from marts.slo_performance where business_date <= day) as n"
        " from generate_series('2026-03-02', timestamp '2026-03-06', interval '1 day') as day"
    )
    assert values(warehouse, "rolling") == {(row["day"], ""): row["n"] for row in days}


def test_a_tick_without_a_change_writes_nothing_and_late_rows_touch_their_periods_only(
    warehouse: Warehouse, define: Callable[..., None]
) -> None:
    define(kpi("done", '"n"', variable("n", "sum", column="completed_job_count")))
    warehouse.tick("2026-03-06 12:00")
    rows = "select kpi_id, grain, period, dimension_key, xmin::text from kpi.period_value"
    before = {tuple(row.values()) for row in warehouse.query(rows)}
    report = warehouse.tick("2026-03-06 12:01")
    assert not [each for each in report.publications if each.name.startswith("kpi_")]
    run(warehouse, (1, "START"), (4, "SUCCEED"))
    warehouse.tick("2026-03-06 12:02")
    after = {tuple(row.values()) for row in warehouse.query(rows)}
    assert {key[2] for key in after - before} == {"2026-03-02", "2026-03"}
    assert values(warehouse, "done") == by_hand(warehouse, "sum(completed_job_count)", "day")


def test_a_new_kpi_fills_itself_and_leaves_the_others_and_the_marts_alone(
    warehouse: Warehouse, define: Callable[..., None]
) -> None:
    define(ON_TIME)
    run(warehouse, (1, "START"), (4, "SUCCEED"))
    warehouse.tick("2026-03-06 12:00")
    states = "select xmin::text, kpi_id from kpi.period_value where kpi_id = 'on-time'"
    marts = "select xmin::text, slo_id from marts.slo_performance"
    before = warehouse.query(states), warehouse.query(marts)
    define(ON_TIME, MEDIAN)
    assert not warehouse.tick("2026-03-06 12:01").is_rebuild
    assert (warehouse.query(states), warehouse.query(marts)) == before
    assert values(warehouse, "median") == by_hand(warehouse, MIDDLE, "day")
    define(kpi("on-time", '"due"', *ON_TIME.variables, version="v2"), MEDIAN)
    warehouse.tick("2026-03-06 12:02")
    assert values(warehouse, "on-time") == by_hand(
        warehouse, "count(*) filter (where outcome <> 'not_due')", "day"
    )
    versions = warehouse.query(
        "select version, valid_to is null as stands from marts.kpi_definition where kpi_id = 'on-time'"
        " order by valid_from desc limit 2"
    )
    assert [tuple(row.values()) for row in versions] == [("v2", True), ("v1", False)]
    define(MEDIAN)
    warehouse.tick("2026-03-06 12:03")
    assert values(warehouse, "on-time") == {}
