"""Values computed, laid beside those that stand, and put in place of those that differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from psycopg import sql

from pipelines.kpi.engine.restate import restate
from pipelines.kpi.engine.sealed import unsealed
from pipelines.kpi.engine.spans import within_periods
from pipelines.kpi.engine.work import ValuesQuery

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


def exchange(
    connection: Connection, spec: Mapping[str, Any], query: ValuesQuery, kpis: list[str], *, is_full: bool
) -> tuple[int, int]:
    """Compute the values of `kpi_period` and put them in place of those that differ; rows taken out and put in.

    spec: what the plan says of the model. is_full: the KPIs' other periods are no more.
    """
    cells = sql.SQL(
        """
        select cell.kpi_id, cell.grain, cell.period_start,
            case when cell.dimensions = '{{}}' then '' else cell.dimensions::text end collate "C" as dimension_key,
            p.period_end, p.start_date, p.period, cell.dimensions, cell.components, cell.value, cell.value_json,
            cell.reason, kpi.version as definition_version
        from ({}) as cell
        inner join kpi_period as p using (grain, period_start)
        inner join kpi.kpi on kpi.kpi_id = cell.kpi_id
        where cell.kpi_id = any({}) and not p.is_gone and {}
        """
    ).format(
        sql.SQL(within_periods(connection, query, spec)),
        sql.Literal(kpis),
        sql.SQL(unsealed(connection, "cell")),
    )
    parameters: dict[str, Any] = {
        "kpis": kpis, "as_of": query.tick.as_of, "load_id": query.tick.load_id, "is_full": is_full
    }  # fmt: skip
    connection.execute("drop table if exists kpi_cell, kpi_change")
    # Rows are sorted once for all aggregates, not all of them for the first, of which it takes a few.
    connection.execute(
        "select set_config(name, case name when 'work_mem' then '64MB' else 'off' end, true) from pg_settings"
        " where name in ('work_mem', 'enable_presorted_aggregate')"
    )
    # A table, because what is inserted at once is not computed in parallel.
    connection.execute(sql.SQL("create temp table kpi_cell on commit drop as {}").format(cells))
    standing = "select from kpi.period_value where kpi_id = any(%s) limit 1"
    if is_full and connection.execute(standing, [kpis]).fetchone() is None:
        return 0, connection.execute(f"{INSERT} table kpi_cell) as new".encode(), parameters).rowcount
    connection.execute("analyze kpi_cell")
    among = (
        "kpi_id = any(%(kpis)s)"
        if is_full
        else "(kpi_id, grain, period_start) in"
        " (select kpi_id, grain, period_start from kpi_period, unnest(%(kpis)s::text[]) as kpi_id)"
    )
    among += " and " + unsealed(connection, "period_value")
    # Both sides are laid side by side once, and what is the same is left alone.
    connection.execute(
        f"""
        create temp table kpi_change on commit drop as
        select coalesce(new.kpi_id, old.kpi_id) as kpi_id, coalesce(new.grain, old.grain) as grain,
            coalesce(new.period_start, old.period_start) as period_start,
            coalesce(new.dimension_key, old.dimension_key) as dimension_key,
            coalesce(new.period_end, old.period_end) as period_end, coalesce(new.period, old.period) as period,
            new.start_date, new.dimensions, new.components, new.value, new.value_json, new.reason,
            new.definition_version, old.value as old_value, old.value_json as old_json, old.computed_load_id,
            old.kpi_id is null as is_new, new.kpi_id is null as is_gone
        from kpi_cell as new
        full join (select * from kpi.period_value where {among}) as old
            on new.kpi_id = old.kpi_id and new.grain = old.grain and new.period_start = old.period_start
            and new.dimension_key = old.dimension_key
        where old.kpi_id is null or new.kpi_id is null or old.value is distinct from new.value
            or old.value_json is distinct from new.value_json or old.components is distinct from new.components
            or old.reason is distinct from new.reason
            or (%(is_full)s and old.definition_version <> new.definition_version)
        """.encode(),
        parameters,
    )
    restate(connection, parameters)
    deleted = connection.execute(
        f"delete from kpi.period_value as old {SAME} and new.is_gone".encode()
    ).rowcount
    updated = connection.execute(
        f"""
        update kpi.period_value as old set
            period_end = new.period_end, components = new.components, value = new.value, value_json = new.value_json,
            reason = new.reason, definition_version = new.definition_version, computed_load_id = %(load_id)s
        {SAME.replace("using", "from")} and not new.is_new and not new.is_gone
        """.encode(),
        parameters,
    ).rowcount
    inserted = connection.execute(
        f"{INSERT} select * from kpi_change where is_new) as new".encode(), parameters
    ).rowcount
    return deleted + updated, inserted + updated


INSERT = """
    insert into kpi.period_value (kpi_id, grain, period_start, dimension_key, period_end, start_date, period,
        dimensions, components, value, value_json, reason, definition_version, computed_load_id)
    select kpi_id, grain, period_start, dimension_key, period_end, start_date, period, dimensions, components, value,
        value_json, reason, definition_version, %(load_id)s
    from ("""
SAME = """
    using kpi_change as new
    where new.kpi_id = old.kpi_id and new.grain = old.grain and new.period_start = old.period_start
        and new.dimension_key = old.dimension_key"""
