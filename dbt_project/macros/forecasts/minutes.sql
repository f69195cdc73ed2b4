{#- Minutes as a number to an interval, to the millisecond. -#}
{% macro minutes_interval(column) -%}
    make_interval(secs => round(60 * {{ column }}::numeric, 3)::float8)
{%- endmacro %}

{#- Minutes as people read them. -#}
{% macro minutes_text(column) -%} trim_scale(round({{ column }}::numeric, 2)) {%- endmacro %}
