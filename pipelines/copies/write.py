"""What differs between `incoming` and a copy, written as one load."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from pipelines.catalog.kpis import Database, DatabaseTable
from pipelines.copies.state import FEED
from pipelines.warehouse.loads import begin_load, end_load


def write_what_differs(
    connection: psycopg.Connection[Any],
    target: sql.Identifier,
    columns: Mapping[str, str],
    table: DatabaseTable,
    database: Database,
    name: str,
    *,
    is_full: bool,
) -> int:
    """Write what differs, as a load where anything does; return by how many rows the copy grew."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    same_key = sql.SQL(" and ").join(
        sql.SQL("old.{0} = new.{0}").format(sql.Identifier(key)) for key in table.key
    )
    # Types without equality (JSON is copied as jsonb) do not occur, so rows can be compared as such.
    old_row, new_row = (
        sql.SQL("row({})").format(sql.SQL(", ").join(sql.Identifier(one, column) for column in columns))
        for one in ("old", "new")
    )
    connection.execute("analyze incoming")
    mark = "is_new"
    while mark in columns:
        mark += "_"
    parts = {"key": same_key, "old": old_row, "new": new_row, "target": target, "names": names}
    parts["mark"] = sql.Identifier(mark)
    first_key = sql.Identifier("old", table.key[0])
    connection.execute(
        sql.SQL(
            "create temporary table differing on commit drop as select new.*, {first} is null as {mark}"
            " from incoming as new left join {target} as old on {key}"
            " where {first} is null or {old} is distinct from {new}"
        ).format(first=first_key, **parts)
    )
    gone_rows = sql.SQL("{target} as old where not exists (select from incoming as new where {key})").format(
        **parts
    )
    row: Any = connection.execute(
        sql.SQL("select count(*), count(*) filter (where {mark}), {gone} from differing").format(
            gone=sql.SQL("(select count(*) from {})").format(gone_rows) if is_full else sql.SQL("0"), **parts
        )
    ).fetchone()
    differing, added, gone = (int(one) for one in row)
    if not gone and not differing:
        return 0
    others = [column for column in columns if column not in table.key]
    conflict = (
        sql.SQL("do update set {}").format(
            sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(one)) for one in others)
        )
        if others
        else sql.SQL("do nothing")
    )
    with connection.cursor() as cursor:
        load_id = begin_load(cursor)
        if gone:
            cursor.execute(sql.SQL("delete from {}").format(gone_rows))
        cursor.execute(
            sql.SQL(
                "insert into {target} ({names}) select {names} from differing on conflict ({keys}) {do}"
            ).format(keys=sql.SQL(", ").join(map(sql.Identifier, table.key)), do=conflict, **parts)
        )
        # It holds no statuses: no month of them has to be looked at.
        end_load(
            cursor, load_id, FEED, f"{database.id}.{name}", differing + gone,
            months=[], latest_at=datetime(1970, 1, 1, tzinfo=UTC),
        )  # fmt: skip
    return added - gone
