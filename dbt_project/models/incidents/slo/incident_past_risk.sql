{{ config(materialized="view") }}

-- As it is now for what was forecast then: the margin of the SLO, and whether it was missed.
select
    made.slo_id,
    made.business_date,
    made.slot,
    made.expected_end_at,
    max(made.lead_minutes) as lead_minutes,
    performance.actual_end_at is null or performance.actual_end_at > made.expected_end_at as is_missed
from {{ source("forecast", "made") }} as made
inner join {{ ref("slo_performance") }} as performance using (slo_id, business_date, slot)
inner join {{ ref("stg_slo_version") }} as version on made.slo_id = version.slo_id
where
    version.applies_before = 'infinity'
    and not performance.is_waived
    and {{ tick("published_as_of") }} > made.expected_end_at
    and made.past_dates >= {{ env_var("DUEMARK_DBT_RISK_ENOUGH") }}
    and made.miss_probability
    >= {{ risk_from("made.lead_minutes * interval '1 minute'", "version.warn_before") }}
group by made.slo_id, made.business_date, made.slot, made.expected_end_at, performance.actual_end_at
