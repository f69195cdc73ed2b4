-- Visits of homes (1001), UTC.
select
    starts,
    sum(visits) as value,
    json_build_object(
        'items', coalesce(json_agg(json_build_object('package', package, 'visits', visits)) filter (where place <= 10), '[]'),
        'totalVisits', coalesce(sum(visits), 0)
    ) as value_json
from
    (
        select
            date_trunc('{grain}', hour_at, 'UTC') as starts,
            dimension as package,
            sum(value) as visits,
            row_number() over (
                partition by date_trunc('{grain}', hour_at, 'UTC') order by sum(value) desc, dimension collate "C"
            ) as place
        from marts.indicator_record
        where indicator_id = 1001
        group by 1, 2
        order by 1, place
    ) as packages
group by starts
