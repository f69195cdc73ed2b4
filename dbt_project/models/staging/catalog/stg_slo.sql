with
    latest as (
        select distinct on (slo_id) *
        from {{ source("catalog", "slo_entry_version") }}
        where load_id <= {{ tick("published_high") }}
        order by slo_id, load_id desc
    )

select slo_id, coalesce(spec -> -1 ->> 'name', slo_id) as slo_name
from latest
where not is_retired
