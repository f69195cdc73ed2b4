{{ config(materialized="view") }}

with
    finest as (
        select cell.*
        from {{ ref("kpi_value") }} as cell
        inner join {{ source("kpi", "kpi") }} as kpi on cell.kpi_id = kpi.kpi_id
        where cell.grain = kpi.spec -> 'grains' ->> 0
    ),

    closed as (
        select distinct on (kpi_id, dimension_key) *
        from finest
        where not provisional
        order by kpi_id, dimension_key, period_start desc
    ),

    still_open as (
        select distinct on (kpi_id, dimension_key) *
        from finest
        where provisional
        order by kpi_id, dimension_key, period_start desc
    )

select
    coalesce(closed.kpi_id, still_open.kpi_id) as kpi_id,
    coalesce(closed.dimension_key, still_open.dimension_key) as dimension_key,
    coalesce(closed.dimensions, still_open.dimensions) as dimensions,
    coalesce(closed.grain, still_open.grain) as grain,
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
from closed
full join still_open on closed.kpi_id = still_open.kpi_id and closed.dimension_key = still_open.dimension_key
