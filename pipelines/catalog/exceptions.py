"""Exceptions: business dates for which an SLO promises nothing, or something later.

They come from the files of the catalog, and from a command that writes the journal alone. Both stand from their load
on, for past dates too. What the files said stands until they say it no more; what a command said, until a command
takes it back.
"""

from __future__ import annotations

import getpass
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from pipelines.catalog.excepted import exception_faults
from pipelines.catalog.models import Excepted, Slo
from pipelines.errors import DuemarkError, nearest
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]

FEED = "exceptions"
"""Of the loads that commands write; those of the files are of the catalog's."""

# Of each exception the version that stands, of what the files say or of what commands said.
_STANDING = """
    select exception_id, slo_id, application_id, from_date, to_date, slot, due_minutes, reason, excepted_by
    from (
        select distinct on (exception_id) * from catalog.exception_version order by exception_id, load_id desc
    ) as newest
    where not is_retired and origin = %s
"""

_SLOS = """
    select distinct on (slo_id) slo_id, is_retired from catalog.slo_entry_version order by slo_id, load_id desc
"""


def store_exceptions(cursor: Cursor, load_id: int, exceptions: Iterable[Excepted]) -> int:
    """What the files say now, in place of what they said; returns how many came, or went."""
    wanted = {_id_of(one): one for one in exceptions}
    standing = {row[0]: row[1:] for row in cursor.execute(_STANDING, ["catalog"]).fetchall()}
    new = [
        (exception_id, load_id, "catalog", False, *_row(one))
        for exception_id, one in wanted.items()
        if exception_id not in standing
    ]
    gone = [
        (exception_id, load_id, "catalog", True, *row)
        for exception_id, row in standing.items()
        if exception_id not in wanted
    ]
    _insert(cursor, new + gone)
    return len(new) + len(gone)


@dataclass(frozen=True)
class Waiver:
    """What `waive` wrote. `covered`: occurrences that are promised already, on `dates` business dates."""

    load_id: int
    covered: int
    dates: int


def waive(settings: Settings, one: Excepted) -> Waiver:
    """Write an exception of an SLO into the journal; the next tick shows it.

    Raises DuemarkError: the stored catalog has no such SLO or window, `due` is no later, or the same stands already.
    """
    from pipelines.warehouse.loads import begin_load, end_load

    with connect(settings, "ingest") as connection, connection.cursor() as cursor:
        load_id = begin_load(cursor)
        _refuse(one, _entries(cursor, one.slo or ""))
        exception_id = f"waive {load_id}"
        row = _row(one)
        for known, *stands in cursor.execute(_STANDING, ["command"]).fetchall():
            # But for reason and name.
            if tuple(stands[:6]) == row[:6]:
                raise DuemarkError(
                    f"That stands already, by load {str(known).removeprefix('waive ')}: {stands[6]}",
                    "duemark waive … --withdraw takes it back.",
                )
        _insert(cursor, [(exception_id, load_id, "command", False, *row)])
        covered, dates = _covered(cursor, one)
        end_load(cursor, load_id, FEED, f"waive {one.slo}", 1, months=[])
    return Waiver(load_id, covered, dates)


def withdraw(settings: Settings, one: Excepted) -> int:
    """Take back what `waive` wrote of the same SLO, dates and window; returns how many.

    Raises DuemarkError where nothing of the kind stands. What the files say is changed there.
    """
    from pipelines.warehouse.loads import begin_load, end_load

    with connect(settings, "ingest") as connection, connection.cursor() as cursor:
        load_id = begin_load(cursor)
        _refuse(one, _entries(cursor, one.slo or ""))
        standing: list[tuple[Any, ...]] = cursor.execute(_STANDING, ["command"]).fetchall()
        found = [row for row in standing if tuple(row[1:6]) == _row(one)[:5]]
        if not found:
            own = [_said(*row[3:6]) for row in standing if row[1] == one.slo]
            raise DuemarkError(
                f"Nothing was waived of {one.slo} for {_said(one.from_, one.last, one.slot)}.",
                f"By command there is: {', '.join(own)}."
                if own
                else "What the files of the catalog say is changed there, in exceptions/.",
            )
        _insert(
            cursor,
            [(row[0], load_id, "command", True, *row[1:7], one.reason, one.by) for row in found],
        )
        end_load(cursor, load_id, FEED, f"withdraw {one.slo}", len(found), months=[])
    return len(found)


