"""Questions: what is late, what was promised and what came of it, what is expected, and KPIs; read as `analyst`.

An answer has the tick that it rests on as its ETag: a cache asks with `If-None-Match`, and is told 304 until the marts
are others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, LiteralString

import orjson
import psycopg
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from psycopg.rows import dict_row

from pipelines.errors import DuemarkError
from pipelines.receivers.doors import Door
from pipelines.receivers.refusals import Refused, busy
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

MOST_ANSWERED = 10_000

router = APIRouter(prefix="/api/v1")

Id = Annotated[str, Path(max_length=200)]
Name = Annotated[str | None, Query(max_length=200)]
First = Annotated[date | None, Query(alias="from", description="First business date.")]
Last = Annotated[date | None, Query(alias="to", description="Last business date.")]
Most = Annotated[int, Query(ge=1, le=MOST_ANSWERED)]

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """A connection as `analyst`, and the questions that are asked by it."""

    connection: psycopg.Connection[Any]

    def rows(self, query: LiteralString, **given: Any) -> Rows:
        """Rows of a query with named parameters."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, given).fetchall()

    def listed(self, name: str, limit: int, query: LiteralString, **given: Any) -> dict[str, Any]:
        """The first rows of a query that ends with `limit %(most)s`, and whether there are more."""
        found = self.rows(query, most=limit + 1, **given)
        return {name: found[:limit], "more": len(found) > limit}

    def one(self, what: str, query: LiteralString, **given: Any) -> dict[str, Any]:
        """The only row. Raises Refused: 404 where there is none."""
        found = self.rows(query, **given)
        if not found:
            raise Refused(404, f"There is no {what}.", "Ask for the list of them, without an id.")
        return found[0]


async def _answered(request: Request, question: Callable[[Asked], Mapping[str, Any]]) -> Response:
    door: Door = request.app.state.door
    await door.admitted(request, "analyst")
    return await asyncio.to_thread(_asked, request, question)


def _asked(request: Request, question: Callable[[Asked], Mapping[str, Any]]) -> Response:
    settings: Settings = request.app.state.settings
    try:
        with connect(settings, "analyst") as connection:
            # One state of the marts for the tick and for what is asked.
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            asked = Asked(connection)
            tick = asked.rows(
                "select as_of, high, published_at from marts.tick where published_at is not null"
            )
            if not tick:
                raise Refused(
                    503, "There was no tick yet.", "`duemark tick` makes one; `duemark up` ticks by itself."
                )
            etag = f'"{tick[0]["high"]}-{tick[0]["published_at"]:%Y%m%dT%H%M%S.%f}"'
            headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
            if etag in request.headers.get("if-none-match", ""):
                return Response(status_code=304, headers=headers)
            content = {"as_of": tick[0]["as_of"], **question(asked)}
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction):
        raise Refused(503, "The marts are not there yet.", "`duemark tick` makes them.") from None
    except psycopg.errors.QueryCanceled:
        raise Refused(400, "The question takes too long.", "Ask for less: fewer dates, one SLO.") from None
    except (DuemarkError, psycopg.OperationalError):
        raise busy("The database does not answer.") from None
    return Response(orjson.dumps(content, default=_spelled), headers=headers, media_type="application/json")


