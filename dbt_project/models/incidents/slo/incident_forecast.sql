{{ config(materialized="view") }}

select
    slo_id,
    slo_name as name,
    business_date,
    slot,
    application_id,
    expected_end_at,
    p50,
    p80,
    miss_probability,
    is_at_risk,
    rule,
    past_dates,
    path,
    slack,
    slack_slo
from {{ ref("slo_forecast") }}
where
    is_open
    and expected_end_at >= as_of
    -- a risk that was told of ends below
    and miss_probability >= {{ env_var("DUEMARK_DBT_RISK_OVER") }}
