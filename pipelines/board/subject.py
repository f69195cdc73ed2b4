"""What Dagster shows of KPIs, as a subject: numbers and a table with the values, thresholds as a check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.subject import Subject

if TYPE_CHECKING:
    import dagster as dg

    from pipelines.subject import Connection, Metadata
    from pipelines.transform.tick import TickReport


def _checks() -> Sequence[dg.AssetChecksDefinition]:
    from pipelines.board.assets import kpi_checks

    return [kpi_checks()]


def _values(connection: Connection, report: TickReport) -> Metadata:
    from pipelines.board.assets import kpi_metadata

    return kpi_metadata(connection, report)


BOARD = Subject(name="board", checks=_checks, describe={"kpi_value": _values})