def excepted(
    slo: str, first: date, last: date | None, slot: str | None, due: str | None, reason: str, by: str | None
) -> Excepted:
    """An exception as a command is told it; by default by who is logged in.

    Raises DuemarkError: one of them cannot be.
    """
    from pydantic import ValidationError

    from pipelines.catalog.read import explain

    values = {"slo": slo, "from": first, "to": last, "slot": slot, "due": due, "reason": reason}
    try:
        return Excepted.model_validate({**values, "by": (by or "").strip() or getpass.getuser()})
    except ValidationError as error:
        for details in error.errors(include_url=False):
            for location, message, hint in explain(Excepted, details):
                option = f"--{location[-1]}: " if location else ""
                raise DuemarkError(f"{option}{message}.", f"{hint[:1].upper()}{hint[1:]}.") from error
        raise


def said(one: Excepted) -> str:
    """The business dates and the window of an exception, for people."""
    return _said(one.from_, one.last, one.slot)


def _said(first: date, last: date, slot: str | None) -> str:
    days = str(first) if first == last else f"{first} to {last}"
    return f"{days} {slot}" if slot else days


def _entries(cursor: Cursor, slo_id: str) -> list[Slo]:
    """The entries of an SLO as the stored catalog has them. Raises DuemarkError where it has none."""
    from pipelines.catalog.models import STORED

    row = cursor.execute(
        "select is_retired, spec from catalog.slo_entry_version where slo_id = %s order by load_id desc limit 1",
        [slo_id],
    ).fetchone()
    if row is None:
        known = [str(name) for name, is_retired in cursor.execute(_SLOS) if not is_retired]
        raise DuemarkError(f"The catalog has no SLO {slo_id!r}.", nearest(slo_id, known, "It has"))
    # One that was taken out has past dates still.
    return [Slo.model_validate_json(json.dumps(entry), context=STORED) for entry in row[1]]


def _refuse(one: Excepted, entries: Sequence[Slo]) -> None:
    for (key, *_), message, hint in exception_faults(one, entries):
        raise DuemarkError(
            f"--{key}: {message}.", f"{hint[:1].upper()}{hint[1:]}.".replace("`due: none`", "without --due")
        )


def _covered(cursor: Cursor, one: Excepted) -> tuple[int, int]:
    """Occurrences, and their business dates, that are promised already."""
    row = cursor.execute(
        """
        select count(*), count(distinct business_date) from (
            select distinct business_date, slot from catalog.promise
            where slo_id = %s and business_date between %s and %s and (slot = %s or %s::text is null)
        ) as covered
        """,
        [one.slo, one.from_, one.last, one.slot, one.slot],
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _id_of(one: Excepted) -> str:
    """What stands in the files has no id: its content is."""
    return hashlib.sha256(one.canonical().encode()).hexdigest()


def _row(one: Excepted) -> tuple[Any, ...]:
    return (
        one.slo, one.application, one.from_, one.last, one.slot, one.due_minutes, one.reason.strip(),
        (one.by or "").strip() or None,
    )  # fmt: skip


def _insert(cursor: Cursor, rows: Sequence[tuple[Any, ...]]) -> None:
    cursor.executemany(
        "insert into catalog.exception_version (exception_id, load_id, origin, is_retired, slo_id, application_id,"
        " from_date, to_date, slot, due_minutes, reason, excepted_by)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        rows,
    )
