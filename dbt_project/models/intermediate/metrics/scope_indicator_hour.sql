{{ config(indexes=[{"columns": ["hour_at"], "unique": true}]) }}

{%- set is_new -%} load_id > {{ tick("low") }} and load_id <= {{ tick("high") }} {%- endset %}
{%- set is_held -%} load_id <= {{ tick("low") }} and latest_at > {{ tick("previous_as_of") }} {%- endset %}

with
    newly_loaded as (
        select minute_at
        from {{ source("raw", "metric_input") }}
        where
            {{ is_new }}
            and minute_at <= {{ tick("as_of") }}
            and {{ in_months("minute_at", months_of_metric_loads(is_new), "T00:00Z") }}
    ),

    now_due_to_be_seen as (
        -- a line from the future is held until its time has come
        select minute_at
        from {{ source("raw", "metric_input") }}
        where
            load_id <= {{ tick("low") }}
            and minute_at > {{ tick("previous_as_of") }}
            and minute_at <= {{ tick("as_of") }}
            and {{ in_months("minute_at", months_of_metric_loads(is_held), "T00:00Z") }}
    ),

    taken_out as (
        select minute_at
        from (select * from {{ source("raw", "unload") }} where {{ is_new }}) as taken
        inner join
            {{ source("raw", "metric_input") }} as fact
            on taken.unloaded_load_id = fact.load_id
            and taken.first_seq <= fact.seq
            and taken.end_seq > fact.seq
        where
            minute_at <= {{ tick("as_of") }}
            and {{ in_months("minute_at", months_of_metric_loads(is_new), "T00:00Z") }}
    ),

    all_if_an_indicator_changed as (
        select minute_at
        from {{ source("raw", "metric_input") }}
        where
            exists (select from {{ source("catalog", "indicator_version") }} where {{ is_new }})
            and load_id <= {{ tick("low") }}
            and minute_at <= {{ tick("as_of") }}
    ),

    closed as (
        select hour_at
        from
            {{
                published(
                    "indicator_record",
                    {"hour_at": "timestamp with time zone", "provisional": "boolean"},
                )
            }} as record
        where provisional and hour_at <= {{ tick("as_of") }} - interval '1 hour'
    ),

    final as (
        select date_trunc('hour', minute_at, 'UTC') as hour_at
        from newly_loaded
        union
        select date_trunc('hour', minute_at, 'UTC') as hour_at
        from now_due_to_be_seen
        union
        select date_trunc('hour', minute_at, 'UTC') as hour_at
        from taken_out
        union
        select date_trunc('hour', minute_at, 'UTC') as hour_at
        from all_if_an_indicator_changed
        union
        select hour_at
        from closed
    )

select hour_at
from final
