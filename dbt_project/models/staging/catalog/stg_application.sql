with
    latest as (
        select distinct on (application_id) *
        from {{ source("catalog", "application_version") }}
        where load_id <= {{ tick("published_high") }}
        order by application_id, load_id desc
    )

select
    application_id,
    coalesce(spec ->> 'name', application_id) as application_name,
    spec ->> 'owner' as owner,
    spec ->> 'timezone' as timezone
from latest
where not is_retired
