{{ config(materialized="view") }}

select application_id, job_id, upstream_application_id, upstream_job_id
from {{ ref("int_job_edge") }}
