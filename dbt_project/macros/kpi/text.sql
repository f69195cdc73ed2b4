{#-
  Names, texts and what authors of definitions wrote, as SQL. The models are templates: a named parameter, %(name)s, stands for
  what the engine puts in, and a per cent sign of anybody else's is doubled.
-#}
{% macro kpi_name(name) -%} {{ '"' ~ (name | replace('"', '""') | replace("%", "%%")) ~ '"' }} {%- endmacro %}

{% macro kpi_text(text) -%} {{ "'" ~ (text | replace("'", "''") | replace("%", "%%")) ~ "'" }} {%- endmacro %}

{#- A condition or an expression of a definition: SQL of its author's, checked and written anew when it was read. -#}
{% macro kpi_own(sql) -%} {{ sql | replace("%", "%%") }} {%- endmacro %}

{#- A source's table as dbt knows it, so that it is in the graph. -#}
{% macro kpi_relation(source_spec) -%}
    {%- if source_spec.kind == "model" -%} {{ ref(source_spec.table) }}
    {%- elif source_spec.kind == "source" -%} {{ source(source_spec.schema, source_spec.table) }}
    {%- else -%} {{ kpi_name(source_spec.schema) }}.{{ kpi_name(source_spec.table) }}
    {%- endif -%}
{%- endmacro %}

{#- The states that a model of values reads: those that stand, or those that a proof has computed beside them. -#}
{% macro kpi_states(name) -%} {%- do ref(name) -%} %(states)s.{{ kpi_name(name) }} {%- endmacro %}

{#- Where a statement of a model begins, by its name; up to here it is that before. -#}
{% macro kpi_statement(name) -%} {{ "%(statement_" ~ name ~ ")s" }} {%- endmacro %}
