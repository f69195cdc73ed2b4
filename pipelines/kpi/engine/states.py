"""States of the touched buckets, computed again from their rows, by the parameters of their model's query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from psycopg import sql

from pipelines.kpi.engine.work import Model, query_of
from pipelines.kpi.text import identifier

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


# From so many touched buckets on, a state is computed as a whole: one scan, instead of as many ranges.
MANY_BUCKETS = 5000
# Ranges as a condition, one by one; beyond, all from the first to the last, and of these the touched.
MANY_RANGES = 200
# What keeps conditions from being judged by each aggregate anew, and all of it from being computed in parallel.
FENCE = "offset 0"


def refresh_state(connection: Connection, model: Model) -> tuple[int, int]:
    """Compute the touched buckets of a state again, or all; rows taken out and put in."""
    name, spec, needs_full = model.name, model.spec, model.needs_full
    table = sql.Identifier("kpi", name)
    width = timedelta(minutes=spec["minutes"])
    buckets = []
    if not needs_full:
        rows = connection.execute(
            "select distinct date_bin(%s, bucket_at, timestamptz '2000-01-01T00:00Z')::text from kpi_bucket"
            " where clock = any(%s) order by 1 limit %s",
            [width, spec["clocks"], MANY_BUCKETS + 1],
        ).fetchall()
        buckets = [str(row[0]) for row in rows]
        needs_full = len(buckets) > MANY_BUCKETS
    columns = sql.SQL(", ").join(map(sql.Identifier, spec["columns"]))
    query = query_of(connection, name)
    if needs_full:
        deleted = connection.execute(sql.SQL("delete from {}").format(table)).rowcount
        # A table of its own, because what is inserted at once is not computed in parallel.
        connection.execute("drop table if exists kpi_state_rows")
        text = of_rows(query, spec, lambda _: "true")
        in_parallel = of_rows(query, spec, lambda _: "true", fence="")
        if any("Gather" in row[0] for row in connection.execute(f"explain {in_parallel}".encode())):
            text = in_parallel
        connection.execute(
            sql.SQL("create temp table kpi_state_rows on commit drop as {}").format(sql.SQL(text))
        )
        text = "table kpi_state_rows"
    else:
        deleted = connection.execute(
            sql.SQL("delete from {} where bucket_at = any(%s::timestamptz[])").format(table), [buckets]
        ).rowcount
        text = touched_rows(query, spec, [datetime.fromisoformat(each) for each in buckets])
    inserted = connection.execute(
        sql.SQL("insert into {} ({}) select {} from ({}) as states").format(
            table,
            columns,
            columns,
            sql.SQL(text),
        )
    ).rowcount
    if inserted > 1000:
        connection.execute(sql.SQL("analyze {}").format(table))
    connection.execute("update kpi.model set needs_full = false where name = %s and needs_full", [name])
    return deleted, inserted


def of_rows(query: str, spec: Mapping[str, Any], condition: Callable[[str], str], fence: str = FENCE) -> str:
    """A state's query for the rows that meet a condition, which is given the SQL of each time column."""
    touched = {
        f"touched_{number}": condition(identifier(column))
        for number, column in enumerate(spec["time_columns"])
    }
    return query % {**touched, "once": fence}


def touched_rows(query: str, spec: Mapping[str, Any], buckets: Sequence[datetime]) -> str:
    """A state's query for the rows of these buckets only."""
    width = timedelta(minutes=spec["minutes"])
    ranges: list[list[datetime]] = []
    for bucket in sorted(each.astimezone(UTC) for each in buckets):
        if ranges and ranges[-1][1] == bucket:
            ranges[-1][1] = bucket + width
        else:
            ranges.append([bucket, bucket + width])
    form = "%Y-%m-%d" if spec["is_date"] else "%Y-%m-%dT%H:%MZ"

    def condition(column: str) -> str:
        def within(start: datetime, end: datetime) -> str:
            return f"({column} >= '{start:{form}}' and {column} < '{end:{form}}')"

        if len(ranges) <= MANY_RANGES:
            return "(" + (" or ".join(within(*each) for each in ranges) or "false") + ")"
        listed = ", ".join(f"'{bucket.astimezone(UTC):%Y-%m-%dT%H:%MZ}'" for bucket in buckets)
        at = f"{column}::timestamp at time zone 'UTC'" if spec["is_date"] else column
        return (
            f"({within(ranges[0][0], ranges[-1][1])} and date_bin('{int(width.total_seconds())} seconds', {at},"
            f" timestamptz '2000-01-01T00:00Z') = any(array[{listed}]::timestamptz[]))"
        )

    return of_rows(query, spec, condition)
