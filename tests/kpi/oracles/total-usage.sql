-- Minutes of each package (1006), and minutes in which any was used (1005), UTC.
select
    starts,
    minutes as value,
    json_build_object('items', coalesce(items, '[]'), 'totalMinutesActivity', minutes) as value_json
from
    (
        select date_trunc('{grain}', hour_at, 'UTC') as starts, sum(value) as minutes
        from marts.indicator_record
        where indicator_id = 1005
        group by 1
    ) as overall
left join
    (
        select
            starts,
            json_agg(json_build_object('package', package, 'minutesActivity', minutes) order by place) as items
        from
            (
                select
                    date_trunc('{grain}', hour_at, 'UTC') as starts,
                    dimension as package,
                    sum(value) as minutes,
                    row_number() over (
                        partition by date_trunc('{grain}', hour_at, 'UTC')
                        order by sum(value) desc, dimension collate "C"
                    ) as place
                from marts.indicator_record
                where indicator_id = 1006
                group by 1, 2
            ) as ranked
        where place <= 10
        group by starts
    ) as by_package using (starts)
