"""One copy brought up to date, in one transaction."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from pipelines.catalog.kpis import Database
from pipelines.copies.read import read_from, read_rows
from pipelines.copies.source import reflect, warehouse_types
from pipelines.copies.state import SCHEMA, read_states
from pipelines.copies.table import make_table
from pipelines.copies.write import write_what_differs
from pipelines.warehouse.locks import Lock, try_take_to_commit

if TYPE_CHECKING:
    from sqlalchemy import Engine


def update_copy(
    connection: psycopg.Connection[Any],
    engine: Engine,
    database: Database,
    name: str,
    began_at: datetime,
    *,
    compare: bool,
) -> None:
    """Bring one copy up to date in the transaction of `connection`, which the caller commits."""
    table = database.tables[name]
    relation = f"{SCHEMA}.{database.relation(name)}"
    # One process copies a table at a time; another's work is as good as ours.
    if not try_take_to_commit(connection, Lock.COPY, relation):
        return
    reflected = reflect(engine, name)
    columns = warehouse_types(reflected, database, name)
    state = read_states(connection).get((database.id, name))
    if state is None or dict(state.columns) != columns or state.key != table.key:
        make_table(connection, database, name, table, columns)
        state = read_states(connection)[database.id, name]
    is_full = (
        compare
        or table.cursor is None
        or state.compared_at is None
        or began_at - state.compared_at >= table.compare_every
    )
    target = sql.Identifier(*relation.split("."))
    connection.execute(sql.SQL("create temporary table incoming (like {}) on commit drop").format(target))
    since = None if is_full else read_from(connection, target, columns, table)
    read_rows(connection, engine, reflected, columns, table, database, since)
    grown = write_what_differs(connection, target, columns, table, database, name, is_full=is_full)
    cursor_value: Any = None
    row: Any = None
    if table.cursor is not None:
        row = connection.execute(
            sql.SQL("select max({})::text from {}").format(sql.Identifier(table.cursor), target)
        ).fetchone()
        cursor_value = row[0]
    if is_full:
        row = connection.execute(sql.SQL("select count(*) from {}").format(target)).fetchone()
    connection.execute(
        """
        update copies.state set
            read_at = %(began)s, cursor_value = %(cursor)s, error = null,
            row_count = case when %(full)s then %(more)s else row_count + %(more)s end,
            failed_at = null, failures = 0, next_at = %(next)s,
            compared_at = case when %(full)s then %(began)s else compared_at end
        where database_id = %(database)s and table_name = %(table)s
        """,
        {
            "began": began_at, "more": row[0] if is_full else grown, "cursor": cursor_value, "full": is_full,
            "next": began_at + database.every, "database": database.id, "table": name,
        },
    )  # fmt: skip
    # Who asks how far something was read finds copies among the feeds.
    connection.execute(
        "insert into raw.feed_read (feed, began_at) values (%s, %s)"
        " on conflict (feed) do update set began_at = excluded.began_at",
        [relation, began_at],
    )
