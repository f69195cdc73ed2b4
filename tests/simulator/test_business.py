"""The made-up business: the same every time, sensible, made once, and told of where it cannot be made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from ruamel.yaml import YAML

from pipelines import demo
from pipelines.simulator.business import DATABASE, ZONE, business, is_made, make_business
from pipelines.warehouse.connect import connect, with_database
from pipelines.warehouse.settings import ROOT, Settings
from tests.conftest import _drop

END = datetime(2026, 3, 31, 12, 15, tzinfo=UTC)


@pytest.fixture
def name(settings: Settings, server_url: str) -> Iterator[str]:
    """A database's name that is nobody's; what is made under it is dropped."""
    found = f"{urlsplit(str(settings.database_url)).path[1:]}_business"
    yield found
    _drop(server_url, found)


def test_the_catalog_means_this_database() -> None:
    databases = YAML(typ="safe").load((ROOT / "catalog" / "databases.yml").read_text("utf-8"))["databases"]
    assert {each["database"] for each in databases} == {DATABASE}


def test_it_is_the_same_every_time() -> None:
    assert business(END, 42) == business(END, 42)
    assert business(END, 42) != business(END, 43)


def test_nothing_in_it_is_yet_to_come() -> None:
    made = business(END)
    subscriptions: list[Any] = made.subscriptions
    rows: list[Any] = [*subscriptions, *made.expenses, *made.accounts]
    assert max(row[-1] for row in rows) <= END
    for _, _, _, _, _, started, ended, _ in subscriptions:
        assert ended is None or started < ended <= END


def test_a_bank_would_believe_it() -> None:
    made = business(END)

    def active(at: datetime) -> list[Decimal]:
        rows: list[Any] = made.subscriptions
        return [row[4] for row in rows if row[5] <= at and (row[6] is None or row[6] > at)]

    revenue = [sum(active(END - timedelta(days=30 * back)), Decimal()) for back in range(12, -1, -1)]
    assert revenue == sorted(revenue)
    assert 15 < revenue[-1] / len(active(END)) < 60
    month = date(2026, 2, 1)
    expenses: list[Any] = made.expenses
    accounts: list[Any] = made.accounts
    spent = sum(row[3] for row in expenses if row[4].replace(day=1) == month)
    customers = [row for row in accounts if row[3].astimezone(ZONE).date().replace(day=1) == month]
    assert 60 < spent / len(customers) < 160


def test_it_is_made_once(settings: Settings, name: str) -> None:
    assert not is_made(settings, name)
    assert make_business(settings, END, name=name)
    assert not make_business(settings, END, name=name)
    assert is_made(settings, name)
    with connect(settings, database=name) as connection:
        row = connection.execute(
            "select count(*), max(updated_at) <= %s from subscriptions", [END]
        ).fetchone()
    assert row == (len(business(END).subscriptions), True)


def test_what_was_stopped_half_way_is_made(settings: Settings, server_url: str, name: str) -> None:
    with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    assert make_business(settings, END, name=name)
    assert is_made(settings, name)


def test_a_server_that_does_not_let_us_is_told_of(
    settings: Settings, server_url: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.setattr("pipelines.simulator.business.DATABASE", name)
    role = f"{name}_poor"
    with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password 'poor'").format(sql.Identifier(role)))
    try:
        url = with_database(str(settings.database_url), "postgres")
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        poor = replace(settings, database_url=parts._replace(netloc=f"{role}:poor@{host}").geturl())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            make_business(poor, END, name=name)
        assert demo._make_business(poor, END) is False
    finally:
        with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))
    told = capsys.readouterr().err
    assert "skipped: permission denied to create database" in told
    assert "The KPIs over it (MRR, CAC, ARPU, active subscriptions) are left out." in told
    assert name in told
