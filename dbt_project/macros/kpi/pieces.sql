{#-
  A piece is the states, or the rows, that a variable is taken over: those of the period itself (is_own), of a rolling window, since the
  start of the week, month or the like around it, or all up to its end; the last two add up from period to period (is_running). It
  `begins` at an instant and `ends` before one, of the period `p` (pipelines/kpi/bounds.py).
-#}
{#- Whether it is the rows of the period itself, each of one period only: of a date, all hours have the same rows. -#}
{% macro kpi_is_own(piece, grain) -%}
    {{ "yes" if piece.is_own and not (grain == "hour" and piece.is_date) }}
{%- endmacro %}

{#- Where the hour around an instant begins; plain SQL will do where clocks of the zone were never changed within one. -#}
{% macro kpi_hour_of(at, spec) -%}
    {%- if spec.has_odd_hours -%} kpi.hour_start({{ at }}, {{ kpi_text(spec.timezone) }})
    {%- else -%} date_trunc('hour', {{ at }}, {{ kpi_text(spec.timezone) }})
    {%- endif -%}
{%- endmacro %}
