{{ config(materialized="view") }}

select
    forecast.slo_id,
    forecast.slo_name as name,
    forecast.business_date,
    forecast.slot,
    forecast.application_id,
    forecast.expected_end_at,
    forecast.p50,
    forecast.p80,
    forecast.miss_probability,
    forecast.is_at_risk,
    forecast.rule,
    forecast.past_dates,
    forecast.path,
    forecast.slack,
    forecast.slack_slo,
    coalesce(promise.timezone, 'UTC') as timezone
from {{ ref("slo_forecast") }} as forecast
left join lateral({{ zone_of("forecast.slo_id") }}) as promise on true
where
    forecast.is_open
    and forecast.expected_end_at >= forecast.as_of
    -- a risk that was told of ends below
    and forecast.miss_probability >= {{ env_var("DUEMARK_DBT_RISK_OVER") }}
