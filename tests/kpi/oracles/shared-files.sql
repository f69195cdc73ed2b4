-- Files created and deleted (1003), UTC.
select
    date_trunc('{grain}', hour_at, 'UTC') as starts,
    sum(value) as value,
    json_build_object(
        'filesCreated', coalesce(sum(value) filter (where dimension = 'FILE_CREATED'), 0),
        'filesDeleted', coalesce(sum(value) filter (where dimension = 'FILE_DELETED'), 0)
    ) as value_json
from marts.indicator_record
where indicator_id = 1003
group by 1
