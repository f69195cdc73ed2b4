{#-
  What stands at the end of each period (a snapshot: all that came before, less what went), or came to date (since the week, month or
  the like around it began). A state is placed in the first period that ends after it, and added up from period to period: history is
  read once, and not again for each of them.
-#}
{% macro kpi_running(spec, part, piece, at) %}
    {%- set begins = kpi_begins(piece, spec) -%}
    {%- set ends = kpi_ends(piece) -%}
    {%- set mine = [] -%}
    {%- for name in at.used if name in piece.columns %} {%- do mine.append(name) -%} {%- endfor -%}
    {%- set names = [] -%}
    {%- for name in part.present %} {%- do names.append(kpi_name("d " ~ name)) -%} {%- endfor -%}
    {%- set ways = {} -%}
    {%- for each in part.columns %} {%- do ways.update({each.name: each.way}) -%} {%- endfor %}
    select
        period_start
        {%- for name in names %}, {{ name }} {%- endfor %}
        {%- for name in at.used %}
            ,
            {%- if name in mine %} {{ ways[name] }} ({{ name }}) over cell
            {%- else %} null::numeric
            {%- endif %} as {{ name }}
        {%- endfor %}
    from
        (
            select
                p.period_start,
                moved."p end",
                {{ begins }} as "p begin"
                {%- for name in names %}, {{ name }} {%- endfor %}
                {%- for name in mine %}, {{ ways[name] }} ({{ name }}) as {{ name }} {%- endfor %}
            from
                (
                    select
                        ends.ends[width_bucket(s.bucket_at, ends.ends) + 1] as "p end"
                        {{- kpi_state_members(piece) }}
                        {%- for name in mine %}
                            , s.{{ kpi_name(piece.columns[name]) }} as {{ name }}
                        {%- endfor %}
                    from
                        (
                            select
                                array_agg({{ ends }} order by p.period_end) as ends,
                                array_agg({{ begins }} order by p.period_end) as begins
                            from kpi_period as p
                            where p.grain = {{ kpi_text(at.grain) }}
                        ) as ends
                    inner join
                        {{ kpi_states(piece.state) }} as s
                        on s.bucket_at >= ends.begins[1]
                        and s.bucket_at < ends.ends[cardinality(ends.ends)]
                        and s.bucket_at >= ends.begins[width_bucket(s.bucket_at, ends.ends) + 1]
                    union all
                    select
                        {{ ends }} as "p end"
                        {%- for name in names %}, {{ name }} {%- endfor %}
                        {%- for name in mine %}, null::numeric {%- endfor %}
                    from kpi_period as p
                    cross join
                        (
                            select distinct 1 as "p one" {{- kpi_state_members(piece) }}
                            from {{ kpi_states(piece.state) }} as s
                        ) as member
                    where p.grain = {{ kpi_text(at.grain) }}
                ) as moved("p end" {%- for name in names + mine %}, {{ name }} {%- endfor %})
            inner join kpi_period as p on p.grain = {{ kpi_text(at.grain) }} and {{ ends }} = moved."p end"
            group by p.period_start, moved."p end", 3 {%- for name in names %}, {{ name }} {%- endfor %}
        ) as moved
    window
        cell as (partition by "p begin" {%- for name in names %}, {{ name }} {%- endfor %} order by "p end")
{% endmacro %}
