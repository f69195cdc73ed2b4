"""When time alone will change what is said of an SLO."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


def next_instant(connection: psycopg.Connection[Any], published: datetime) -> datetime | None:
    """The first instant after `published` at which an occurrence opens or falls due, or a held status may be seen."""
    row = connection.execute(
        """
        select least(
            (select min(opens_at) from catalog.promise where opens_at > %(published)s),
            (select min(expected_end_at) from catalog.promise where expected_end_at >= %(published)s),
            (
                select min(status_at) from raw.job_status
                where status_at > %(published)s and load_id <= (select published_high from control.tick)
            )
        )
        """,
        {"published": published},
    ).fetchone()
    return row[0] if row else None
