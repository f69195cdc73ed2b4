{{ config(materialized="view", schema="intermediate") }}

select distinct slo_job.slo_id, slo_job.application_id, slo_job.job_id
from {{ ref("stg_slo_version") }} as version
inner join {{ source("catalog", "slo_job") }} as slo_job using (slo_id, load_id, entry_no)
where version.applies_before = 'infinity' and not version.is_retired
