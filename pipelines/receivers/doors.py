"""Who comes in: a client that is recognised by its token, within its rate; what it may do is asked of it."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

import psycopg
from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from pipelines.access.authority import LOCAL, Authority
from pipelines.access.clients import Client
from pipelines.access.tokens import UnknownError
from pipelines.catalog.models import Role
from pipelines.errors import DuemarkError
from pipelines.receivers.refusals import Refused, busy

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="duemark"'}


@dataclass(frozen=True)
class Visitor:
    """Who asks, and by which token (None: nobody is asked for one)."""

    client: Client
    token: str | None


class Door:
    """Lets in, or raises what is answered. A process has one."""

    def __init__(self, authority: Authority, rate: int, *, is_open: bool) -> None:
        self.authority = authority
        self._is_open = is_open
        self._rate = RateLimitItemPerMinute(rate) if rate else None
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def visitor(self, request: Request, *, is_exact: bool) -> Visitor:
        """Who asks. `is_exact`: a token that was revoked a moment ago is refused, too.

        Raises Refused: 401, 429 and 503.
        """
        if self._is_open:
            return Visitor(LOCAL, None)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            hint = "Send Authorization: Bearer TOKEN; `duemark token issue SENDER` makes one."
            raise Refused(401, "Who asks is not said.", hint, CHALLENGE)
        client = None if is_exact else self.authority.remembered(token)
        if client is None:
            try:
                client = await asyncio.to_thread(self.authority.client, token)
            except UnknownError as error:
                hint = "`duemark token list` shows which are valid."
                raise Refused(401, str(error), hint, CHALLENGE) from None
            except (DuemarkError, psycopg.Error):
                raise busy("The database does not answer.") from None
        if self._rate is not None and not self._limiter.hit(self._rate, client.id):
            left = self._limiter.get_window_stats(self._rate, client.id).reset_time - time.time()
            message = f"More than {self._rate.amount:,} requests of this client in a minute."
            raise busy(message, max(1, math.ceil(left)), 429)
        return Visitor(client, token)

    async def admitted(self, request: Request, role: Role) -> Client:
        """Who asks, if it may do what `role` may. Raises Refused: 403 too."""
        client = (await self.visitor(request, is_exact=True)).client
        if not client.may(role):
            raise forbidden(f"do what the role {role} may")
        return client


def forbidden(what: str) -> Refused:
    """The client is known, and may not."""
    return Refused(403, f"This client may not {what}.", "Who may is said in the catalog, in senders/.")
