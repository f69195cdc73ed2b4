"""Answers on stdout: rows as PostgreSQL writes them, as a table, csv or JSON."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TextIO

import psycopg

from pipelines.errors import DuemarkError, nearest
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

TEXT = 25
NUMBERS = {20, 21, 23, 700, 701, 1700}  # int8, int2, int4, float4, float8, numeric
BOOLEAN = 16
JSON_TYPES = {114, 3802}
INTERVALS = {1186, 1187}  # and an array of them

Row = Sequence[str | None]


# What spreadsheets take for a formula, or skip before one; the last four are the full-width forms.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
FRACTION = re.compile(r"(\d\d:\d\d:\d\d)\.\d+")
# A name that the server does not know, in its words.
UNKNOWN = re.compile(r'(?:relation|column) (?:"(?P<quoted>[^"]+)"|(?P<plain>\S+))')

Format = Literal["table", "csv", "json"]


def answer(
    settings: Settings,
    query: str,
    form: Format,
    out: TextIO | None = None,
    *,
    is_safe: bool = False,
) -> None:
    """Run `query` in the role `analyst`, read only, and write its rows. Raises DuemarkError with the server's words.

    `is_safe`: in csv no text is a formula for a spreadsheet. Whatever the question did, nothing of it is committed.
    """
    out = out or sys.stdout
    with connect(settings, "analyst") as connection:
        try:
            connection.execute("set transaction read only")
            connection.execute("set search_path = marts, pg_catalog")
            # Prepared: one statement, so that none can end the transaction that is read only.
            cursor = connection.execute(query.encode(), prepare=True)
        except psycopg.Error as error:
            raise _explained(error, _meant(connection, query, error)) from error
        finally:
            # No notification of a question is sent, either.
            with suppress(psycopg.Error):
                connection.rollback()
        result = cursor.pgresult
        if result is not None and result.status == psycopg.pq.ExecStatus.EMPTY_QUERY:
            raise DuemarkError(
                "The question is empty.",
                'Ask one: duemark sql "select * from slo_late"; `duemark sql` alone lists the marts.',
            )
        if result is None or result.nfields == 0:
            return
        names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
        types = [result.ftype(i) for i in range(result.nfields)]
        rows = (
            [None if (v := result.get_value(r, c)) is None else v.decode() for c in range(len(names))]
            for r in range(result.ntuples)
        )
        write_rows(names, types, rows, form, out, is_safe=is_safe)


def write_rows(
    names: Sequence[str],
    types: Sequence[int],
    rows: Iterable[Row],
    form: Format,
    out: TextIO,
    *,
    is_safe: bool = False,
) -> None:
    """Write rows of PostgreSQL's texts. `types`: of the columns, by their oid.

    A table is for people and shows durations to the second; csv and JSON have all of it.
    """
    if form == "csv":
        if is_safe:
            out.write(safe_line(names))
            out.writelines(safe_line(row) for row in rows)
        else:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(rows)
    elif form == "json":
        _write_json(names, types, rows, out)
    else:
        durations = {i for i, t in enumerate(types) if t in INTERVALS}
        shown = [
            [_to_the_second(value) if i in durations else value for i, value in enumerate(row)]
            for row in rows
        ]
        out.write(as_table(names, shown, right={i for i, t in enumerate(types) if t in NUMBERS}))


def _to_the_second(value: str | None) -> str | None:
    return None if value is None else FRACTION.sub(r"\1", value)


def safe_line(cells: Iterable[str | None]) -> str:
    """A line of csv in which no spreadsheet finds a formula, as OWASP advises.

    Text is quoted, and an apostrophe goes before what could begin a formula; numbers stay as they are, nulls are empty.
    """
    return ",".join(map(_safe, cells)) + "\n"


def _safe(value: str | None) -> str:
    if value is None or NUMBER.fullmatch(value):
        return value or ""
    is_formula = value.lstrip(" \u00a0").startswith(FORMULA_STARTS)
    return '"{}{}"'.format("'" if is_formula else "", value.replace('"', '""'))


def as_table(names: Sequence[str], rows: Sequence[Row], right: Iterable[int] = ()) -> str:
    """Rows in aligned columns under their names, numbers (`right`) to the right, and how many there are."""
    right = set(right)
    cells = [["" if value is None else value.replace("\n", "\\n") for value in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells), 0) for i, name in enumerate(names)]
    lines = [names, ["-" * width for width in widths], *cells]
    text = "\n".join(
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    return f"{text}\n({len(rows)} row{'' if len(rows) == 1 else 's'})\n"


def _write_json(names: Sequence[str], types: Sequence[int], rows: Iterable[Row], out: TextIO) -> None:
    """An array with one object a line; numbers and booleans as such, all else as PostgreSQL's text."""
    out.write("[")
    for number, row in enumerate(rows):
        fields = ", ".join(
            f"{json.dumps(n)}: {_as_json(v, t)}" for n, v, t in zip(names, row, types, strict=True)
        )
        out.write(f"{',' if number else ''}\n  {{{fields}}}")
    out.write("\n]\n")


