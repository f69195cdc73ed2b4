"""Arrow tables into Postgres, by COPY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    import pyarrow as pa


def copy_table(cursor: psycopg.Cursor[tuple[object, ...]], table: str, rows: pa.Table) -> int:
    """COPY `rows` into `table` ("schema.name"), column by name; returns the number of rows.

    Nulls are nulls and empty strings are empty strings. Instants are to carry a zone. Runs in the caller's
    transaction.
    """
    if rows.num_rows:
        copy_csv(cursor, table, rows.column_names, csv_of(rows))
    return int(rows.num_rows)


def csv_of(rows: pa.Table) -> memoryview:
    """What `copy_csv` sends for these rows; needs no connection, so that it may be made meanwhile."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    sink = pa.BufferOutputStream()
    # "needed" quotes every string and no null: exactly what COPY's csv reads back.
    pa_csv.write_csv(rows, sink, pa_csv.WriteOptions(include_header=False, quoting_style="needed"))
    return memoryview(sink.getvalue())


def copy_csv(
    cursor: psycopg.Cursor[tuple[object, ...]], table: str, columns: Sequence[str], csv: memoryview
) -> None:
    """COPY what `csv_of` made of rows with these columns."""
    statement = sql.SQL("copy {} ({}) from stdin (format csv)").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with cursor.copy(statement) as copy:
        copy.write(csv)