def _spelled(value: object) -> float:
    """Durations are seconds; exact decimals are numbers."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(type(value).__name__)


@router.get("/late", response_class=Response)
async def late(
    request: Request,
    application_id: Name = None,
    slo_id: Name = None,
    owner: Name = None,
    at_risk: Annotated[bool | None, Query(description="Only what is at risk, or only what is late.")] = None,
    limit: Most = 1000,
) -> Response:
    """What is late or at risk now, why, and who is hit: the mart slo_late, the newest due time first."""
    return await _answered(
        request,
        lambda asked: asked.listed(
            "late",
            limit,
            """
                select * from marts.slo_late
                where application_id = coalesce(%(application_id)s::text, application_id)
                    and slo_id = coalesce(%(slo_id)s::text, slo_id)
                    and (%(owner)s::text is null or owner = %(owner)s)
                    and is_at_risk = coalesce(%(at_risk)s::boolean, is_at_risk)
                order by expected_end_at desc, slo_id, business_date, slot
                limit %(most)s
                """,
            application_id=application_id,
            slo_id=slo_id,
            owner=owner,
            at_risk=at_risk,
        ),
    )


@router.get("/slos", response_class=Response)
async def slos(
    request: Request, application_id: Name = None, owner: Name = None, limit: Most = 1000
) -> Response:
    """SLOs and what they promise now: the mart slo."""
    return await _answered(
        request,
        lambda asked: asked.listed(
            "slos",
            limit,
            """
                select * from marts.slo
                where (%(application_id)s::text is null or application_id = %(application_id)s)
                    and (%(owner)s::text is null or owner = %(owner)s)
                order by slo_id
                limit %(most)s
                """,
            application_id=application_id,
            owner=owner,
        ),
    )


@router.get("/slos/{slo_id}", response_class=Response)
async def slo(request: Request, slo_id: Id) -> Response:
    """One SLO, its jobs, and what is expected of it."""

    def question(asked: Asked) -> dict[str, Any]:
        return {
            "slo": _slo(asked, slo_id),
            "jobs": asked.rows(
                "select * from marts.slo_job where slo_id = %(slo_id)s order by application_id, job_id",
                slo_id=slo_id,
            ),
            "forecast": _forecast(asked, slo_id),
        }

    return await _answered(request, question)


@router.get("/slos/{slo_id}/occurrences", response_class=Response)
async def occurrences(
    request: Request,
    slo_id: Id,
    first: First = None,
    last: Last = None,
    as_of: Annotated[datetime | None, Query(description="How it stood then; with an offset.")] = None,
    known_at: Annotated[datetime | None, Query(description="By what was received until then.")] = None,
    limit: Most = 1000,
) -> Response:
    """What was promised and what came of it, the newest date first: now, or at any moment, or as it was known then."""
    for name, moment in (("as_of", as_of), ("known_at", known_at)):
        if moment is not None and moment.tzinfo is None:
            raise Refused(400, f"{name} has no offset.", f"Write {name}=2026-03-03T03:00:00Z.")
    is_past = as_of is not None or known_at is not None

    def question(asked: Asked) -> dict[str, Any]:
        _slo(asked, slo_id)
        given = {"slo_id": slo_id, "first": first, "last": last}
        if is_past:
            return asked.listed(
                "occurrences",
                limit,
                """
                select *
                from marts.slo_performance_at(
                    coalesce(%(as_of)s::timestamptz, (select tick.as_of from marts.tick)),
                    known_at => coalesce(%(known_at)s::timestamptz, 'infinity'),
                    slo => %(slo_id)s,
                    "from" => %(first)s::date,
                    "to" => %(last)s::date
                )
                order by business_date desc, slot desc
                limit %(most)s
                """,
                as_of=as_of,
                known_at=known_at,
                **given,
            )
        return asked.listed(
            "occurrences",
            limit,
            """
            select * from marts.slo_performance
            where slo_id = %(slo_id)s
                and business_date >= coalesce(%(first)s::date, '-infinity')
                and business_date <= coalesce(%(last)s::date, 'infinity')
            order by business_date desc, slot desc
            limit %(most)s
            """,
            **given,
        )

    return await _answered(request, question)


@router.get("/forecast", response_class=Response)
async def forecast(request: Request) -> Response:
    """When what is open and what is next will be there: the mart slo_forecast, the likeliest miss first."""
    return await _answered(request, lambda asked: {"forecast": _forecast(asked, None)})


def _slo(asked: Asked, slo_id: str) -> dict[str, Any]:
    return asked.one(f"SLO {slo_id!r}", "select * from marts.slo where slo_id = %(slo_id)s", slo_id=slo_id)


def _forecast(asked: Asked, slo_id: str | None) -> Rows:
    return asked.rows(
        """
        select * from marts.slo_forecast
        where slo_id = coalesce(%(slo_id)s::text, slo_id)
        order by miss_probability desc nulls last, expected_end_at, slo_id, business_date, slot
        """,
        slo_id=slo_id,
    )


@router.get("/kpis", response_class=Response)
async def kpis(request: Request) -> Response:
    """KPIs, and how the newest period of each stands: the marts kpi_definition and kpi_current."""
    return await _answered(
        request,
        lambda asked: {"kpis": [_metric(row) for row in asked.rows(CURRENT + " order by kpi_id")]},
    )


CURRENT: LiteralString = """
select
    definition.kpi_id, definition.name, definition.unit, definition.grains, total.grain,
    coalesce(total.closed_period, total.provisional_period) as period,
    coalesce(total.closed_period_start, total.provisional_period_start) as period_start,
    coalesce(total.closed_period_end, total.provisional_period_end) as period_end,
    total.closed_period is null as provisional,
    case when total.closed_period is null then total.provisional_value else total.closed_value end as value,
    case
        when total.closed_period is null then total.provisional_value_json else total.closed_value_json
    end as value_json,
    case
        when total.closed_period is null then total.provisional_change_percent else total.closed_change_percent
    end as percentage,
    case when total.closed_period is null then total.provisional_direction else total.closed_direction end as direction,
    case when total.closed_period is null then total.provisional_status else total.closed_status end as status
