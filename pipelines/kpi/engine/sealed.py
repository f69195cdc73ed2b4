"""Periods that read an hour that was purged: they stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.kpi.bounds import OWN, piece_bounds
from pipelines.kpi.grains import step_by
from pipelines.kpi.text import literal

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


# Of the KPIs at work, the periods that stay as they are.
SEALED = """
create temp table if not exists kpi_sealed (kpi_id text, grain text, period_start timestamptz) on commit delete rows
"""


def note_sealed(connection: Connection, kpis: Sequence[str], *, has_standing: bool = False) -> None:
    """Note in `kpi_sealed` which periods of the KPIs read an hour that was purged, by any window of theirs.

    Of those of `kpi_period`, out of which go those that are sealed for all of the KPIs; has_standing: and of those that
    have a value.
    """
    connection.execute(SEALED)
    connection.execute("truncate kpi_sealed")
    rows = connection.execute(
        """
        select kpi_id, spec ->> 'timezone', read
        from kpi.kpi cross join jsonb_array_elements(spec -> 'reads') as read
        where kpi_id = any(%s) and exists (
            select from control.purged_hour where relation = read ->> 'relation'
        )
        """,
        [list(kpis)],
    ).fetchall()
    for kpi_id, zone, read in rows:
        start, end = read_bounds(read, literal(str(zone)))
        standing = f"""
            union select grain, period_start, period_end, start_date,
                case grain when 'hour' then start_date else (start_date + {step_by("grain")})::date - 1 end
            from kpi.period_value where kpi_id = %(kpi)s
        """
        connection.execute(
            f"""
            insert into kpi_sealed
            select %(kpi)s, grain, period_start
            from (
                select grain, period_start, period_end, start_date, last_date from kpi_period
                {standing if has_standing else ""}
            ) as period
            where exists (
                select from control.purged_hour
                where relation = %(relation)s and part = any(coalesce(%(parts)s::text[], array[part]) || ''::text)
                    and hour_at >= {start} and hour_at < {end}
            )
            """.encode(),
            {"kpi": kpi_id, "relation": read["relation"], "parts": read["parts"]},
        )
    if rows:
        connection.execute("analyze kpi_sealed")
        connection.execute(
            """
            delete from kpi_period using (
                select grain, period_start from kpi_sealed
                group by grain, period_start having count(distinct kpi_id) = %s
            ) as sealed
            where kpi_period.grain = sealed.grain and kpi_period.period_start = sealed.period_start
            """,
            [len(set(kpis))],
        )


def unsealed(connection: Connection, cells: str) -> str:
    """SQL condition: a cell (kpi_id, grain, period_start) is not in a sealed period."""
    if connection.execute("select from kpi_sealed limit 1").fetchone() is None:
        return "true"
    return (
        f"not exists (select from kpi_sealed as sealed where sealed.kpi_id = {cells}.kpi_id"
        f" and sealed.grain = {cells}.grain and sealed.period_start = {cells}.period_start)"
    )


def read_bounds(piece: Mapping[str, Any], zone: str) -> tuple[str, str]:
    """SQL of the instants from and before which a piece has its buckets, of a period's columns."""
    return piece_bounds(
        is_date=piece["is_date"], is_snapshot=piece["is_snapshot"], days=piece["days"], to_date=piece["to_date"],
        zone=zone, period=OWN,
    )  # fmt: skip
