{#-
  What does not add up (distinct counts, percentiles, the least and greatest of what stands), of the source's rows: for each period and
  subset of the dimensions by itself. Of `part`: present, grains (grain, used, conditions), piece, time_column, until_column, members
  (dimension, column), aggregates (name, how, column, condition, may_be_odd, share).
-#}
{% macro kpi_rows(spec, part) %}
    {%- for at in part.grains %}
        select
            {{ kpi_text(at.grain) }} as grain,
            "p start" as period_start,
            {{ kpi_dimensions(part.present) }} as dimensions
            {%- for each in part.aggregates %}
                ,
                {%- if each.name in at.used %} ({{ kpi_row_aggregate(each, spec) }})::numeric
                {%- else %} null::numeric
                {%- endif %} as {{ each.name }}
            {%- endfor %}
        from
            (
                {%- if kpi_is_own(part.piece, at.grain) %}{{ kpi_own_rows(spec, part, at) }}
                {%- else %}{{ kpi_window_rows(spec, part, at) }}
                {%- endif %}
            ) as r
        group by "p start" {{ kpi_cube(part.present) }} {{ "union all" if not loop.last }}
    {%- endfor %}
{% endmacro %}

{#-
  The rows of the period itself. Two parameters of the engine: within_PART_GRAIN, the condition on the time column, and for all but hours
  start_PART_GRAIN, the start of the period around it.
-#}
{% macro kpi_own_rows(spec, part, at) %}
    select
        r.*,
        {% if at.grain == "hour" %} {{ kpi_hour_of("r." ~ kpi_name(part.time_column), spec) }}
        {% else %} %(start_{{ part.name }}_{{ at.grain }})s
        {% endif %} as "p start"
        {{- kpi_row_members(part) }}
    from {{ kpi_relation(part.piece.source) }} as r
    where %(within_{{ part.name }}_{{ at.grain }})s {{ kpi_row_conditions(at) }}
{% endmacro %}

{#- The rows of a window, or those that stand. A column of the source may be called like one of the periods. -#}
{% macro kpi_window_rows(spec, part, at) %}
    {%- set own = "r." ~ kpi_name(part.time_column) -%}
    {%- set begins = kpi_begins(part.piece, spec, is_renamed=true) -%}
    {%- set ends = kpi_ends(part.piece, is_renamed=true) %}
    select r.*, p."p period_start" as "p start" {{- kpi_row_members(part) }}
    from
        kpi_period as p(
            "p grain",
            "p period_start",
            "p period_end",
            "p start_date",
            "p last_date",
            "p period",
            "p is_gone"
        )
    inner join
        {{ kpi_relation(part.piece.source) }} as r on p."p grain" = {{ kpi_text(at.grain) }}
        {%- if not part.piece.is_snapshot %} and {{ kpi_row_instant(own, part) }} >= {{ begins }} {%- endif %}
        and {{ kpi_row_instant(own, part) }} < {{ ends }}
        and isfinite({{ own }})
        {%- if part.piece.is_snapshot and part.until_column %}
            {%- set until = "r." ~ kpi_name(part.until_column) %}
            and ({{ until }} is null or {{ kpi_row_instant(until, part) }} >= {{ ends }})
        {%- endif %}
        {{ kpi_row_conditions(at) }}
{% endmacro %}

{% macro kpi_row_instant(column, part) -%}
    {%- if part.piece.is_date -%} ({{ column }}::timestamp at time zone 'UTC')
    {%- else -%} {{ column }}
    {%- endif -%}
{%- endmacro %}

{% macro kpi_row_members(part) -%}
    {%- for each in part.members %}
        , r.{{ kpi_name(each.column) }}::text as {{ kpi_name("d " ~ each.dimension) }}
    {%- endfor %}
{%- endmacro %}

{% macro kpi_row_conditions(at) -%}
    {%- if at.conditions -%}
        and (
            {%- for condition in at.conditions %}
                ({{ kpi_own(condition) }}) {{ "or" if not loop.last }}
            {%- endfor %}
        )
    {%- endif -%}
{%- endmacro %}

{% macro kpi_row_aggregate(each, spec) -%}
    {%- if each.how == "percentile" -%} {{ kpi_percentile(each, spec) }}
    {%- else -%}
        {%- if each.how == "count_distinct" -%} count(distinct {{ kpi_name(each.column.name) }})
        {%- else -%} {{ kpi_extreme(each.how, each.column, each.may_be_odd) }}
        {%- endif -%}
        {{- kpi_filter(each.condition) -}}
    {%- endif -%}
{%- endmacro %}

{% macro kpi_filter(condition) -%}
    {%- if condition %} filter (where {{ kpi_own(condition) }}) {%- endif -%}
{%- endmacro %}

{#-
  A percentile as numeric: of doubles it would depend on the last bit, of intervals it is seconds already. Where any of it is no number,
  the result is none either: that is the least or the greatest of all, in one sort.
-#}
{% macro kpi_percentile(each, spec) -%}
    {%- if not each.may_be_odd -%}
        (
            percentile_cont({{ each.share }}) within group (
                order by ({{ kpi_number(each.column) }})::double precision
            )
            {{- kpi_filter(each.condition) }}
        )::numeric
    {%- else -%}
        kpi.middle_one(
            percentile_cont(array[0, {{ each.share }}, 1]) within group (
                order by
                    (
                        {%- if each.is_decimal %}
                            {#- What no double can hold. #}
                            case
                                when abs({{ kpi_number(each.column) }}) >= {{ spec.too_large }}
                                then 'Infinity'
                                when abs({{ kpi_number(each.column) }}) < 1e-300
                                then 0
                                else {{ kpi_number(each.column) }}
                            end
                        {%- else %}{{ kpi_number(each.column) }}
                        {%- endif %}
                    )::double precision
            )
            {{- kpi_filter(each.condition) }}
        )
    {%- endif -%}
{%- endmacro %}
