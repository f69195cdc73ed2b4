{{ config(materialized="view") }}

-- Looked up for each row by itself: who reads a few of them reads no more of the catalog than that.
select
    performance.slo_id,
    performance.business_date,
    performance.slot,
    performance.application_id,
    coalesce(slo.spec -> -1 ->> 'name', performance.slo_id) as name,
    performance.outcome,
    performance.progress,
    performance.expected_start_at,
    performance.expected_end_at,
    performance.actual_end_at,
    performance.explanation,
    performance.gives_up_at,
    performance.is_waived,
    coalesce(job.spec ->> 'owner', application.spec ->> 'owner', '') as owner,
    coalesce(slo.is_retired, true) as is_retired,
    coalesce(promise.timezone, 'UTC') as timezone,
    coalesce(slo.spec -> -1 ->> 'description', '') as description,
    coalesce(slo.spec -> -1 ->> 'runbook', '') as runbook,
    performance.blocking_job,
    performance.cause_job,
    performance.cause_business_date,
    performance.cause_kind
from {{ ref("slo_performance") }} as performance
left join
    lateral(
        select version.is_retired, version.spec
        from {{ source("catalog", "slo_entry_version") }} as version
        where version.slo_id = performance.slo_id and version.load_id <= {{ tick("published_high") }}
        order by version.load_id desc
        limit 1
    ) as slo
    on true
left join lateral({{ zone_of("performance.slo_id") }}) as promise on true
left join
    lateral(
        select version.spec
        from {{ source("catalog", "job_version") }} as version
        where
            version.application_id = split_part(performance.blocking_job, '/', 1)
            and version.job_id = substr(performance.blocking_job, strpos(performance.blocking_job, '/') + 1)
            and version.load_id <= {{ tick("published_high") }}
        order by version.load_id desc
        limit 1
    ) as job
    on true
left join
    lateral(
        select version.spec
        from {{ source("catalog", "application_version") }} as version
        where
            version.application_id = split_part(performance.blocking_job, '/', 1)
            and version.load_id <= {{ tick("published_high") }}
        order by version.load_id desc
        limit 1
    ) as application
    on true
