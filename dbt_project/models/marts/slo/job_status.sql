{{ config(materialized="view") }}

select
    status.application_id,
    status.job_id,
    status.status_code,
    status.status_at,
    status.business_date,
    status.run_id,
    status.host_id,
    status.is_ambiguous,
    load.received_at,
    load.source,
    status.load_id,
    derived.business_date_rule
from {{ source("raw", "job_status") }} as status
inner join {{ source("raw", "load") }} as load using (load_id)
left join
    {{ source("raw", "openlineage_status") }} as derived
    on status.load_id = derived.load_id
    and status.seq = derived.seq
where
    not exists (
        select
        from {{ source("raw", "unload") }} as taken
        where
            taken.unloaded_load_id = status.load_id
            and status.seq >= taken.first_seq
            and status.seq < taken.end_seq
    )
