{#- A value of the tick's control row: low, high, previous_as_of or as_of. -#}
{% macro tick(column) -%}
    (select {{ column }} from {{ source("control", "tick") }})
{%- endmacro %}

{#-
  A mart as the last tick left it, for what the mart itself is made of: no ref, which would be a circle, and nothing to
  read while the tick is a rebuild. `columns`: which to read, SQL type each.
-#}
{% macro published(model_name, columns) -%}
    {%- set mart = graph.nodes["model.duemark." ~ model_name] if execute -%}
    {%- set relation = adapter.get_relation(mart.database, mart.schema, mart.alias) if execute -%}
    {%- if relation -%}
        (
            select {{ columns | join(", ") }}
            from {{ relation }}
            where {{ tick("previous_as_of") }} > '-infinity'
        )
    {%- else -%}
        {#- deploy makes the tables in the order of the graph, this one later -#}
        (
            select
                {%- for column, type in columns.items() %}
                    null::{{ type }} as {{ column }}{{ "," if not loop.last }}
                {%- endfor %}
            where false
        )
    {%- endif -%}
{%- endmacro %}
