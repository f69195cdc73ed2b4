"""Copies of other databases' tables, as a subject: they are read before a tick, and made before a deploy."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pipelines.subject import Subject

if TYPE_CHECKING:
    from pipelines.subject import Connection
    from pipelines.warehouse.settings import Settings


def _ensure(settings: Settings) -> None:
    from pipelines.copies.refresh import ensure

    ensure(settings)


def _prepare(settings: Settings, as_of: datetime) -> None:  # noqa: ARG001 # copies have a clock of their own
    from pipelines.copies.refresh import refresh

    refresh(settings)


def _next_due(connection: Connection, published: datetime) -> datetime | None:  # noqa: ARG001 # see `_prepare`
    from pipelines.copies.due import next_instant

    return next_instant(connection)


COPIES = Subject(name="copies", ensure=_ensure, prepare=_prepare, next_due=_next_due)
