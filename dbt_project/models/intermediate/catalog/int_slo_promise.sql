{{ config(materialized="view", schema="intermediate") }}

with
    standing as ({{ standing_versions(tick("published_high")) }}),

    version as (
        select
            standing.*,
            case
                when standing.is_open_start then opened.start_date else standing.applies_from
            end as first_date,
            least(standing.applies_before - 1, standing.effective_to) as end_date,
            ({{ tick("published_as_of") }} at time zone standing.timezone)::date as today
        from standing
        left join {{ ref("slo_start") }} as opened using (slo_id, load_id, entry_no)
        where not standing.is_retired and standing.applies_before > standing.applies_from
    ),

    stood as (
        -- what gave way before it promised anything is none
        select
            *,
            applies_from <= today and end_date >= today as is_current,
            row_number() over (partition by slo_id order by applies_from, load_id, entry_no)::integer
            as version
        from version
        where end_date >= coalesce(first_date, today)
    ),

    final as (
        select
            slo_id,
            version,
            load_id,
            entry_no,
            first_date,
            nullif(end_date, 'infinity') as last_date,
            is_current,
            -- that of today, else the next one to come, else the last one
            row_number() over (
                partition by slo_id
                order by
                    is_current desc,
                    applies_from > today desc,
                    case when applies_from > today then version else - version end
            )
            = 1 as is_shown,
            bool_or(end_date >= today) over (partition by slo_id) as is_promised,
            min(first_date) over (partition by slo_id) as opened_date,
            nullif(max(end_date) over (partition by slo_id), 'infinity') as closed_date,
            timezone,
            objective,
            warn_before,
            gives_up_after,
            spec
        from stood
    )

select *
from final
