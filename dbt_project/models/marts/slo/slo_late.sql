{{ config(materialized="view") }}

with recursive
    at_risk as (
        select slo_id, business_date, slot, p50, path from {{ ref("slo_forecast") }} where is_at_risk
    ),

    late as (
        select
            performance.slo_id,
            performance.business_date,
            performance.slot,
            performance.application_id,
            performance.outcome,
            performance.progress,
            performance.expected_end_at,
            performance.actual_end_at,
            performance.late_by,
            performance.blocking_job,
            performance.cause_job,
            performance.cause_business_date,
            performance.cause_kind,
            performance.explanation,
            at_risk.slo_id is not null as is_at_risk,
            at_risk.p50,
            case
                when at_risk.slo_id is not null
                then at_risk.path[1]
                when performance.outcome = 'overdue'
                then performance.cause_job
            end as waits_for,
            coalesce(performance.cause_job, performance.blocking_job) as job_to_blame
        from {{ ref("slo_performance") }} as performance
        left join at_risk using (slo_id, business_date, slot)
        where
            outcome = 'overdue'
            or (outcome = 'not_due' and at_risk.slo_id is not null)
            -- a miss stays in sight until the next one of its SLO falls due
            or (
                outcome = 'late'
                and not exists (
                    select
                    from {{ ref("slo_performance") }} as later
                    where
                        later.slo_id = performance.slo_id
                        and not later.is_waived
                        and later.expected_end_at > performance.expected_end_at
                        and later.expected_end_at <= {{ tick("published_as_of") }}
                )
            )
    ),

    downstream as (
        select distinct
            blocking_job,
            {{ application_of("blocking_job") }} as application_id,
            {{ job_of("blocking_job") }} as job_id
        from late
        union
        select downstream.blocking_job, edge.application_id, edge.job_id
        from downstream
        inner join
            {{ ref("int_job_edge") }} as edge
            on downstream.application_id = edge.upstream_application_id
            and downstream.job_id = edge.upstream_job_id
    ),

    affected as (
        select downstream.blocking_job, array_agg(distinct slo_job.slo_id order by slo_job.slo_id) as slo_ids
        from downstream
        inner join {{ ref("int_slo_job") }} as slo_job using (application_id, job_id)
        group by downstream.blocking_job
    )

select
    late.slo_id,
    coalesce(slo.slo_name, late.slo_id) as slo_name,
    late.business_date,
    late.slot,
    late.application_id,
    late.outcome,
    late.progress,
    late.expected_end_at,
    late.actual_end_at,
    case
        when not late.is_at_risk
        then coalesce(late.late_by, {{ tick("published_as_of") }} - late.expected_end_at)
    end as late_by,
    late.blocking_job,
    late.cause_job,
    late.cause_business_date,
    late.cause_kind,
    nullif(late.waits_for, late.blocking_job) as waits_for,
    coalesce(array_remove(affected.slo_ids, late.slo_id), '{}'::text[]) as affected_slos,
    coalesce(job.owner, application.owner) as owner,
    late.explanation,
    late.is_at_risk,
    late.p50,
    {{ tick("published_as_of") }} as as_of
from late
left join affected using (blocking_job)
left join {{ ref("stg_slo") }} as slo on late.slo_id = slo.slo_id
left join
    {{ ref("stg_job") }} as job
    on {{ application_of("late.job_to_blame") }} = job.application_id
    and {{ job_of("late.job_to_blame") }} = job.job_id
left join
    {{ ref("stg_application") }} as application
    on {{ application_of("late.job_to_blame") }} = application.application_id
