{{ config(materialized="view") }}
{{ kpi_lineage() }}

select
    kpi_id,
    grain,
    period,
    dimension_key,
    reported_value,
    reported_json,
    restated_value,
    restated_json,
    reported_at,
    restated_at,
    load_id,
    definition_version
from {{ source("kpi", "restatement") }}
