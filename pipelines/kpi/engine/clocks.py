"""How far the sources of KPIs are complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


def note_clocks(connection: Connection, *, has_slos_changed: bool) -> None:
    """Note how far each clock's feeds have been read, and from when on something in it is not due."""
    feeds = "raw.feed_read"
    if connection.execute("select to_regclass(%s)", [feeds]).fetchone() == (None,):
        return
    connection.execute(
        """
        update kpi.clock set read_at = found.read_at
        from (
            select clock, case
                when cardinality(feeds) = 0 then (select as_of from control.tick)
                -- a feed that nothing was ever read of has nothing that could be waited for
                else coalesce(least(min(feed_read.began_at), (select as_of from control.tick)), '-infinity')
            end as read_at
            from kpi.clock left join raw.feed_read on feed_read.feed = any(clock.feeds)
            group by clock
        ) as found
        where found.clock = clock.clock and found.read_at is distinct from clock.read_at
        """
    )
    if not has_slos_changed:
        return
    for name, relation, column in connection.execute(
        "select clock, relation, time_column from kpi.clock where relation like 'marts.slo%'"
    ).fetchall():
        by = column if relation == "marts.slo_performance" else "business_date"
        connection.execute(
            sql.SQL(
                "update kpi.clock set open_from = found.open_from from (select coalesce(min({by})::timestamp"
                " at time zone 'UTC', 'infinity') as open_from"
                " from marts.slo_performance where outcome = 'not_due' and not is_waived) as found"
                " where clock = {name} and clock.open_from is distinct from found.open_from"
            ).format(by=sql.Identifier(by), name=sql.Literal(name))
        )
