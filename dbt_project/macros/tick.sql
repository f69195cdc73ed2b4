{#- A value of the tick's control row: low, high, previous_as_of or as_of. -#}
{% macro tick(column) -%} (select {{ column }} from {{ source("control", "tick") }}) {%- endmacro %}

{#-
  A condition on rows of raw: no load up to `high` took them out again. The first half is a look into a hash of the few
  loads of which anything was taken out.
-#}
{% macro standing(rows, high) -%}
    (
        {{ rows }}.load_id not in (select unloaded_load_id from {{ source("raw", "unload") }})
        or not raw.is_unloaded({{ rows }}.load_id, {{ rows }}.seq, {{ high }})
    )
{%- endmacro %}

{#-
  A mart as the last tick left it, for what the mart itself is made of: no ref, which would be a circle, and nothing to
  read while the tick is a rebuild. `columns`: which to read, SQL type each.
-#}
{% macro published(model_name, columns) -%}
    {%- set mart = graph.nodes["model." ~ model.package_name ~ "." ~ model_name] if execute -%}
    {%- set relation = adapter.get_relation(mart.database, mart.schema, mart.alias) if execute -%}
    {%- if relation and not flags.FULL_REFRESH -%}
        (
            select {{ columns | join(", ") }}
            from {{ relation }}
            where {{ tick("previous_as_of") }} > '-infinity'
        )
    {%- else -%}
        {#- deploy makes the tables in the order of the graph, this one later; the one that is there may be older -#}
        (
            select
                {%- for column, type in columns.items() %}
                    null::{{ type }} as {{ column }}{{ "," if not loop.last }}
                {%- endfor %}
            where false
        )
    {%- endif -%}
{%- endmacro %}

{#-
  A condition on `column`: in the months that the query `months` gives (a null: in any). They become literals, so that
  the planner opens their partitions and no others: a tick must not take longer with every month of history.
  `midnight`: what a literal has after its date, where the column is an instant.
-#}
{% macro in_months(column, months, midnight="") -%}
    {%- if execute and model.resource_type == "model" -%}
        {%- set condition -%}
            select
                case
                    when bool_or(span.first_day is null) then 'true'
                    else coalesce(
                        string_agg(
                            format(
                                '{{ column }} >= %L and {{ column }} < %L',
                                span.first_day || '{{ midnight }}',
                                span.end_day || '{{ midnight }}'
                            ),
                            ' or ' order by span.first_day
                        ),
                        'false'
                    )
                end
            from (
                select min(month)::date as first_day, (max(month) + interval '1 month')::date as end_day
                from (
                    select month, month - row_number() over (order by month) * interval '1 month' as consecutive
                    from (select distinct month from ({{ months }}) as given) as months
                ) as numbered
                group by consecutive
            ) as span
        {%- endset -%}
        ({{ run_query(condition).rows[0][0] }})
    {%- else -%} true
    {%- endif -%}
{%- endmacro %}

{#- The months of the business dates of these relations. -#}
{% macro months_of(relations) -%}
    {%- for relation in relations %}
        select date_trunc('month', business_date) as month from {{ relation }} {{ "union" if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#- The months that loads of a feed touched, as their writers noted: the loads for which `condition` is true. -#}
{% macro months_of_loads(feed, condition) -%}
    select month
    from {{ source("raw", "load") }} as load
    cross join lateral unnest(coalesce(load.months, array[null::date])) as month
    where load.feed = '{{ feed }}' and {{ condition }}
{%- endmacro %}
