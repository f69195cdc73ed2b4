"""Copies of other databases: what is new, changed and gone; a database that fails; and that no tick waits for it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipelines.copies import declared
from pipelines.copies.declared import declared_databases, declared_file
from pipelines.copies.due import next_instant
from pipelines.copies.kept import columns_file
from pipelines.copies.known import known_columns
from pipelines.copies.refresh import ensure, refresh, refresh_now
from pipelines.copies.source import opened
from pipelines.warehouse import homes
from pipelines.warehouse.connect import connect, with_database
from pipelines.warehouse.settings import Settings
from tests.conftest import _database, _drop
from tests.transform.support import Warehouse
from tests.waiting import until

DATABASES = """\
databases:
  - id: shop
    url_env: TEST_SHOP_URL
    timeout: 1h
    every: 1s
    tables:
      orders: {key: [id], cursor: changed_at, compare_every: 1d, overlap: 1m}
  - id: gone
    url_env: TEST_GONE_URL
    timeout: 1s
    tables:
      things: {key: [id]}
"""
ORDERS = """
create type mood as enum ('glad', 'sad');
create table orders (
    id int, "Place" text, amount numeric(12, 2), at date, changed_at timestamptz, note jsonb, feels mood, raw bytea
);
"""
FIRST = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.fixture
def shop(server_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The other database, with three orders."""
    name = _database(server_url)
    with psycopg.connect(with_database(server_url, name), autocommit=True) as connection:
        connection.execute(ORDERS)
        for number in (1, 2, 3):
            connection.execute(
                "insert into orders values (%s, 'north', 10.50, '2026-03-01', %s, '{\"a\": 1}', 'glad', '\\x00')",
                [number, FIRST + timedelta(hours=number)],
            )
        yield connection
    _drop(server_url, name)


