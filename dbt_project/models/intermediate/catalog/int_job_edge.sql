{{ config(materialized="view", schema="intermediate") }}

select
    job.application_id,
    job.job_id,
    upstream ->> 0 as upstream_application_id,
    upstream ->> 1 as upstream_job_id
from {{ ref("stg_job") }} as job
cross join jsonb_array_elements(job.depends_on) as upstream
