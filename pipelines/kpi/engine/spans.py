"""A model's query of values with the parameters that it leaves to the engine: what lies within the periods at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.kpi.engine.work import STATES, ValuesQuery
from pipelines.kpi.text import identifier

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


# Ranges of the periods of a grain; beyond, one from the first to the last.
FEW_SPANS = 20


def within_periods(
    connection: Connection, query: ValuesQuery, spec: Mapping[str, Any], states: str = STATES
) -> str:
    """The query of values, of what lies within the periods of `kpi_period` only, by literals that the planner knows.

    `states`: SQL of the schema whose states it reads.
    """
    spans: dict[tuple[bool, str], list[tuple[str, str]]] = {}
    for is_date, span in (
        (False, "tstzrange(period_start, period_end)"),
        (True, "daterange(start_date, last_date + 1)"),
    ):
        for grain, start, end in connection.execute(
            f"""
            with span as (
                select grain, unnest(range_agg({span})) as span
                from kpi_period where period_start < period_end group by grain
            ),
            counted as (select *, count(*) over (partition by grain) > {FEW_SPANS} as is_many from span)
            select grain, min(lower(span))::text, max(upper(span))::text
            from counted group by grain, case when not is_many then span end order by 1, 2
            """.encode()
        ):
            spans.setdefault((is_date, str(grain)), []).append((str(start), str(end)))

    def within(kind: str, grain: str, column: str) -> str:
        suffix = "T00:00Z" if kind == "midnight" else ""
        ranges = [
            f"({column} >= '{start}{suffix}' and {column} < '{end}{suffix}')"
            for start, end in spans.get((kind != "instant", grain), [])
        ]
        return f"({' or '.join(ranges) or 'false'})"

    edges: dict[str, list[tuple[str, str]]] = {}
    for grain, at, day in connection.execute(
        # Where a period begins, and where what is of none does.
        "select grain, at::text, min(day)::text from ("
        "select grain, period_start as at, start_date as day from kpi_period"
        " union all select grain, period_end, last_date + 1 from kpi_period) as edges group by 1, at order by 1, at"
    ):
        edges.setdefault(str(grain), []).append((str(at), str(day)))

    def start_of(kind: str, grain: str, column: str) -> str:
        found = edges.get(grain, [])
        if len(found) == 2:
            # Everything within is of the one period.
            return f"'{found[0][0]}'::timestamptz"
        starts = "'{" + ", ".join(f'"{at}"' for at, _ in found) + "}'::timestamptz[]"
        given = starts if kind == "instant" else "'{" + ", ".join(day for _, day in found) + "}'::date[]"
        return f"({starts})[width_bucket({column}, {given})]"

    parameters = {"states": states}
    for grain in spec["grains"]:
        for kind in ("instant", "midnight"):
            parameters[f"within_{kind}_{grain}"] = within(kind, grain, "s.bucket_at")
        for part in spec["rows"]:
            column, kind = f"r.{identifier(part['time_column'])}", "date" if part["is_date"] else "instant"
            parameters[f"within_{part['name']}_{grain}"] = within(kind, grain, column)
            parameters[f"start_{part['name']}_{grain}"] = start_of(kind, grain, column)
    return query.statement("values", **parameters)
