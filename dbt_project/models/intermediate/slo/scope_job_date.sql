{{ config(indexes=[{"columns": ["application_id", "job_id", "business_date"], "unique": true}]) }}

{%- set is_new -%} load_id > {{ tick("low") }} and load_id <= {{ tick("high") }} {%- endset %}
{%- set is_held -%} load_id <= {{ tick("low") }} and latest_at > {{ tick("previous_as_of") }} {%- endset %}

with
    newly_loaded as (
        select application_id, job_id, business_date
        from {{ source("raw", "job_status") }}
        where
            {{ is_new }}
            and status_at <= {{ tick("as_of") }}
            and {{ in_months("business_date", months_of_loads("job_status", is_new)) }}
    ),

    now_due_to_be_seen as (
        -- a status from the future is held until its time has come
        select application_id, job_id, business_date
        from {{ source("raw", "job_status") }}
        where
            load_id <= {{ tick("low") }}
            and status_at > {{ tick("previous_as_of") }}
            and status_at <= {{ tick("as_of") }}
            and {{ in_months("business_date", months_of_loads("job_status", is_held)) }}
    ),

    final as (
        select application_id, job_id, business_date
        from newly_loaded
        union
        select application_id, job_id, business_date
        from now_due_to_be_seen
    )

select application_id, job_id, business_date
from final
