"""A made-up business in a database of its own: subscriptions, what was spent on marketing, and accounts.

For KPIs over another database. The same seed and end give the same rows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import psycopg
from psycopg import sql

from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

DATABASE = "demo_business"
DAYS = 400
ZONE = ZoneInfo("America/New_York")

PLANS = (("basic", "9.00"), ("plus", "29.00"), ("premium", "99.50"))
_PLAN_WEIGHTS = (5, 3, 2)
REGIONS = ("north", "south", "west", None)
# Each channel's campaigns, spending a day in USD, and customers that a day brings.
CHANNELS: tuple[tuple[str, tuple[str | None, ...], int, float], ...] = (
    ("search", ("brand", "generic"), 240, 2.2),
    ("social", ("spring", "autumn"), 160, 1.1),
    ("branches", (None,), 60, 0.8),
    ("partners", ("university",), 0, 0.4),
)

TABLES = """
create table subscriptions (
    id bigint primary key,
    customer_id bigint not null,
    plan_type text not null,
    region text,
    amount numeric(12, 2) not null,
    started_at timestamptz not null,
    ended_at timestamptz,
    updated_at timestamptz not null
);
create table expenses (
    id bigint primary key,
    channel text not null,
    campaign text,
    amount numeric(12, 2) not null,
    spent_on date not null,
    updated_at timestamptz not null
);
create table accounts (
    id bigint primary key,
    channel text not null,
    campaign text,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
"""


@dataclass(frozen=True)
class Business:
    """Rows of the three tables, in the order of their columns."""

    subscriptions: list[tuple[object, ...]]
    expenses: list[tuple[object, ...]]
    accounts: list[tuple[object, ...]]


def business(end: datetime, seed: int = 42, days: int = DAYS) -> Business:
    """What there is at `end`, after `days` days in New York."""
    chance = random.Random(seed)
    last = end.astimezone(ZONE).date()
    made = Business([], [], [])
    for number in range(days, -1, -1):
        day = last - timedelta(days=number)
        weekend = day.weekday() > 4
        for channel, campaigns, spending, customers in CHANNELS:
            for campaign in campaigns:
                if spending and not (weekend and channel == "branches"):
                    amount = Decimal(chance.randint(50, 150)) * spending / len(campaigns) / 100
                    at = _moment(chance, day, 18)
                    if at <= end:
                        made.expenses.append(
                            (
                                len(made.expenses) + 1,
                                channel,
                                campaign,
                                amount.quantize(Decimal("0.01")),
                                day,
                                at,
                            )
                        )
                rate = customers / len(campaigns) * (0.4 if weekend else 1.2)
                for _ in range(_count(chance, rate)):
                    _customer(chance, made, day, end, channel, campaign)
    return made


def _count(chance: random.Random, rate: float) -> int:
    return int(rate) + (chance.random() < rate % 1)


def _moment(chance: random.Random, day: date, hour: int | None = None) -> datetime:
    clock = time(
        chance.randint(6, 22) if hour is None else hour, chance.randint(0, 59), chance.randint(0, 59)
    )
    return datetime.combine(day, clock, ZONE).astimezone(UTC)


def _customer(
    chance: random.Random, made: Business, day: date, end: datetime, channel: str, campaign: str | None
) -> None:
    """An account, and most often a subscription, which may be changed for another or ended."""
    created = _moment(chance, day)
    if created > end:
        return
    customer = len(made.accounts) + 1
    made.accounts.append((customer, channel, campaign, created, created))
    if chance.random() > 0.7:
        return
    region = chance.choice(REGIONS)
    started = created + timedelta(minutes=chance.randint(5, 3 * 1440))
    while started <= end:
        ((plan, amount),) = chance.choices(PLANS, _PLAN_WEIGHTS)
        lasts = timedelta(hours=chance.randint(20 * 24, 500 * 24))
        ended = started + lasts if started + lasts <= end else None
        made.subscriptions.append(
            (
                len(made.subscriptions) + 1, customer, plan, region, Decimal(amount), started, ended,
                ended or started,
            )
        )  # fmt: skip
        if ended is None or chance.random() < 0.5:
            return
        started = ended


def is_made(settings: Settings, name: str = DATABASE) -> bool:
    """Whether the database is there, with its tables. Raises psycopg.Error or DuemarkError where it lets nobody in."""
    if not _exists(settings, name):
        return False
    with connect(settings, database=name) as connection:
        return connection.execute("select to_regclass('subscriptions')").fetchone() != (None,)


def make_business(settings: Settings, end: datetime, seed: int = 42, name: str = DATABASE) -> bool:
    """Make the database on the warehouse's server, with what there is at `end`; False where it is there already.

    The tables come in one transaction, so that what was stopped half-way is made again. Raises psycopg.Error or
    DuemarkError where the server does not let this user.
    """
    if not _exists(settings, name):
        with connect(settings, autocommit=True) as connection:
            connection.execute(
                sql.SQL("create database {} template template0 encoding 'UTF8'").format(sql.Identifier(name))
            )
    if is_made(settings, name):
        return False
    with connect(settings, database=name) as connection:
        fill(connection, business(end, seed))
    return True


def _exists(settings: Settings, name: str) -> bool:
    with connect(settings) as connection:
        found = connection.execute("select from pg_database where datname = %s", [name]).fetchone()
    return found is not None


def fill(connection: psycopg.Connection[tuple[object, ...]], made: Business) -> None:
    """Make the tables with these rows, in the transaction of `connection`."""
    connection.execute(TABLES)
    for table in ("subscriptions", "expenses", "accounts"):
        with (
            connection.cursor() as cursor,
            cursor.copy(sql.SQL("copy {} from stdin").format(sql.Identifier(table))) as copy,
        ):
            for row in getattr(made, table):
                copy.write_row(row)
