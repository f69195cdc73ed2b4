"""Periods that read an hour that was purged: they stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.kpi.engine.work import ValuesQuery

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


# Of the KPIs at work, the periods that stay as they are.
SEALED = """
create temp table if not exists kpi_sealed (kpi_id text, grain text, period_start timestamptz) on commit delete rows
"""


def note_sealed(
    connection: Connection, query: ValuesQuery, kpis: Sequence[str], *, has_standing: bool = False
) -> None:
    """Note in `kpi_sealed` which periods of the KPIs read an hour that was purged, by any window of theirs.

    Of those of `kpi_period`, out of which go those that are sealed for all of the KPIs; has_standing: and of those that
    have a value.
    """
    connection.execute(SEALED)
    connection.execute("truncate kpi_sealed")
    statement = query.statement("sealed", kpis, has_standing=has_standing)
    if not statement:
        return
    if connection.execute(f"insert into kpi_sealed {statement}".encode()).rowcount:
        connection.execute("analyze kpi_sealed")
        connection.execute(
            """
            delete from kpi_period using (
                select grain, period_start from kpi_sealed
                group by grain, period_start having count(distinct kpi_id) = %s
            ) as sealed
            where kpi_period.grain = sealed.grain and kpi_period.period_start = sealed.period_start
            """,
            [len(set(kpis))],
        )


def unsealed(connection: Connection, cells: str) -> str:
    """SQL condition: a cell (kpi_id, grain, period_start) is not in a sealed period."""
    if connection.execute("select from kpi_sealed limit 1").fetchone() is None:
        return "true"
    return (
        f"not exists (select from kpi_sealed as sealed where sealed.kpi_id = {cells}.kpi_id"
        f" and sealed.grain = {cells}.grain and sealed.period_start = {cells}.period_start)"
    )
