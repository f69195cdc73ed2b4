-- Of all occurrences that fell due, those that were complete in time; one that is overdue is a miss.
select
    date_trunc('{grain}', business_date)::date as starts, {members}
    count(*) filter (where outcome = 'on_time') / nullif(count(*), 0)::numeric as value
from marts.slo_performance
where outcome <> 'not_due'
group by {keys}
