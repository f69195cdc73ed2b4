{{ config(materialized="view") }}

-- Now, not as of the last tick: what was just put into the catalog is told no more.
select version.application_id, coalesce(version.spec ->> 'owner', '') as owner
from {{ source("catalog", "application_version") }} as version
where
    not version.is_retired
    and not exists (
        select
        from {{ source("catalog", "application_version") }} as newer
        where newer.application_id = version.application_id and newer.load_id > version.load_id
    )
