{{ config(meta={"scope": "scope_job_date", "scope_keys": ["application_id", "job_id", "business_date"]}) }}

with
    runs as (
        select run.*
        from {{ ref("scope_job_date") }} as scope
        inner join {{ ref("int_job_run") }} as run using (application_id, job_id, business_date)
    ),

    timed as ({{ run_results("runs") }}),

    final as (
        select
            application_id,
            job_id,
            business_date,
            run_key,
            run_id,
            row_number() over (
                partition by application_id, job_id, business_date order by first_status_at, run_id, run_key
            )::integer as attempt,
            first_status_at,
            started_at,
            ended_at,
            ended_at - started_at as duration,
            final_status,
            host_id
        from timed
    )

select *
from final
