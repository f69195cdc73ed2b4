{{ config(materialized="view") }}

with
    judged as (
        select
            made.*,
            performance.actual_end_at,
            performance.actual_end_at is not null
            and performance.actual_end_at <= made.expected_end_at as is_kept
        from {{ source("forecast", "made") }} as made
        inner join {{ ref("slo_performance") }} as performance using (slo_id, business_date, slot)
        -- what is open still is not judged yet
        where
            not performance.is_waived
            and (performance.actual_end_at is not null or performance.outcome not in ('not_due', 'overdue'))
    ),

    told as (
        select
            slo_id,
            business_date,
            slot,
            lead_minutes,
            actual_end_at,
            is_kept,
            'duemark' as method,
            p10,
            p50,
            p80,
            p80 as p80_as_normal,
            p90,
            miss_probability >= 0.5 as will_miss
        from judged
        union all
        select
            slo_id,
            business_date,
            slot,
            lead_minutes,
            actual_end_at,
            is_kept,
            rule.method,
            rule_points[rule.place] - {{ forecast_deviations("p90") }} * rule_deviations[rule.place] as p10,
            rule_points[rule.place] as p50,
            rule_points[rule.place] as p80,
            rule_points[rule.place]
            + {{ forecast_deviations("p80") }} * rule_deviations[rule.place] as p80_as_normal,
            rule_points[rule.place] + {{ forecast_deviations("p90") }} * rule_deviations[rule.place] as p90,
            rule_points[rule.place] > expected_end_at as will_miss
        from judged
        cross join (values {{ forecast_rules() }}) as rule(place, method)
    ),

    announced as (
        -- how long before the due time a date was first said to be missed
        select slo_id, business_date, slot, method, is_kept, max(lead_minutes) as lead_minutes
        from told
        where will_miss
        group by slo_id, business_date, slot, method, is_kept
    ),

    announcements as (
        select
            slo_id,
            method,
            percentile_cont(0.5) within group (order by lead_minutes) filter (
                where not is_kept
            ) as lead_minutes,
            count(*) filter (where is_kept)::integer as false_alarm_count
        from announced
        group by slo_id, method
    ),

    losses as (
        select
            slo_id,
            method,
            count(*)::integer as forecast_count,
            {{ pinball_loss(0.5, "p50", "actual_end_at") }} as loss_p50,
            -- who knows a deviation has two readings of p80: the one that loses less is told
            least(
                {{ pinball_loss(0.8, "p80", "actual_end_at") }},
                {{ pinball_loss(0.8, "p80_as_normal", "actual_end_at") }}
            ) as loss_p80,
            (count(*) filter (where actual_end_at between p10 and p90))::double precision
            / nullif(count(actual_end_at), 0) as covered,
            (count(*) filter (where will_miss and not is_kept))::double precision
            / nullif(count(*) filter (where will_miss), 0) as precision,
            (count(*) filter (where will_miss and not is_kept))::double precision
            / nullif(count(*) filter (where not is_kept), 0) as recall
        from told
        group by slo_id, method
    )

select
    losses.slo_id,
    losses.method,
    losses.forecast_count,
    losses.loss_p50,
    losses.loss_p80,
    losses.covered,
    losses.precision,
    losses.recall,
    announcements.lead_minutes,
    coalesce(announcements.false_alarm_count, 0) as false_alarm_count
from losses
left join announcements using (slo_id, method)
