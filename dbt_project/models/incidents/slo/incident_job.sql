{{ config(materialized="view") }}

-- Looked up for each job by itself: who asks for a few reads no more of the catalog than that.
select
    version.application_id,
    version.job_id,
    coalesce(version.spec ->> 'name', version.job_id) as name,
    coalesce(version.spec ->> 'description', '') as description,
    coalesce(version.spec ->> 'runbook', '') as runbook,
    coalesce(version.spec ->> 'owner', application.spec ->> 'owner', '') as owner,
    coalesce((version.spec ->> 'restartable')::boolean, true) as restartable
from {{ source("catalog", "job_version") }} as version
left join
    lateral(
        select known.spec
        from {{ source("catalog", "application_version") }} as known
        where known.application_id = version.application_id and known.load_id <= {{ tick("published_high") }}
        order by known.load_id desc
        limit 1
    ) as application
    on true
where
    version.load_id <= {{ tick("published_high") }}
    and not exists (
        select
        from {{ source("catalog", "job_version") }} as newer
        where
            newer.application_id = version.application_id
            and newer.job_id = version.job_id
            and newer.load_id > version.load_id
            and newer.load_id <= {{ tick("published_high") }}
    )
