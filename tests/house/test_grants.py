"""What the roles may do is what `pipelines/warehouse/grants.py` says, after all migrations."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.warehouse.connect import connect
from pipelines.warehouse.grants import ROLES, SCHEMAS
from pipelines.warehouse.settings import Settings
from tests.grants import WAY_OUT, differences

ROOT = Path(__file__).resolve().parents[2]

# What a migration may do by mistake, and what is told of it.
MISTAKES = {
    "create schema other": "schema other: found 'of who runs the migrations', wanted 'none'",
    "grant create on schema raw to operate": "schema raw: found 'of ingest; operate create, usage; transform",
    "grant insert on raw.load to operate": "table raw.load: found 'of ingest; operate insert, select; transform",
    "revoke select on ops.notice from analyst": "table ops.notice: found 'of operate; transform select'",
    "grant select (source) on raw.load to analyst": "column raw.load.source: found 'of ingest; analyst",
    "grant usage on all sequences in schema raw to analyst": "sequence raw.landed_file_landed_file_id_seq: found ",
    "drop table control.lock_report": "table control.lock_report: found 'none'",
    "create table marts.mine ()": "table marts.mine: found 'of who runs the migrations', wanted 'of transform; an",
    "revoke execute on function raw.ensure_partition from public": "function raw.ensure_partition: found 'of ingest'",
    "alter function raw.ensure_partition security definer": "function raw.ensure_partition: found 'of ingest, with",
    "alter default privileges for role operate grant select on tables to analyst": "later tables in any schema: ",
    "alter default privileges for role ingest in schema raw revoke select on tables from operate":
        "later tables in raw: found 'of ingest; transform select, trigger', wanted 'of ingest; operate select; tr",
    "grant ingest to analyst": "member analyst of ingest: found 'is one', wanted 'none'",
    "revoke analyst from operate": "member operate of analyst: found 'none', wanted 'is one'",
    "alter role operate createdb": "role operate: found 'may do more than it is granted'",
}  # fmt: skip


def test_migrations_come_to_what_is_said(settings: Settings) -> None:
    with connect(settings) as connection:
        assert differences(connection) == []
        connection.rollback()
        for statement, told in MISTAKES.items():
            connection.execute(statement.encode())
            first, *_ = differences(connection)
            assert (first[: len(told)], first[-len(WAY_OUT) :]) == (told, WAY_OUT), statement
            connection.rollback()  # roles are those of all tests


def test_the_page_says_the_same_of_schemas() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = page.partition("## Schemas and roles")[2].partition("\n## ")[0]
    owners: dict[str, str] = {}
    readers: dict[str, set[str]] = {}
    for line in section.splitlines():
        cells = [re.findall(r"`(\w+)`", cell) for cell in line.split("|")[1:-1]]
        if len(cells) == 4:
            for name in cells[0]:
                [owners[name]] = cells[2]
                readers[name] = {role for role in cells[3] if role in ROLES}
    assert owners == {name: schema.owner for name, schema in SCHEMAS.items()}
    # Of KPIs and forecasts analysts have views in another schema.
    for schema in ("kpi", "forecast"):
        readers[schema].discard("analyst")
    assert readers == {
        name: {*schema.tables, *(role for more in schema.besides.values() for role in more)}
        for name, schema in SCHEMAS.items()
    }
