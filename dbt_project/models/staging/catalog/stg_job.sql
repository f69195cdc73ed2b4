with latest as ({{ jobs_of(tick("published_high")) }})

select
    application_id,
    job_id,
    coalesce(spec ->> 'name', job_id) as job_name,
    spec ->> 'owner' as owner,
    spec -> 'depends_on' as depends_on,
    upstream_rank
from latest
where not is_retired
