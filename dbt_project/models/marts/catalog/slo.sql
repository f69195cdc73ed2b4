{{ config(materialized="view") }}

select
    slo.slo_id,
    slo.slo_name,
    slo.description,
    version.spec ->> 'application' as application_id,
    application.owner,
    slo.runbook,
    said.promise,
    said.due_time,
    version.spec -> 'calendar' ->> 'id' as calendar_id,
    version.timezone,
    version.objective,
    version.warn_before,
    version.gives_up_after,
    version.opened_date as first_date,
    version.closed_date as last_date,
    slo.is_retired or not version.is_promised as is_retired,
    version.version
from {{ ref("stg_slo") }} as slo
inner join {{ ref("int_slo_promise") }} as version on slo.slo_id = version.slo_id and version.is_shown
cross join lateral {{ promise_of("version.spec", "version.timezone") }} as said
left join
    {{ ref("stg_application") }} as application on version.spec ->> 'application' = application.application_id