@pytest.fixture
def house(
    settings: Settings,
    tmp_path: Path,
    shop: psycopg.Connection[Any],
    server_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """A warehouse whose catalog names both databases; the second is never there."""
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    (catalog / "databases.yml").write_text(DATABASES, "utf-8")
    monkeypatch.setenv("TEST_SHOP_URL", with_database(server_url, shop.info.dbname))
    monkeypatch.setenv("TEST_GONE_URL", f"sqlite:///{tmp_path}/none.db")
    return replace(settings, catalog=catalog)


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with connect(settings) as connection:
        return connection.execute(query.encode()).fetchall()


def copied(settings: Settings) -> list[tuple[Any, ...]]:
    return rows(settings, 'select id, "Place", amount::text from copies.shop_orders order by id')


def due(settings: Settings) -> None:
    with connect(settings, "ingest") as connection:
        connection.execute("update copies.state set next_at = '-infinity'")
    refresh(settings)


def test_rows_come_change_and_go(house: Settings, shop: psycopg.Connection[Any]) -> None:
    ensure(house)
    refresh(house)
    assert copied(house) == [(1, "north", "10.50"), (2, "north", "10.50"), (3, "north", "10.50")]
    (types,) = rows(house, "select columns from copies.state where database_id = 'shop'")
    assert dict(types[0]) == {
        "id": "bigint", "Place": "text", "amount": "numeric(12,2)", "at": "date",
        "changed_at": "timestamp with time zone", "note": "jsonb", "feels": "text",
    }  # fmt: skip

    shop.execute("insert into orders (id, changed_at) values (4, %s)", [FIRST + timedelta(days=1)])
    shop.execute("update orders set amount = 11, changed_at = %s where id = 1", [FIRST + timedelta(days=2)])
    shop.execute("delete from orders where id = 2")
    due(house)
    assert copied(house) == [
        (1, "north", "11.00"),
        (2, "north", "10.50"),
        (3, "north", "10.50"),
        (4, None, None),
    ]

    refresh_now(house, compare=True)
    assert [row[0] for row in copied(house)] == [1, 3, 4]
    assert rows(
        house, "select row_count, read_at = compared_at, error from copies.state where table_name = 'orders'"
    ) == [(3, True, None)]
    assert rows(house, "select feed, source, record_count from raw.load where feed = 'copy' order by load_id") == [
        ("copy", "shop.orders", 3), ("copy", "shop.orders", 2), ("copy", "shop.orders", 1),
    ]  # fmt: skip


def test_what_is_the_same_is_not_written(house: Settings) -> None:
    refresh_now(house)
    before = rows(house, "select ctid::text, xmin::text from copies.shop_orders order by id")
    refresh_now(house, compare=True)
    due(house)
    assert rows(house, "select ctid::text, xmin::text from copies.shop_orders order by id") == before
    assert rows(house, "select count(*) from raw.load where feed = 'copy'") == [(1,)]
    (read,) = rows(house, "select began_at = read_at from raw.feed_read, copies.state"
                   " where feed = 'copies.shop_orders' and table_name = 'orders'")  # fmt: skip
    assert read == (True,)


def test_a_late_commit_within_the_overlap_is_found(house: Settings, shop: psycopg.Connection[Any]) -> None:
    refresh_now(house)
    shop.execute(
        "insert into orders (id, changed_at) values (9, %s)", [FIRST + timedelta(hours=3, seconds=-30)]
    )
    shop.execute("insert into orders (id, changed_at) values (8, %s)", [FIRST + timedelta(hours=2)])
    due(house)
    assert [row[0] for row in copied(house)] == [1, 2, 3, 9]
    refresh_now(house, compare=True)
    assert [row[0] for row in copied(house)] == [1, 2, 3, 8, 9]


def test_a_row_without_a_cursor_is_found_with_the_next_read(
    house: Settings, shop: psycopg.Connection[Any]
) -> None:
    refresh_now(house)
    shop.execute("insert into orders (id) values (5)")
    due(house)
    assert [row[0] for row in copied(house)] == [1, 2, 3, 5]
    shop.execute("update orders set amount = 7 where id = 5")
    due(house)
    assert copied(house)[-1] == (5, None, "7.00")


def test_a_cursor_that_is_no_number_hides_nothing(house: Settings, shop: psycopg.Connection[Any]) -> None:
    declare(house, DATABASES.replace("cursor: changed_at", "cursor: amount"))
    shop.execute("update orders set amount = 'NaN' where id = 3")
    refresh_now(house)
    shop.execute("insert into orders (id, amount) values (4, 20)")
    due(house)
    assert copied(house)[2:] == [(3, "north", "NaN"), (4, None, "20.00")]


def test_columns_of_any_name(house: Settings, shop: psycopg.Connection[Any]) -> None:
    shop.execute(
        "alter table orders add is_new boolean, add is_new_ int, add old text, add new text, add incoming int"
    )
    refresh_now(house)
    shop.execute("update orders set is_new = true, old = 'a', new = 'b', changed_at = now() where id = 1")
    due(house)
    assert rows(house, "select error, row_count from copies.state where database_id = 'shop'") == [(None, 3)]
    assert rows(house, "select is_new, old, new from copies.shop_orders order by id limit 2") == [
        (True, "a", "b"), (None, None, None)
    ]  # fmt: skip


def test_times_that_python_has_not(house: Settings, shop: psycopg.Connection[Any]) -> None:
    text = DATABASES.replace("    every: 1s", "    every: 1s\n    timezone: America/New_York")
    (house.catalog / "databases.yml").write_text(text, "utf-8")
    shop.execute("alter table orders add wall timestamp")
    shop.execute(
        """
        insert into orders (id, at, changed_at, wall) values
            (4, 'infinity', 'infinity', '-infinity'),
            (5, '0044-03-15 BC', '0044-03-15 12:00 BC', '0044-03-15 12:00 BC'),
            (6, '12000-01-01', '12000-01-01', '9999-12-31 23:00'),
            (7, '2026-02-01', '2026-02-01 00:00:00.25Z', '2026-11-01 01:30:00.5'),
            (8, '0001-01-01', '0001-01-01 00:00Z', '2026-03-08 02:30')
        """
    )
    refresh_now(house)
    expected = [
        (4, "infinity", "infinity", "-infinity"),
        (5, "-infinity", "-infinity", "-infinity"),
        (6, "infinity", "infinity", "infinity"),
        # Of the hour that comes twice, the first; of the one that is left out, the hour after.
        (7, "2026-02-01", "2026-02-01 00:00:00.25+00", "2026-11-01 05:30:00.5+00"),
        (8, "0001-01-01", "0001-01-01 00:00:00+00", "2026-03-08 07:30:00+00"),
    ]
    query = (
        "select id, at::text, changed_at::text, wall::text from copies.shop_orders where id > 3 order by id"
    )
    assert rows(house, "select error from copies.state where database_id = 'shop'") == [(None,)]
    assert rows(house, query) == expected
    # An infinite cursor does not hide what comes after the others.
    shop.execute("insert into orders (id, changed_at) values (9, %s)", [FIRST + timedelta(days=1)])
    due(house)
    assert rows(house, query) == [*expected, (9, None, "2026-03-02 12:00:00+00", None)]
    refresh_now(house, compare=True)
    assert rows(house, "select count(*) from raw.load where feed = 'copy'") == [(2,)]


def test_a_database_that_fails_stops_no_other_and_is_asked_again_later(
    house: Settings, tmp_path: Path
) -> None:
    ensure(house)
    refresh(house)
    assert len(copied(house)) == 3
    ((error, failures, waits),) = rows(
        house, "select error, failures, next_at - failed_at from copies.state where database_id = 'gone'"
    )
    assert error == f"there is no file {tmp_path}/none.db"
    assert (failures, waits) == (1, timedelta(minutes=5))
    due(house)
    due(house)
    ((failures, waits),) = rows(
        house, "select failures, next_at - failed_at from copies.state where database_id = 'gone'"
    )
    assert (failures, waits) == (3, timedelta(minutes=20))

    with sqlite3.connect(tmp_path / "none.db") as other:
        other.execute(
            "create table things (id integer primary key, at datetime, price numeric(8, 2), kind varchar)"
        )
        other.execute("insert into things values (1, '2026-03-08 01:30:00', 2.5, 'a')")
    other.close()
    due(house)
    assert rows(house, "select id, at::text, price::text, kind from copies.gone_things") == [
        (1, "2026-03-08 01:30:00+00", "2.50", "a")
    ]
    assert rows(house, "select error, failures from copies.state where database_id = 'gone'") == [(None, 0)]


def test_a_variable_that_is_not_set(house: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_SHOP_URL")
    ensure(house)
    assert rows(house, "select error from copies.state where database_id = 'shop'") == [
        ("TEST_SHOP_URL is not set",)
    ]


def test_no_tick_waits_for_a_slow_database(
    house: Settings, shop: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(house)
    monkeypatch.setattr("pipelines.copies.refresh.WAIT", 0.0)
    with shop.transaction():
        # As long as it lasts nothing can be read.
        shop.execute("lock table orders in access exclusive mode")
        refresh(house)
        assert copied(house) == []
    # What takes longer comes with a later tick.
    until(lambda: len(copied(house)) == 3)


def test_a_statement_that_takes_too_long_is_ended(house: Settings, shop: psycopg.Connection[Any]) -> None:
    declare(house, DATABASES.replace("timeout: 1h", "timeout: 2s"))
    ensure(house)
    shop.execute("alter table orders rename to slow")
    shop.execute("create view orders as select *, pg_sleep(9)::text as pause from slow")
    refresh(house)
    ((error,),) = until(
        lambda: rows(house, "select error from copies.state where database_id = 'shop' and error is not null")
    )
    assert "statement timeout" in error


def test_the_other_database_is_only_read(house: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (database,) = [one for one in declared_databases(house) if one.id == "shop"]
    with (
        opened(house, database) as engine,
        engine.connect() as connection,
        pytest.raises(Exception, match="read-only"),
    ):
        connection.exec_driver_sql("delete from orders")


def test_a_table_that_changes_its_shape_is_followed(house: Settings, shop: psycopg.Connection[Any]) -> None:
    refresh_now(house)
    shop.execute(
        "alter table orders drop column note, add column tax numeric default 2, alter amount type float"
    )
    due(house)
    assert rows(house, "select id, amount, tax::text from copies.shop_orders order by id") == [
        (1, 10.5, "2"), (2, 10.5, "2"), (3, 10.5, "2")
    ]  # fmt: skip
    text = DATABASES.replace("key: [id], cursor", 'key: [id, "Place"], cursor')
    (house.catalog / "databases.yml").write_text(text, "utf-8")
    os.utime(house.catalog / "databases.yml", (1, 1))
    due(house)
    assert rows(house, "select key, row_count from copies.state where database_id = 'shop'") == [
        (["id", "Place"], 3)
    ]


def test_only_the_columns_that_are_named(house: Settings, shop: psycopg.Connection[Any]) -> None:
    text = DATABASES.replace("key: [id], cursor", "columns: [id, changed_at, amount], key: [id], cursor")
    (house.catalog / "databases.yml").write_text(text, "utf-8")
    refresh_now(house)
    assert len(rows(house, "select * from copies.shop_orders")[0]) == 3


def test_columns_are_known_before_anything_was_copied(house: Settings) -> None:
    shop, gone = declared_databases(house)
    known = known_columns(house, shop, "orders")
    assert not isinstance(known, str)
    assert known["amount"] == "numeric(12,2)"
    assert known_columns(house, gone, "things") == f"there is no file {house.home.parent}/none.db"


def declare(settings: Settings, text: str) -> None:
    (settings.catalog / "databases.yml").write_text(text, "utf-8")
    homes.of(settings).put(declared.DECLARED, None)


def state(settings: Settings) -> list[tuple[Any, ...]]:
    return rows(settings, "select database_id, table_name, error from copies.state order by 1, 2")


def test_what_is_not_declared_any_more_is_forgotten(house: Settings, shop: psycopg.Connection[Any]) -> None:
    began = datetime.now(UTC)
    shop.execute("create table parcels (id int)")
    shop.execute("create table letters (id int)")
    more = "      parcels: {key: [id]}\n      letters: {key: [id]}\n  - id: gone"
    declare(house, DATABASES.replace("  - id: gone", more))
    refresh_now(house)
    assert len(state(house)) == 4
    with connect(house, "transform") as connection:
        connection.execute(
            "insert into kpi.clock (clock, relation, time_column, is_date, feeds)"
            " values ('c', 'copies.shop_letters', 'at', false, '{}')"
        )
    declare(house, DATABASES.partition("  - id: gone")[0])
    refresh(house)
    assert state(house) == [("shop", "orders", None)]
    left = "select to_regclass('copies.shop_parcels') is null, to_regclass('copies.shop_letters') is null"
    assert rows(house, left) == [(True, False)]
    assert rows(house, "select feed from raw.feed_read order by 1") == [
        ("copies.shop_letters",),
        ("copies.shop_orders",),
    ]
    with connect(house) as connection:
        assert next_instant(connection) > began  # type: ignore[operator]
    assert "shop_parcels" not in columns_file(house).read_text("utf-8")

    # The one that KPIs read is there again as soon as it is declared again; and goes once none reads it.
    shop.execute("insert into letters values (1)")
    declare(house, DATABASES.replace("  - id: gone", more))
    refresh_now(house)
    assert rows(house, "select id from copies.shop_letters") == [(1,)]
    with connect(house, "transform") as connection:
        connection.execute("delete from kpi.clock")
    (house.catalog / "databases.yml").unlink()
    refresh(house)
    assert state(house) == []
    assert rows(house, "select relname from pg_class where relnamespace = 'copies'::regnamespace"
                " and relkind = 'r'") == [("state",)]  # fmt: skip


@pytest.mark.parametrize(
    "fault",
    [
        DATABASES.replace("timeout: 1h", "timeout: 1h\n    tiemout: 3s"),
        DATABASES.replace("id: shop", "id: [shop]"),
        DATABASES.replace("key: [id], cursor", "key: [id], cruser"),
        DATABASES + "  - {id: Shop}: x\n",
        DATABASES.replace(
            "  - id: gone", "  - id: shop\n    url_env: OTHER\n    tables: {a: {key: [id]}}\n  - id: gone"
        ),
    ],
)
def test_while_the_catalog_has_a_fault_what_stood_before_stands(
    house: Settings, shop: psycopg.Connection[Any], fault: str
) -> None:
    refresh_now(house)
    before = state(house)
    assert len(before) == 2
    shop.execute("insert into orders (id, changed_at) values (4, %s)", [FIRST + timedelta(days=1)])
    declare(house, fault)
    due(house)
    assert state(house) == before
    assert [row[0] for row in copied(house)] == [1, 2, 3, 4]
    # Another process, and another fault.
    shop.execute("delete from orders where id = 1")
    declare(house, "databases: 3")
    refresh_now(house, compare=True)
    assert [row[0] for row in copied(house)] == [2, 3, 4]
    declare(house, DATABASES)
    assert [one.id for one in declared_databases(house)] == ["shop", "gone"]


def test_a_fault_where_nothing_is_known_of_before(house: Settings) -> None:
    refresh_now(house)
    declared_file(house).unlink()
    declare(house, DATABASES.replace("id: shop", "id: shop\n    colour: red"))
    due(house)
    assert state(house)[1] == ("shop", "orders", "databases.yml has a fault, and says nothing of it")
    assert rows(house, "select next_at > now() from copies.state where database_id = 'shop'") == [(True,)]
    assert len(copied(house)) == 3


def test_a_copy_takes_the_name_of_one_that_is_gone(house: Settings, shop: psycopg.Connection[Any]) -> None:
    refresh_now(house)
    shop.execute("create schema shop")
    shop.execute("create table shop.orders (id int, amount text, more int)")
    shop.execute("insert into shop.orders values (7, 'x', 1)")
    text = DATABASES.replace("      orders: {key: [id], cursor: changed_at, compare_every: 1d, overlap: 1m}",
                             "      Orders: {key: [id]}")  # fmt: skip
    shop.execute('create view "Orders" as select * from shop.orders')
    declare(house, text)
    refresh_now(house)
    assert state(house) == [
        ("gone", "things", f"there is no file {house.home.parent}/none.db"),
        ("shop", "Orders", None),
    ]
    assert rows(house, "select * from copies.shop_orders") == [(7, "x", 1)]


def test_a_copy_goes_with_the_kpi_that_read_it(
    warehouse: Warehouse, shop: psycopg.Connection[Any], server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SHOP_URL", with_database(server_url, shop.info.dbname))
    source = {"database": "shop", "table": "orders", "column": "amount", "aggregation": "sum"}
    variable = {"source": source, "time_column": "changed_at"}
    formula = {"type": "composite", "expression": "total", "variables": {"total": variable}}
    kpi = {
        "id": "sold", "category": "custom", "description": "x", "formula": formula, "aggregations": ["day"],
    }  # fmt: skip
    database = {
        "id": "shop", "url_env": "TEST_SHOP_URL", "every": "1s",
        "tables": {"orders": {"key": ["id"], "cursor": "changed_at"}},
    }  # fmt: skip
    warehouse.write_catalog({"kpis": [kpi], "databases": [database]})
    shop.execute(
        "insert into orders (id, amount, changed_at) values (9, 1, 'infinity'), (8, 1, '0044-03-15 BC')"
    )
    warehouse.tick("2026-03-03 12:00")
    warehouse.tick("2026-03-03 12:01")
    query = (
        "select period, value::float8 as value, to_regclass('copies.shop_orders') is null as is_gone"
        " from marts.kpi_value"
    )
    assert warehouse.query(query) == [{"period": "2026-03-01", "value": 31.5, "is_gone": False}]
    # Its database is not there any more, but the KPI is: it stands as it was.
    warehouse.write_catalog({"kpis": [kpi], "databases": []})
    warehouse.tick("2026-03-03 12:02")
    assert warehouse.query("select from copies.state") == []
    assert warehouse.query(query) == [{"period": "2026-03-01", "value": 31.5, "is_gone": False}]
    warehouse.write_catalog({"kpis": [], "databases": []})
    warehouse.tick("2026-03-03 12:03")
    assert warehouse.query("select to_regclass('copies.shop_orders') is null as is_gone") == [
        {"is_gone": True}
    ]
    warehouse.tick("2026-03-03 12:04")
