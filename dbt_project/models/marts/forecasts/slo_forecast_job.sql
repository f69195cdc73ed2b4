{{ config(materialized="view") }}

select
    job.application_id,
    job.job_id,
    job.business_date,
    job.progress,
    job.started_at,
    job.typical_duration,
    job.p80_duration,
    job.p50,
    job.p80,
    job.latest_start_at,
    job.latest_end_at,
    job.latest_end_at - job.p80 as slack,
    job.slo_id,
    job.past_dates,
    {{ tick("published_as_of") }} as as_of
from {{ source("forecast", "waiting_job") }} as job
