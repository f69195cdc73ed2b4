{{
    config(
        materialized="table_function",
        meta={"arguments": ["moment timestamptz", "zone text", "grain text"], "rows": 1},
    )
}}

-- $1 moment, $2 zone, $3 grain
select
    case
        $3 when 'hour' then kpi.hour_start($1, $2) else {{ kpi_begin_of("start", "$2") }}
    end as period_start,
    case
        $3 when 'hour' then kpi.hour_end($1, $2) else {{ kpi_begin_of("start + step", "$2") }}
    end as period_end,
    case
        $3
        when 'hour'
        then kpi.hour_start(kpi.hour_start($1, $2) - interval '1 microsecond', $2)
        else {{ kpi_begin_of("start - step", "$2") }}
    end as previous_start
from (select {{ kpi_local_start("$3", "$1", "$2") }} as start, {{ kpi_step_by("$3") }} as step) as around
