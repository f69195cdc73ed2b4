{#- Whether a threshold's bound (jsonb: a number, or low and high of a band) is met; bounds are inclusive. -#}
{% macro kpi_beyond(value, thresholds, bound) -%}
    coalesce(
        case
            {{ thresholds }} ->> 'direction'
            when 'higher'
            then {{ value }} >= ({{ thresholds }} ->> '{{ bound }}')::numeric
            when 'lower'
            then {{ value }} <= ({{ thresholds }} ->> '{{ bound }}')::numeric
            else
                {{ value }} <= ({{ thresholds }} -> '{{ bound }}' ->> 0)::numeric
                or {{ value }} >= ({{ thresholds }} -> '{{ bound }}' ->> 1)::numeric
        end,
        false
    )
{%- endmacro %}

{#- How bad a status of a KPI is, as incidents count it; null where it is not bad. -#}
{% macro kpi_severity(status) -%}
    case when {{ status }} in ('warning', 'critical') then {{ status }} end
{%- endmacro %}
