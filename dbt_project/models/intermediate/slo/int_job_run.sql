{{ config(indexes=[{"columns": ["application_id", "job_id", "business_date", "run_key"], "unique": true}]) }}

with
    keys as (
        -- what changed, and all else that its occurrences are made of
        select application_id, job_id, business_date
        from {{ ref("scope_job_date") }}
        union
        select promise_job.application_id, promise_job.job_id, promise_job.business_date
        from {{ ref("int_occurrence") }} as promise
        inner join
            {{ source("catalog", "promise_job") }} as promise_job using (
                slo_id, business_date, slot, load_id, entry_no
            )
    ),

    copies as (
        select status.*
        from keys
        inner join {{ ref("stg_job_status") }} as status using (application_id, job_id, business_date)
        where
            {{ in_months("status.business_date", months_of([ref("scope_job_date"), ref("int_occurrence")])) }}
    ),

    statuses as ({{ distinct_statuses("copies") }}),

    final as ({{ runs_of("statuses") }})

select *
from final
