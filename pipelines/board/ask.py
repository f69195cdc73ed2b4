"""How the board asks: one question for all pages, a row a tuple with names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.rows import namedtuple_row

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def has(connection: Connection, *marts: str) -> bool:
    """Whether these marts are there."""
    found = rows(
        connection,
        "select bool_and(to_regclass('marts.' || mart) is not null) as is_there from unnest(%s::text[]) as mart",
        [list(marts)],
    )
    return bool(found[0].is_there)


def rows(connection: Connection, query: str, parameters: Any = None) -> list[Any]:
    """What a query answers, all of it."""
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(query.encode(), parameters).fetchall()
