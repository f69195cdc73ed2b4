{#-
  The grains: how far it is from a period's start to the next one's, and how a period is called. A period of a grain other than the hour
  is made of local dates, and its start is a local timestamp; hours are instants, for a zone's clocks may show one twice.
-#}
{% macro kpi_step(grain) -%}
    {%- set steps = {
        "hour": "1 hour",
        "day": "1 day",
        "week": "7 days",
        "month": "1 month",
        "quarter": "3 months",
        "year": "1 year",
    } -%} interval '{{ steps[grain] }}'
{%- endmacro %}

{#- The same by a column that holds the grain, which is one of `grains`. -#}
{% macro kpi_step_by(column, grains=["hour", "day", "week", "month", "quarter", "year"]) -%}
    case
        {{ column }}
        {%- for grain in grains %} when {{ kpi_text(grain) }} then {{ kpi_step(grain) }} {%- endfor %}
    end
{%- endmacro %}

{#- What a period is called that starts at a local timestamp; of hours see kpi_hours. -#}
{% macro kpi_called(column, start) -%}
    to_char(
        {{ start }},
        case
            {{ column }}
            when 'day'
            then 'YYYY-MM-DD'
            when 'week'
            then 'IYYY-"W"IW'
            when 'month'
            then 'YYYY-MM'
            when 'quarter'
            then 'YYYY-"Q"Q'
            when 'year'
            then 'YYYY'
        end
    )
{%- endmacro %}

{#- The local timestamp at which the period around an instant starts, of a grain other than the hour. -#}
{% macro kpi_local_start(grain, at, zone) -%}
    date_trunc({{ grain }}, kpi.local_time({{ at }}, {{ zone }}))
{%- endmacro %}

{#- The local date of an instant, and the instant at which a local timestamp's date begins. -#}
{% macro kpi_day_of(at, zone) -%} kpi.local_time({{ at }}, {{ zone }})::date {%- endmacro %}

{% macro kpi_begin_of(start, zone) -%} kpi.day_start(({{ start }})::date, {{ zone }}) {%- endmacro %}

{#-
  Rows of periods: grain, period_start, period_end, start_date, last_date, period. `starts` is a query of the starts `s` of hours, or of
  `grain`, `s` and `step`. Each is fenced by `offset 0`: or conditions, with all their arithmetic of zones, would be moved to where they are
  judged for each row of a state and not once for each period.
-#}
{% macro kpi_hours(zone, starts) %}
    select
        'hour' as grain,
        s as period_start,
        kpi.hour_end(s, {{ zone }}) as period_end,
        {{ kpi_day_of("s", zone) }} as start_date,
        {{ kpi_day_of("s", zone) }} as last_date,
        to_char(s at time zone {{ zone }}, 'YYYY-MM-DD"T"HH24')
        || case when off_utc < interval '0' then '-' else '+' end
        || to_char(
            case when off_utc < interval '0' then - off_utc else off_utc end,
            -- local mean times of long ago had seconds
            case when extract(second from off_utc) = 0 then 'HH24:MI' else 'HH24:MI:SS' end
        ) as period
    from
        (
            select s, (s at time zone {{ zone }}) - (s at time zone 'UTC') as off_utc
            from ({{ starts }}) as starts
            offset 0
        ) as starts
{% endmacro %}

{% macro kpi_dates(zone, starts) %}
    select *
    from
        (
            select
                grain,
                {{ kpi_begin_of("s", zone) }} as period_start,
                {{ kpi_begin_of("s + step", zone) }} as period_end,
                s::date as start_date,
                (s + step)::date - 1 as last_date,
                {{ kpi_called("grain", "s") }} as period
            from ({{ starts }} offset 0) as starts
            offset 0
        ) as period
    -- a day that a zone skipped, at the date line, is none
    where period_start < period_end
{% endmacro %}
