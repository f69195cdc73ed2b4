-- In the business's own database: the mean of those that stand at the end of each period, midnight in New York.
-- Whoever ends at that very instant stood until then.
select
    period::date as starts, {members}
    sum(amount) / count(*) as value
from
    generate_series(
        (select date_trunc('{grain}', min(started_at) at time zone '{zone}') from subscriptions),
        timestamptz '{as_of}' at time zone '{zone}',
        interval '1 {grain}'
    ) as period
cross join lateral (select (period + interval '1 {grain}') at time zone '{zone}' as period_end) as ending
inner join
    subscriptions
    on started_at < period_end
    and (ended_at is null or ended_at >= period_end)
group by {keys}
