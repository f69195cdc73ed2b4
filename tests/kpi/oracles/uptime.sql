-- Minutes with a heartbeat (1004), UTC.
select
    date_trunc('{grain}', hour_at, 'UTC') as starts,
    sum(value) as value,
    json_build_object('nbMinutesOn', sum(value)) as value_json
from marts.indicator_record
where indicator_id = 1004
group by 1
