"""Arrow tables into Postgres, by COPY."""

from __future__ import annotations

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
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    if rows.num_rows == 0:
        return 0
    sink = pa.BufferOutputStream()
    # "needed" quotes every string and no null: exactly what COPY's csv reads back.
    pa_csv.write_csv(rows, sink, pa_csv.WriteOptions(include_header=False, quoting_style="needed"))
    statement = sql.SQL("copy {} ({}) from stdin (format csv)").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
    )
    with cursor.copy(statement) as copy:
        copy.write(memoryview(sink.getvalue()))
    return int(rows.num_rows)
