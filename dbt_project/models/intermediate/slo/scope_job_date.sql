{{ config(indexes=[{"columns": ["application_id", "job_id", "business_date"], "unique": true}]) }}

{%- set is_new -%} load_id > {{ tick("low") }} and load_id <= {{ tick("high") }} {%- endset %}
{%- set is_held -%} load_id <= {{ tick("low") }} and latest_at > {{ tick("previous_as_of") }} {%- endset %}

with
    newly_loaded as (
        select application_id, job_id, business_date
        from {{ ref("stg_job_status") }}
        where {{ is_new }} and {{ in_months("business_date", months_of_loads("job_status", is_new)) }}
    ),

    now_due_to_be_seen as (
        -- a status from the future is held until its time has come
        select application_id, job_id, business_date
        from {{ ref("stg_job_status") }}
        where
            load_id <= {{ tick("low") }}
            and status_at > {{ tick("previous_as_of") }}
            and {{ in_months("business_date", months_of_loads("job_status", is_held)) }}
    ),

    taken_out as (
        select distinct application_id, job_id, business_date
        from (select * from {{ source("raw", "unload") }} where {{ is_new }}) as taken
        inner join
            {{ source("raw", "job_status") }} as status
            on taken.unloaded_load_id = status.load_id
            and taken.first_seq <= status.seq
            and taken.end_seq > status.seq
        where {{ in_months("status.business_date", months_of_loads("job_status", is_new)) }}
    ),

    seen as (
        select application_id, job_id, business_date, true as is_visible
        from newly_loaded
        union all
        select application_id, job_id, business_date, true as is_visible
        from now_due_to_be_seen
        union all
        select
            application_id,
            job_id,
            business_date,
            exists (
                select
                from {{ ref("stg_job_status") }} as status
                where
                    status.application_id = taken_out.application_id
                    and status.job_id = taken_out.job_id
                    and status.business_date = taken_out.business_date
                    and {{ in_months("status.business_date", months_of_loads("job_status", is_new)) }}
            ) as is_visible
        from taken_out
    ),

    final as (
        select application_id, job_id, business_date, bool_or(is_visible) as is_visible
        from seen
        group by application_id, job_id, business_date
    )

select application_id, job_id, business_date, is_visible
from final
