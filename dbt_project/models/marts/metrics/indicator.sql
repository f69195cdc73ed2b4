{{ config(materialized="view") }}

with
    latest as (
        select distinct on (indicator_id) *
        from {{ source("catalog", "indicator_version") }}
        where load_id <= {{ tick("published_high") }}
        order by indicator_id, load_id desc
    )

select
    latest.indicator_id,
    latest.spec ->> 'name' as name,
    array(select jsonb_array_elements_text(latest.spec -> 'inputs')) as inputs,
    latest.spec ->> 'value' as value,
    (latest.spec -> 'is_by_dimension')::boolean as is_by_dimension,
    failure.message as failure,
    failure.failed_at
from latest
left join
    lateral(
        select message, failed_at
        from {{ source("control", "indicator_failure") }} as failure
        where failure.indicator_id = latest.indicator_id and failure.load_id = latest.load_id
        order by failed_at desc
        limit 1
    ) as failure
    on true
where not latest.is_retired
