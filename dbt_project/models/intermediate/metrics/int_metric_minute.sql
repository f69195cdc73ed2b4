{%- set months -%}
    select date_trunc('month', hour_at at time zone 'UTC') as month from {{ ref("scope_indicator_hour") }}
{%- endset -%}

select
    scope.hour_at,
    extract(minute from fact.minute_at at time zone 'UTC')::integer as minute,
    fact.input,
    fact.dimension,
    sum(fact.amount)::bigint as amount
from {{ ref("scope_indicator_hour") }} as scope
inner join
    {{ ref("stg_metric_input") }} as fact
    -- by equality for the many hours of a first build, by the range (and its index) for the few of a tick
    on date_trunc('hour', fact.minute_at, 'UTC') = scope.hour_at
    and fact.minute_at >= scope.hour_at
    and fact.minute_at < scope.hour_at + interval '1 hour'
where {{ in_months("fact.minute_at", months, "T00:00Z") }}
group by scope.hour_at, fact.minute_at, fact.input, fact.dimension
