"""What the subject adds to the assets: promises, and what a tick tells of SLO performance."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from pipelines.orchestration.tables import INTERNALS, markdown_table, table_spec

if TYPE_CHECKING:
    import psycopg

    from pipelines.transform.tick import TickReport

OWNERS = ["team:platform"]


def promise_specs(manifest: Mapping[str, Any]) -> list[dg.AssetSpec]:
    """Promises: occurrences of every SLO, weeks ahead. The tick writes them when some are missing."""
    deps = {
        # An SLO with an open start is promised from the first business date that has a status of its jobs.
        "promise": [["catalog", "slo_version"], ["catalog", "slo_job"], ["raw", "job_status"]],
        "promise_job": [["catalog", "promise"]],
    }
    return [
        table_spec(
            manifest,
            "catalog",
            table,
            group=INTERNALS,
            kinds={"python", "postgres"},
            owners=OWNERS,
            deps=upstreams,
        )
        for table, upstreams in deps.items()
    ]


def performance_metadata(
    connection: psycopg.Connection[Any], report: TickReport
) -> dict[str, dg.MetadataValue[Any] | int | float]:
    """How SLOs stand as of the tick: numbers to plot, and what is late now.

    They look at what is open and at one day of due times, so that they cost the same after years.
    """
    counts = dict(
        connection.execute(
            """
            select outcome, count(*)
            from marts.slo_performance
            where outcome = 'not_due' and not is_waived
                or outcome = 'overdue'
                or outcome in ('on_time', 'late') and expected_end_at > %(as_of)s - interval '1 day'
                or outcome = 'missed' and gives_up_at > %(as_of)s - interval '1 day'
            group by outcome
            """,
            {"as_of": report.as_of},
        ).fetchall()
    )
    rows = connection.execute(
        """
        select slo_id, business_date, nullif(slot, '00:00'), expected_end_at, late_by, outcome,
            cause_job, count(*) over ()
        from marts.slo_late
        where not is_at_risk
        order by expected_end_at desc, slo_id, slot
        limit 20
        """
    ).fetchall()
    late = [
        (slo, f"{day} {slot or ''}".strip(), f"{due:%d %b %H:%M}Z", _minutes(by, outcome), job)
        for slo, day, slot, due, by, outcome, job, _ in rows
    ]
    return {
        "overdue": counts.get("overdue", 0),
        "not due yet": counts.get("not_due", 0),
        "on time, last 24 h": counts.get("on_time", 0),
        "late, last 24 h": counts.get("late", 0),
        "missed, last 24 h": counts.get("missed", 0),
        "late now": dg.MetadataValue.md(
            markdown_table(
                ["SLO", "for", "due", "late by", "because of"],
                late,
                total=rows[0][-1] if rows else 0,
                is_short=True,
            )
        ),
    }


def _minutes(late_by: timedelta, outcome: str) -> str:
    """`3:15` hours, with a + while it still grows."""
    minutes = int(late_by.total_seconds() // 60)
    return f"{minutes // 60}:{minutes % 60:02}{'+' if outcome == 'overdue' else ''}"