from (select * from marts.kpi_definition where valid_to is null) as definition
left join (select * from marts.kpi_current where dimension_key = '') as total using (kpi_id)
"""


def _metric(row: dict[str, Any]) -> dict[str, Any]:
    """A KPI in the shape of the customer's `MetricResponse`."""
    value = row["value"] if row["value"] is not None else row["value_json"]
    return {
        "kpiId": row["kpi_id"],
        "name": row["name"],
        "value": value,
        "unit": row["unit"],
        "trend": {"direction": row["direction"], "percentage": row["percentage"]},
        "status": row["status"],
        "grain": row["grain"],
        "period": row["period"],
        "periodStart": row["period_start"],
        "periodEnd": row["period_end"],
        "provisional": row["provisional"],
    }


@router.get("/kpis/{kpi_id}", response_class=Response)
async def kpi(request: Request, kpi_id: Id) -> Response:
    """One KPI: the value of its newest period that is closed, and its trend."""
    return await _answered(request, lambda asked: _metric(_kpi(asked, kpi_id)))


def _kpi(asked: Asked, kpi_id: str) -> dict[str, Any]:
    return asked.one(
        f"KPI {kpi_id!r}",
        CURRENT + " where definition.kpi_id = %(kpi_id)s",
        kpi_id=kpi_id,
    )


@router.get("/kpis/{kpi_id}/history", response_class=Response)
async def history(
    request: Request,
    kpi_id: Id,
    start: Annotated[
        datetime | None, Query(alias="timeRange.start", description="Periods from then on.")
    ] = None,
    end: Annotated[
        datetime | None, Query(alias="timeRange.end", description="Periods that began before.")
    ] = None,
    aggregation: Annotated[str | None, Query(description="A grain of the KPI, such as day.")] = None,
    limit: Most = 1000,
) -> Response:
    """A KPI over time, the newest period first."""

    def question(asked: Asked) -> dict[str, Any]:
        return _of_kpi(
            asked,
            kpi_id,
            aggregation,
            "history",
            limit,
            """
            select
                period, period_start, period_end, coalesce(to_jsonb(value), value_json) as value, direction,
                change_percent as percentage, status, provisional, reason
            from marts.kpi_value
            where kpi_id = %(kpi_id)s and grain = %(grain)s and dimension_key = ''
                and period_start >= coalesce(%(start)s::timestamptz, '-infinity')
                and period_start < coalesce(%(end)s::timestamptz, 'infinity')
            order by period_start desc
            limit %(most)s
            """,
            start=start,
            end=end,
        )

    return await _answered(request, question)


@router.get("/kpis/{kpi_id}/dimensions", response_class=Response)
async def dimensions(
    request: Request,
    kpi_id: Id,
    wanted: Annotated[
        list[str] | None, Query(alias="dimensions", description="All of these, and no others.")
    ] = None,
    aggregation: Annotated[str | None, Query(description="A grain of the KPI, such as day.")] = None,
    limit: Most = 1000,
) -> Response:
    """A KPI by its dimensions, in the newest period of which the total is closed."""

    def question(asked: Asked) -> dict[str, Any]:
        return _of_kpi(
            asked,
            kpi_id,
            aggregation,
            "dimensions",
            limit,
            """
            select period, dimensions, coalesce(to_jsonb(value), value_json) as value, direction,
                change_percent as percentage, status
            from marts.kpi_value
            where kpi_id = %(kpi_id)s and grain = %(grain)s and dimension_key <> ''
                and period_start = (
                    select max(period_start) from marts.kpi_value
                    where kpi_id = %(kpi_id)s and grain = %(grain)s and dimension_key = '' and not provisional
                )
                and (
                    %(wanted)s::text[] is null
                    or (dimensions ?& %(wanted)s::text[] and dimensions - %(wanted)s::text[] = '{}')
                )
            order by dimension_key
            limit %(most)s
            """,
            wanted=wanted,
        )

    return await _answered(request, question)


def _of_kpi(
    asked: Asked,
    kpi_id: str,
    aggregation: str | None,
    name: str,
    limit: int,
    query: LiteralString,
    **given: Any,
) -> dict[str, Any]:
    """A KPI, and a list of its values by the grain that is asked for. Raises Refused: 400 where it has no such."""
    row = _kpi(asked, kpi_id)
    grain = row["grain"] if aggregation is None else aggregation
    if aggregation is not None and aggregation not in row["grains"]:
        raise Refused(
            400, f"{kpi_id} has no values by {aggregation}.", f"It has them by {', '.join(row['grains'])}."
        )
    values = asked.listed(name, limit, query, kpi_id=kpi_id, grain=grain, **given)
    return _metric(row) | {"aggregation": grain} | values
