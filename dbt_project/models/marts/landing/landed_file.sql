{{ config(materialized="view") }}

select
    feed,
    path,
    status,
    record_count,
    rejected_count,
    message,
    hint,
    warnings,
    size_bytes,
    modified_at,
    seen_at,
    load_id
from {{ source("raw", "landed_file") }}
