{{ config(materialized="view") }}

-- Copies have a clock of their own: their state is read as it is, not as of the last tick.
with
    failing as (
        select
            state.database_id,
            state.error,
            state.failed_at,
            state.read_at,
            array(
                select kpi.kpi_id
                from {{ ref("kpi_definition") }} as kpi
                where
                    kpi.valid_to is null
                    and jsonb_path_exists(
                        kpi.variables,
                        '$.** ? (@.database == $database && @.table == $table)',
                        jsonb_build_object('database', state.database_id, 'table', state.table_name)
                    )
            ) as kpis
        from {{ source("copies", "state") }} as state
        where state.error is not null
    ),

    stale as (
        select
            database_id,
            (array_agg(error order by failed_at desc))[1] as error,
            min(failed_at) as failed_at,
            min(read_at) as read_at,
            array(
                select distinct kpi_id
                from failing as one
                cross join unnest(one.kpis) as kpi_id
                where one.database_id = failing.database_id
                order by kpi_id
            ) as kpis
        from failing
        -- a KPI is no more than declared until its tables were read once, so one that never was counts too
        where kpis <> '{}' or read_at is null
        group by database_id
    )

select
    database_id as subject,
    '' as occurrence,
    'warning' as severity,
    'Stale: KPIs over ' || database_id as title,
    format('The source database %s could not be read: %s. ', database_id, rtrim(error, '.')) || coalesce(
        'What it has is known up to '
        || to_char(read_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')
        || ' UTC',
        'Nothing was read of it yet'
    )
    || coalesce('; of it are ' || {{ and_list("kpis") }}, '')
    || '.' as message,
    failed_at as began_at,
    null::text as application_id,
    null::text as slo_id,
    null::date as business_date,
    null::text as group_key,
    jsonb_build_object('kpis', kpis) as detail
from stale
