{{ config(indexes=[{"columns": ["slo_id", "business_date", "slot"], "unique": true}]) }}

{{ occurrences_of(ref("scope_occurrence"), ref("stg_slo_version"), ref("stg_job_status"), tick("as_of")) }}
