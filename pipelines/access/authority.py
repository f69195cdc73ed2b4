"""Who is it, and what may he do: asked by every door, decided here."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from typing import Any

import psycopg

from pipelines.access.clients import Client, stored_clients
from pipelines.access.tokens import UnknownError, digest, sender_of
from pipelines.errors import DuemarkError
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

# So long an answer is taken for true that was just given; what changes something is asked anew.
SECONDS = 1.0
MOST_REMEMBERED = 1000

LOCAL = Client("local", frozenset({"sender", "analyst", "on_call", "admin"}), None, frozenset())
"""Everybody, where `--insecure-local` says so."""


class Authority:
    """Recognises clients by their token. Safe from several threads, which it answers one after the other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._remembered: OrderedDict[bytes, tuple[float, Client]] = OrderedDict()

    def remembered(self, token: str) -> Client | None:
        """Whose it was a moment ago; asks nobody."""
        found = self._remembered.get(digest(token))
        return found[1] if found is not None and time.monotonic() - found[0] < SECONDS else None

    def client(self, token: str) -> Client:
        """Whose token it is, by what stands in the database now.

        Raises UnknownError; DuemarkError and psycopg.Error where the database does not answer.
        """
        with self._lock:
            try:
                client = self._asked(token)
            except psycopg.OperationalError:
                # The connection may be of before a restart of the server.
                self.close()
                client = self._asked(token)
            self._remembered[digest(token)] = time.monotonic(), client
            while len(self._remembered) > MOST_REMEMBERED:
                self._remembered.popitem(last=False)
            return client

    def _asked(self, token: str) -> Client:
        connection = self._connected()
        sender = sender_of(connection, token)
        client = stored_clients(connection, sender).get(sender)
        if client is None:
            raise UnknownError("The catalog does not have the sender of this token any more.")
        return client

    def is_reached(self) -> bool:
        """Whether the database answers."""
        with self._lock:
            try:
                self._connected().execute("select")
            except Exception:  # noqa: BLE001 # whatever it is, it does not answer
                self.close()
                return False
            return True

    def close(self) -> None:
        """Let go of the database; the next question connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._settings, "operate", autocommit=True)
        return self._connection


def refuse_others(host: str) -> None:
    """Where nobody is asked who he is, only this machine may reach what listens at `host`. Raises DuemarkError."""
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    if not is_local:
        raise DuemarkError(
            f"--insecure-local is for this machine alone, and {host} can be reached from others.",
            "Listen on 127.0.0.1, or issue tokens: `duemark token issue SENDER`.",
        )
