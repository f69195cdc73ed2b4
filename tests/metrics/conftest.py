"""A deployed warehouse to land logs in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.landing.ingest import IngestReport, ingest
from pipelines.warehouse.connect import connect
from tests.metrics.oracle import COLUMNS
from tests.metrics.support import PACKAGES
from tests.transform.conftest import deployed as deployed  # a fixture of this folder, too
from tests.transform.support import Warehouse


@dataclass
class Server:
    """A content server whose logs land in a warehouse."""

    warehouse: Warehouse

    def reset(self) -> None:
        self.warehouse.reset()
        with connect(self.warehouse.settings) as connection:
            connection.execute("delete from control.indicator_failure")
        for feed in ("metric_log", "uptime"):
            for path in self.folder(feed).iterdir():
                path.unlink()
        self.warehouse.write_catalog({"packages": PACKAGES})

    def folder(self, feed: str) -> Path:
        folder = Path(self.warehouse.settings.landing) / feed
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log(self, lines: Sequence[bytes], name: str = "access.json") -> None:
        """Append lines to an access log."""
        with (self.folder("metric_log") / name).open("ab") as file:
            file.writelines(lines)

    def beat(self, at: Sequence[datetime], name: str = "beats.log") -> None:
        with (self.folder("uptime") / name).open("a") as file:
            file.writelines(f"{each.isoformat()}\n" for each in at)

    def ingest(self) -> IngestReport:
        return ingest(self.warehouse.settings)

    def tick(self, as_of: datetime | str, *, rebuild: bool = False) -> Any:
        return self.warehouse.tick(as_of, rebuild=rebuild)

    def records(self) -> pd.DataFrame:
        """All records, as the oracle has them."""
        rows = self.warehouse.query(
            "select indicator_id, hour_at, dimension_key as dimension, value from marts.indicator_record"
        )
        frame = pd.DataFrame([tuple(row.values()) for row in rows], columns=COLUMNS)
        return frame.sort_values(COLUMNS[:3]).reset_index(drop=True)

    def values(self, indicator: int) -> dict[tuple[str, str], int]:
        """Values of an indicator by (hour, dimension), the hour as in 2026-03-02T08."""
        found = self.records()
        found = found[found["indicator_id"] == indicator]
        return {
            (f"{hour:%Y-%m-%dT%H}", dimension): int(value)
            for _, hour, dimension, value in found.itertuples(index=False)
        }

    def everything(self) -> Iterator[tuple[str, str]]:
        """Every row of every table of the database, as (table, text)."""
        tables = self.warehouse.query(
            "select format('%I.%I', schemaname, tablename) as name from pg_tables"
            " where schemaname not in ('pg_catalog', 'information_schema')"
        )
        for table in tables:
            name = str(table["name"])
            for row in self.warehouse.query(f"select to_jsonb(each) as row from {name} as each"):
                yield name, json.dumps(row["row"])


@pytest.fixture
def server(deployed: Warehouse) -> Server:
    found = Server(deployed)
    found.reset()
    return found
