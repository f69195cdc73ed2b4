"""Values of one model: of the periods over what was touched, or of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.kpi.engine.exchange import exchange
from pipelines.kpi.engine.periods import PERIODS, fill_periods, least_kept
from pipelines.kpi.engine.sealed import note_sealed
from pipelines.kpi.engine.work import Model, TickWindow, Work
from pipelines.kpi.text import literal

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


def refresh_values(
    connection: Connection, model: Model, work: Work, tick: TickWindow
) -> tuple[int, int] | None:
    """Bring one model's values up to date; rows taken out and put in, None where there was nothing to compute."""
    connection.execute(PERIODS)
    deleted = inserted = 0
    is_done = False
    if work.others:
        deleted = _expire(connection, model, work.others, work.begun)
        fill_periods(connection, model, work, tick, is_full=False)
        note_sealed(connection, work.others)
        is_done = deleted > 0
        if connection.execute("select from kpi_period limit 1").fetchone() is not None:
            counts = exchange(connection, model, work.others, tick, is_full=False)
            deleted, inserted, is_done = deleted + counts[0], counts[1], True
    if work.changed:
        deleted += _expire(connection, model, work.changed, model.spec["grains"])
        fill_periods(connection, model, work, tick, is_full=True)
        note_sealed(connection, work.changed, has_standing=True)
        counts = exchange(connection, model, work.changed, tick, is_full=True)
        deleted, inserted, is_done = deleted + counts[0], inserted + counts[1], True
        connection.execute("update kpi.kpi set needs_full = false where kpi_id = any(%s)", [work.changed])
        connection.execute(
            "update kpi.model set needs_full = false where name = %s and needs_full", [model.name]
        )
    return (deleted, inserted) if is_done else None


def _expire(connection: Connection, model: Model, kpis: list[str], grains: Sequence[str]) -> int:
    """Take out periods that are kept no longer, where time has moved on; return how many rows."""
    gone = 0
    zone = literal(model.spec["timezone"])
    for grain in model.spec["retention"]:
        if grain in grains:
            least = str(least_kept(model.spec, grain, zone, "tick.as_of"))
            if grain != "hour":
                least = f"kpi.day_start(({least})::date, {zone})"
            gone += connection.execute(
                "delete from kpi.period_value using control.tick where kpi_id = any(%s) and grain = %s"
                f" and period_start < {least}".encode(),
                [kpis, grain],
            ).rowcount
    return gone
