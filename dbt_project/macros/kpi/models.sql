{#- The generated models of values. Here none: in the effective project this file is written with those of the catalog. -#}
{% macro kpi_models() %} {{ return([]) }} {% endmacro %}
