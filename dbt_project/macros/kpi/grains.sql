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
