-- In minutes. An occurrence that is not complete has no lateness; where none has, the value is null.
select
    date_trunc('{grain}', business_date)::date as starts, {members}
    extract(epoch from percentile_cont(0.9) within group (order by late_by)) / 60 as value
from marts.slo_performance
group by {keys}
