{{ config(meta={"scope": "scope_slo", "scope_keys": ["slo_id"]}) }}

with
    counted as (
        {{ counted_occurrences(ref("scope_slo"), ref("slo_performance"), 90, tick("high"), tick("as_of")) }}
    ),

    final as (
        select
            slo_id,
            window_dates,
            objective,
            min(business_date) as first_date,
            max(business_date) as last_date,
            max(date_rank) as date_count,
            count(*)::integer as occurrence_count,
            floor((1 - objective) * count(*))::integer as misses_allowed,
            count(*) filter (where is_miss)::integer as misses_spent,
            floor((1 - objective) * count(*))::integer
            - count(*) filter (where is_miss)::integer as misses_left,
            count(*) filter (where is_miss and late_by is null)::integer as never_ended_count,
            count(*) filter (where is_miss and date_rank <= 5)::integer as recent_misses,
            coalesce(sum(late_by) filter (where is_miss), interval '0') as late_by_total
        from (values (28), (90)) as windows(window_dates)
        inner join counted on counted.date_rank <= windows.window_dates
        group by slo_id, window_dates, objective
    )

select
    *,
    {{ waived_since("final.slo_id", "final.first_date", ref("slo_performance"), tick("as_of")) }}
    as waived_count
from final
