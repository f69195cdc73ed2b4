{{ config(indexes=[{"columns": ["slo_id", "business_date", "slot"], "unique": true}]) }}

{{ occurrences_of(ref("scope_occurrence"), ref("stg_slo_version"), seen_now(ref("scope_job_date")), tick("as_of")) }}
