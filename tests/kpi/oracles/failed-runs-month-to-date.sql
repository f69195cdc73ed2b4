-- Of a day: from the first of its month to the day itself. Of a month: all of it. Up to today, runs or none.
select
    period::date as starts, {members}
    count(*) filter (where final_status = 'FAIL') as value
from
    generate_series(
        (select date_trunc('{grain}', min(business_date)) from marts.job_run),
        timestamptz '{as_of}' at time zone '{zone}',
        interval '1 {grain}'
    ) as period
inner join
    marts.job_run
    on date_trunc('month', business_date) = date_trunc('month', period)
    and business_date < period + interval '1 {grain}'
group by {keys}
