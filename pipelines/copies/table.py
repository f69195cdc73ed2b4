"""The table of a copy: made, or changed to the columns and key that are declared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from pipelines.catalog.kpis import Database, DatabaseTable
from pipelines.copies.state import MADE, SCHEMA


def make_table(
    connection: psycopg.Connection[Any],
    database: Database,
    name: str,
    table: DatabaseTable,
    columns: Mapping[str, str],
) -> None:
    """Make the table of a copy, or change it to have these columns and this key."""
    relation = database.relation(name)
    target = sql.Identifier(SCHEMA, relation)
    with connection.transaction():
        # As it is, whatever its state says: it may be one that was declared before.
        before, key = _shape(connection, target)
        exists = bool(before)
        if not exists:
            connection.execute(
                sql.SQL("create table {} ({})").format(
                    target, sql.SQL(", ").join(map(_column, columns.items()))
                )
            )
        connection.execute(
            sql.SQL("comment on table {} is {}").format(target, sql.Literal(MADE.format(name, database.id)))
        )
        if exists:
            for column, kind in before.items():
                if columns.get(column) != kind:
                    connection.execute(
                        sql.SQL("alter table {} drop column if exists {}").format(
                            target, sql.Identifier(column)
                        )
                    )
            for column, kind in columns.items():
                if before.get(column) != kind:
                    connection.execute(
                        sql.SQL("alter table {} add column {}").format(target, _column((column, kind)))
                    )
        lost = [column for column in key if before[column] != columns.get(column)]
        if not exists or lost or key != table.key:
            if exists:
                # Without their key, rows cannot be told apart: all are read again.
                connection.execute(sql.SQL("truncate {}").format(target))
                constraint = sql.Identifier(f"{relation}_pkey")
                connection.execute(
                    sql.SQL("alter table {} drop constraint if exists {}").format(target, constraint)
                )
            connection.execute(
                sql.SQL("alter table {} add constraint {} primary key ({})").format(
                    target,
                    sql.Identifier(f"{relation}_pkey"),
                    sql.SQL(", ").join(map(sql.Identifier, table.key)),
                )
            )
        if table.cursor is not None:
            connection.execute(
                sql.SQL("create index if not exists {} on {} ({})").format(
                    sql.Identifier(f"{relation}_{_short(table.cursor)}"), target, sql.Identifier(table.cursor)
                )
            )
        connection.execute(
            """
            insert into copies.state (database_id, table_name, relation, key, columns) values (%s, %s, %s, %s, %s)
            on conflict (database_id, table_name) do update set
                relation = excluded.relation, key = excluded.key, columns = excluded.columns, compared_at = null,
                next_at = '-infinity'
            """,
            [
                database.id,
                name,
                relation,
                list(table.key),
                json.dumps([list(one) for one in columns.items()]),
            ],
        )


def _shape(
    connection: psycopg.Connection[Any], target: sql.Identifier
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Columns with their types, and key, of the table of a copy; empty without one."""
    name = target.as_string(connection)
    columns = connection.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute"
        " where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum",
        [name],
    ).fetchall()
    key = connection.execute(
        "select attname from pg_index cross join unnest(indkey) with ordinality as part (number, place)"
        " inner join pg_attribute on attrelid = indrelid and attnum = part.number"
        " where indrelid = to_regclass(%s) and indisprimary order by place",
        [name],
    ).fetchall()
    return {str(column): str(kind) for column, kind in columns}, tuple(str(column) for (column,) in key)


def _column(column: tuple[str, str]) -> sql.Composed:
    return sql.SQL("{} {}").format(sql.Identifier(column[0]), sql.SQL(column[1]))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
