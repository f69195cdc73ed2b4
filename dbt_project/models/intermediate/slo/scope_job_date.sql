{{ config(indexes=[{"columns": ["application_id", "job_id", "business_date"], "unique": true}]) }}

with
    newly_loaded as (
        select application_id, job_id, business_date
        from {{ source("raw", "job_status") }}
        where load_id > {{ tick("low") }} and load_id <= {{ tick("high") }} and status_at <= {{ tick("as_of") }}
    ),

    now_due_to_be_seen as (
        -- a status from the future is held until its time has come
        select application_id, job_id, business_date
        from {{ source("raw", "job_status") }}
        where
            load_id <= {{ tick("low") }}
            and status_at > {{ tick("previous_as_of") }}
            and status_at <= {{ tick("as_of") }}
    ),

    final as (
        select application_id, job_id, business_date from newly_loaded
        union
        select application_id, job_id, business_date from now_due_to_be_seen
    )

select application_id, job_id, business_date from final
