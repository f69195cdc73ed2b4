"""What the board shows of now, asked of the marts: what needs attention, and what today brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pipelines.board import ask
from pipelines.board.model import Application, Late, Occurrence, Silence

if TYPE_CHECKING:
    from pipelines.board.ask import Connection

# So long an occurrence that is overdue needs attention although newer ones of its SLO have fallen due.
CURRENT = timedelta(days=3)
# A miss is looked for so far back: nothing newer of its SLO has fallen due, and SLOs are due once a month at least.
MISSED = timedelta(days=40)


def read_applications(connection: Connection) -> Iterable[Application]:
    """Every application of the catalog, by id."""
    for row in ask.rows(
        connection,
        """
        select application_id, application_name, timezone, owner, description
        from marts.application
        where not is_retired
        order by application_id
        """,
    ):
        yield Application(
            row.application_id,
            row.application_name,
            row.timezone or "UTC",
            row.owner or "",
            row.description or "",
        )


def read_warnings(connection: Connection, *, has_kpis: bool) -> Iterable[str]:
    """Why what is shown may not be as it stands."""
    if ask.rows(connection, "select from marts.tick where is_rebuild_due"):
        yield "The next tick computes everything again: until then, what stands here is by the rules of before."
    if not has_kpis:
        return
    failed = ask.rows(
        connection,
        """
        select count(distinct kpi_id) as count, min(kpi_id) as first
        from kpi.kpi
        inner join kpi.model on model.name = kpi.model
        where not is_gone and problem is not null
        """,
    )[0]
    if failed.count:
        others = f" and {failed.count - 1} more" if failed.count > 1 else ""
        yield f"Not computed by the last tick, so that older values stand here: {failed.first}{others}."


def read_late(connection: Connection) -> Iterable[Late]:
    """What is overdue, at risk, failed before it is due; what came late, or not at all, and is its SLO's newest."""
    for row in ask.rows(
        connection,
        """
        select
            late.*,
            case when is_at_risk then 'at_risk' else outcome end as state,
            late.expected_end_at > late.as_of - %s
            or not exists (
                select
                from marts.slo_performance as newer
                where
                    newer.slo_id = late.slo_id
                    and newer.expected_end_at > late.expected_end_at
                    and newer.expected_end_at < late.as_of
            ) as is_current
        from marts.slo_late as late
        order by expected_end_at desc, slo_id, business_date desc, slot desc
        """,
        [CURRENT],
    ):
        yield Late(
            slo_id=row.slo_id,
            name=row.slo_name,
            business_date=row.business_date,
            slot=row.slot,
            outcome=row.state,
            due_at=row.expected_end_at,
            late_by=row.late_by,
            blocking_job=row.blocking_job,
            waits_for=row.waits_for,
            affected=tuple(row.affected_slos),
            owner=row.owner,
            explanation=row.explanation,
            since=row.expected_end_at,
            application_id=row.application_id,
            p50=row.p50,
            is_current=row.is_current,
        )


def read_broken(connection: Connection, names: Mapping[str, str], known: Iterable[Late]) -> Iterable[Late]:
    """What failed and is not due yet, but for what is `known` (at risk); what was missed and is its SLO's newest."""
    told = {(one.slo_id, one.business_date, one.slot) for one in known}
    for row in ask.rows(
        connection,
        """
        select
            performance.*,
            case outcome when 'missed' then outcome else 'failed' end as state,
            case outcome when 'missed' then expected_end_at else failed.at end as since
        from marts.slo_performance as performance
        cross join
            lateral(
                select max(last_status_at) as at
                from marts.slo_job_performance as job
                where
                    job.slo_id = performance.slo_id
                    and job.business_date = performance.business_date
                    and job.slot = performance.slot
                    and job.progress = 'failed'
            ) as failed
        where
            not is_waived
            and (
                (outcome = 'not_due' and progress = 'failed')
                or (
                    outcome = 'missed'
                    and expected_end_at > (select as_of from marts.tick) - %s
                    and not exists (
                        select
                        from marts.slo_performance as newer
                        where
                            newer.slo_id = performance.slo_id
                            and not newer.is_waived
                            and newer.expected_end_at > performance.expected_end_at
                            and newer.expected_end_at <= (select as_of from marts.tick)
                    )
                )
            )
        order by since desc, slo_id, business_date desc, slot desc
        """,
        [MISSED],
    ):
        if (row.slo_id, row.business_date, row.slot) in told:
            continue
        yield Late(
            slo_id=row.slo_id,
            name=names.get(row.slo_id, row.slo_id),
            business_date=row.business_date,
            slot=row.slot,
            outcome=row.state,
            due_at=row.expected_end_at,
            late_by=None,
            blocking_job=row.blocking_job,
            waits_for=None,
            affected=(),
            owner=None,
            explanation=row.explanation,
            since=row.since,
            application_id=row.application_id,
        )


