"""Which periods the statement of a model finds: over what was touched, those that time opens, those that are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pipelines.kpi.compile.files import compile_kpis
from pipelines.kpi.compile.places import MODELS
from pipelines.kpi.compile.readable import rendered
from pipelines.kpi.engine.periods import PERIODS, fill_periods
from pipelines.kpi.engine.touched import BUCKETS
from pipelines.kpi.engine.work import TickWindow, ValuesQuery
from pipelines.kpi.model import Kpi, Kpis, Source, Variable, Window
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import ROOT
from tests.transform.support import Warehouse

ORDERS = Source("shop", "copies.orders", "copies.orders")
CLOCK = "copies.orders:placed_at"


def counted(zone: str, *grains: Any, window: Window | None = None, **given: Any) -> Kpi:
    variable = Variable("n", ORDERS, "count", None, "placed_at", is_date=False, window=window)
    kpi = Kpi("counted", "Counted", "custom", "", "", "simple", '"n"', (variable,), grains, timezone=zone)
    return replace(kpi, **given)


@pytest.fixture
def connection(deployed: Warehouse) -> Iterator[psycopg.Connection[Any]]:
    with connect(deployed.settings, "transform") as connection:
        connection.execute(PERIODS)
        connection.execute(BUCKETS)
        yield connection
        connection.rollback()


def periods(
    connection: psycopg.Connection[Any],
    kpi: Kpi,
    as_of: str,
    before: str | None = None,
    *,
    touched: Sequence[str] = (),
    stands: Sequence[str] = (),
    is_full: bool = False,
    around: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """Names of the periods, less those that are gone; `stands`: buckets of which there are states."""
    files = compile_kpis(Kpis({kpi.id: kpi}))
    [name] = [each for each in files if each.startswith(f"{MODELS}/kpi_values_")]
    text = rendered(ROOT / "dbt_project", {name: files[name]})[name]
    [state] = [each for each in files if each.startswith(f"{MODELS}/kpi_state_")]
    state = state.rpartition("/")[2].removesuffix(".sql")
    # In place of the schema of states that stand; a name that is not qualified would be found there too.
    connection.execute(f'drop table if exists pg_temp."{state}"'.encode())
    connection.execute(f'create temp table "{state}" (bucket_at timestamptz) on commit drop'.encode())
    connection.execute("truncate kpi_bucket")
    with connection.cursor() as cursor:
        cursor.executemany(f'insert into pg_temp."{state}" values (%s)'.encode(), [[at] for at in stands])
        cursor.executemany(
            "insert into kpi_bucket values (%s, %s)", [*((CLOCK, at) for at in touched), *around]
        )
    query = ValuesQuery(text.replace("%(states)s", "pg_temp"), TickWindow(as_of, before or as_of, 1, False))
    fill_periods(connection, query, [kpi.id], is_full=is_full)
    rows = connection.execute("select period from kpi_period where not is_gone order by period_start, period")
    return [str(row[0]) for row in rows]


def test_a_touched_bucket_touches_the_periods_around_it(connection: psycopg.Connection[Any]) -> None:
    kpi = counted("America/New_York", "hour", "day", "week", "month", "quarter", "year")
    found = periods(connection, kpi, "2026-03-10T12:00Z", touched=["2026-03-08T03:45Z"])
    assert sorted(found) == [
        "2026", "2026-03", "2026-03-07", "2026-03-07T22-05:00", "2026-Q1", "2026-W10"
    ]  # fmt: skip
    assert periods(connection, kpi, "2026-03-10T12:00Z", "2026-03-09T12:00Z") == []


def test_an_instant_asks_for_the_period_of_its_grain_alone(connection: psycopg.Connection[Any]) -> None:
    kpi = counted("America/New_York", "hour", "day", "month")
    around = [("day", "2026-03-08T03:45Z"), ("hour", "2026-03-08T07:10Z")]
    assert periods(connection, kpi, "2026-03-10T12:00Z", around=around) == [
        "2026-03-07",
        "2026-03-08T03-04:00",
    ]


def test_a_window_is_touched_up_to_its_last_day(connection: psycopg.Connection[Any]) -> None:
    rolling = counted("America/New_York", "day", "month", window=Window(days=3))
    touched = ["2026-02-27T12:00Z"]
    # The three days before the end of March do not reach back so far.
    expected = ["2026-02", "2026-02-27", "2026-02-28", "2026-03-01"]
    assert sorted(periods(connection, rolling, "2026-03-10T12:00Z", touched=touched)) == expected
    assert "2026-03-01" not in periods(connection, rolling, "2026-02-28T12:00Z", touched=touched)
    to_date = counted("America/New_York", "day", window=Window(to_date="month"))
    assert periods(connection, to_date, "2026-03-10T12:00Z", touched=touched) == ["2026-02-27", "2026-02-28"]


def test_a_window_knows_the_day_whose_hour_came_twice(connection: psycopg.Connection[Any]) -> None:
    """At a minute past midnight of 7 November clocks were put back to the day before; a date never goes back."""
    rolling = counted("America/St_Johns", "day", window=Window(days=2))
    found = periods(connection, rolling, "2010-11-20T12:00Z", touched=["2010-11-07T02:45Z"])
    assert found == ["2010-11-07", "2010-11-08"]


def test_time_opens_the_periods_since_the_tick_before(connection: psycopg.Connection[Any]) -> None:
    kept = counted("UTC", "day", fills_gaps=True, retention=(("day", 3),))
    assert periods(connection, kept, "2026-03-10T12:00Z", "2026-03-09T12:00Z") == ["2026-03-10"]
    assert periods(connection, kept, "2026-03-10T12:00Z", "2026-03-01T12:00Z") == [
        "2026-03-08", "2026-03-09", "2026-03-10"
    ]  # fmt: skip
    assert periods(connection, kept, "2026-03-10T12:00Z", "2026-03-10T02:00Z") == []
    # Where nothing is filled and nothing adds up over time, a period is there when it has rows.
    assert periods(connection, counted("UTC", "day"), "2026-03-10T12:00Z", "2026-03-09T12:00Z") == []


def test_all_periods_go_from_the_first_bucket_to_the_tick(connection: psycopg.Connection[Any]) -> None:
    stands = ["2026-03-08T05:00Z", "2026-03-11T05:00Z"]
    filled = counted("UTC", "day", "week", fills_gaps=True)
    found = periods(connection, filled, "2026-03-10T12:00Z", stands=stands, is_full=True)
    assert sorted(found) == ["2026-03-08", "2026-03-09", "2026-03-10", "2026-W10", "2026-W11"]
    plain = counted("UTC", "day")
    assert periods(connection, plain, "2026-03-10T12:00Z", stands=stands, is_full=True) == [
        "2026-03-08", "2026-03-11"
    ]  # fmt: skip
