{#-
  One KPI's value of a cell `u`, of the aggregates beside it. Of `kpi`: id, grains, sides (its sources: rows, the counts of their rows, and
  which dimensions each lacks), variables, expression, undivided (the expression with one in place of each divisor that is zero).
-#}
{% macro kpi_formula(spec, kpi) %}
    {%- if kpi.is_variable -%} {%- set value = "v." ~ kpi.expression -%}
    {%- else -%} {%- set value = 'v."= value"' -%}
    {%- endif %}
    select
        {{ kpi_text(kpi.id) }}::text as kpi_id,
        jsonb_build_object(
            {%- for each in kpi.variables %}
                {{ kpi_text(each.name) }},
                {%- if each.may_be_odd %}
                    case
                        when abs(v.{{ kpi_name(each.name) }}) < {{ spec.too_large }}
                        then v.{{ kpi_name(each.name) }}
                    end
                {%- else %} v.{{ kpi_name(each.name) }}
                {%- endif %}
                {{ "," if not loop.last }}
            {%- endfor %}
        ) as components,
        {% if kpi.is_plain %} {{ value }}
        {% else %} case when abs({{ value }}) < {{ spec.too_large }} then {{ value }} end
        {% endif %} as "= value",
        case
            when {{ value }} is null
            then {{ kpi_reason(kpi) }}
            {%- if not kpi.is_plain %}
                when abs({{ value }}) >= {{ spec.too_large }} then 'not a number'
            {%- endif %}
        end as reason
    from
        {% if kpi.is_variable %}
            {#- A subquery for the value, in every cell, would cost as much as the rest. #}
            {{ kpi_variables(kpi) }}
        {% else %}
            (
                select
                    v.*,
                    {% if kpi.may_be_odd %}
                        case
                            when
                                {%- set odd = [] -%}
                                {%- for each in kpi.variables if each.may_be_odd %}
                                    {%- do odd.append(
                                        "abs(v." ~ kpi_name(each.name) ~ ") >= " ~ spec.too_large
                                    ) -%}
                                {%- endfor %}
                                {{ odd | join(" or ") }}
                            then 'NaN'
                            else ({{ kpi_own(kpi.expression) }})::numeric
                        end
                    {% else %} ({{ kpi_own(kpi.expression) }})::numeric
                    {% endif %} as "= value"
                from {{ kpi_variables(kpi) }}
                offset 0
            ) as v
        {% endif %}
    where
        u.grain
        in ({% for grain in kpi.grains %}{{ kpi_text(grain) }} {{ "," if not loop.last }} {% endfor %})
        and (
            {%- if kpi.fills_gaps %}({{ kpi_exists(kpi) }}) or u.dimensions = '{}'
            {%- else %}{{ kpi_exists(kpi) }}
            {%- endif %}
        )
{% endmacro %}

{% macro kpi_variables(kpi) -%}
    (
        select
            {%- for each in kpi.variables %}
                (
                    case
                        when {{ kpi_has_rows(kpi.sides[each.side]) }}
                        then {{ kpi_variable(each) }}
                        else {{ "null" if each.default is none else each.default }}
                    end
                )::numeric as {{ kpi_name(each.name) }}
                {{- "," if not loop.last }}
            {%- endfor %}
        offset 0
    ) as v
{%- endmacro %}

{#- A variable of the sums of its states, or as it was taken from rows. Of what stands, one that is no number makes none of the sum. -#}
{% macro kpi_variable(each) -%}
    {%- set states = each.states -%}
    {%- if each.how == "count" -%} coalesce({{ states.count }}, 0)
    {%- elif each.how == "count_distinct" -%} coalesce({{ states.value }}, 0)
    {%- elif each.how == "avg" -%}
        {%- if states.odd -%}
            case
                when {{ states.odd }} > 0 then 'NaN' else {{ states.sum }} / nullif({{ states["count"] }}, 0)
            end
        {%- else -%} {{ states.sum }} / nullif({{ states["count"] }}, 0)
        {%- endif -%}
    {%- elif each.how == "sum" and each.is_snapshot -%}
        case
            {%- if states.odd %} when {{ states.odd }} > 0 then 'NaN'
            {%- endif %}
            when {{ states["count"] }} > 0
            then {{ states.sum }}
        end
    {%- else -%} {{ states[each.how] }}
    {%- endif -%}
{%- endmacro %}

{% macro kpi_has_rows(side) -%}
    ({% for name in side.rows %}coalesce({{ name }}, 0) {{ "+" if not loop.last }} {% endfor %}) > 0
{%- endmacro %}

{#- A cell is there where a source that has all of its dimensions has rows. -#}
{% macro kpi_exists(kpi) -%}
    {%- for side in kpi.sides %}
        {%- if side.lacks %}
            (
                {{ kpi_has_rows(side) }}
                and not u.dimensions ?| array[
                    {% for name in side.lacks %}{{ kpi_text(name) }} {{ "," if not loop.last }} {% endfor %}
                ]
            )
        {%- else %} {{ kpi_has_rows(side) }}
        {%- endif %}
        {{ "or" if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#- Why a value is null: what would not be one without it. A default stands where a source has no rows, and nowhere else. -#}
{% macro kpi_reason(kpi) -%}
    {%- set lacking = [] -%}
    {%- set nothing = [] -%}
    {%- for each in kpi.variables %}
        {%- do nothing.append("v." ~ kpi_name(each.name) ~ " is null") -%}
        {%- if not each.has_default %}
            {%- do lacking.append(
                "(v."
                ~ kpi_name(each.name)
                ~ " is null and not ("
                ~ kpi_has_rows(kpi.sides[each.side])
                ~ "))"
            ) -%}
        {%- endif %}
    {%- endfor %}
    case
        {%- if kpi.undivided %}
            when ({{ kpi_own(kpi.undivided) }}) is not null then 'division by zero'
        {%- endif %}
        {%- if lacking %} when {{ lacking | join(" or ") }} then 'no rows' {%- endif %}
        when {{ nothing | join(" or ") }}
        then 'no values'
        else 'by formula'
    end
{%- endmacro %}
