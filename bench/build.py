"""The full build of the marts against SQL by hand that makes the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

from bench.measure import Cost, best
from bench.scale import Scale
from bench.table import Row
from bench.warehouse import Bank, Workshop
from pipelines.landing.ingest import ingest
from pipelines.transform.project import Project
from pipelines.transform.tick import TickReport, tick
from pipelines.warehouse.connect import connect

MARTS = ("job_run", "slo_job_run", "slo_job_performance", "slo_performance")


class DifferentError(AssertionError):
    """The SQL by hand does not say what the marts say, so its time is no yardstick."""


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """Ours is a whole tick; promises are planned before on both sides."""
    bank = shop.bank("build", scale.jobs, scale.days)
    project = Project(bank.settings)
    tick(project, bank.as_of)  # stores the catalog, whose zones the ingest needs
    ingest(bank.settings)
    reports = [tick(project, bank.as_of)]
    ours, by_hand = [], []
    for _ in range(scale.repeats):
        ours.append(_ours(shop, bank, project, reports))
        by_hand.append(_by_hand(shop, bank))
    _compare(bank)
    counts = {publication.name: publication.inserted for publication in reports[-1].publications}
    yield Row(
        f"full build: {bank.summary.records / 1e6:.2g} M statuses to {counts['slo_performance']:,} verdicts of"
        f" {bank.summary.slos} SLOs, wall",
        best(ours, lambda cost: cost.wall),
        yardstick=best(by_hand, lambda cost: cost.wall),
        yardstick_is="SQL by hand making the same rows",
        goal=3.0,
    )
    yield Row(
        "full build, CPU with the database",
        best(ours, lambda cost: cost.whole),
        yardstick=best(by_hand, lambda cost: cost.whole),
        yardstick_is="the same",
    )
    yield Row(
        f"promises of {bank.summary.slos} SLOs for {scale.days} business dates, the first time, wall",
        reports[0].seconds["prepare"],
    )


def _ours(shop: Workshop, bank: Bank, project: Project, reports: list[TickReport]) -> Cost:
    with connect(bank.settings, autocommit=True) as connection:
        # A rebuild takes rows out first; a build has none.
        connection.execute("truncate " + ", ".join(f"marts.{mart}" for mart in MARTS))
        connection.execute("checkpoint")
    return shop.meter.measure(lambda: reports.append(tick(project, bank.as_of, rebuild=True)))


def _by_hand(shop: Workshop, bank: Bank) -> Cost:
    statements = Path(__file__).with_name("by_hand.sql").read_text()
    statements = statements.replace(":as_of", f"'{bank.summary.as_of}'::timestamptz")
    with connect(bank.settings, autocommit=True) as connection:
        connection.execute("drop schema if exists by_hand cascade")
        connection.execute("create schema by_hand")
        keys = _keys(connection)
        connection.execute("checkpoint")

        def work() -> None:
            connection.execute(statements.encode())
            for statement in keys:
                connection.execute(statement.encode())

        return shop.meter.measure(work)


def _keys(connection: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    """The indexes that the marts have, for the tables by hand."""
    found = connection.execute(
        "select indexdef from pg_indexes where schemaname = 'marts' and tablename = any(%s)", [list(MARTS)]
    ).fetchall()
    return [str(row[0]).replace(" ON marts.", " ON by_hand.") for row in found]


def _compare(bank: Bank) -> None:
    with connect(bank.settings) as connection:
        for mart in MARTS:
            for one, other in (("marts", "by_hand"), ("by_hand", "marts")):
                row = connection.execute(
                    sql.SQL(
                        "select count(*) from (select * from {} except all select * from {}) as missing"
                    ).format(sql.Identifier(one, mart), sql.Identifier(other, mart))
                ).fetchone()
                if row != (0,):
                    raise DifferentError(f"{one}.{mart} has {row} rows that {other}.{mart} has not")
