{{ config(materialized="view") }}

select
    standing.kpi_id,
    standing.grain,
    standing.dimension_key,
    coalesce(standing.dimensions, '{}') as dimensions,
    coalesce(nullif(definition.name, ''), standing.kpi_id) as name,
    coalesce(definition.unit, '') as unit,
    coalesce(definition.owner, '') as owner,
    coalesce(nullif(definition.timezone, ''), 'UTC') as timezone,
    definition.thresholds,
    coalesce(definition.slos, '{}') as slos,
    standing.closed_period as period,
    standing.closed_period_start as period_start,
    standing.closed_period_end as period_end,
    standing.closed_value as value,
    standing.closed_status as status,
    {{ kpi_severity("standing.closed_status") }} as severity,
    definition.version
from {{ ref("kpi_current") }} as standing
inner join
    {{ ref("kpi_definition") }} as definition
    on standing.kpi_id = definition.kpi_id
    and definition.valid_to is null
where standing.closed_period is not null
