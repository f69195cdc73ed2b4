"""The record of the subject: what it lands, brings to dbt and tells of."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.subject import FeedEntry, IncidentKind, Subject

if TYPE_CHECKING:
    from pipelines.landing.feed import Feed
    from pipelines.subject import Connection, Metadata
    from pipelines.transform.tick import TickReport
    from pipelines.warehouse.settings import Settings

TABLE = """
create table if not exists raw.stock_count (
    load_id bigint not null, seq integer not null, line_no bigint not null,
    article text not null, counted_at timestamptz not null, quantity bigint not null,
    primary key (load_id, seq)
)
"""


def _feed() -> Feed:
    # Numbers come with pandas and Arrow: whoever only looks for files does without.
    from .feed import STOCK_COUNT

    return STOCK_COUNT


def _ensure(settings: Settings) -> None:
    from pipelines.warehouse.connect import connect

    with connect(settings, "ingest", autocommit=True) as connection:
        connection.execute(TABLE)


def _next_due(connection: Connection, published: datetime) -> datetime | None:
    """When a count comes of age that was sent ahead of its time."""
    row = connection.execute(
        "select min(counted_at) from raw.stock_count where counted_at > %s", [published]
    ).fetchone()
    return row[0] if row else None


def _level(connection: Connection, report: TickReport) -> Metadata:  # what a tick did says nothing of it
    row = connection.execute("select count(*) from marts.stock_level where quantity = 0").fetchone()
    return {"articles out of stock": int(row[0]) if row else 0}


SUBJECT = Subject(
    name="stock",
    feeds=(FeedEntry("stock_count", "stock_count", whole=_feed),),
    dbt=Path(__file__).parent / "dbt",
    ensure=_ensure,
    next_due=_next_due,
    describe={"stock_level": _level},
    incident_kinds=(
        IncidentKind(
            "out_of_stock",
            view="marts.incident_out_of_stock",
            resolution="in_stock",
            ending="It is in stock again.",
        ),
    ),
)
