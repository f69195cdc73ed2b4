"""The subject of KPIs: definitions of the catalog to generated models, their states and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.kpi.due import next_instant
from pipelines.subject import Generator, IncidentKind, Publication, Step, Subject

if TYPE_CHECKING:
    import dagster as dg

    from pipelines.errors import DuemarkError
    from pipelines.subject import Connection, Metadata
    from pipelines.transform.project import Project
    from pipelines.transform.tick import TickReport
    from pipelines.warehouse.settings import Settings


def _models(settings: Settings, core: str) -> Mapping[str, str]:
    from pipelines.kpi.generated import generated

    return generated(settings, core)


def _refused(settings: Settings) -> DuemarkError | None:
    from pipelines.kpi.generated import refused

    return refused(settings)


def _deploy(project: Project, is_made_anew: bool) -> None:
    from pipelines.kpi.deploy import deploy_generated

    deploy_generated(project, is_made_anew)


def _refresh(connection: Connection, is_rebuild: bool) -> list[Publication]:
    from pipelines.kpi.engine.refresh import refresh

    return refresh(connection, is_rebuild)


def _forget(connection: Connection, is_rebuild: bool) -> list[Publication]:  # noqa: ARG001 # a rebuild forgets the same
    from pipelines.kpi.engine.touched import forget

    return forget(connection)


def _checks() -> Sequence[dg.AssetChecksDefinition]:
    from pipelines.kpi.assets import kpi_checks
    from pipelines.kpi.checks import proof_checks

    return [proof_checks(), kpi_checks()]


def _values(connection: Connection, report: TickReport) -> Metadata:
    from pipelines.kpi.assets import kpi_metadata

    return kpi_metadata(connection, report)


KPI = Subject(
    name="kpi",
    publish=(Step("kpi.period_value", _refresh),),
    forget=(Step("kpi.period_value", _forget),),
    next_due=next_instant,
    generator=Generator(models=_models, refused=_refused, deploy=_deploy),
    behind={"kpi_values_": "kpi_value", "kpi_state_": "kpi_value"},
    checks=_checks,
    describe={"kpi_value": _values},
    counted={"kpi_value": ("value of KPIs computed", "values of KPIs computed")},
    incident_kinds=(
        IncidentKind(
            "kpi_stale",
            view="marts.incident_kpi_stale",
            resolution="read",
            ending="The source was read again.",
            follows=True,
        ),
    ),
)
