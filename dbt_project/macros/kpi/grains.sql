{#- The step from a period of a grain, which is a column, to the next one; Python has it (pipelines/kpi/grains.py). -#}
{% macro kpi_step(grain) -%}
    {{ env_var("DUEMARK_DBT_GRAIN_STEP") | replace(":grain", grain) }}
{%- endmacro %}
