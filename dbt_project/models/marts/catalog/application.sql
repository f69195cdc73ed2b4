{{ config(materialized="view") }}

select application_id, application_name, description, owner, timezone, is_retired
from {{ ref("stg_application") }}
