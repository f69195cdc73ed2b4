{#-
  A piece is the states, or the rows, that a variable is taken over: those of the period itself, of a rolling window (days), since the
  start of the week, month or the like around it (to_date), or all up to its end (is_snapshot).
-#}
{#- Whether it is the rows of the period itself, each of one period only. -#}
{% macro kpi_is_own(piece, grain) -%}
    {{ "yes" if not (piece.days or piece.to_date or piece.is_snapshot or (grain == "hour" and piece.is_date)) }}
{%- endmacro %}

{#- From and before which instants it lies, for a period of `kpi_period`, by the names of that one's columns; no start: all before. -#}
{% macro kpi_piece_start(
    piece,
    timezone,
    period={
        "start": "p.period_start",
        "end": "p.period_end",
        "first": "p.start_date",
        "last": "p.last_date",
    }
) -%}
    {%- if piece.is_snapshot -%}
    {%- elif piece.days or piece.to_date -%}
        {%- set day -%}
            {%- if piece.days -%} ({{ period.last }} - {{ piece.days - 1 }})
            {%- else -%} date_trunc('{{ piece.to_date }}', {{ period.last }}::timestamp)::date
            {%- endif -%}
        {%- endset -%}
        {%- if piece.is_date -%} ({{ day }}::timestamp at time zone 'UTC')
        {%- else -%} kpi.day_start({{ day }}, {{ kpi_text(timezone) }})
        {%- endif -%}
    {%- elif piece.is_date -%} ({{ period.first }}::timestamp at time zone 'UTC')
    {%- else -%} {{ period.start }}
    {%- endif -%}
{%- endmacro %}

{% macro kpi_piece_end(
    piece,
    period={
        "start": "p.period_start",
        "end": "p.period_end",
        "first": "p.start_date",
        "last": "p.last_date",
    }
) -%}
    {%- if piece.is_date -%} (({{ period.last }} + 1)::timestamp at time zone 'UTC')
    {%- else -%} {{ period.end }}
    {%- endif -%}
{%- endmacro %}

{#- Where the hour around an instant begins; plain SQL will do where clocks of the zone were never changed within one. -#}
{% macro kpi_hour_of(at, spec) -%}
    {%- if spec.has_odd_hours -%} kpi.hour_start({{ at }}, {{ kpi_text(spec.timezone) }})
    {%- else -%} date_trunc('hour', {{ at }}, {{ kpi_text(spec.timezone) }})
    {%- endif -%}
{%- endmacro %}
