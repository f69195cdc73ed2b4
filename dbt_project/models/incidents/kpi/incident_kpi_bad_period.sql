{{ config(materialized="view") }}

select cell.kpi_id, cell.grain, cell.dimension_key, cell.period
from {{ ref("kpi_value") }} as cell
where not cell.provisional and {{ kpi_severity("cell.status") }} is not null
