{{ config(materialized="view") }}

select
    kpi_id,
    (spec ->> 'number')::integer as number,
    version,
    spec ->> 'name' as name,
    spec ->> 'category' as category,
    spec ->> 'description' as description,
    spec ->> 'owner' as owner,
    spec ->> 'unit' as unit,
    spec ->> 'timezone' as timezone,
    spec ->> 'expression' as expression,
    spec -> 'variables' as variables,
    array(select jsonb_array_elements_text(spec -> 'grains')) as grains,
    array(select jsonb_array_elements_text(spec -> 'dimensions')) as dimensions,
    nullif(spec -> 'thresholds', 'null') as thresholds,
    array(select jsonb_array_elements_text(spec -> 'slos')) as slos,
    valid_from,
    valid_to
from {{ source("kpi", "definition") }}
