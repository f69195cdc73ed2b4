"""KPIs in a few lines: for the terminal, and for Dagster's metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pipelines.kpi import formats
from pipelines.kpi.standing import TROUBLE, is_recent

if TYPE_CHECKING:
    import psycopg

ORDER = ("critical", "warning", "no_data", "ok", "provisional")


@dataclass(frozen=True)
class Line:
    """A KPI's total in its newest closed period; `members`: its members that are beyond a threshold there.

    While no period is closed, what there is of the newest one, with the status `provisional`.
    """

    kpi_id: str
    name: str
    period: str
    value: str
    change: str
    status: str
    members: int


def lines(connection: psycopg.Connection[Any]) -> list[Line]:
    """Every KPI, those that need attention first; none where the marts of KPIs are not there."""
    there = connection.execute(
        "select to_regclass('marts.kpi_current') is not null and to_regclass('marts.kpi_definition') is not null"
    ).fetchone()
    if there is None or not there[0]:
        return []
    rows = connection.execute(
        """
        with
            members as (
                select kpi_id, array_agg(closed_period_end) as bad
                from marts.kpi_current
                where dimension_key <> '' and closed_status in ('warning', 'critical')
                group by kpi_id
            )
        select
            definition.kpi_id, definition.name, coalesce(definition.unit, ''), definition.timezone, total.grain,
            coalesce(total.closed_period, total.provisional_period),
            coalesce(total.closed_period_start, total.provisional_period_start),
            case when open.is_it then total.provisional_value else total.closed_value end,
            case when open.is_it then total.provisional_value_json else total.closed_value_json end,
            case when open.is_it then total.provisional_change_percent else total.closed_change_percent end,
            case when open.is_it then total.provisional_direction else total.closed_direction end,
            case when open.is_it then 'provisional' else coalesce(total.closed_status, 'no_data') end,
            coalesce(members.bad, '{}'), tick.as_of
        from marts.kpi_definition as definition
        cross join marts.tick
        left join marts.kpi_current as total
            on definition.kpi_id = total.kpi_id and total.dimension_key = ''
        cross join lateral (
            select total.closed_period is null and total.provisional_period is not null
        ) as open (is_it)
        left join members on definition.kpi_id = members.kpi_id
        where definition.valid_to is null
        order by definition.kpi_id
        """
    ).fetchall()
    found = []
    for (
        kpi_id,
        name,
        unit,
        zone,
        grain,
        period,
        start,
        value,
        json,
        percent,
        direction,
        status,
        bad,
        as_of,
    ) in rows:
        when = formats.instant(start, zone) if grain == "hour" and start else period or ""
        found.append(
            Line(
                kpi_id,
                name or kpi_id,
                when,
                _value(value, json, unit),
                _change(percent, direction),
                status,
                sum(is_recent(grain or "day", end, as_of) for end in bad),
            )
        )
    return sorted(
        found, key=lambda line: (ORDER.index(line.status) if line.status in ORDER else 9, line.kpi_id)
    )


def table(connection: psycopg.Connection[Any], most: int = 12) -> tuple[list[str], list[list[str]], int]:
    """Heads, rows of text and how many KPIs are left out: the short table for a terminal."""
    found = lines(connection)
    heads = ["kpi", "period", "value", "change", "status", "members"]
    rows = [
        [
            line.kpi_id,
            line.period,
            _shortened(line.value),
            line.change,
            line.status.replace("_", " "),
            f"{line.members} beyond" if line.members else "",
        ]
        for line in found[:most]
    ]
    return (
        heads,
        [[cell.replace(formats.GAP, " ") for cell in row] for row in rows],
        max(len(found) - most, 0),
    )


def counts(found: Sequence[Line]) -> dict[str, int]:
    """How many KPIs have which status, for those that need attention; a member beyond counts for its KPI."""
    return {
        status: sum(line.status == status for line in found)
        for status in sorted(TROUBLE, key=TROUBLE.__getitem__)
    }


def _value(value: Decimal | None, json: Any, unit: str) -> str:
    if value is None and (numbers := formats.scalars(json)):
        return " · ".join(f"{formats.words(name)} {formats.number(each)}" for name, each in numbers.items())
    return formats.quantity(value, unit)


def _change(percent: Decimal | None, direction: str | None) -> str:
    if percent is None or not percent.is_finite():
        return ""
    if direction == "stable":
        return "→ stable"
    return f"{'↑' if percent > 0 else '↓'} {formats.percent(percent)}"


def _shortened(text: str, most: int = 44) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
