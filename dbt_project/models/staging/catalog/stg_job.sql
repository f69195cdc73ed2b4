with newest as ({{ jobs_of(tick("published_high")) }})

select
    application_id,
    job_id,
    coalesce(spec ->> 'name', job_id) as job_name,
    spec ->> 'description' as description,
    spec ->> 'owner' as owner,
    spec ->> 'runbook' as runbook,
    coalesce((spec ->> 'restartable')::boolean, true) as is_restartable,
    coalesce((spec ->> 'streaming')::boolean, false) as is_streaming,
    spec -> 'depends_on' as depends_on,
    upstream_rank,
    is_retired
from newest
