{#- The zone of an SLO, by its newest version that the last tick knew: one row, `timezone`. -#}
{% macro zone_of(slo_id) -%}
    select version.timezone
    from {{ source("catalog", "slo_version") }} as version
    where version.slo_id = {{ slo_id }} and version.load_id <= {{ tick("published_high") }}
    order by version.load_id desc, version.entry_no desc
    limit 1
{%- endmacro %}
