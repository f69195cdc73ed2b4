"""Business dates too far from all others to open an SLO that has no `effective_from`, for who ran a tick by hand."""

from __future__ import annotations

from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

# A warning that nobody reads to its end names no more.
MOST_NAMED = 10


def warnings(settings: Settings) -> list[str]:
    """What somebody who ran a tick should know of them: what on-call is told, too."""
    with connect(settings, "operate") as connection:
        # After an upgrade, before the first tick.
        if connection.execute("select to_regclass('marts.incident_lone_date')").fetchone() == (None,):
            return []
        found = connection.execute(
            "select message from marts.incident_lone_date order by subject, occurrence"
        ).fetchall()
    said = [str(message) for (message,) in found[:MOST_NAMED]]
    if len(found) > MOST_NAMED:
        said.append(f"{len(found) - MOST_NAMED} more lone business dates stand in the mart slo_start.")
    return said
