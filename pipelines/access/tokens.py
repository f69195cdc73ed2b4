"""Tokens: 256 random bits, shown once and kept as their sha256, which nobody can turn back.

A token is `duemark_ID_SECRET`; the id finds its row, and says of a list which is which. What is issued and revoked
stands in `access.audit`.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.access.clients import stored_clients
from pipelines.errors import DuemarkError, nearest
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

PREFIX = "duemark"
SECRET_BYTES = 32
# The last use of a token is kept, and written at most so often.
USE_SECONDS = 60


class UnknownError(Exception):
    """Not recognised: no token, none of ours, or one that is valid no more. The message may be told to anybody."""


@dataclass(frozen=True)
class Issued:
    """A token that was issued; it is shown now, and never again."""

    token: str
    token_id: str
    expires_at: datetime | None


@dataclass(frozen=True)
class Listed:
    """What there is to know of a token."""

    token_id: str
    sender_id: str
    issued_at: datetime
    issued_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def issue(settings: Settings, sender: str, expires: timedelta | None = None, by: str | None = None) -> Issued:
    """Issue a token for a sender of the stored catalog; it is valid until it is revoked, or has expired.

    Raises DuemarkError where the catalog has no such sender.
    """
    token_id, secret = secrets.token_hex(5), secrets.token_urlsafe(SECRET_BYTES)
    token = f"{PREFIX}_{token_id}_{secret}"
    with _audited(settings, by) as (connection, who):
        known = stored_clients(connection)
        if sender not in known:
            hint = nearest(sender, known, "senders") or "There are none yet"
            raise DuemarkError(
                f"The catalog has no sender {sender!r}.",
                f"{hint}; declare it in senders/, or name it in `senders` of an application.",
            )
        expires_at = None if expires is None else datetime.now(UTC) + expires
        connection.execute(
            "insert into access.token (token_id, sender_id, hash, issued_by, expires_at) values (%s, %s, %s, %s, %s)",
            [token_id, sender, digest(token), who, expires_at],
        )
        detail = {"token_id": token_id, "expires_at": expires_at and expires_at.isoformat()}
        note(connection, who, "token issued", sender, detail)
    return Issued(token, token_id, expires_at)


def tokens(settings: Settings, sender: str | None = None) -> list[Listed]:
    """All tokens that were ever issued, or those of one sender, the newest first."""
    with connect(settings, "operate") as connection:
        rows: Any = connection.execute(
            "select token_id, sender_id, issued_at, issued_by, expires_at, revoked_at, last_used_at from access.token"
            " where sender_id = coalesce(%s, sender_id) order by issued_at desc, token_id",
            [sender],
        ).fetchall()
    return [Listed(*row) for row in rows]


def revoke(settings: Settings, sender: str, token_id: str | None = None, by: str | None = None) -> list[str]:
    """Revoke all tokens of a sender that are valid, or one of them; return their ids.

    Raises DuemarkError where there is none.
    """
    with _audited(settings, by) as (connection, who):
        revoked = [
            str(row[0])
            for row in connection.execute(
                "update access.token set revoked_at = clock_timestamp(), revoked_by = %s"
                " where sender_id = %s and token_id = coalesce(%s, token_id) and revoked_at is null"
                " returning token_id",
                [who, sender, token_id],
            )
        ]
        if not revoked:
            which = "no token" if token_id is None else f"no token {token_id}"
            raise DuemarkError(
                f"{sender} has {which} that could be revoked.", "`duemark token list` shows all of them."
            )
        for one in revoked:
            note(connection, who, "token revoked", sender, {"token_id": one})
    return sorted(revoked)


def sender_of(connection: Connection, token: str) -> str:
    """The sender whose token it is. `connection` is one of the role `operate`, in autocommit.

    Raises UnknownError.
    """
    prefix, _, rest = token.partition("_")
    token_id, _, secret = rest.partition("_")
    if prefix != PREFIX or not secret:
        raise UnknownError("This is no token of Duemark.")
    row = connection.execute(
        "select sender_id, hash, revoked_at is not null, coalesce(expires_at <= clock_timestamp(), false),"
        " coalesce(last_used_at < clock_timestamp() - make_interval(secs => %s), true)"
        " from access.token where token_id = %s",
        [USE_SECONDS, token_id],
    ).fetchone()
    # Who guesses an id learns nothing by how long it takes.
    sender, kept, is_revoked, is_expired, is_news = row or ("", b"\0" * 32, False, False, False)
    if not hmac.compare_digest(kept, digest(token)) or row is None:
        raise UnknownError("This token is not known.")
    if is_revoked:
        raise UnknownError("This token was revoked.")
    if is_expired:
        raise UnknownError("This token has expired.")
    if is_news:
        connection.execute(
            "update access.token set last_used_at = clock_timestamp() where token_id = %s", [token_id]
        )
    return str(sender)


def note(connection: Connection, who: str, action: str, subject: str, detail: dict[str, Any]) -> None:
    """Write into the journal who changed what, in the caller's transaction."""
    connection.execute(
        "insert into access.audit (actor, action, subject, detail) values (%s, %s, %s, %s)",
        [who, action, subject, json.dumps(detail)],
    )


@contextmanager
def _audited(settings: Settings, by: str | None) -> Iterator[tuple[Connection, str]]:
    with connect(settings, "operate") as connection:
        yield connection, (by or "").strip() or getpass.getuser()


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
