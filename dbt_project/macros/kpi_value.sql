{#- The step from a period of a grain to the one before. -#}
{% macro kpi_step(grain) -%}
    case
        {{ grain }}
        when 'day'
        then interval '1 day'
        when 'week'
        then interval '7 days'
        when 'month'
        then interval '1 month'
        when 'quarter'
        then interval '3 months'
        else interval '1 year'
    end
{%- endmacro %}

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
