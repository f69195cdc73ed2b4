"""Values of one model: of the periods over what was touched, or of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.kpi.engine.exchange import exchange
from pipelines.kpi.engine.periods import PERIODS, fill_periods
from pipelines.kpi.engine.sealed import note_sealed
from pipelines.kpi.engine.work import Model, TickWindow, ValuesQuery, Work, query_of

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


def refresh_values(
    connection: Connection, model: Model, work: Work, tick: TickWindow
) -> tuple[int, int] | None:
    """Bring one model's values up to date; rows taken out and put in, None where there was nothing to compute."""
    connection.execute(PERIODS)
    query = ValuesQuery(query_of(connection, model.name), tick)
    deleted = inserted = 0
    is_done = False
    if work.others:
        if work.has_begun:
            deleted = _expire(connection, query, work.others)
        fill_periods(connection, query, work.others, is_full=False)
        note_sealed(connection, query, work.others)
        is_done = deleted > 0
        if connection.execute("select from kpi_period limit 1").fetchone() is not None:
            counts = exchange(connection, model.spec, query, work.others, is_full=False)
            deleted, inserted, is_done = deleted + counts[0], counts[1], True
    if work.changed:
        deleted += _expire(connection, query, work.changed)
        fill_periods(connection, query, work.changed, is_full=True)
        note_sealed(connection, query, work.changed, has_standing=True)
        counts = exchange(connection, model.spec, query, work.changed, is_full=True)
        deleted, inserted, is_done = deleted + counts[0], inserted + counts[1], True
        connection.execute("update kpi.kpi set needs_full = false where kpi_id = any(%s)", [work.changed])
        connection.execute(
            "update kpi.model set needs_full = false where name = %s and needs_full", [model.name]
        )
    return (deleted, inserted) if is_done else None


def _expire(connection: Connection, query: ValuesQuery, kpis: list[str]) -> int:
    """Take out periods that are kept no longer; return how many rows."""
    statement = query.statement("expired", kpis)
    return connection.execute(statement.encode()).rowcount if statement else 0
