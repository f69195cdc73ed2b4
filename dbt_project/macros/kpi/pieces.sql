{#-
  A piece is the states, or the rows, that a variable is taken over: those of the period itself (is_own), of a rolling window (its last
  `days` dates), since the start of the week, month or the like around it (`to_date`), or all up to its end (is_snapshot); the last two
  add up from period to period (is_running).
-#}
{#- Whether it is the rows of the period itself, each of one period only: of a date, all hours have the same rows. -#}
{% macro kpi_is_own(piece, grain) -%}
    {{ "yes" if piece.is_own and not (grain == "hour" and piece.is_date) }}
{%- endmacro %}

{#-
  From which instant on and before which one a piece has its buckets, for a period `p`. Dates begin at midnight in UTC, whatever the zone;
  a window ends with the period; what stands may have come at any time. A period whose columns are renamed stands beside a source's, which
  may be called like its own.
-#}
{% macro kpi_begins(piece, spec, is_renamed=false) -%}
    {%- set last = kpi_of_period("last_date", is_renamed) -%}
    {%- set day = "" -%}
    {%- if piece.days -%} {%- set day = "(" ~ last ~ " - " ~ (piece.days - 1) ~ ")" -%}
    {%- elif piece.to_date -%}
        {%- set day = "date_trunc(" ~ kpi_text(piece.to_date) ~ ", " ~ last ~ "::timestamp)::date" -%}
    {%- endif -%}
    {%- if piece.is_snapshot -%} timestamptz '-infinity'
    {%- elif piece.is_date -%}
        ({{ day or kpi_of_period("start_date", is_renamed) }}::timestamp at time zone 'UTC')
    {%- elif day -%} kpi.day_start({{ day }}, {{ kpi_text(spec.timezone) }})
    {%- else -%} {{ kpi_of_period("period_start", is_renamed) }}
    {%- endif -%}
{%- endmacro %}

{% macro kpi_ends(piece, is_renamed=false) -%}
    {%- if piece.is_date -%}
        (({{ kpi_of_period("last_date", is_renamed) }} + 1)::timestamp at time zone 'UTC')
    {%- else -%} {{ kpi_of_period("period_end", is_renamed) }}
    {%- endif -%}
{%- endmacro %}

{% macro kpi_of_period(column, is_renamed) -%}
    {%- if is_renamed -%} p.{{ kpi_name("p " ~ column) }} {%- else -%} p.{{ column }} {%- endif -%}
{%- endmacro %}

{#- Where the hour around an instant begins; plain SQL will do where clocks of the zone were never changed within one. -#}
{% macro kpi_hour_of(at, spec) -%}
    {%- if spec.has_odd_hours -%} kpi.hour_start({{ at }}, {{ kpi_text(spec.timezone) }})
    {%- else -%} date_trunc('hour', {{ at }}, {{ kpi_text(spec.timezone) }})
    {%- endif -%}
{%- endmacro %}
