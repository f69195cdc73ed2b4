{#-
  A model of values: statements for a group of KPIs, one after the other. `values` gives those of the periods in `kpi_period`, a table of the
  engine's transaction, which are found by the statement `periods`; the others see to what is kept, sealed and proved. Of `spec`: timezone,
  has_odd_hours and has_odd_days (of the zone), parts (of states or of rows, see kpi_cells and kpi_rows), cells (names of the parts of
  states), base (the part, or `universe`, whose cells there are), kpis (see kpi_formula), too_large (no number from there on); of its
  periods see kpi_periods and kpi_sealed.
-#}
{% macro kpi_values(spec) %}
    {{ kpi_statement("values") }}
    with
        {%- for part in spec.parts %}
            {{ part.name }} as (
                {%- if part.kind == "cells" %}{{ kpi_cells(spec, part) }}
                {%- else %}{{ kpi_rows(spec, part) }}
                {%- endif %}
            )
            {{- "," if not loop.last or spec.base == "universe" }}
        {%- endfor %}
        {%- if spec.base == "universe" %}
            universe as (
                {%- for name in spec.cells %}
                    select grain, period_start, dimensions
                    from {{ name }} {{ "union" if not loop.last or spec.fills_gaps }}
                {%- endfor %}
                {%- if spec.fills_gaps %} select grain, period_start, '{}'::jsonb from kpi_period {%- endif %}
            )
        {%- endif %}
    select
        k.kpi_id,
        u.grain,
        u.period_start,
        u.dimensions,
        k.components,
        k."= value" as value,
        null::jsonb as value_json,
        k.reason
    from {{ spec.base }} as u
    {%- for part in spec.parts if part.name != spec.base %}
        left join
            {{ part.name }}
            on {{ part.name }}.grain = u.grain
            and {{ part.name }}.period_start = u.period_start
            and {{ part.name }}.dimensions = {{ kpi_shared_dimensions(part.missing) }}
    {%- endfor %}
    cross join
        lateral(
            {%- for kpi in spec.kpis %}
                {{ kpi_formula(spec, kpi) }} {{ "union all" if not loop.last }}
            {%- endfor %}
        ) as k
        {{ kpi_period_statements(spec) }}
{% endmacro %}

{% macro kpi_period_statements(spec) %}
    {{ kpi_statement("periods") }} {{ kpi_periods(spec) }}
    {%- if spec.retention %} {{ kpi_statement("expired") }} {{ kpi_expired(spec) }} {%- endif %}
    {%- if spec.sealed %} {{ kpi_statement("sealed") }} {{ kpi_sealed(spec) }} {%- endif %}
    {{ kpi_statement("needs") }} {{ kpi_needs(spec) }}
{% endmacro %}

{#- The cell of a part that has not all dimensions: it is shared by the members of those that are missing. -#}
{% macro kpi_shared_dimensions(missing) -%}
    {%- if missing -%}
        (
            u.dimensions
            - array[{% for name in missing %}{{ kpi_text(name) }} {{ "," if not loop.last }} {% endfor %}]
        )
    {%- else -%} u.dimensions
    {%- endif -%}
{%- endmacro %}

{#- Values by a macro of an author's own (`sql`: what it gave): grain, period_start, components, value, value_json by period. -#}
{% macro kpi_custom(spec, sql) %}
    {%- for each in spec.sources %} {%- do kpi_relation(each) -%} {%- endfor %}
    {{ kpi_statement("values") }}
    select
        {{ kpi_text(spec.id) }}::text as kpi_id,
        v.grain,
        v.period_start,
        '{}'::jsonb as dimensions,
        v.components,
        case when abs(v.value) < {{ spec.too_large }} then v.value::numeric end as value,
        v.value_json,
        case when abs(v.value) >= {{ spec.too_large }} then 'not a number' end as reason
    from ({{ kpi_own(sql) }}) as v {{ kpi_period_statements(spec) }}
{% endmacro %}
