"""What a closed period had reported, noted before another value takes its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


def restate(connection: Connection, parameters: Mapping[str, Any]) -> None:
    """Journal the closed periods whose value changes, before it does."""
    connection.execute(
        """
        insert into kpi.restatement (kpi_id, grain, period_start, period, dimension_key, reported_value, reported_json,
            restated_value, restated_json, reported_at, restated_at, load_id, definition_version)
        select cell.kpi_id, cell.grain, cell.period_start, cell.period, cell.dimension_key, cell.old_value,
            cell.old_json, cell.value, cell.value_json, load.received_at, %(as_of)s::timestamptz, %(load_id)s,
            kpi.version
        from kpi_change as cell
        inner join (
            select kpi_id, grain, period_start
            from (select distinct kpi_id, grain, period_start from kpi_change) as period
            -- closed, as of the tick before, is what the mart says of a period; each is looked up by its key
            where exists (
                select from marts.kpi_value as reported
                where
                    reported.kpi_id = period.kpi_id and reported.grain = period.grain
                    and reported.period_start = period.period_start and not reported.provisional
                offset 0
            )
        ) as closed using (kpi_id, grain, period_start)
        inner join kpi.kpi on kpi.kpi_id = cell.kpi_id
        cross join control.tick
        left join raw.load on load.load_id = cell.computed_load_id
        where (cell.old_value is distinct from cell.value or cell.old_json is distinct from cell.value_json)
            -- going back in time is none, and of a period without a value nothing was reported
            and tick.as_of >= tick.published_as_of
        """,
        parameters,
    )
