{#- Exceptions loaded up to `high` that stand: from the files until they say it no more, or of a command. -#}
{% macro standing_exceptions(high) -%}
    select *
    from
        (
            select distinct on (exception_id) *
            from {{ source("catalog", "exception_version") }}
            where load_id <= {{ high }}
            order by exception_id, load_id desc
        ) as newest
    where not is_retired
{%- endmacro %}

{#-
  Which `exceptions` cover which of `occurrences`, of their SLO or of its application, and when each is due by it (null:
  waived). Joined by equality first: most occurrences have none.
-#}
{% macro exceptions_of(occurrences, exceptions) -%}
    {%- for key in ["slo_id", "application_id"] %}
        select
            occurrence.slo_id,
            occurrence.business_date,
            occurrence.slot,
            exception.exception_id,
            exception.load_id as exception_load_id,
            exception.reason,
            exception.excepted_by,
            {{ later_due("occurrence.expected_end_at", "exception.due_minutes", "occurrence.timezone") }}
            as due_at
        from {{ occurrences }} as occurrence
        inner join
            {{ exceptions }} as exception
            on exception.{{ key }} = occurrence.{{ "slo_id" if key == "slo_id" else "slo_application_id" }}
            and exception.from_date <= occurrence.business_date
            and exception.to_date >= occurrence.business_date
            and (
                exception.slot is null or exception.slot = occurrence.slot
            ) {{ "union all" if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#-
  `minutes` after midnight by the clock of `zone`, on its date of the instant `due`; from 24 hours on of a later date.
  Null without minutes. As of all local times, one in a spring gap is read with the offset before it, and one that comes
  twice is the first of the two: which is that by the offset of the day before, where the clock shows it.
-#}
{% macro later_due(due, minutes, zone) -%}
    {%- set local -%}
        (({{ due }} at time zone {{ zone }})::date + {{ minutes }} * interval '1 minute')
    {%- endset -%}
    {%- set now -%} ({{ local }} at time zone {{ zone }}) {%- endset -%}
    {%- set day_before -%} ({{ now }} - interval '24 hours') {%- endset -%}
    {%- set before -%}
        (
            {{ local }} at time zone 'UTC'
            - (({{ day_before }} at time zone {{ zone }}) - ({{ day_before }} at time zone 'UTC'))
        )
    {%- endset -%}
    case
        when
            {{ before }} at time zone {{ zone }} = {{ local }}
            or {{ now }} at time zone {{ zone }} <> {{ local }}
        then {{ before }}
        else {{ now }}
    end
{%- endmacro %}
