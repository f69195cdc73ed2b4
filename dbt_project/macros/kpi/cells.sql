{#-
  The cells of what adds up: states of the periods stacked, piece by piece, and added up for every subset of the dimensions. Of `part`:
  present (the dimensions), grains (grain, used: which columns it needs), columns (name, way), pieces (members, columns).
-#}
{% macro kpi_cells(spec, part) %}
    {%- for at in part.grains %}
        select
            {{ kpi_text(at.grain) }} as grain,
            period_start,
            {{ kpi_dimensions(part.present) }} as dimensions
            {%- for each in part.columns %}
                ,
                {%- if each.name in at.used %} {{ each.way }} ({{ each.name }})
                {%- else %} null::numeric
                {%- endif %} as {{ each.name }}
            {%- endfor %}
        from
            (
                {%- for piece in part.pieces %}
                    {%- if piece.is_running %}{{ kpi_running(spec, part, piece, at) }}
                    {%- else %}{{ kpi_stacked(spec, piece, at) }}
                    {%- endif %}
                    {{ "union all" if not loop.last }}
                {%- endfor %}
            ) as stacked
        group by period_start {{ kpi_cube(part.present) }} {{ "union all" if not loop.last }}
    {%- endfor %}
{% endmacro %}

{#- The columns of a state `s` that are members, under the names of their dimensions, apart from our own names. -#}
{% macro kpi_state_members(piece) -%}
    {%- for each in piece.members %}
        , s.{{ kpi_name(each.column) }} as {{ kpi_name("d " ~ each.dimension) }}
    {%- endfor %}
{%- endmacro %}

{#- The members of a cell that are not totals, as jsonb. -#}
{% macro kpi_dimensions(present) -%}
    {%- if not present -%} '{}'::jsonb
    {%- else -%}
        (
            {%- for name in present %}
                case
                    when grouping({{ kpi_name("d " ~ name) }}) = 1
                    then '{}'::jsonb
                    else jsonb_build_object({{ kpi_text(name) }}, {{ kpi_name("d " ~ name) }})
                end
                {{ "||" if not loop.last }}
            {%- endfor %}
        )
    {%- endif -%}
{%- endmacro %}

{% macro kpi_cube(present) -%}
    {%- if present -%}
        , cube ({% for name in present %}{{ kpi_name("d " ~ name) }} {{ "," if not loop.last }} {% endfor %})
    {%- endif -%}
{%- endmacro %}

{#-
  The states of each period, or of the days that end with it. Those of the period itself are joined by what they have in common, so
  that the planner can hash it; the parameter within_KIND_GRAIN is the engine's condition: those within the periods at hand.
-#}
{% macro kpi_stacked(spec, piece, at) %}
    select
        p.period_start {{ kpi_state_members(piece) }}
        {%- for name in at.used %}
            ,
            {%- if name in piece.columns %} s.{{ kpi_name(piece.columns[name]) }}
            {%- else %} null::numeric
            {%- endif %} as {{ name }}
        {%- endfor %}
    from kpi_period as p
    inner join
        {{ kpi_states(piece.state) }} as s on p.grain = {{ kpi_text(at.grain) }}
        {%- if kpi_is_own(piece, at.grain) %}
            {%- if at.grain == "hour" %} and p.period_start = {{ kpi_hour_of("s.bucket_at", spec) }}
            {%- elif spec.has_odd_days and not piece.is_date %}
                and p.start_date = date_trunc(
                    {{ kpi_text(at.grain) }}, kpi.local_time(s.bucket_at, {{ kpi_text(spec.timezone) }})
                )::date
            {%- else %}
                and p.start_date = date_trunc(
                    {{ kpi_text(at.grain) }},
                    s.bucket_at at time zone {{ kpi_text("UTC" if piece.is_date else spec.timezone) }}
                )::date
            {%- endif %} and %(within_{{ "midnight" if piece.is_date else "instant" }}_{{ at.grain }})s
        {%- else %} and s.bucket_at >= {{ kpi_begins(piece, spec) }} and s.bucket_at < {{ kpi_ends(piece) }}
        {%- endif %}
{% endmacro %}
