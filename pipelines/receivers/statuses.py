"""`/api/v1/job-status`: job statuses in, and what is known of them."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from psycopg import sql

from pipelines.landing.append import Delivery, Receipt
from pipelines.landing.feed import Reason, Rejected
from pipelines.receivers.body import JSON, NDJSON, read_records
from pipelines.receivers.doors import Door, forbidden
from pipelines.receivers.group import GroupCommit
from pipelines.receivers.refusals import Refused, answer
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

FEED = "job_status"
PATH = "/api/v1/job-status"
MOST_ANSWERED = 10_000

# What a record may hold, for who reads the description of the interface; the feed's check is what decides.
STATUS = {
    "type": "object",
    "required": ["application_id", "job_id", "status_code", "status_at", "business_date"],
    "properties": {
        "application_id": {"type": "string", "minLength": 1, "maxLength": 200},
        "job_id": {"type": "string", "minLength": 1, "maxLength": 200},
        "status_code": {"type": "string", "enum": ["START", "SUCCEED", "FAIL"]},
        "status_at": {"type": "string", "format": "date-time"},
        "business_date": {"type": "string", "format": "date"},
        "run_id": {"type": "string", "nullable": True, "maxLength": 50},
        "host_id": {"type": "string", "nullable": True, "maxLength": 150},
    },
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"oneOf": [STATUS, {"type": "array", "items": STATUS}]}},
            NDJSON[0]: {"schema": {"type": "string"}},
        },
    }
}
CODES: dict[int | str, dict[str, Any]] = {
    201: {"description": "All were taken, and some are new."},
    200: {"description": "All were known."},
    207: {"description": "Some were refused; `rejected` says which, and why."},
    400: {"description": "All were refused; `rejected` says why."},
    401: {"description": "The token is missing, unknown, expired or revoked."},
    403: {"description": "The client may not report for these applications."},
    408: {"description": "The body did not end."},
    413: {"description": "The body is too large."},
    415: {"description": "The body is no JSON by its type, or packed otherwise than by gzip."},
    429: {"description": "Too much of this client; Retry-After says when to send it again."},
    503: {"description": "Not now; Retry-After says when to send it again."},
}

router = APIRouter()


@router.post(PATH, status_code=201, response_class=Response, responses=CODES, openapi_extra=BODY)
async def post(request: Request) -> Response:
    """Report one status (an object), or many (an array, or NDJSON); answered once they are stored."""
    return answered(await take(request, FEED, "job statuses"))


async def take(request: Request, feed: str, what: str) -> Receipt:
    """Store the records of the body in `feed`; `what` they are called. Raises Refused, as bodies and doors do."""
    door: Door = request.app.state.door
    group: GroupCommit = request.app.state.groups[feed]
    visitor = await door.visitor(request, is_exact=False)
    if visitor.token is not None and not visitor.client.may_send(feed):
        raise forbidden(f"report {what}")
    lines = await read_records(request)
    if not lines:
        reason = Reason(None, "The body is empty.", "Send one record, or several.")
        return Receipt(rejected=[Rejected(1, "", [reason])])
    delivery = Delivery(f"http {visitor.client.id}", lines, visitor.client.applications)
    return await group.store(delivery, visitor.token)


def answered(receipt: Receipt, known_status: int = 200) -> Response:
    """What became of records; `known_status` where all of them were known."""
    rejected = [
        {"index": one.line_no - 1, "reasons": [reason.as_dict() for reason in one.reasons]}
        for one in receipt.rejected
    ]
    taken = receipt.stored + receipt.known
    if not rejected:
        status = 201 if receipt.stored else known_status
    elif taken:
        status = 207
    else:
        status = 403 if receipt.forbidden == len(rejected) else 400
    return answer({"stored": receipt.stored, "known": receipt.known, "rejected": rejected}, status)


COLUMNS = (
    "application_id",
    "job_id",
    "status_code",
    "status_at",
    "business_date",
    "run_id",
    "host_id",
    "received_at",
    "source",
)


@router.get(PATH, response_class=Response)
async def get(
    request: Request,
    application_id: str | None = None,
    job_id: str | None = None,
    business_date: date | None = None,
    first: Annotated[date | None, Query(alias="from", description="First business date.")] = None,
    last: Annotated[date | None, Query(alias="to", description="Last business date.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ANSWERED)] = 1000,
) -> Response:
    """What was reported of an application or a job, for a business date or from one on; the earliest first."""
    door: Door = request.app.state.door
    await door.admitted(request, "analyst")
    missing = []
    if application_id is None and job_id is None:
        missing.append("application_id or job_id")
    if business_date is None and first is None:
        missing.append("business_date or from")
    if missing:
        raise Refused(
            400, f"The question has no {', and no '.join(missing)}.", "Add it, such as ?job_id=load."
        )
    conditions = {
        "application_id = %s": application_id,
        "job_id = %s": job_id,
        "business_date = %s": business_date,
        "business_date >= %s": first,
        "business_date <= %s": last,
    }
    given = {text: value for text, value in conditions.items() if value is not None}
    rows = await asyncio.to_thread(_rows, request.app.state.settings, given, limit + 1)
    return answer({"statuses": rows[:limit], "more": len(rows) > limit})


def _rows(settings: Settings, conditions: dict[str, Any], most: int) -> list[dict[str, Any]]:
    query = sql.SQL(
        "select {columns} from marts.job_status where {conditions}"
        " order by status_at, application_id, job_id, business_date, status_code limit {most}"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
        conditions=sql.SQL(" and ").join(map(sql.SQL, conditions)),
        most=sql.Literal(most),
    )
    with connect(settings, "analyst") as connection:
        return [
            dict(zip(COLUMNS, row, strict=True))
            for row in connection.execute(query, list(conditions.values()))
        ]