def read_silent(connection: Connection) -> Iterable[Silence]:
    """Senders that are silent. Only those that something overdue waits for are asked about: others are not missed."""
    missed = ask.rows(
        connection,
        """
        select distinct job.application_id
        from marts.slo_performance as performance
        inner join marts.slo_job_performance as job using (slo_id, business_date, slot)
        where performance.outcome = 'overdue' and job.progress = 'pending'
        """,
    )
    if not missed:
        return
    for row in ask.rows(
        connection,
        """
        select application_id, last_status_at
        from marts.sender_silence
        where application_id = any(%s) and is_silent
        order by application_id
        """,
        [[row.application_id for row in missed]],
    ):
        yield Silence(row.application_id, row.last_status_at)


def read_today(
    connection: Connection, as_of: datetime, timezone: str, names: Mapping[str, str]
) -> Iterable[Occurrence]:
    """What falls due or begins on the date of `as_of` in a zone, and what is overdue since before; by due time."""
    midnight = day_of(as_of, timezone)
    for row in ask.rows(
        connection,
        """
        select
            performance.slo_id, performance.business_date, performance.slot, performance.application_id,
            performance.expected_start_at, performance.expected_end_at, performance.actual_start_at,
            performance.actual_end_at, case when is_waived then 'waived' else outcome end as outcome, progress,
            forecast.p10, forecast.p50, forecast.p90, coalesce(forecast.is_at_risk, false) as is_at_risk
        from marts.slo_performance as performance
        left join marts.slo_forecast as forecast using (slo_id, business_date, slot)
        where
            (performance.expected_end_at >= %(midnight)s and performance.expected_end_at < %(next)s)
            or (outcome = 'overdue' and performance.expected_end_at < %(midnight)s)
            or (
                outcome = 'not_due'
                and not is_waived
                and performance.expected_end_at >= %(next)s
                and coalesce(performance.actual_start_at, performance.expected_start_at) < %(next)s
            )
        union all
        -- its business date has not begun
        select
            slo_id, business_date, slot, application_id, null, expected_end_at, null, null, 'not_due', 'pending',
            p10, p50, p90, false
        from marts.slo_forecast
        where not is_open and expected_end_at < %(next)s
        order by expected_end_at, slo_id, business_date, slot
        """,
        {"midnight": midnight, "next": day_of(as_of, timezone, 1)},
    ):
        yield Occurrence(
            slo_id=row.slo_id,
            name=names.get(row.slo_id, row.slo_id),
            application_id=row.application_id,
            business_date=row.business_date,
            slot=row.slot,
            due_at=row.expected_end_at,
            outcome=row.outcome,
            progress=row.progress,
            starts_at=row.expected_start_at,
            started_at=row.actual_start_at,
            ended_at=row.actual_end_at,
            p10=row.p10,
            p50=row.p50,
            p90=row.p90,
            is_at_risk=row.is_at_risk,
        )


def day_of(moment: datetime, timezone: str, after: int = 0) -> datetime:
    """Midnight of the date of a moment in a zone, or of one `after` it: days of the wall clock have 23 to 25 hours."""
    local = moment.astimezone(ZoneInfo(timezone)) + timedelta(days=after)
    # In UTC: within one zone datetimes are subtracted by its wall clock.
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
