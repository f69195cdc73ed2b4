"""What Dagster shows of KPIs: numbers over time and one short table with the mart, and thresholds as a check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from pipelines.kpi import formats, short
from pipelines.orchestration.failures import explained
from pipelines.orchestration.tables import markdown_table
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

    from pipelines.transform.tick import TickReport

VALUES = dg.AssetKey(["marts", "kpi_value"])
THRESHOLDS = "thresholds"


def kpi_metadata(
    connection: psycopg.Connection[Any],
    report: TickReport,  # noqa: ARG001
) -> dict[str, dg.MetadataValue[Any] | int | float]:
    """How KPIs stand: numbers to plot, the table, and where the board lies once it is written."""
    found = short.lines(connection)
    return {
        "KPIs": len(found),
        **{f"KPIs {status}": count for status, count in short.counts(found).items()},
        "members beyond a threshold": sum(line.members for line in found),
        "KPIs now": dg.MetadataValue.md(_table(found)),
        "board": dg.MetadataValue.path(Settings.from_env().board / "index.html"),
    }


def kpi_checks() -> dg.AssetChecksDefinition:
    """The check `thresholds` of the values, in the op `check_kpis`. Incidents tell of each; this is for the page."""
    spec = dg.AssetCheckSpec(
        THRESHOLDS,
        asset=VALUES,
        description="In the newest closed period no KPI, total or member, is beyond a threshold.",
    )

    @dg.multi_asset_check(name="check_kpis", specs=[spec])
    def _check_kpis(settings: dg.ResourceParam[Settings]) -> Iterator[dg.AssetCheckResult]:
        with explained(), connect(settings, "transform") as connection:
            found = short.lines(connection)
        bad = [line for line in found if line.status in {"warning", "critical"} or line.members]
        yield dg.AssetCheckResult(
            asset_key=VALUES,
            check_name=THRESHOLDS,
            passed=not bad,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"Beyond a threshold: {formats.and_list(line.name for line in bad)}."
            if bad
            else f"None of {len(found)} KPIs is beyond a threshold.",
            metadata={"KPIs": len(found), "beyond": len(bad), "KPIs now": dg.MetadataValue.md(_table(bad))},
        )

    return _check_kpis


def _table(found: list[short.Line]) -> str:
    rows = [
        (
            line.name,
            line.value,
            line.status.replace("_", " ") + (f", {line.members} members" if line.members else ""),
        )
        for line in found
    ]
    return markdown_table(["KPI", "value", "status"], rows, is_short=True)
