"""Business dates too far from all others to open an SLO that has no `effective_from`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

# A warning that nobody reads to its end names no more.
MOST_NAMED = 10
WAY_OUT = (
    "If it is mistyped, take its file out: duemark unload PATH --reason TEXT. If it is right, give the SLO an"
    " `effective_from`, and run duemark restate."
)


@dataclass(frozen=True)
class LoneDate:
    """`start_date`: from which business date on the SLO is promised; None where nothing has opened it."""

    slo_id: str
    application_id: str
    business_date: date
    start_date: date | None

    @property
    def sentence(self) -> str:
        since = f"it starts on {self.start_date}" if self.start_date else "it has not started"
        return (
            f"{self.slo_id} has a status for the business date {self.business_date}, which lies more than 45 days"
            f" before the next one and before its arrival. It opens nothing: {since}."
        )


def lone_dates(cursor: psycopg.Cursor[Any] | psycopg.Connection[Any]) -> list[LoneDate]:
    """As the last tick left them, by SLO and date."""
    # After an upgrade, before the first tick.
    if cursor.execute("select to_regclass('marts.slo_start')").fetchone() == (None,):
        return []
    rows = cursor.execute(
        """
        select slo_id, version.spec ->> 'application', lone_date, start.start_date
        from marts.slo_start as start
        cross join unnest(start.lone_dates) as lone_date
        inner join catalog.slo_version as version using (slo_id, load_id, entry_no)
        where start.lone_dates <> '{}'
        order by slo_id, lone_date
        """
    ).fetchall()
    return [LoneDate(*row) for row in rows]


def warnings(settings: Settings) -> list[str]:
    """What somebody who ran a tick should know of them."""
    with connect(settings, "operate") as connection:
        found = lone_dates(connection)
    said = [f"{one.sentence} {WAY_OUT}" for one in found[:MOST_NAMED]]
    if len(found) > MOST_NAMED:
        said.append(f"{len(found) - MOST_NAMED} more lone business dates stand in the mart slo_start.")
    return said
