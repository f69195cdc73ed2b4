select distinct
    on (application_id)
    application_id,
    coalesce(spec ->> 'name', application_id) as application_name,
    spec ->> 'description' as description,
    spec ->> 'owner' as owner,
    spec ->> 'timezone' as timezone,
    is_retired
from {{ source("catalog", "application_version") }}
where load_id <= {{ tick("published_high") }}
order by application_id, load_id desc
