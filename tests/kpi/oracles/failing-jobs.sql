-- A job that fails five days of a week is one job of the week.
select
    date_trunc('{grain}', business_date)::date as starts, {members}
    count(distinct case when final_status = 'FAIL' then job_id end) as value
from marts.job_run
group by {keys}
