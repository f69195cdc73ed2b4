"""When time alone will change a KPI: a period begins, ends, or has waited long enough for what may come late."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

NEXT = """
with
    kind as (
        -- one for all KPIs whose periods are the same
        select spec ->> 'timezone' as zone, grain, (spec ->> 'allow_late')::integer * interval '1 second' as late,
            array_agg(distinct kpi_id) as kpis,
            bool_or(model in (
                select name from kpi.model where kind = 'values' and spec -> 'opened_by_time' ? grain
            )) as begins
        from kpi.kpi cross join jsonb_array_elements_text(spec -> 'grains') as grain
        where not is_gone
        group by 1, 2, 3
    ),
    period as (
        -- the one that is open; of those that may still change for what comes late: the one that closes next, and the
        -- one before, which waits for its sources only
        select kind.*, newest.period_end as next_begin, closing.period_start as closing_start,
            closing.period_end as closing_end, closing.previous_start as waiting_start
        from kind
        cross join work.int_kpi_period_at(%(published)s, zone, grain) as newest
        cross join work.int_kpi_period_at(%(published)s - late, zone, grain) as closing
    )
select least(
    (select min(next_begin) from period where begins),
    (
        select min(closing_end + late) from period
        where exists (
            select from unnest(kpis) as id inner join kpi.period_value as cell on cell.kpi_id = id
            where cell.grain = period.grain and cell.period_start = period.closing_start
        )
    ),
    (
        -- of each KPI first whether it waits at all: `offset 0` keeps the planner from reading all values for that
        select min(%(published)s + interval '1 microsecond') from period cross join lateral (
            select id from unnest(kpis) as id
            where exists (
                select from kpi.kpi inner join kpi.clock on kpi.spec -> 'clocks' ? clock.clock
                where kpi.kpi_id = id
                having bool_or(clock.read_at < period.closing_start)
                    and bool_and(clock.read_at >= period.closing_start or period.closing_start <= (
                        select min(began_at) from raw.feed_read where feed = any(clock.feeds)
                    ))
            )
            offset 0
        ) as waits
        where exists (
            select from kpi.period_value as cell
            where cell.kpi_id = waits.id and cell.grain = period.grain and cell.period_start = period.waiting_start
            offset 0
        )
    )
)
"""


def next_instant(connection: psycopg.Connection[Any], published: datetime) -> datetime | None:
    """The first instant after `published` at which a period begins or closes; None without a KPI.

    A period that has ended but waits for its sources closes at once when these have been read past its end.
    """
    if connection.execute("select from kpi.kpi limit 1").fetchone() is None:
        return None
    if connection.execute("select to_regproc('work.int_kpi_period_at')").fetchone() == (None,):
        # The first tick of this version has not made it yet.
        return published
    row = connection.execute(NEXT, {"published": published}).fetchone()
    return row[0] if row else None
