"""Publish a tick: exchange the rows of all marts, and move the tick's low to its high, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from pipelines.subject import Publication, Step, in_use
from pipelines.transform.project import DbtError, ModelResult

# Share of a mart put in at once from which the planner has to be told, as autovacuum would have it; below, that does.
# Analysing reads a sample of the whole mart, which a tick must not do.
ANALYSE_ABOVE = 0.1


def publish(
    connection: psycopg.Connection[Any],
    models: Sequence[ModelResult],
    *,
    is_rebuild: bool,
    begun_by: str | None = None,
) -> list[Publication]:
    """Exchange the rows in scope of every `scoped` model, in the order given (the graph's), and close the tick.

    A rebuild exchanges all rows. `begun_by` is what the tick wrote into the control row: where another has begun since,
    because somebody ended the connection that held the lock, nothing is published. Commits, or raises DbtError naming
    the mart and leaves everything as it was.
    """
    publications: list[Publication] = []
    marts = [model for model in models if model.materialized == "scoped"]
    with connection.transaction():
        if not models:
            _empty_scopes(connection)
        for subject in in_use():
            if subject.restore is not None:
                subject.restore(connection, is_rebuild)
        for mart in marts:
            started = time.monotonic()
            try:
                deleted = connection.execute(_delete(mart, is_rebuild=is_rebuild)).rowcount
                inserted = connection.execute(_insert(mart)).rowcount
            except psycopg.Error as error:
                raise DbtError(
                    f"The mart {mart.name} was not published, nor any other: {str(error).strip()}"
                ) from error
            # The marts after it read its new rows, and must not be planned on what it was.
            _analyse(connection, mart.relation, inserted)
            publications.append(Publication(mart.name, deleted, inserted, time.monotonic() - started))
        for step in _steps():
            done = step.run(connection, is_rebuild)
            _analyse(connection, step.fills, sum(each.inserted for each in done))
            publications += done
        closed = connection.execute(
            "update control.tick set published_high = high, published_as_of = as_of, low = high,"
            " previous_as_of = as_of, published_at = clock_timestamp(), needs_rebuild = false"
            " where %(begun_by)s::text is null or begun_by = %(begun_by)s",
            {"begun_by": begun_by},
        ).rowcount
        if not closed:
            raise DbtError(
                "Another tick has begun meanwhile: the connection that held the lock was ended. Nothing was published.",
                "The other one does the work; whoever ends sessions of the server should leave those of Duemark.",
            )
    return publications


def _empty_scopes(connection: psycopg.Connection[Any]) -> None:
    """Take out what the scopes hold of an earlier tick, where dbt was not asked: this one touches no key."""
    for (scope,) in connection.execute(
        "select relname from pg_class where relnamespace = to_regnamespace('work') and relname like 'scope%'"
        " and relkind = 'r' order by relname"
    ).fetchall():
        connection.execute(sql.SQL("delete from {}").format(sql.Identifier("work", str(scope))))


def _steps() -> list[Step]:
    """What subjects do after the marts. What is old goes last, when all that reads it is computed."""
    return [step for one in in_use() for step in one.publish] + [
        step for one in in_use() for step in one.forget
    ]


def _analyse(connection: psycopg.Connection[Any], relation: str, inserted: int) -> None:
    """Analyse a table that many rows were put into, by the rows that it had as far as the planner knows."""
    if not inserted:
        return
    row = connection.execute(
        "select greatest(reltuples, 0) from pg_class where oid = to_regclass(%s)", [relation]
    ).fetchone()
    if row is not None and inserted > ANALYSE_ABOVE * row[0]:
        connection.execute(sql.SQL("analyze {}").format(sql.SQL(relation)))


def _delete(mart: ModelResult, *, is_rebuild: bool) -> sql.Composed:
    relation = sql.SQL(mart.relation)
    if is_rebuild:
        return sql.SQL("delete from {}").format(relation)
    keys = mart.meta["scope_keys"]
    return sql.SQL("delete from {} as mart using {} as scope where {}").format(
        relation,
        sql.Identifier("work", mart.meta["scope"]),
        sql.SQL(" and ").join(sql.SQL("mart.{0} = scope.{0}").format(sql.Identifier(key)) for key in keys),
    )


def _insert(mart: ModelResult) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, mart.columns))
    return sql.SQL("insert into {} ({}) select {} from ({}) as recomputed").format(
        sql.SQL(mart.relation), columns, columns, sql.SQL(mart.sql)
    )


def _mart_of(name: str) -> str | None:
    """The mart, a view, that the table `name` stands behind: what a tick did to it is told of the mart."""
    behind = {start: mart for one in in_use() for start, mart in one.behind.items()}
    return next((mart for start, mart in behind.items() if name.startswith(start)), None)


def told(publications: Sequence[Publication]) -> list[Publication]:
    """Publications by the mart that they are told of: those behind a view are one, with their rows and seconds."""
    found: dict[str, Publication] = {}
    for one in publications:
        name = _mart_of(one.name) or one.name
        before = found.get(name, Publication(name, 0, 0, 0.0))
        found[name] = Publication(
            name,
            before.deleted + one.deleted,
            before.inserted + one.inserted,
            before.seconds + one.seconds,
        )
    return list(found.values())
