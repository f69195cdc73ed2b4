"""A landing folder to drop files into, and a look at what became of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.landing.ingest import ingest
from pipelines.landing.ledger import FileOutcome
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

ZONES = {"deposits": "America/New_York", "treasury": "Asia/Singapore"}


@pytest.fixture
def drop(settings: Settings) -> Callable[..., Path]:
    """Put a file into the folder of job statuses: text as UTF-8, bytes as they are."""
    folder = Path(settings.landing) / "job_status"
    folder.mkdir()

    def put(name: str, content: str | bytes) -> Path:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


@pytest.fixture
def query(settings: Settings) -> Callable[..., list[tuple[Any, ...]]]:
    """Rows of a query in the warehouse."""

    def run(sql: str) -> list[tuple[Any, ...]]:
        with connect(settings) as connection:
            return connection.execute(sql).fetchall()

    return run


@pytest.fixture
def registered(settings: Settings) -> dict[str, str]:
    """Two applications of the stored catalog, with their zones."""
    with connect(settings, role="ingest") as connection:
        for application, zone in ZONES.items():
            connection.execute(
                "insert into catalog.application_version values (%s, 1, false, %s)",
                [application, json.dumps({"timezone": zone})],
            )
    return ZONES


@pytest.fixture
def load_one(settings: Settings, drop: Callable[..., Path]) -> Callable[..., FileOutcome]:
    """Drop one file, ingest, with other variables set where they are given, and return its outcome."""

    def load(name: str, content: str | bytes, **variables: str) -> FileOutcome:
        drop(name, content)
        (outcome,) = ingest(settings.having(**variables)).files
        return outcome

    return load
