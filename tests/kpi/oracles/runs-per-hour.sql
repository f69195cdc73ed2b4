-- By the wall clock in New York, the hours themselves: the newest 1440 of them are kept.
select
    date_trunc('{grain}', first_status_at, '{zone}') as starts, {members}
    count(*) as value
from marts.job_run
where
    '{grain}' <> 'hour'
    or first_status_at >= date_trunc('hour', timestamptz '{as_of}') - interval '1439 hours'
group by {keys}
