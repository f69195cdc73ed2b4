-- For each day the occurrences of it and of the 29 days before, also on days on which nothing is due.
select
    day::date as starts, {members}
    count(*) filter (where outcome = 'on_time') / nullif(count(*), 0)::numeric as value
from
    generate_series(
        (select min(business_date) from marts.slo_performance)::timestamp,
        timestamptz '{as_of}' at time zone '{zone}',
        interval '1 day'
    ) as day
inner join marts.slo_performance on business_date between day::date - 29 and day::date
where outcome <> 'not_due'
group by {keys}
