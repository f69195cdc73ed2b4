"""From and before which instants a period reads, for each piece that it is taken of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PeriodColumns:
    """How the columns of `kpi_period` are called where the bounds are written: SQL each."""

    start: str = "period_start"
    end: str = "period_end"
    first: str = "start_date"
    last: str = "last_date"


OWN = PeriodColumns()
"""By their own names."""
OF_P = PeriodColumns("p.period_start", "p.period_end", "p.start_date", "p.last_date")
"""Of the alias `p`."""
RENAMED = PeriodColumns('p."p start"', 'p."p end"', 'p."p first"', 'p."p last"')
"""Beside a source's columns, which may be called like those of a period."""


def piece_bounds(
    *,
    is_date: bool,
    is_snapshot: bool,
    days: int | None,
    to_date: str | None,
    zone: str,
    period: PeriodColumns,
) -> tuple[str, str]:
    """SQL of the instants from and before which a piece has its buckets; `zone` is an SQL string.

    Dates begin at midnight in UTC, whatever the zone. A window ends with the period: its last `days` dates, or from
    where the week, month or the like (`to_date`) around it began. What stands (a snapshot) may have come at any time.
    """
    day = ""
    if days is not None:
        day = f"({period.last} - {int(days) - 1})"
    elif to_date is not None:
        day = f"date_trunc('{to_date}', {period.last}::timestamp)::date"
    if is_date:
        start = f"({day or period.first}::timestamp at time zone 'UTC')"
        end = f"(({period.last} + 1)::timestamp at time zone 'UTC')"
    else:
        start, end = f"kpi.day_start({day}, {zone})" if day else period.start, period.end
    return "timestamptz '-infinity'" if is_snapshot else start, end
