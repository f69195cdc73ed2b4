-- Of runs that ended, well or badly.
select
    date_trunc('{grain}', business_date)::date as starts, {members}
    avg(case final_status when 'FAIL' then 1 else 0 end) as value
from marts.job_run
where final_status in ('FAIL', 'SUCCEED')
group by {keys}
