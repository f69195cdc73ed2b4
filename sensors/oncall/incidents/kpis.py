"""KPIs: thresholds crossed. Facts from the marts, rules without a database.

A threshold is judged on the newest closed period of a KPI's finest grain, of the total and of every member. While an
SLO that the KPI's data wait for is overdue, the alert is held: it stands under the SLO's incident and is told, if it
is still true, only after that one is over. While the SLO's newest occurrence that was due was missed, there is no
incident to stand under: the alert is not opened until data of a newer one have come, and one that stood under the
overdue is closed until then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pipelines.kpi import formats
from pipelines.kpi.grains import LENGTHS
from pipelines.kpi.standing import Threshold, dimensions_said, is_recent
from sensors.oncall.incidents.model import Ending, Incident, Key, Severity, Wanted
from sensors.oncall.incidents.rules import as_it_stands

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]

# Dimensions that say whose a member is, for routes by application.
APPLICATION = ("application_id", "application")
# What is open of a total or a member that has no newer value is closed after so long, or three periods.
FORGOTTEN = timedelta(days=40)


@dataclass(frozen=True)
class Standing:
    """A total or a member in the newest closed period of its KPI's finest grain: a row of `incident_kpi_standing`.

    `severity`: how bad it is, None where it is not. `is_bad_since`: of an open incident, whether any closed period from
    the one that opened it on is bad still.
    """

    kpi_id: str
    grain: str
    dimension_key: str
    dimensions: Mapping[str, str | None]
    name: str
    unit: str
    owner: str
    timezone: str
    threshold: Threshold | None
    slos: tuple[str, ...]
    period: str
    start: datetime
    end: datetime
    value: Decimal | None
    status: str | None
    severity: Severity | None
    version: str
    is_bad_since: bool = False

    @property
    def key(self) -> Key:
        return Key("kpi_threshold", self.kpi_id, f"{self.grain} {self.dimension_key}".rstrip())

    @property
    def is_total(self) -> bool:
        return self.dimension_key == ""

    @property
    def what(self) -> str:
        """Name, and which member."""
        said = dimensions_said(self.dimensions)
        return f"{self.name} ({said})" if said else self.name

    @property
    def said(self) -> str:
        """The value, the period, and the bound where it is a bad one."""
        when = formats.instant(self.start, self.timezone) if self.grain == "hour" else self.period
        bound = next(
            (one for one in formats.bounds(self.threshold, self.unit) if one.startswith(self.status or "-")),
            "",
        )
        text = f"{formats.quantity(self.value, self.unit)} in {when}" + (f"; {bound}" if bound else "")
        return text.replace(formats.GAP, " ")


def threshold_incidents(
    found: Iterable[Standing],
    open_: Iterable[Incident],
    slos: Sequence[Wanted],
    as_of: datetime,
    missed: Collection[str] = (),
) -> list[Wanted]:
    """What should be open: one for each total and member whose newest closed period is bad.

    Members stand under their total's, where that is bad too: it is the same fact. Else each stands alone, for none
    causes another. `slos`: what should be open of SLOs; `missed`: SLOs that are given up for now (`read_missed`).
    """
    standing = {one.key: one for one in open_ if one.key.kind == "kpi_threshold"}
    overdue: dict[str, Wanted] = {}
    for slo in sorted(slos, key=lambda each: each.began_at):
        if slo.key.kind == "overdue" and not slo.is_over and slo.slo_id:
            overdue.setdefault(slo.slo_id, slo)
    wanted: list[Wanted] = []
    totals: dict[str, Key] = {}
    for one in sorted(found, key=lambda one: (not one.is_total, one.key)):
        before = standing.get(one.key)
        if one.severity is None:
            # No value says nothing: what was bad stays so until a period is well.
            if before is not None and one.status == "no_data":
                wanted.append(replace(as_it_stands(before), cause=totals.get(one.kpi_id)))
                if one.is_total:
                    totals[one.kpi_id] = one.key
            continue
        limit = as_of - max(FORGOTTEN, 3 * LENGTHS[one.grain])
        if not is_recent(one.grain, one.end, as_of) and (before is None or one.end < limit):
            continue
        late = next((overdue[slo] for slo in one.slos if slo in overdue), None)
        cause = totals.get(one.kpi_id)
        if late is None and any(slo in missed for slo in one.slos):
            if before is not None and not before.detail.get("is_held"):
                # It was told before there was anything to wait for.
                wanted.append(replace(as_it_stands(before), cause=cause))
                if one.is_total:
                    totals[one.kpi_id] = one.key
            continue
        message = f"{one.said}."
        if late is not None:
            cause = late.cause or late.key
            message += f" Held: its data wait for {late.detail.get('name') or late.slo_id}, which is overdue."
        elif one.is_total:
            totals[one.kpi_id] = one.key
        first = before.detail if before is not None else {}
        wanted.append(
            Wanted(
                key=one.key,
                severity=one.severity,
                title=f"{one.severity.capitalize()}: {one.what}",
                message=message,
                began_at=one.end,
                seen_at=as_of,
                application_id=next((str(one.dimensions[d]) for d in APPLICATION if one.dimensions.get(d)), None),
                detail={
                    "name": one.name,
                    "owner": one.owner,
                    "period": one.period,
                    "value": None if one.value is None else str(one.value),
                    "version": one.version,
                    "first_period": first.get("first_period", one.period),
                    "first_value": first.get("first_value", None if one.value is None else str(one.value)),
                    "is_held": late is not None,
                },
                cause=cause,
            )
        )  # fmt: skip
    return wanted


def threshold_ending(incident: Incident, now: Standing | None, missed: Collection[str] = ()) -> Ending:
    """How one that should not be open any more ended; `missed` as that of `threshold_incidents`."""
    if now is None:
        return Ending("withdrawn", "The KPI, or this member of it, has no value any more.")
    first = incident.detail.get("first_period")
    given_up = [slo for slo in now.slos if slo in missed]
    if now.severity is not None and given_up and incident.detail.get("is_held"):
        return Ending(
            "held",
            f"Held: its data wait for {', '.join(given_up)}, which was missed. It opens again if it is bad still when"
            f" newer data have come. Last {now.said}.",
        )
    if now.severity is not None:
        return Ending(
            "unwatched", f"There is no newer value, and it is not watched any longer. Last {now.said}."
        )
    if incident.detail.get("version") != now.version and not now.is_bad_since:
        return Ending("withdrawn", f"The definition was changed, and by the new one it is well: {now.said}.")
    if not now.is_bad_since:
        return Ending(
            "withdrawn",
            f"Restated: no period since {first} is bad any more. Now {now.said}.",
        )
    return Ending("ok", f"Well again: {now.said}.")


def read_missed(cursor: Cursor, slo_ids: Collection[str]) -> set[str]:
    """Those of the SLOs whose newest occurrence that was due was missed."""
    if not slo_ids:
        return set()
    rows = cursor.execute(
        """
        select wanted.slo_id
        from unnest(%s::text[]) as wanted (slo_id)
        cross join lateral (
            select outcome from marts.slo_performance as performance
            where performance.slo_id = wanted.slo_id and outcome <> 'not_due'
            order by expected_end_at desc limit 1
        ) as newest
        where newest.outcome = 'missed'
        """,
        [sorted(slo_ids)],
    )
    return {str(row[0]) for row in rows}


def read_standings(cursor: Cursor, open_: Sequence[Incident]) -> list[Standing]:
    """Every total and member whose newest closed period is bad, and those of the open incidents."""
    # To plan the question below takes longer than to answer this one, which for many is all.
    if cursor.execute("select from marts.kpi_definition where valid_to is null limit 1").fetchone() is None:
        return []
    keys = [(one.key.subject, *one.key.occurrence.partition(" ")[::2]) for one in open_]
    rows = cursor.execute(
        """
        with
            opened as (
                select *
                from unnest(%(kpis)s::text[], %(grains)s::text[], %(members)s::text[], %(firsts)s::text[])
                    as opened (kpi_id, grain, dimension_key, first_period)
            )
        select
            standing.kpi_id, standing.grain, standing.dimension_key, standing.dimensions, standing.name, standing.unit,
            standing.owner, standing.timezone, standing.thresholds, standing.slos, standing.period,
            standing.period_start, standing.period_end, standing.value, standing.status, standing.severity,
            standing.version,
            exists (
                select from marts.incident_kpi_bad_period as bad
                where
                    bad.kpi_id = opened.kpi_id
                    and bad.grain = opened.grain
                    and bad.dimension_key = opened.dimension_key
                    and bad.period >= opened.first_period
            )
        from marts.incident_kpi_standing as standing
        left join opened
            on standing.kpi_id = opened.kpi_id
            and standing.grain = opened.grain
            and standing.dimension_key = opened.dimension_key
        where standing.severity is not null or opened.kpi_id is not null
        order by standing.kpi_id, standing.dimension_key
        """,
        {
            "kpis": [kpi_id for kpi_id, _, _ in keys],
            "grains": [grain for _, grain, _ in keys],
            "members": [key for _, _, key in keys],
            "firsts": [str(one.detail.get("first_period", "")) for one in open_],
        },
    )
    return [Standing(*[*row[:8], Threshold.from_json(row[8]), tuple(row[9]), *row[10:]]) for row in rows]
