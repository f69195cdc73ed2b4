"""`/api/v1/lineage`: OpenLineage events in, as its clients send them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pipelines.receivers.body import JSON, NDJSON
from pipelines.receivers.statuses import CODES, answered, take

FEED = "openlineage"
PATH = "/api/v1/lineage"

EVENT = {
    "type": "object",
    "required": ["eventTime"],
    "properties": {"eventTime": {"type": "string", "format": "date-time"}},
    "description": "A run, job or dataset event of OpenLineage 2.",
}
SAID: dict[int | str, dict[str, Any]] = {code: said for code, said in CODES.items() if code != 200} | {
    201: {"description": "All were taken, or known already."}
}

router = APIRouter()


def _body(schema: dict[str, Any], *others: str) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": schema}}
    content |= {kind: {"schema": {"type": "string"}} for kind in others}
    return {"requestBody": {"required": True, "content": content}}


@router.post(PATH, status_code=201, response_class=Response, responses=SAID, openapi_extra=_body(EVENT))
async def post(request: Request) -> Response:
    """Report one event; answered once it is stored. Statuses of jobs follow from it with the next tick."""
    return await _taken(request)


@router.post(
    f"{PATH}/batch",
    status_code=201,
    response_class=Response,
    responses=SAID,
    openapi_extra=_body({"type": "array", "items": EVENT}, NDJSON[0]),
)
async def post_batch(request: Request) -> Response:
    """Report many events (an array, or NDJSON), each by itself: what is wrong with one stops no other."""
    return await _taken(request)


async def _taken(request: Request) -> Response:
    # Clients take whatever else is no 201 for a failure, and send again.
    return answered(await take(request, FEED, "OpenLineage events"), known_status=201)
