{#-
  What the engine fills by the generated models, which no query names: they are upstream all the same, in the graph, in the docs
  and in Dagster. Nothing is left of it in the compiled text, nor asked for by unit tests.
-#}
{% macro kpi_lineage() %}
    {%- if not execute -%} {%- for name in kpi_models() %} {%- do ref(name) -%} {%- endfor %} {%- endif -%}
{% endmacro %}
