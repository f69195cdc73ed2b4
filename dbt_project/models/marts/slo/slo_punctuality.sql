{{ config(meta={"scope": "scope_slo", "scope_keys": ["slo_id"]}) }}

with
    counted as (
        {{ counted_occurrences(ref("scope_slo"), ref("slo_performance"), 90, tick("high"), tick("as_of")) }}
    ),

    totals as (
        select
            slo_id,
            objective,
            timezone,
            min(business_date) as first_date,
            max(business_date) as last_date,
            max(date_rank) as date_count,
            count(*)::integer as occurrence_count,
            count(*) filter (where not is_miss)::integer as on_time_count,
            -- what never ended is later than all
            array_agg(late_by order by late_by nulls last) as by_lateness,
            bool_or(slot <> '00:00') as has_windows,
            max(extract(epoch from expected_end_at at time zone timezone - business_date::timestamp)) filter (
                where date_rank = 1
            ) as due_after
        from counted
        group by slo_id, objective, timezone
    ),

    shares as (
        select
            *,
            -- the share of the next ones that is later than the last but k of n is (k + 1) / (n + 1)
            greatest(floor((1 - objective) * (occurrence_count + 1))::integer - 1, 0) as misses_to_allow
        from totals
    ),

    proposed as (
        select
            *,
            case
                when occurrence_count >= 20
                then
                    ceil(extract(epoch from by_lateness[occurrence_count - misses_to_allow]) / 300)
                    * interval '5 minutes'
            end as proposed_shift
        from shares
    ),

    final as (
        select
            slo_id,
            first_date,
            last_date,
            date_count,
            occurrence_count,
            on_time_count,
            round(on_time_count::numeric / occurrence_count, 6) as on_time_share,
            {{ wilson("on_time_count", "occurrence_count", "-") }} as share_low,
            {{ wilson("on_time_count", "occurrence_count", "+") }} as share_high,
            objective,
            by_lateness[ceil(0.5 * occurrence_count)::integer] as median_late_by,
            by_lateness[ceil(0.9 * occurrence_count)::integer] as p90_late_by,
            case
                when occurrence_count < 20
                then 'too_few'
                when {{ wilson("on_time_count", "occurrence_count", "+") }} < objective
                then 'routinely_late'
                when proposed_shift <= interval '-30 minutes'
                then 'routinely_early'
                else 'fine'
            end as verdict,
            proposed_shift,
            case
                when not has_windows
                then
                    to_char(
                        make_interval(
                            secs => (due_after + extract(epoch from proposed_shift))::double precision
                        ),
                        'HH24:MI'
                    )
            end as proposed_due_time,
            case
                when proposed_shift is not null
                then
                    round(
                        (
                            1 + (
                                select count(*)
                                from unnest(by_lateness) as late_by
                                where late_by is null or late_by > proposed_shift
                            )
                        )::numeric
                        / (occurrence_count + 1),
                        6
                    )
            end as expected_miss_rate
        from proposed
    )

select
    *,
    {{ waived_since("final.slo_id", "final.first_date", ref("slo_performance"), tick("as_of")) }}
    as waived_count
from final
