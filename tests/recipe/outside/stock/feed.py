"""The feed of counts: an article, when it was counted, and how many there were."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa

from pipelines.landing.feed import Breaches, Checked, Column, Feed


def check(frame: pd.DataFrame, context: Any) -> Checked:  # it has to know nothing more
    """Counts of a frame; an instant without an offset is none."""
    breaches = Breaches(len(frame))
    at = pd.to_datetime(frame["counted_at"], format="ISO8601", errors="coerce", utc=True)
    quantity = pd.to_numeric(frame["quantity"], errors="coerce")
    breaches.add(frame["article"].isna().to_numpy(), "article", "is missing", "Name the article.")
    breaches.add(at.isna().to_numpy(), "counted_at", "is no instant", "Write it like 2026-03-02T06:00:00Z.")
    breaches.add((quantity.isna() | (quantity < 0)).to_numpy(), "quantity", "is no number from 0 on")
    rows = pa.table(
        {
            "article": pa.array(frame["article"], pa.string()),
            "counted_at": pa.array(at, pa.timestamp("us", "UTC")),
            "quantity": pa.array(quantity.fillna(0).astype("int64")),
        }
    )
    return Checked(rows.filter(pa.array(breaches.good)), breaches)


STOCK_COUNT = Feed(
    name="stock_count",
    table="raw.stock_count",
    check=check,
    columns=(
        Column("article", required=True),
        Column("counted_at", required=True),
        Column("quantity", required=True),
    ),
    instant="counted_at",
)
