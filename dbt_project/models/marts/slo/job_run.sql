{{ config(meta={"scope": "scope_job_date", "scope_keys": ["application_id", "job_id", "business_date"]}) }}

with
    runs as (
        select run.*
        from {{ ref("scope_job_date") }} as scope
        inner join {{ ref("int_job_run") }} as run using (application_id, job_id, business_date)
    ),

    timed as (
        select
            *,
            case
                when first_success_at is null or first_start_at <= first_success_at then first_start_at
            end as started_at,
            case
                when first_success_at is not null
                then first_success_at
                when last_status = 'FAIL'
                then last_fail_at
            end as ended_at
        from runs
    ),

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
            case when first_success_at is not null then 'SUCCEED' else last_status end as final_status,
            host_id
        from timed
    )

select *
from final
