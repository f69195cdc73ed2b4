"""Clients: what the stored catalog says that each may do. Everything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.catalog.models import EVERY_APPLICATION, STORED, Role, Sender

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

# Who has one of these roles may do what the role before it may: who administers acknowledges, too.
ENOUGH: Mapping[Role, frozenset[Role]] = {
    "sender": frozenset({"sender"}),
    "analyst": frozenset({"analyst", "on_call", "admin"}),
    "on_call": frozenset({"on_call", "admin"}),
    "admin": frozenset({"admin"}),
}


@dataclass(frozen=True)
class Client:
    """Somebody who was recognised.

    `applications`: those that it may report for, None: all, also those that the catalog does not have; `feeds`: what it
    may send.
    """

    id: str
    roles: frozenset[Role]
    applications: frozenset[str] | None
    feeds: frozenset[str]

    def may(self, role: Role) -> bool:
        """Whether it may do what `role` may."""
        return not self.roles.isdisjoint(ENOUGH[role])

    def may_send(self, feed: str) -> bool:
        """Whether it may send records of a feed, for the applications that it has."""
        return self.may("sender") and feed in self.feeds


def of_sender(sender: Sender) -> Client:
    """The client that an entry of the catalog means."""
    is_for_all = EVERY_APPLICATION in sender.applications
    return Client(
        sender.id,
        frozenset(sender.roles),
        None if is_for_all else frozenset(sender.applications),
        frozenset(sender.feeds),
    )


def stored_clients(connection: Connection, client: str | None = None) -> dict[str, Client]:
    """Clients of the stored catalog by id: all, or this one. `connection` is one of the role `operate`."""
    return {
        str(sender_id): of_sender(Sender.model_validate(spec, context=STORED))
        for sender_id, spec, is_retired in connection.execute(
            "select distinct on (sender_id) sender_id, spec, is_retired from catalog.sender_version"
            " where sender_id = coalesce(%s, sender_id) order by sender_id, load_id desc",
            [client],
        )
        if not is_retired
    }
