"""Which periods are to be computed: those over what was touched, and those that time has opened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pipelines.kpi.engine.work import Model, TickWindow, ValuesQuery

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


PERIODS = """
create temp table if not exists kpi_period (
    grain text, period_start timestamptz, period_end timestamptz, start_date date, last_date date, period text,
    is_gone boolean not null default false
) on commit delete rows
"""
COLUMNS = "grain, period_start, period_end, start_date, last_date, period, is_gone"


def begun_grains(connection: Connection, models: Sequence[Model], tick: TickWindow) -> set[tuple[str, str]]:
    """Time zones and grains of which a period has begun since the tick before, where time alone opens any."""
    if tick.before == tick.as_of:
        return set()
    kinds = sorted(
        {
            (str(model.spec["timezone"]), str(grain))
            for model in models
            if model.kind == "values"
            for grain in model.spec["opened_by_time"]
        }
    )
    if tick.before == "-infinity":
        return set(kinds)
    rows = connection.execute(
        """
        select zone, grain from unnest(%(zones)s::text[], %(grains)s::text[]) as kind (zone, grain)
        cross join work.int_kpi_period_at(%(before)s, zone, grain) as former
        cross join work.int_kpi_period_at(%(as_of)s, zone, grain) as newest
        where former.period_start <> newest.period_start
        """,
        {
            "zones": [zone for zone, _ in kinds], "grains": [grain for _, grain in kinds],
            "before": datetime.fromisoformat(tick.before), "as_of": datetime.fromisoformat(tick.as_of),
        },
    )  # fmt: skip
    return {(str(zone), str(grain)) for zone, grain in rows}


def fill_periods(connection: Connection, query: ValuesQuery, kpis: Sequence[str], *, is_full: bool) -> None:
    """Fill `kpi_period` with the periods to compute; is_full: all that the KPIs have."""
    connection.execute("truncate kpi_period")
    periods = query.statement("periods", kpis, is_full=is_full)
    connection.execute(f"insert into kpi_period ({COLUMNS}) {periods}".encode())
    connection.execute("analyze kpi_period")
