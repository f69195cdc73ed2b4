"""Kinds of incidents that are views: what should be open is a row, and nothing more has to be decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import dict_row

from pipelines.subject import IncidentKind
from sensors.oncall.incidents.model import Ending, Incident, Key, Wanted
from sensors.oncall.incidents.rules import as_it_stands, group_by

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]


def view_wanted(
    cursor: Cursor, kinds: Iterable[IncidentKind], standing: Sequence[Incident], as_of: datetime
) -> list[Wanted]:
    """What should be open of these kinds; `standing` is what is."""
    wanted: list[Wanted] = []
    for kind in kinds:
        of_kind = [one for one in standing if one.key.kind == kind.name]
        wanted += _of_kind(cursor, kind, of_kind, as_of)
    return wanted


def view_ending(kind: IncidentKind) -> Ending:
    """How an incident ended whose row is gone."""
    return Ending(kind.resolution, kind.ending)


def _of_kind(
    cursor: Cursor, kind: IncidentKind, standing: Sequence[Incident], as_of: datetime
) -> list[Wanted]:
    told = {one.key: as_it_stands(one) for one in standing}
    found = cursor.execute("select to_regclass(%s)", [kind.view]).fetchone()
    if found is None or found[0] is None:
        # After an upgrade, before the first tick: nothing is known, and nothing ends by that.
        return list(told.values())
    rows = cursor.connection.cursor(row_factory=dict_row)
    rows.execute(
        sql.SQL("select * from {} order by subject, occurrence").format(sql.Identifier(*kind.view.split(".")))
    )
    wanted: list[Wanted] = []
    groups: dict[Key, object] = {}
    for row in rows:
        key = Key(kind.name, row["subject"], row["occurrence"])
        groups[key] = key if row["group_key"] is None else row["group_key"]
        if key in told and not kind.follows:
            wanted.append(told[key])
            continue
        wanted.append(
            Wanted(
                key=key,
                severity=row["severity"],
                title=row["title"],
                message=row["message"],
                began_at=row["began_at"] or as_of,
                seen_at=as_of,
                application_id=row["application_id"],
                slo_id=row["slo_id"],
                business_date=row["business_date"],
                detail=row["detail"],
            )
        )
    return group_by(wanted, standing, lambda one: groups[one.key])
