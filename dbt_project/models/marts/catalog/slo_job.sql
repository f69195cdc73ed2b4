{{ config(materialized="view") }}

select
    version.slo_id,
    job.application as application_id,
    job.job as job_id,
    job.start as start_time,
    job."end" as end_time,
    coalesce(job.day_offset, 0) as day_offset,
    job.due_weekday
from {{ ref("int_slo_promise") }} as version
cross join
    lateral jsonb_to_recordset(version.spec -> 'jobs') as job(
        application text, job text, start text, "end" text, day_offset integer, due_weekday text
    )
where version.is_shown
