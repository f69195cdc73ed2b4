{{ config(materialized="view") }}

select
    forecast.slo_id,
    coalesce(slo.slo_name, forecast.slo_id) as slo_name,
    forecast.business_date,
    forecast.slot,
    forecast.application_id,
    forecast.is_open,
    forecast.expected_end_at,
    forecast.p10,
    forecast.p50,
    forecast.p80,
    forecast.p90,
    forecast.p95,
    forecast.miss_probability,
    {{ is_at_risk("forecast", "version", tick("published_as_of")) }} as is_at_risk,
    forecast.slack,
    forecast.slack_slo,
    forecast.method,
    forecast.rule,
    forecast.past_dates,
    forecast.later_dates,
    forecast.path,
    {{ tick("published_as_of") }} as as_of
from {{ source("forecast", "occurrence") }} as forecast
left join {{ ref("stg_slo") }} as slo using (slo_id)
left join
    {{ ref("stg_slo_version") }} as version
    on forecast.slo_id = version.slo_id
    and version.applies_before = 'infinity'
