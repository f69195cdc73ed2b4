"""The journal of definitions: which version stands from when on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.kpi.engine.work import TickWindow

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


def journal_definitions(connection: Connection, tick: TickWindow) -> None:
    """Close the versions that stand no more, open those that do."""
    connection.execute(
        """
        update kpi.definition set valid_to = %(as_of)s::timestamptz
        where valid_to is null and not exists (
            select from kpi.kpi where kpi.kpi_id = definition.kpi_id and kpi.version = definition.version
                and not is_gone
        )
        """,
        {"as_of": tick.as_of},
    )
    connection.execute(
        """
        insert into kpi.definition (kpi_id, version, valid_from, load_id, spec)
        select kpi_id, version, %(as_of)s::timestamptz, %(load_id)s, spec from kpi.kpi
        where not is_gone
            and not exists (select from kpi.definition where definition.kpi_id = kpi.kpi_id and valid_to is null)
        on conflict (kpi_id, valid_from, version) do update set valid_to = null, spec = excluded.spec
        """,
        {"as_of": tick.as_of, "load_id": tick.load_id},
    )
