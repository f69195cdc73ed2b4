"""The log of touched buckets: taken up by a tick, and left out where rows went because they were old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from pipelines.subject import Publication

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


BUCKETS = (
    "create temp table if not exists kpi_bucket (clock text, bucket_at timestamptz) on commit delete rows"
)


def take_log(connection: Connection) -> tuple[set[str], set[str]]:
    """Take the log of touched buckets into `kpi_bucket`; return the clocks in it, and those of emptied tables."""
    connection.execute(BUCKETS)
    if connection.execute("select from kpi.touched limit 1").fetchone() is None:
        return set(), set()
    connection.execute(
        "with taken as (delete from kpi.touched returning clock, bucket_at)"
        " insert into kpi_bucket select distinct clock, bucket_at from taken"
    )
    connection.execute("analyze kpi_bucket")
    rows = connection.execute(
        "select clock, bool_or(bucket_at = '-infinity') from kpi_bucket group by clock"
    ).fetchall()
    return {str(name) for name, _ in rows}, {str(name) for name, is_emptied in rows if is_emptied}


def forget(connection: Connection) -> list[Publication]:
    """Take out the states of what this tick purged, within its transaction: no period changes by that."""
    gone: dict[str, list[str]] = {}
    for clock, bucket in connection.execute(
        """
        delete from kpi.touched using kpi.clock
        where touched.clock = clock.clock and exists (
            select from control.purged_hour
            where purged_hour.relation = clock.relation and hour_at = date_trunc('hour', bucket_at, 'UTC')
        )
        returning touched.clock, date_trunc('hour', bucket_at, 'UTC')::text
        """
    ):
        gone.setdefault(str(clock), []).append(str(bucket))
    if gone:
        for name, spec in connection.execute(
            "select name, spec from kpi.model where kind = 'state' and query <> ''"
        ).fetchall():
            hours = [hour for clock in spec["clocks"] for hour in gone.get(clock, [])]
            if hours:
                connection.execute(
                    sql.SQL(
                        "delete from {} using unnest(%s::timestamptz[]) as gone (hour_at)"
                        " where bucket_at >= hour_at and bucket_at < hour_at + interval '1 hour'"
                    ).format(sql.Identifier("kpi", str(name))),
                    [hours],
                )
    return []
