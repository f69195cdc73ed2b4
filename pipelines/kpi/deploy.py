"""Deploys the generated models: states made anew where they changed, triggers on what they read, the KPIs' plan."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from pipelines.kpi.compile.places import PLAN, model_file
from pipelines.landing import known_feeds
from pipelines.logs import get_logger
from pipelines.transform.project import DbtError, Project, generated, manifest_json
from pipelines.warehouse.connect import Role, connect

if TYPE_CHECKING:
    from pipelines.transform.project import ModelResult

log = get_logger(__name__)

EVENTS = {
    "insert": "referencing new table as new_rows",
    "update": "referencing new table as new_rows old table as old_rows",
    "delete": "referencing old table as old_rows",
    "truncate": "",
}


def deploy_generated(project: Project, is_made_anew: bool) -> None:
    """Make what changed among the generated models; the next tick computes it. `is_made_anew`: the core was.

    A model that can't be made keeps its problem, and stops no other. Nothing to do costs four short queries.
    """
    files = generated(project.settings)
    plan: dict[str, Any] = orjson.loads(files[PLAN]) if files else {"models": {}, "kpis": {}, "clocks": {}}
    with connect(project.settings, "transform", autocommit=True) as connection:
        if connection.execute("select to_regclass('kpi.model')").fetchone() == (None,):
            return
        deployed = {
            str(name): (str(kind), str(fingerprint), bool(is_made))
            for name, kind, fingerprint, is_made in connection.execute(
                "select name, kind, fingerprint, query <> '' from kpi.model"
            )
        }
        if not plan["models"] and not deployed:
            return
        prints = {
            name: hashlib.sha256(files[model_file(name)].encode()).hexdigest() for name in plan["models"]
        }
        wanted = [
            name
            for name, fingerprint in prints.items()
            if is_made_anew or deployed.get(name, ("", "", False))[1] != fingerprint or not deployed[name][2]
        ]
        for name in [name for name in deployed if name not in prints]:
            _drop(connection, name, deployed[name][0])
        if wanted:
            _make(project, connection, plan, wanted, prints)
        _kpis(connection, plan, is_made_anew=is_made_anew)
        if _clocks(project, connection, plan, is_made_anew=is_made_anew) or wanted:
            _index(project, connection)
        _triggers(connection, plan)


def _drop(connection: psycopg.Connection[Any], name: str, kind: str) -> None:
    if kind == "state":
        connection.execute(sql.SQL("drop table if exists {}").format(sql.Identifier("kpi", name)))
    connection.execute("delete from kpi.model where name = %s", [name])


def _make(
    project: Project,
    connection: psycopg.Connection[Any],
    plan: dict[str, Any],
    wanted: list[str],
    prints: dict[str, str],
) -> None:
    made: dict[str, ModelResult] = {}
    problems: dict[str, str] = {}
    try:
        made = {result.name: result for result in project.run("run", "--select", *wanted)}
    except DbtError:
        # One by one, so that each has its own problem and no other's.
        for name in wanted:
            try:
                made |= {result.name: result for result in project.run("run", "--select", name)}
            except DbtError as error:
                problems[name] = str(error)
                log.warning("a KPI model could not be made", model=name, problem=str(error))
    for name in wanted:
        model = plan["models"][name]
        query = made[name].sql if name in made else ""
        connection.execute(
            """
            insert into kpi.model (name, kind, fingerprint, query, spec, needs_full, problem)
            values (%s, %s, %s, %s, %s, %s, %s)
            on conflict (name) do update set kind = excluded.kind, fingerprint = excluded.fingerprint,
                query = excluded.query, spec = excluded.spec, problem = excluded.problem,
                needs_full = model.needs_full or excluded.needs_full
            """,
            # Values that read other states are the same values, until the KPI itself says otherwise.
            [
                name,
                model["kind"],
                prints[name],
                query,
                Jsonb(model),
                model["kind"] == "state",
                problems.get(name),
            ],
        )


def _kpis(connection: psycopg.Connection[Any], plan: dict[str, Any], *, is_made_anew: bool) -> None:
    stands = {
        str(kpi_id): (version, value_version, spec)
        for kpi_id, version, value_version, spec in connection.execute(
            "select kpi_id, version, value_version, spec from kpi.kpi where not is_gone"
        )
    }
    for kpi_id, kpi in plan["kpis"].items():
        if not is_made_anew and stands.get(kpi_id) == (kpi["version"], kpi["value_version"], kpi):
            continue
        connection.execute(
            """
            insert into kpi.kpi (kpi_id, model, version, value_version, spec) values (%s, %s, %s, %s, %s)
            on conflict (kpi_id) do update set
                needs_full = kpi.needs_full or %s or kpi.is_gone or kpi.value_version <> excluded.value_version,
                model = excluded.model, version = excluded.version, value_version = excluded.value_version,
                spec = excluded.spec, is_gone = false
            where %s or kpi.is_gone or (kpi.model, kpi.version, kpi.value_version, kpi.spec)
                is distinct from (excluded.model, excluded.version, excluded.value_version, excluded.spec)
            """,
            [
                kpi_id,
                kpi["model"],
                kpi["version"],
                kpi["value_version"],
                Jsonb(kpi),
                is_made_anew,
                is_made_anew,
            ],
        )
    connection.execute(
        "update kpi.kpi set is_gone = true where not is_gone and kpi_id <> all(%s)", [list(plan["kpis"])]
    )


def _clocks(
    project: Project, connection: psycopg.Connection[Any], plan: dict[str, Any], *, is_made_anew: bool
) -> bool:
    """One row a clock; return whether they are others than before."""
    stands = {
        str(clock): bool(is_date)
        for clock, is_date in connection.execute("select clock, is_date from kpi.clock")
    }
    if not is_made_anew and stands == {clock: spec["is_date"] for clock, spec in plan["clocks"].items()}:
        return False
    for clock, spec in plan["clocks"].items():
        connection.execute(
            """
            insert into kpi.clock (clock, relation, time_column, is_date, feeds) values (%s, %s, %s, %s, %s)
            on conflict (clock) do update set is_date = excluded.is_date, feeds = excluded.feeds
            """,
            [
                clock,
                spec["relation"],
                spec["time_column"],
                spec["is_date"],
                _feeds(project, spec["relation"]),
            ],
        )
    connection.execute("delete from kpi.clock where clock <> all(%s)", [list(plan["clocks"])])
    return True


def _triggers(connection: psycopg.Connection[Any], plan: dict[str, Any]) -> None:
    """Those of each table that is read, by its time columns."""
    columns: dict[str, list[str]] = {}
    for spec in plan["clocks"].values():
        columns.setdefault(spec["relation"], []).append(spec["time_column"])
    standing = {
        (str(relation), str(event)): str(arguments)
        for relation, event, arguments in connection.execute(
            """
            select format('%s.%s', relnamespace::regnamespace, relname), substr(tgname, 13),
                encode(tgargs, 'escape')
            from pg_trigger inner join pg_class on tgrelid = pg_class.oid
            where tgname like 'kpi\\_touched\\_%' and tgparentid = 0
            """
        )
    }
    for relation, names in columns.items():
        arguments = "".join(f"{name}\\000" for name in sorted(names))
        for event, tables in EVENTS.items():
            if standing.pop((relation, event), None) == arguments:
                continue
            try:
                connection.execute(
                    sql.SQL(
                        "create or replace trigger {} after {} on {} {} for each statement"
                        " execute function kpi.log_touched({})"
                    ).format(
                        sql.Identifier(f"kpi_touched_{event}"),
                        sql.SQL(event),
                        sql.Identifier(*relation.split(".")),
                        sql.SQL(tables),
                        sql.SQL(", ").join(map(sql.Literal, sorted(names))),
                    )
                )
            except psycopg.errors.UndefinedTable as error:
                # Its state could not be made either, and tells so.
                log.warning("a table that KPIs read is not there", table=relation, problem=str(error).strip())
                break
    for relation, event in standing:
        # Who deploys may make a trigger on another's table, but only its owner takes it away: it logs on, unread.
        with_owner = connection.execute(
            "select pg_has_role(relowner, 'usage') from pg_class where oid = %s::regclass", [relation]
        ).fetchone()
        if with_owner == (True,):
            connection.execute(
                sql.SQL("drop trigger {} on {}").format(
                    sql.Identifier(f"kpi_touched_{event}"), sql.Identifier(*relation.split("."))
                )
            )


def _index(project: Project, connection: psycopg.Connection[Any]) -> None:
    """Give each table that a KPI reads an index by its time, so that few hours of a long history are found at once."""
    missing = connection.execute(
        """
        select distinct relnamespace::regnamespace::text, relname::text, time_column
        from kpi.clock
        inner join pg_class on pg_class.oid = to_regclass(relation) and relkind in ('r', 'p')
        inner join pg_attribute on attrelid = pg_class.oid and attname = time_column
        where not exists (
            select from pg_index where indrelid = pg_class.oid and indkey[0] = attnum and indpred is null
        )
        order by 1, 2, 3
        """
    ).fetchall()
    for schema, table, column in missing:
        role: Role = "transform" if schema == "marts" else "ingest"
        with connect(project.settings, role, autocommit=True) as owner:
            owner.execute(
                sql.SQL("create index on {} ({})").format(
                    sql.Identifier(str(schema), str(table)), sql.Identifier(str(column))
                )
            )


def _feeds(project: Project, relation: str) -> list[str]:
    """The feeds that a table is made of: of the raw tables upstream of it in the graph of the project."""
    schema, _, table = relation.partition(".")
    if schema == "copies":
        # A copy notes by its own name how far it was read.
        return [relation]
    if schema == "raw":
        return known_feeds.tables().get(table, [table])
    parents: dict[str, list[str]] = manifest_json(project.settings)["parent_map"]
    feeds: set[str] = set()
    seen: set[str] = set()
    ahead = [f"model.duemark.{table}"]
    while ahead:
        key = ahead.pop()
        if key in seen:
            continue
        seen.add(key)
        ahead += parents.get(key, [])
        if key.startswith("source.duemark.raw."):
            # Other tables of the schema hold no records of a feed.
            feeds.update(known_feeds.tables().get(key.rpartition(".")[2], []))
    return sorted(feeds)
