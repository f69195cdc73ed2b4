{{ config(materialized="view") }}

with
    lone as (
        select start.slo_id, version.spec ->> 'application' as application_id, lone_date, start.start_date
        from {{ ref("slo_start") }} as start
        cross join lateral unnest(start.lone_dates) as lone_date
        inner join {{ source("catalog", "slo_version") }} as version using (slo_id, load_id, entry_no)
        where start.lone_dates <> '{}'
    )

select
    slo_id as subject,
    lone_date::text as occurrence,
    'warning' as severity,
    format('Lone business date: %s, %s', slo_id, lone_date) as title,
    format(
        '%s has a status for the business date %s, which lies more than 45 days before the next one and before its arrival.'
        || ' It opens nothing: %s. If it is mistyped, take its file out: duemark unload PATH --reason TEXT.'
        || ' If it is right, give the SLO an `effective_from`, and run duemark restate.',
        slo_id,
        lone_date,
        coalesce('it starts on ' || start_date, 'it has not started')
    ) as message,
    null::timestamp
with
    time zone as began_at,
    application_id,
    slo_id,
    lone_date as business_date,
    -- those of an application are told together
    application_id as group_key,
    '{}'::jsonb as detail
from lone
