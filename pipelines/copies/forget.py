"""What is not declared any more: its state goes, and its table once nobody reads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from pipelines.copies.declared import Declared
from pipelines.copies.kept import note
from pipelines.copies.state import MADE, SCHEMA, said
from pipelines.logs import get_logger
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

log = get_logger(__name__)


def forget(settings: Settings, connection: psycopg.Connection[Any], declared: Declared) -> None:
    """Take out the state of copies that are not declared any more, which else would be due and stale for ever."""
    tables = [(database.id, table) for database in declared.databases for table in database.tables]
    gone = sql.SQL(
        "not exists (select from unnest(%(ids)s::text[], %(tables)s::text[]) as declared (id, name)"
        " where declared.id = state.database_id and declared.name = state.table_name)"
    )
    given = {"ids": [database for database, _ in tables], "tables": [table for _, table in tables]}
    if declared.is_faultless:
        query = sql.SQL("delete from copies.state where {}").format(gone)
        if connection.execute(query, given).rowcount:
            note(settings, connection)
        return
    # It stays until the catalog says for sure that it is gone, and is not read meanwhile.
    connection.execute(
        sql.SQL(
            "update copies.state set next_at = %(now)s + %(later)s, failed_at = coalesce(failed_at, %(now)s),"
            " error = 'databases.yml has a fault, and says nothing of it' where next_at <= %(now)s and {}"
        ).format(gone),
        {**given, "now": datetime.now(UTC), "later": timedelta(minutes=5)},
    )


def drop_unread(settings: Settings, connection: psycopg.Connection[Any]) -> None:
    """Drop the copies that are not declared any more once no KPI reads them."""
    left = [
        str(relation)
        for (relation,) in connection.execute(
            """
            select relname from pg_class
            where
                relnamespace = 'copies'::regnamespace and relkind = 'r'
                and obj_description(oid, 'pg_class') like %s
                and not exists (select from copies.state where relation = relname)
            """,
            [MADE.format("%", "%")],
        )
    ]
    if not left:
        return
    with connect(settings, "transform", autocommit=True) as other:
        # While a KPI's definition has a fault, the models before it stand, and read what they read.
        if other.execute("select to_regclass('kpi.model')").fetchone() != (None,):
            left = [
                str(relation)
                for (relation,) in other.execute(
                    """
                    select relation from unnest(%s::text[]) as relation
                    where
                        not exists (select from kpi.clock where clock.relation = 'copies.' || relation.relation)
                        and not exists (
                            select from kpi.model
                            where position(relation.relation in query || (spec #>> '{}')) > 0
                        )
                    """,
                    [left],
                )
            ]
    for relation in left:
        try:
            with connection.transaction():
                connection.execute("set local lock_timeout = '1s'")
                connection.execute(sql.SQL("drop table {}").format(sql.Identifier(SCHEMA, relation)))
                connection.execute("delete from raw.feed_read where feed = %s", [f"{SCHEMA}.{relation}"])
            log.info("a copy was dropped", table=relation)
        except psycopg.Error as error:
            # Someone's view reads it, or someone does now: the next tick asks again.
            log.info("a copy that is not declared any more stays", table=relation, error=said(error))
