"""What is refused, and how it is told: one form for all doors."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from pipelines.errors import DuemarkError
from pipelines.failures import keep, one_line
from pipelines.logs import get_logger

log = get_logger(__name__)

# What the connection carries after an answer that did not wait for all of a body is nobody's.
CLOSE = {"Connection": "close"}
# Who is told that it is too much just now comes again after so many seconds.
AGAIN_SECONDS = 2


class Refused(Exception):  # noqa: N818 # an answer, not an error
    """A request that is not taken: its status, what is wrong, and the way out."""

    def __init__(self, status: int, message: str, hint: str = "", headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.hint, self.headers = status, message, hint, headers or {}


def busy(message: str, seconds: int = AGAIN_SECONDS, status: int = 503) -> Refused:
    """Not now: nothing was stored, or it is not known; sent again it does no harm."""
    hint = f"Nothing is lost by sending it again, in {seconds} s."
    return Refused(status, message, hint, {"Retry-After": str(seconds)})


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def told(message: str, hint: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """The answer of what was refused."""
    return answer({"message": message, "hint": hint}, status, headers)


async def refused(_: Request, error: Exception) -> Response:
    """Whatever a door raises, as an answer; what nobody foresaw is kept in the home, and not shown."""
    if isinstance(error, Refused):
        return told(error.message, error.hint, error.status, error.headers)
    if isinstance(error, HTTPException):
        hint = "The paths are in /api/v1/openapi.json."
        return told(str(error.detail), hint, error.status_code, dict(error.headers or {}))
    if isinstance(error, RequestValidationError):
        wrong = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
        return told(f"The question cannot be read: {wrong}.", "See /api/v1/openapi.json.", 400)
    if isinstance(error, DuemarkError):
        log.error("refused", problem=error.message)
        return await refused(_, busy("The database does not answer."))
    log.error("failed", path=_.url.path, problem=one_line(error), kept=keep(error, _.app.state.settings))
    return told(
        "Duemark itself failed.", "Sent again it does no harm; the log of the receiver says more.", 500
    )
