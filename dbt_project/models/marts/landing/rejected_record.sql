{{ config(materialized="view") }}

with
    record as (
        select feed, path, line_no, reasons, record, rejected_at, load_id
        from {{ source("raw", "rejected_record") }}
        -- what was taken out is nobody's to mend
        where (load_id, path) not in (select unloaded_load_id, path from {{ source("raw", "unload") }})
        union all
        -- no line's fault, but nobody else would tell of it
        select
            'indicator' as feed,
            'indicator ' || indicator_id as path,
            0 as line_no,
            jsonb_build_array(
                jsonb_build_object(
                    'message',
                    'The indicator could not be computed: ' || message || '.',
                    'hint',
                    'Mend it; all others were.'
                )
            ) as reasons,
            '' as record,
            failed_at as rejected_at,
            load_id
        from {{ source("control", "indicator_failure") }}
    )

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
from record
cross join generate_series(0, jsonb_array_length(record.reasons) - 1) as place
cross join lateral(select record.reasons -> place as reason) as listed
group by record.load_id, record.feed, record.path, record.line_no, record.record, record.rejected_at