def _as_json(value: str | None, type_oid: int) -> str:
    if value is None:
        return "null"
    if type_oid in JSON_TYPES or (type_oid in NUMBERS and value not in {"NaN", "Infinity", "-Infinity"}):
        return value
    if type_oid == BOOLEAN:
        return "true" if value == "t" else "false"
    return json.dumps(value, ensure_ascii=False)


def _meant(connection: psycopg.Connection[Any], query: str, error: psycopg.Error) -> str:
    """What was probably meant by a name that is not there, of what an analyst may read."""
    said = UNKNOWN.search(error.diag.message_primary or "")
    is_name = isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn)
    if not is_name or said is None or error.diag.message_hint:
        return ""
    connection.rollback()
    columns = _readable(connection)
    unknown = (said["quoted"] or said["plain"]).rpartition(".")[2]
    if isinstance(error, psycopg.errors.UndefinedTable):
        hint = nearest(unknown, columns)
        return hint if hint.startswith("did you mean") else ""
    words = set(re.findall(r"\w+", query.casefold()))
    asked = [name for name in columns if name.rpartition(".")[2] in words]
    known = (column for name in asked for column in columns[name])
    return nearest(unknown, known, f"columns of {', '.join(asked)}")


def _readable(connection: psycopg.Connection[Any]) -> Mapping[str, Sequence[str]]:
    """Columns by relation, of the marts and, with their schema, of the tables beside them."""
    rows = connection.execute(
        """
        select
            case when nspname = 'marts' then relname else nspname || '.' || relname end,
            array_agg(attname::text order by attnum)
        from pg_class
        inner join pg_namespace on pg_namespace.oid = relnamespace
        inner join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
        where nspname in ('marts', 'ops') and relkind in ('r', 'v', 'm', 'p')
            and has_table_privilege(pg_class.oid, 'select')
        group by nspname, relname
        """
    ).fetchall()
    return dict(rows)


def _explained(error: psycopg.Error, meant: str = "") -> DuemarkError:
    diagnosis: Any = error.diag
    message = diagnosis.message_primary or str(error).strip()
    hints = [text for text in (diagnosis.message_detail, diagnosis.message_hint) if text]
    if "slo_performance_at" in message:
        hints.append("It is a function of a moment: slo_performance_at('2026-03-03T03:00:00Z').")
    elif meant:
        hints.append(f"{meant[0].upper()}{meant[1:]}")
    elif isinstance(error, psycopg.errors.UndefinedTable):
        hints.append("`duemark sql` alone lists the marts; the first `duemark tick` makes them.")
    if isinstance(error, psycopg.errors.InsufficientPrivilege | psycopg.errors.ReadOnlySqlTransaction):
        hints.append("`duemark sql` reads the marts and nothing else.")
    if isinstance(error, psycopg.errors.QueryCanceled):
        hints.append(
            "Ask for less at a time; or let questions take longer: DUEMARK_ANALYST_STATEMENT_TIMEOUT=30min."
        )
    if "multiple commands" in message:
        return DuemarkError(
            "One question at a time.", "Give one statement, without a second after a semicolon."
        )
    return DuemarkError(message, " ".join(hints))
