{{ config(materialized="view") }}

with
    calendar as (
        select distinct on (calendar_id) calendar_id, load_id, is_retired, spec
        from {{ source("catalog", "calendar_version") }}
        where load_id <= {{ tick("published_high") }}
        order by calendar_id, load_id desc
    ),

    slo as (
        select distinct on (slo_id) slo_id, is_retired, spec
        from {{ source("catalog", "slo_entry_version") }}
        where load_id <= {{ tick("published_high") }}
        order by slo_id, load_id desc
    )

select
    calendar.calendar_id,
    calendar.load_id,
    calendar.spec,
    array_agg(distinct slo.slo_id order by slo.slo_id) as slo_ids
from calendar
inner join
    slo on slo.spec -> -1 ->> 'calendar' = calendar.calendar_id and slo.spec -> -1 ->> 'effective_to' is null
where not calendar.is_retired and not slo.is_retired
group by calendar.calendar_id, calendar.load_id, calendar.spec
