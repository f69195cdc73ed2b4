{{ config(materialized="view") }}

select
    file.feed,
    file.path,
    case when taken.load_id is not null then 'unloaded' else file.status end as status,
    file.record_count,
    file.rejected_count,
    coalesce(file.rejected_kept, file.rejected_count) as rejected_kept,
    file.message,
    file.hint,
    file.warnings,
    file.size_bytes,
    file.modified_at,
    file.seen_at,
    file.load_id,
    unload.received_at as unloaded_at,
    taken.unloaded_by,
    taken.reason as unload_reason
from {{ source("raw", "landed_file") }} as file
left join
    {{ source("raw", "unload") }} as taken
    on file.status = 'loaded'
    and file.load_id = taken.unloaded_load_id
    and file.path = taken.path
left join {{ source("raw", "load") }} as unload on taken.load_id = unload.load_id
