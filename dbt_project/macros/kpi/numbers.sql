{#- A column (name, kind) as what adds up exactly: whole numbers and numeric as they are, doubles as numeric, time as seconds. -#}
{% macro kpi_number(column) -%}
    {%- if column.kind in ("time", "clock") -%} extract(epoch from {{ kpi_name(column.name) }})
    {%- elif column.kind == "double" -%} {{ kpi_name(column.name) }}::numeric
    {%- elif column.kind == "boolean" -%} {{ kpi_name(column.name) }}::integer
    {%- else -%} {{ kpi_name(column.name) }}
    {%- endif -%}
{%- endmacro %}

{#-
  A condition: a row's value is no number (NaN, an infinity), and its opposite; neither where it is null. Judged as it is stored:
  to make a numeric of a double, or seconds of an interval, takes longer than to add it up. NaN is the greatest of all.
-#}
{% macro kpi_is_odd(column) -%}
    {%- if column.kind == "time" -%} not isfinite({{ kpi_name(column.name) }})
    {%- elif column.kind == "double" -%}
        ({{ kpi_name(column.name) }} >= 'Infinity' or {{ kpi_name(column.name) }} = '-Infinity')
    {%- else -%} abs({{ kpi_number(column) }}) >= 'Infinity'
    {%- endif -%}
{%- endmacro %}

{% macro kpi_is_number(column) -%}
    {%- if column.kind == "time" -%} isfinite({{ kpi_name(column.name) }})
    {%- elif column.kind == "double" -%}
        ({{ kpi_name(column.name) }} > '-Infinity' and {{ kpi_name(column.name) }} < 'Infinity')
    {%- else -%} abs({{ kpi_number(column) }}) < 'Infinity'
    {%- endif -%}
{%- endmacro %}

{#-
  min or max (`part`) of a column, no number where any of it is none. The greatest double is the greatest numeric too, so that only
  one value is made a numeric; and what is odd at the end that is looked for is the result anyway.
-#}
{% macro kpi_extreme(part, column, may_be_odd) -%}
    {%- if not may_be_odd -%} {{ part }} ({{ kpi_number(column) }})
    {%- else -%}
        {{ part }} (
            case
                when
                    {% if column.kind != "double" %} {{ kpi_is_odd(column) }}
                    {% elif part == "min" %} {{ kpi_name(column.name) }} >= 'Infinity'
                    {% else %} {{ kpi_name(column.name) }} = '-Infinity'
                    {% endif %}
                then '{{ "-Infinity" if part == "min" else "Infinity" }}'
                else
                    {% if column.kind == "double" %} {{ kpi_name(column.name) }}
                    {% else %} {{ kpi_number(column) }}
                    {% endif %}
            end
        )
    {%- endif -%}
{%- endmacro %}
