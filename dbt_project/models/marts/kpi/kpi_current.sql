{{ config(materialized="view") }}

-- Members are found one after the other, and of each its newest periods: history is not read.
select
    kpi.kpi_id,
    member.dimension_key,
    coalesce(closed.dimensions, still_open.dimensions) as dimensions,
    kpi.spec -> 'grains' ->> 0 as grain,
    closed.period as closed_period,
    closed.period_start as closed_period_start,
    closed.period_end as closed_period_end,
    closed.value as closed_value,
    closed.value_json as closed_value_json,
    closed.status as closed_status,
    closed.change_percent as closed_change_percent,
    closed.direction as closed_direction,
    still_open.period as provisional_period,
    still_open.period_start as provisional_period_start,
    still_open.period_end as provisional_period_end,
    still_open.value as provisional_value,
    still_open.value_json as provisional_value_json,
    still_open.status as provisional_status,
    still_open.change_percent as provisional_change_percent,
    still_open.direction as provisional_direction,
    closed.period_end as complete_to
from {{ source("kpi", "kpi") }} as kpi
cross join
    lateral(
        with recursive
            member as (
                (
                    select dimension_key
                    from {{ source("kpi", "period_value") }}
                    where kpi_id = kpi.kpi_id and grain = kpi.spec -> 'grains' ->> 0
                    order by dimension_key
                    limit 1
                )
                union all
                select
                    (
                        select next.dimension_key
                        from {{ source("kpi", "period_value") }} as next
                        where
                            next.kpi_id = kpi.kpi_id
                            and next.grain = kpi.spec -> 'grains' ->> 0
                            and next.dimension_key > member.dimension_key
                        order by next.dimension_key
                        limit 1
                    )
                from member
                where member.dimension_key is not null
            )
        select dimension_key
        from member
        where dimension_key is not null
    ) as member
left join
    lateral(
        select cell.*
        from {{ ref("kpi_value") }} as cell
        where
            cell.kpi_id = kpi.kpi_id
            and cell.grain = kpi.spec -> 'grains' ->> 0
            and cell.dimension_key = member.dimension_key
            and not cell.provisional
        order by cell.period_start desc
        limit 1
    ) as closed
    on true
left join
    lateral(
        -- none that is older than a closed one
        select cell.*
        from {{ ref("kpi_value") }} as cell
        where
            cell.kpi_id = kpi.kpi_id
            and cell.grain = kpi.spec -> 'grains' ->> 0
            and cell.dimension_key = member.dimension_key
            and cell.period_start > coalesce(closed.period_start, '-infinity')
            and cell.provisional
        order by cell.period_start desc
        limit 1
    ) as still_open
    on true
