{#- Indicators that the tick may see: id, load_id of the definition, inputs, value, is_by_dimension. -#}
{% macro indicators() -%}
    {%- set found = [] -%}
    {%- if execute -%}
        {%- set query -%}
            select distinct on (indicator_id) indicator_id, load_id, is_retired, spec
            from {{ source("catalog", "indicator_version") }}
            where load_id <= {{ tick("high") }}
            order by indicator_id, load_id desc
        {%- endset -%}
        {%- for row in run_query(query).rows if not row["is_retired"] -%}
            {%- set spec = fromjson(row["spec"]) if row["spec"] is string else row["spec"] -%}
            {%- do found.append(dict(spec, id=row["indicator_id"] | int, load_id=row["load_id"] | int)) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(found) }}
{%- endmacro %}

{#- An indicator's rows: hour_at, dimension, value. A function of the facts of the hour, nothing else. -#}
{% macro indicator_values(indicator, facts) -%}
    select hour_at, dimension, ({{ indicator.value }})::bigint as value
    from
        (
            select
                hour_at,
                dimension,
                input,
                minute,
                min(minute) over (partition by hour_at, dimension) as first_minute,
                sum(amount)::bigint as amount
            from
                (
                    select
                        hour_at,
                        {{ "dimension" if indicator.is_by_dimension else "null::text as dimension" }},
                        input,
                        minute,
                        amount
                    from {{ facts }}
                    where input in ('{{ indicator.inputs | join("', '") }}')
                ) as fact
            group by hour_at, dimension, input, minute
        ) as minutes
    group by hour_at, dimension
{%- endmacro %}

{#- Months of the loads of all feeds that bring metric inputs. -#}
{% macro months_of_metric_loads(condition) -%}
    {{ months_of_loads("metric_log", condition) }}
    union all
    {{ months_of_loads("uptime", condition) }}
{%- endmacro %}
