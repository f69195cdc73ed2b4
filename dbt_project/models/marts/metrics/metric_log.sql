{{ config(materialized="view") }}

with
    newest as (
        select distinct on (feed, path) *
        from {{ source("raw", "log_read") }}
        order by feed, path, log_read_id desc
    ),

    totals as (
        select
            log_read.feed,
            log_read.path,
            coalesce(sum(record_count) filter (where taken.load_id is null), 0)::bigint as record_count,
            coalesce(sum(rejected_count) filter (where taken.load_id is null), 0)::bigint as rejected_count
        from {{ source("raw", "log_read") }} as log_read
        left join {{ source("raw", "unload") }} as taken on log_read.load_id = taken.unloaded_load_id
        group by log_read.feed, log_read.path
    ),

    -- of each log the newest unload that took out any of it
    unloaded as (
        select distinct
            on (log_read.stream_id)
            log_read.stream_id,
            unload.received_at as unloaded_at,
            taken.unloaded_by,
            taken.reason as unload_reason
        from {{ source("raw", "unload") }} as taken
        inner join {{ source("raw", "log_read") }} as log_read on taken.unloaded_load_id = log_read.load_id
        inner join {{ source("raw", "load") }} as unload on taken.load_id = unload.load_id
        order by log_read.stream_id, unload.load_id desc
    ),

    purged as (
        select part, hour_at, load_id
        from {{ source("control", "purged_hour") }}
        where relation = 'marts.indicator_record'
    ),

    purged_month as (
        select date_trunc('month', hour_at at time zone 'UTC')::date as month, min(load_id) as load_id
        from purged
        group by 1
    ),

    -- few, if any: that came when some of a month of theirs was purged
    old_load as (
        select load_id
        from {{ source("raw", "load") }} as load
        where
            feed in (select feed from totals)
            and exists (
                select
                from purged_month
                where
                    purged_month.load_id < load.load_id
                    and (purged_month.month = any(load.months) or load.months is null)
            )
    ),

    too_late as (
        select log_read.feed, log_read.path, sum(fact.amount)::bigint as too_late_count
        from old_load
        inner join {{ source("raw", "log_read") }} as log_read on old_load.load_id = log_read.load_id
        inner join {{ source("raw", "metric_input") }} as fact on old_load.load_id = fact.load_id
        where
            log_read.load_id not in (select unloaded_load_id from {{ source("raw", "unload") }})
            and exists (
                select
                from purged
                left join {{ ref("indicator") }} as indicator on purged.part = indicator.indicator_id::text
                where
                    purged.hour_at = date_trunc('hour', fact.minute_at, 'UTC')
                    and purged.load_id < old_load.load_id
                    and (purged.part = '' or fact.input = any(indicator.inputs))
            )
        group by log_read.feed, log_read.path
    )

select
    newest.feed,
    newest.path,
    newest.size_bytes,
    newest.to_offset as read_bytes,
    newest.line_count,
    totals.record_count,
    totals.rejected_count,
    coalesce(too_late.too_late_count, 0) as too_late_count,
    newest.is_copy,
    newest.read_at,
    unloaded.unloaded_at,
    unloaded.unloaded_by,
    unloaded.unload_reason
from newest
inner join totals using (feed, path)
left join too_late using (feed, path)
left join unloaded on newest.stream_id = unloaded.stream_id and not newest.is_copy
