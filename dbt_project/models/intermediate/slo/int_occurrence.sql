{{ config(indexes=[{"columns": ["slo_id", "business_date", "slot"], "unique": true}]) }}

{%- set starts -%}
    (
        select slo_id, load_id, entry_no, start_date from {{ ref("int_slo_start") }}
        union all
        select slo_id, load_id, entry_no, start_date
        from {{ starts_before() }} as before
        where slo_id not in (select slo_id from {{ ref("int_slo_start") }})
    )
{%- endset -%}

{{
    occurrences_of(
        ref("scope_occurrence"), ref("stg_slo_version"), starts, seen_now(), tick("as_of"), tick("high")
    )
}}
