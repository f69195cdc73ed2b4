"""Rows of another database, as the warehouse can hold them, into the temporary table `incoming`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader

from pipelines.catalog.kpis import Database, DatabaseTable

if TYPE_CHECKING:
    from sqlalchemy import Engine, Table


# Postgres, where text may hold it: everything but NUL.
_NUL = "\x00"
TIMES = ("timestamp with time zone", "date")


def read_from(
    connection: psycopg.Connection[Any],
    target: sql.Identifier,
    columns: Mapping[str, str],
    table: DatabaseTable,
) -> Any:
    """From which value of the cursor column on rows are read; None for all."""
    cursor = str(table.cursor)
    # Nothing comes after infinity, nor after NaN, so they say not how far was read.
    known: sql.Composable = sql.SQL("")
    if columns[cursor] in TIMES:
        known = sql.SQL("where {} between '1000-01-01' and '9999-12-30'").format(sql.Identifier(cursor))
    elif columns[cursor].startswith(("numeric", "double", "real")):
        known = sql.SQL("where {} < 'Infinity'").format(sql.Identifier(cursor))
    row: Any = connection.execute(
        sql.SQL("select max({}) from {} {}").format(sql.Identifier(cursor), target, known)
    ).fetchone()
    value = row[0]
    if isinstance(value, datetime | date) and value is not None:
        return value - table.overlap
    return value


def read_rows(
    connection: psycopg.Connection[Any],
    engine: Engine,
    reflected: Table,
    columns: Mapping[str, str],
    table: DatabaseTable,
    database: Database,
    since: Any,
) -> None:
    """The rows from `since` on into the temporary table `incoming`."""
    from sqlalchemy import or_, select

    zone = ZoneInfo(database.timezone)
    query = select(*(reflected.c[name] for name in columns))
    if since is not None and table.cursor is not None:
        column = reflected.c[table.cursor]
        if isinstance(since, datetime) and not getattr(column.type, "timezone", False):
            since = since.astimezone(zone).replace(tzinfo=None)
        # A row without a value is not behind any.
        query = query.where(or_(column >= since, column.is_(None)))
    copy_in = sql.SQL("copy incoming ({}) from stdin").format(
        sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    kinds = tuple(columns.values())
    with (
        engine.connect().execution_options(stream_results=True, yield_per=5000) as source,
        connection.cursor() as cursor,
        cursor.copy(copy_in) as copy,
    ):
        driver = source.connection.driver_connection
        if isinstance(driver, psycopg.Connection):
            for kind in ("timestamptz", "timestamp", "date"):
                driver.adapters.register_loader(kind, _AsText)
        for row in source.execute(query):
            copy.write_row([_value(value, kind, zone) for value, kind in zip(row, kinds, strict=True)])


class _AsText(Loader):
    """Times of Postgres as it writes them: Python has none for some of them."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode()


def _value(value: Any, kind: str, zone: ZoneInfo) -> Any:
    if isinstance(value, str) and kind in TIMES:
        return _time(value, kind, zone)
    if isinstance(value, datetime):
        return _on_clock(value, zone)
    if kind == "text" and value is not None:
        return (value if isinstance(value, str) else str(value)).replace(_NUL, "")
    if kind == "jsonb" and value is not None:
        return json.dumps(value, ensure_ascii=False, default=str).replace("\\u0000", "")
    return value


def _time(text: str, kind: str, zone: ZoneInfo) -> Any:
    """A time as Postgres writes it. Outside the years 1 to 9999 it is infinite: no period lies there."""
    if "infinity" in text:
        return text
    if text.endswith(" BC"):
        return "-infinity"
    if text[4] != "-":
        return "infinity"
    return text if kind == "date" or text.endswith("+00") else _on_clock(datetime.fromisoformat(text), zone)


def _on_clock(value: datetime, zone: ZoneInfo) -> datetime | str:
    """Without an offset it is on the wall clock of the database's zone."""
    if value.tzinfo is not None:
        return value
    try:
        value.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return "infinity" if value.year > 1 else "-infinity"
    return value.replace(tzinfo=zone)
