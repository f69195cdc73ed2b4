{{ config(materialized="view") }}

select
    run.application_id,
    run.job_id,
    case when application.application_id is null then 'application' else 'job' end as unknown,
    count(*)::integer as run_count,
    min(run.business_date) as first_business_date,
    max(run.business_date) as last_business_date,
    min(run.first_status_at) as first_status_at
from {{ ref("job_run") }} as run
left join
    {{ ref("stg_job") }} as job
    on run.application_id = job.application_id
    and run.job_id = job.job_id
    and not job.is_retired
left join
    {{ ref("stg_application") }} as application
    on run.application_id = application.application_id
    and not application.is_retired
where job.job_id is null
group by run.application_id, run.job_id, application.application_id
