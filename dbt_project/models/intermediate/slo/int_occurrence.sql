{{ config(indexes=[{"columns": ["slo_id", "business_date", "slot"], "unique": true}]) }}

{#- What is visible only ever grows: the scope holds what was not seen before. -#}
{%- set seen = [ref("scope_job_date"), seen_before()] -%}

{{ occurrences_of(ref("scope_occurrence"), ref("stg_slo_version"), seen, tick("as_of")) }}
