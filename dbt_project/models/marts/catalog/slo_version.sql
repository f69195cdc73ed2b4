{{ config(materialized="view") }}

select
    version.slo_id,
    version.version,
    version.first_date,
    version.last_date,
    version.is_current,
    said.promise,
    said.due_time,
    version.spec -> 'calendar' ->> 'id' as calendar_id,
    version.timezone,
    version.spec ->> 'application' as application_id,
    version.objective,
    version.warn_before,
    version.gives_up_after,
    array(
        select job.application || '/' || job.job
        from jsonb_to_recordset(version.spec -> 'jobs') as job(application text, job text)
        order by job.application collate "C", job.job collate "C"
    ) as jobs,
    version.load_id,
    load.received_at as loaded_at
from {{ ref("int_slo_promise") }} as version
cross join lateral {{ promise_of("version.spec", "version.timezone") }} as said
left join {{ source("raw", "load") }} as load using (load_id)
