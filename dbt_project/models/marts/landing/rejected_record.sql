{{ config(materialized="view") }}

select
    record.feed,
    record.path,
    record.line_no,
    string_agg(
        case
            when not starts_with(reason ->> 'message', reason ->> 'field')
            then reason ->> 'field' || ': '
            else ''
        end
        || (reason ->> 'message')
        || coalesce(' (' || nullif(reason ->> 'hint', '') || ')', ''),
        '; '
        order by place
    ) as reasons,
    record.record,
    record.rejected_at,
    record.load_id
from {{ source("raw", "rejected_record") }} as record
cross join generate_series(0, jsonb_array_length(record.reasons) - 1) as place
cross join lateral(select record.reasons -> place as reason) as listed
group by record.load_id, record.feed, record.path, record.line_no, record.record, record.rejected_at
