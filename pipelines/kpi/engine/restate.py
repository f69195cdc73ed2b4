"""What a closed period had reported, noted before another value takes its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


# Closed as of the tick before: it had ended by more than what may come late, its feeds had been read past its end, and
# no occurrence in it was not due.
CLOSED = """
    tick.published_as_of >= {0}.period_end + (kpi.spec ->> 'allow_late')::integer * interval '1 second'
    and not exists (
        select from kpi.clock
        where kpi.spec -> 'clocks' ? clock.clock
            and (
                clock.read_at < {0}.period_end
                or (clock.open_from at time zone case when clock.is_date then 'UTC' else kpi.spec ->> 'timezone' end)
                    < ({0}.period_end at time zone (kpi.spec ->> 'timezone'))
            )
    )
"""


def restate(connection: Connection, parameters: Mapping[str, Any]) -> None:
    """Journal the closed periods whose value changes, before it does."""
    connection.execute(
        f"""
        insert into kpi.restatement (kpi_id, grain, period_start, period, dimension_key, reported_value, reported_json,
            restated_value, restated_json, reported_at, restated_at, load_id, definition_version)
        select cell.kpi_id, cell.grain, cell.period_start, cell.period, cell.dimension_key, cell.old_value,
            cell.old_json, cell.value, cell.value_json, load.received_at, %(as_of)s::timestamptz, %(load_id)s,
            kpi.version
        from kpi_change as cell
        inner join kpi.kpi on kpi.kpi_id = cell.kpi_id
        cross join control.tick
        left join raw.load on load.load_id = cell.computed_load_id
        where (cell.old_value is distinct from cell.value or cell.old_json is distinct from cell.value_json)
            -- going back in time is none, and of a period without a value nothing was reported
            and tick.as_of >= tick.published_as_of
            and (not cell.is_new or exists (
                select from kpi.period_value as reported where reported.kpi_id = cell.kpi_id
                    and reported.grain = cell.grain and reported.period_start = cell.period_start
            ))
            and {CLOSED.format("cell")}
        """.encode(),
        parameters,
    )
