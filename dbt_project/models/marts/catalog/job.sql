{{ config(materialized="view") }}

select
    job.application_id,
    job.job_id,
    job.job_name,
    job.description,
    coalesce(job.owner, application.owner) as owner,
    job.runbook,
    job.is_restartable,
    job.is_streaming,
    job.is_retired
from {{ ref("stg_job") }} as job
left join {{ ref("stg_application") }} as application using (application_id)
