"""The subject of SLOs: job statuses in, promises and how they were kept out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipelines.slo import receipt
from pipelines.slo.due import next_instant
from pipelines.subject import FeedEntry, IncidentKind, Subject

if TYPE_CHECKING:
    import dagster as dg

    from pipelines.landing.feed import Feed
    from pipelines.subject import Connection, Metadata
    from pipelines.transform.tick import TickReport
    from pipelines.warehouse.settings import Settings


def _job_status() -> Feed:
    from pipelines.slo.job_status import JOB_STATUS

    return JOB_STATUS


def _openlineage() -> Feed:
    from pipelines.slo.lineage.events import OPENLINEAGE

    return OPENLINEAGE


def _prepare(settings: Settings, as_of: datetime) -> int:
    from pipelines.slo.lineage.derive import derive_statuses, last_derived
    from pipelines.slo.plan import plan_promises

    # Promises may be opened by statuses that follow from events.
    derived = derive_statuses(settings)
    return last_derived(settings, derived, plan_promises(settings, as_of))


def _assets(manifest: Mapping[str, Any]) -> Sequence[dg.AssetSpec]:
    from pipelines.slo.assets import promise_specs

    return promise_specs(manifest)


def _checks() -> Sequence[dg.AssetChecksDefinition]:
    from pipelines.slo.checks import slo_checks

    return [slo_checks()]


def _performance(connection: Connection, report: TickReport) -> Metadata:
    from pipelines.slo.assets import performance_metadata

    return performance_metadata(connection, report)


SLO = Subject(
    name="slo",
    feeds=(
        FeedEntry("job_status", "job_status", whole=_job_status, records=("status", "statuses")),
        FeedEntry("openlineage", "openlineage_event", whole=_openlineage, records=("event", "events")),
    ),
    prepare=_prepare,
    next_due=next_instant,
    constants={"DUEMARK_DBT_FUTURE_STATUS": receipt.as_sql},
    assets=_assets,
    checks=_checks,
    describe={"slo_performance": _performance},
    counted={"slo_performance": ("occurrence judged", "occurrences judged")},
    incident_kinds=(
        IncidentKind(
            "lone_date",
            view="marts.incident_lone_date",
            resolution="settled",
            ending="It opens the SLO now, was taken out, or is before what was restated.",
        ),
    ),
)
