{#- Minutes as a number to an interval, to the millisecond. -#}
{% macro minutes_interval(column) -%}
    make_interval(secs => round(60 * {{ column }}::numeric, 3)::float8)
{%- endmacro %}

{#- Minutes as a duration for people, spelled as in the catalog: `12m`, `1h 20m`, `-24s`; the two largest units that it has. -#}
{% macro minutes_spelled(column) -%}
    {%- set seconds -%}round(abs(60 * {{ column }}::numeric))::bigint{%- endset -%}
    case when {{ seconds }} > 0 and {{ column }} < 0 then '-' else '' end || coalesce(
        nullif(
            array_to_string(
                (
                    array_remove(
                        array[
                            nullif({{ seconds }} / 86400, 0)::text || 'd',
                            nullif({{ seconds }} % 86400 / 3600, 0)::text || 'h',
                            nullif({{ seconds }} % 3600 / 60, 0)::text || 'm',
                            nullif({{ seconds }} % 60, 0)::text || 's'
                        ],
                        null
                    )
                )[:2],
                ' '
            ),
            ''
        ),
        '0s'
    )
{%- endmacro %}
