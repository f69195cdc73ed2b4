-- In minutes, of runs that succeeded; where none did, the value is null.
select
    date_trunc('{grain}', business_date)::date as starts, {members}
    extract(
        epoch from percentile_cont(0.5) within group (
            order by case when final_status = 'SUCCEED' then duration end
        )
    ) / 60 as value
from marts.job_run
group by {keys}
