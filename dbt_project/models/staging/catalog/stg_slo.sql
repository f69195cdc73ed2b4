select distinct
    on (slo_id)
    slo_id,
    coalesce(spec -> -1 ->> 'name', slo_id) as slo_name,
    spec -> -1 ->> 'description' as description,
    spec -> -1 ->> 'runbook' as runbook,
    is_retired
from {{ source("catalog", "slo_entry_version") }}
where load_id <= {{ tick("published_high") }}
order by slo_id, load_id desc
