{{ config(materialized="view") }}

with
    newest as (
        select distinct on (feed, path) *
        from {{ source("raw", "log_read") }}
        order by feed, path, log_read_id desc
    ),

    totals as (
        select
            feed,
            path,
            sum(record_count)::bigint as record_count,
            sum(rejected_count)::bigint as rejected_count
        from {{ source("raw", "log_read") }}
        group by feed, path
    )

select
    newest.feed,
    newest.path,
    newest.size_bytes,
    newest.to_offset as read_bytes,
    newest.line_count,
    totals.record_count,
    totals.rejected_count,
    newest.is_copy,
    newest.read_at
from newest
inner join totals using (feed, path)
