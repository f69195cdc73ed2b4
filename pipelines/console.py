"""Answers on stdout: rows as PostgreSQL writes them, as a table, csv or JSON."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal, TextIO

import psycopg

from pipelines.errors import DuemarkError
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

NUMBERS = {20, 21, 23, 700, 701, 1700}  # int8, int2, int4, float4, float8, numeric
BOOLEAN = 16
JSON_TYPES = {114, 3802}

Row = Sequence[str | None]


# What spreadsheets take for a formula, or skip before one; the last four are the full-width forms.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


def answer(
    settings: Settings,
    query: str,
    form: Literal["table", "csv", "json"],
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
            raise _explained(error) from error
        finally:
            # No notification of a question is sent, either.
            with suppress(psycopg.Error):
                connection.rollback()
        result = cursor.pgresult
        if result is None or result.nfields == 0:
            return
        names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
        types = [result.ftype(i) for i in range(result.nfields)]
        rows = (
            [None if (v := result.get_value(r, c)) is None else v.decode() for c in range(len(names))]
            for r in range(result.ntuples)
        )
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
            out.write(as_table(names, list(rows), right={i for i, t in enumerate(types) if t in NUMBERS}))


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


def _explained(error: psycopg.Error) -> DuemarkError:
    diagnosis: Any = error.diag
    message = diagnosis.message_primary or str(error).strip()
    hints = [text for text in (diagnosis.message_detail, diagnosis.message_hint) if text]
    if "slo_performance_at" in message:
        hints.append("It is a function of a moment: slo_performance_at('2026-03-03T03:00:00Z').")
    elif isinstance(error, psycopg.errors.UndefinedTable):
        hints.append("The marts are listed in docs/marts.md; the first `duemark tick` makes them.")
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
