{{ config(meta={"scope": "int_slo_start", "scope_keys": ["slo_id"]}) }}

with
    last_version as (
        select slo_id, bool_or(is_retired) as is_retired
        from {{ ref("stg_slo_version") }}
        where applies_before = 'infinity' and slo_id in (select slo_id from {{ ref("int_slo_start") }})
        group by slo_id
    ),

    final as (
        select
            computed.slo_id,
            computed.load_id,
            computed.entry_no,
            computed.start_date,
            -- what no version of the catalog waits for is nobody's trouble
            array(
                select lone_date
                from unnest(computed.lone_dates) as lone_date
                where lone_date < version.applies_before and not last_version.is_retired
                order by lone_date
            ) as lone_dates
        from {{ ref("int_slo_start") }} as computed
        inner join {{ ref("stg_slo_version") }} as version using (slo_id, load_id, entry_no)
        inner join last_version using (slo_id)
    )

select *
from final
