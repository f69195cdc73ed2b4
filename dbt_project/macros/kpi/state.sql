{#-
  A model of states: one row for each base bucket and members, with what the source's rows of that bucket add up to. Of `spec`:
  source, time_column, until_column, is_date, is_standing, minutes, members (column, name), conditions, aggregates (name, part,
  column, may_be_odd, condition: by its place among the conditions). The parameters touched_0 and touched_1 are the engine's
  conditions on the time column and on the until column: which rows to read.
-#}
{% macro kpi_state(spec) %}
    {%- if spec.is_standing -%} {{ kpi_standing_state(spec) }}
    {%- else -%} {{ kpi_flow_state(spec) }}
    {%- endif -%}
{% endmacro %}

{#- The base bucket of a time column. A date is that of its midnight in UTC, whatever the zone. -#}
{% macro kpi_bucket(column, spec) -%}
    {%- if spec.is_date -%} ({{ kpi_name(column) }}::timestamp at time zone 'UTC')
    {%- else -%}
        date_bin('{{ spec.minutes }} minutes', {{ kpi_name(column) }}, timestamptz '2000-01-01T00:00Z')
    {%- endif -%}
{%- endmacro %}

{% macro kpi_state_keys(spec) -%}
    1 {%- for each in spec.members %}, {{ loop.index + 1 }} {%- endfor %}
{%- endmacro %}

{#-
  Of rows that happen. What many aggregates ask for is judged once a row, behind a fence, the parameter `once`: without it the
  planner would have each aggregate judge it anew, but could work in parallel.
-#}
{% macro kpi_flow_state(spec) %}
    select
        "= bucket" as bucket_at
        {%- for each in spec.members %}
            , {{ kpi_name(each.column) }}::text as {{ kpi_name(each.name) }}
        {%- endfor %}
        {%- for each in spec.aggregates %}
            ,
            (
                {%- if each.part in ("min", "max") %}
                    {{ kpi_extreme(each.part, each.column, each.may_be_odd) }}
                {%- elif each.column %}{{ each.part }} ({{ kpi_number(each.column) }})
                {%- else %}count(*)
                {%- endif %}
                {%- if each.condition is defined %} filter (where "= {{ each.condition }}") {%- endif %}
            )::numeric as {{ kpi_name(each.name) }}
        {%- endfor %}
    from
        (
            select
                *,
                {{ kpi_bucket(spec.time_column, spec) }} as "= bucket"
                {%- for condition in spec.conditions %}
                    , ({{ kpi_own(condition) }}) as "= {{ loop.index0 }}"
                {%- endfor %}
            from {{ kpi_relation(spec.source) }}
            where isfinite({{ kpi_name(spec.time_column) }}) and %(touched_0)s %(once)s
        ) as judged
    group by {{ kpi_state_keys(spec) }}
{% endmacro %}

{#-
  Of rows that stand (a snapshot): each comes at its time and, where there is an until column, goes at that; the sums of what moved are
  the differences from one bucket to the next. One that ends before it begins never stands.
-#}
{% macro kpi_standing_state(spec) %}
    select
        bucket_at
        {%- for each in spec.members %}
            , {{ kpi_name(each.column) }}::text as {{ kpi_name(each.name) }}
        {%- endfor %}
        {%- for each in spec.aggregates %}
            {%- set where = [] -%}
            {%- if each.condition is defined -%}
                {%- do where.append("(" ~ kpi_own(spec.conditions[each.condition]) ~ ")") -%}
            {%- endif -%}
            {%- if each.part == "count" and each.column -%}
                {%- do where.append(kpi_number(each.column) ~ " is not null") -%}
            {%- elif each.part == "odd" -%} {%- do where.append(kpi_is_odd(each.column)) -%}
            {%- elif each.part == "sum" and each.may_be_odd -%}
                {%- do where.append(kpi_is_number(each.column)) -%}
            {%- endif %},
            (
                sum(moved {%- if each.part == "sum" %} * {{ kpi_number(each.column) }} {%- endif %})
                {%- if where %} filter (where {{ where | join(" and ") }}) {%- endif %}
            )::numeric as {{ kpi_name(each.name) }}
        {%- endfor %}
    from
        (
            {{ kpi_moves(spec, spec.time_column, 1, 0) }}
            {%- if spec.until_column %}
                union all
                {{ kpi_moves(spec, spec.until_column, -1, 1) }}
            {%- endif %}
        ) as moves
    group by {{ kpi_state_keys(spec) }}
{% endmacro %}

{% macro kpi_moves(spec, column, sign, number) %}
    select {{ kpi_bucket(column, spec) }} as bucket_at, {{ sign }} as moved, moves.*
    from {{ kpi_relation(spec.source) }} as moves
    where
        isfinite({{ kpi_name(column) }})
        {%- if spec.until_column %}
            and isfinite({{ kpi_name(spec.time_column) }})
            and (
                {{ kpi_name(spec.until_column) }} is null
                or {{ kpi_name(spec.until_column) }} > {{ kpi_name(spec.time_column) }}
            )
        {%- endif %}
        and %(touched_{{ number }})s
{% endmacro %}
