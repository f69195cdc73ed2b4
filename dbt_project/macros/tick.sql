{#- A value of the tick's control row: low, high, previous_as_of or as_of. -#}
{% macro tick(column) -%}
    (select {{ column }} from {{ source("control", "tick") }})
{%- endmacro %}
