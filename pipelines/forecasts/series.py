"""The series that forecasts are made of, as the marts have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from pipelines.forecasts.ends import Series

if TYPE_CHECKING:
    from pipelines.subject import Connection

Slot = tuple[str, str]
"""An SLO and its slot."""


def read_series(connection: Connection, slos: Sequence[str] | None = None) -> dict[Slot, Series]:
    """All dates of all slots of these SLOs, or of all there are; what is waived is none of them."""
    # Not `… is null or …`: who asks for a few must get them by the index.
    some = sql.SQL("" if slos is None else " and slo_id = any(%s)")
    rows: Iterator[tuple[Any, ...]] = connection.execute(
        sql.SQL(
            "select slo_id, slot, array_agg(business_date - date '0001-01-01' + 1 order by business_date),"
            " array_agg(extract(epoch from expected_end_at)::float8 order by business_date),"
            " array_agg(coalesce(extract(epoch from actual_end_at)::float8, 'nan') order by business_date)"
            " from marts.slo_performance where not is_waived{}"
            " group by slo_id, slot order by slo_id, slot"
        ).format(some),
        [] if slos is None else [list(slos)],
    )
    return {
        (slo_id, slot): Series(slo_id, slot, np.array(day, np.int64), np.array(due), np.array(end))
        for slo_id, slot, day, due, end in rows
    }
