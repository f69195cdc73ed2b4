{{ config(materialized="view") }}

with recursive
    at_risk as (select slo_id, business_date, slot, p50 from {{ ref("slo_forecast") }} where is_at_risk),

    late as (
        select
            performance.*,
            exists (
                select
                from at_risk
                where
                    at_risk.slo_id = performance.slo_id
                    and at_risk.business_date = performance.business_date
                    and at_risk.slot = performance.slot
            ) as is_at_risk,
            split_part(blocking_job, '/', 1) collate "C" as blocking_application_id,
            substr(blocking_job, strpos(blocking_job, '/') + 1) collate "C" as blocking_job_id
        from {{ ref("slo_performance") }} as performance
        where
            outcome = 'overdue'
            or (slo_id, business_date, slot) in (select slo_id, business_date, slot from at_risk)
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

    waiting as (
        -- from the blocking job upstream, over jobs that are not complete
        select
            late.slo_id,
            late.business_date,
            late.slot,
            late.blocking_application_id as application_id,
            late.blocking_job_id as job_id,
            job.business_date as job_date,
            job.expected_start_at,
            0 as steps
        from late
        inner join
            {{ ref("slo_job_performance") }} as job
            on late.slo_id = job.slo_id
            and late.business_date = job.business_date
            and late.slot = job.slot
            and late.blocking_application_id = job.application_id
            and late.blocking_job_id = job.job_id
        where job.progress <> 'complete'

        union

        select
            waiting.slo_id,
            waiting.business_date,
            waiting.slot,
            upstream.application_id,
            upstream.job_id,
            upstream.business_date,
            upstream.expected_start_at,
            waiting.steps + 1
        from waiting
        inner join {{ ref("int_job_edge") }} as edge using (application_id, job_id)
        cross join
            lateral(
                -- the same business date, else the latest earlier one; of windows the last that is due
                -- before the start
                select *
                from {{ ref("slo_job_performance") }} as candidate
                where
                    candidate.application_id = edge.upstream_application_id
                    and candidate.job_id = edge.upstream_job_id
                    and candidate.business_date <= waiting.job_date
                order by
                    candidate.business_date desc,
                    coalesce(candidate.expected_end_at <= waiting.expected_start_at, false) desc,
                    candidate.expected_end_at desc
                limit 1
            ) as upstream
        where upstream.progress <> 'complete'
    ),

    root_cause as (
        select distinct
            on (slo_id, business_date, slot)
            slo_id,
            business_date,
            slot,
            application_id || '/' || job_id as waits_for
        from waiting
        where steps > 0
        order by slo_id, business_date, slot, steps desc, application_id, job_id
    ),

    downstream as (
        select distinct
            blocking_application_id as root_application_id,
            blocking_job_id as root_job_id,
            blocking_application_id as application_id,
            blocking_job_id as job_id
        from late
        union
        select downstream.root_application_id, downstream.root_job_id, edge.application_id, edge.job_id
        from downstream
        inner join
            {{ ref("int_job_edge") }} as edge
            on downstream.application_id = edge.upstream_application_id
            and downstream.job_id = edge.upstream_job_id
    ),

    affected as (
        select
            downstream.root_application_id,
            downstream.root_job_id,
            array_agg(distinct slo_job.slo_id order by slo_job.slo_id) as slo_ids
        from downstream
        inner join {{ ref("int_slo_job") }} as slo_job using (application_id, job_id)
        group by downstream.root_application_id, downstream.root_job_id
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
    root_cause.waits_for,
    coalesce(array_remove(affected.slo_ids, late.slo_id), '{}'::text[]) as affected_slos,
    coalesce(job.owner, application.owner) as owner,
    late.explanation,
    late.is_at_risk,
    at_risk.p50,
    {{ tick("published_as_of") }} as as_of
from late
left join at_risk using (slo_id, business_date, slot)
left join root_cause using (slo_id, business_date, slot)
left join
    affected
    on late.blocking_application_id = affected.root_application_id
    and late.blocking_job_id = affected.root_job_id
left join {{ ref("stg_slo") }} as slo on late.slo_id = slo.slo_id
left join
    {{ ref("stg_job") }} as job
    on late.blocking_application_id = job.application_id
    and late.blocking_job_id = job.job_id
left join
    {{ ref("stg_application") }} as application on late.blocking_application_id = application.application_id
