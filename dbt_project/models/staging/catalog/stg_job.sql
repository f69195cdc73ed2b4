with
    latest as (
        select distinct on (application_id, job_id) *
        from {{ source("catalog", "job_version") }}
        where load_id <= {{ tick("published_high") }}
        order by application_id, job_id, load_id desc
    )

select
    application_id,
    job_id,
    coalesce(spec ->> 'name', job_id) as job_name,
    spec ->> 'owner' as owner,
    spec -> 'depends_on' as depends_on,
    upstream_rank
from latest
where not is_retired
