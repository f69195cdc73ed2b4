{#- KPIs 2001 to 2005: JSON of the indicators, for each period of kpi_period. A macro gives grain, period_start,
    components, value (for trends and thresholds) and value_json. Without rows: zeros and an empty list. -#}
{% macro kpi_package_popularity(kpi) %} {{ _kpi_top(1001, 1001, "visits", "totalVisits") }} {% endmacro %}


{% macro kpi_total_usage(kpi) %}
    {{ _kpi_top(1006, 1005, "minutesActivity", "totalMinutesActivity") }}
{% endmacro %}


{% macro kpi_uptime(kpi) %}
    select
        p.grain,
        p.period_start,
        jsonb_build_object('minutes', coalesce(sum(record.value), 0)) as components,
        coalesce(sum(record.value), 0) as value,
        jsonb_build_object('nbMinutesOn', coalesce(sum(record.value), 0)) as value_json
    from kpi_period as p
    left join
        {{ ref("indicator_record") }} as record
        on record.indicator_id = 1004
        and record.hour_at >= p.period_start
        and record.hour_at < p.period_end
    group by p.grain, p.period_start
{% endmacro %}


{% macro kpi_shared_files(kpi) %}
    select
        counted.grain,
        counted.period_start,
        jsonb_build_object('created', counted.created, 'deleted', counted.deleted) as components,
        counted.created + counted.deleted as value,
        jsonb_build_object('filesCreated', counted.created, 'filesDeleted', counted.deleted) as value_json
    from
        (
            select
                p.grain,
                p.period_start,
                coalesce(sum(record.value) filter (where record.dimension = 'FILE_CREATED'), 0) as created,
                coalesce(sum(record.value) filter (where record.dimension = 'FILE_DELETED'), 0) as deleted
            from kpi_period as p
            left join
                {{ ref("indicator_record") }} as record
                on record.indicator_id = 1003
                and record.hour_at >= p.period_start
                and record.hour_at < p.period_end
            group by p.grain, p.period_start
        ) as counted
{% endmacro %}


{#- The ten packages with the most of one indicator, ties in code-point order, and the sum of another over all. -#}
{% macro _kpi_top(listed, total, item, total_name) %}
    select
        p.grain,
        p.period_start,
        jsonb_build_object('total', whole.total) as components,
        whole.total as value,
        jsonb_build_object('items', coalesce(top.items, '[]'), '{{ total_name }}', whole.total) as value_json
    from kpi_period as p
    cross join
        lateral(
            select coalesce(sum(record.value), 0) as total
            from {{ ref("indicator_record") }} as record
            where
                record.indicator_id = {{ total }}
                and record.hour_at >= p.period_start
                and record.hour_at < p.period_end
        ) as whole
    cross join
        lateral(
            select
                jsonb_agg(
                    jsonb_build_object('package', ranked.dimension, '{{ item }}', ranked.amount)
                    order by ranked.place
                ) as items
            from
                (
                    select
                        record.dimension,
                        sum(record.value) as amount,
                        row_number() over (
                            order by sum(record.value) desc, record.dimension collate "C"
                        ) as place
                    from {{ ref("indicator_record") }} as record
                    where
                        record.indicator_id = {{ listed }}
                        and record.hour_at >= p.period_start
                        and record.hour_at < p.period_end
                    group by record.dimension
                ) as ranked
            where ranked.place <= 10
        ) as top
{% endmacro %}
