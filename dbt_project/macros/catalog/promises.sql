{#-
  What the spec of a version of an SLO promises, a subquery of one row: `due_time`, the latest end of its jobs by the
  clock, counted from midnight of the business date, null where windows or a weekday decide; and `promise`, in words.
-#}
{% macro promise_of(spec, timezone) -%}
    {%- set every = spec ~ " -> 'every' ->> " -%}
    (
        select
            case when count(due_weekday) = 0 then max(due_time) end as due_time,
            case
                when {{ spec }} ? 'every'
                then
                    'windows every '
                    || ({{ every }} 'minutes')
                    || ' minutes from '
                    || ({{ every }} 'from')
                    || ' to '
                    || ({{ every }} 'to')
                    || {{ days_later("max(day_offset)") }}
                    || ', each complete within '
                    || ({{ every }} 'due_after')
                when count(due_weekday) = 0
                then
                    'complete by '
                    || to_char(max(due_time), 'HH24:MI')
                    || {{ days_later("extract(day from max(due_time))") }}
                else 'complete by ' || string_agg(distinct by_weekday, ' and ')
            end
            || ' ('
            || {{ timezone }}
            || '), for every date of '
            || ({{ spec }} -> 'calendar' ->> 'id') as promise
        from
            (
                select
                    day_offset,
                    due_weekday,
                    justify_hours(make_interval(days => coalesce(day_offset, 0)) + "end") as due_time,
                    to_char(justify_hours("end"), 'HH24:MI') || case
                        when due_weekday is null
                        then
                            {{
                                days_later(
                                    'coalesce(day_offset, 0) + extract(day from justify_hours("end"))'
                                )
                            }}
                        else
                            case
                                extract(day from justify_hours("end"))
                                when 0
                                then ' on'
                                else ' on the day after'
                            end
                            || ' the next '
                            || to_char(
                                -- 1 January 2024 is a Monday
                                date '2023-12-31' + array_position(
                                    array['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'], due_weekday
                                ),
                                'FMDay'
                            )
                    end as by_weekday
                from
                    jsonb_to_recordset({{ spec }} -> 'jobs') as job(
                        "end" interval, day_offset integer, due_weekday text
                    )
            ) as job
    )
{%- endmacro %}

{#- So many days after the business date, in words; nothing on the date itself. -#}
{% macro days_later(days) -%}
    case
        coalesce({{ days }}, 0)
        when 0
        then ''
        when 1
        then ' on the next day'
        else ' ' || {{ days }} || ' days later'
    end
{%- endmacro %}
