{{ config(materialized="view") }}
{{ kpi_lineage() }}

select
    cell.kpi_id,
    (kpi.spec ->> 'number')::integer as kpi_number,
    cell.grain,
    cell.period,
    cell.period_start,
    cell.period_end,
    cell.dimension_key,
    cell.dimensions,
    cell.components,
    cell.value,
    cell.value_json,
    previous.value as previous_value,
    cell.value - previous.value as change_absolute,
    trim_scale(
        round(100 * (cell.value - previous.value) / nullif(abs(previous.value), 0), 6)
    ) as change_percent,
    case
        when cell.value is null or previous.value is null
        then null
        when abs(cell.value - previous.value) <= (kpi.spec ->> 'tolerance')::numeric * abs(previous.value)
        then 'stable'
        when cell.value > previous.value
        then 'up'
        else 'down'
    end as direction,
    last_year.value as same_period_last_year,
    case
        when closing.is_provisional
        then null
        when cell.value is null and cell.value_json is null
        then 'no_data'
        when {{ kpi_beyond("cell.value", "(kpi.spec -> 'thresholds')", "critical") }}
        then 'critical'
        when {{ kpi_beyond("cell.value", "(kpi.spec -> 'thresholds')", "warning") }}
        then 'warning'
        else 'ok'
    end as status,
    closing.is_provisional as provisional,
    cell.reason,
    cell.definition_version,
    cell.computed_load_id
from {{ source("kpi", "period_value") }} as cell
inner join {{ source("kpi", "kpi") }} as kpi on cell.kpi_id = kpi.kpi_id
cross join
    lateral(
        select
            case
                when cell.grain = 'hour'
                then kpi.hour_start(cell.period_start - interval '1 microsecond', kpi.spec ->> 'timezone')
                -- a date that the zone skipped is no day
                when
                    cell.grain = 'day'
                    and kpi.day_start(cell.start_date - 1, kpi.spec ->> 'timezone') = cell.period_start
                then kpi.day_start(cell.start_date - 2, kpi.spec ->> 'timezone')
                else
                    kpi.day_start(
                        (cell.start_date - {{ kpi_step_by("cell.grain") }})::date, kpi.spec ->> 'timezone'
                    )
            end as previous_start,
            case
                when cell.grain = 'hour'
                then
                    (
                        date_trunc('hour', cell.period_start at time zone(kpi.spec ->> 'timezone'))
                        - interval '1 year'
                    )
                    at time zone(kpi.spec ->> 'timezone')
                when cell.grain = 'week'
                -- the ISO week of the same number
                then
                    kpi.day_start(
                        case
                            when
                                to_date(
                                    (substr(cell.period, 1, 4)::integer - 1) || substr(cell.period, 6),
                                    'IYYY"W"IW'
                                ) < date_trunc(
                                    'week', make_date(substr(cell.period, 1, 4)::integer, 1, 4)::timestamp
                                )
                            then
                                to_date(
                                    (substr(cell.period, 1, 4)::integer - 1) || substr(cell.period, 6),
                                    'IYYY"W"IW'
                                )
                        end,
                        kpi.spec ->> 'timezone'
                    )
                else kpi.day_start((cell.start_date - interval '1 year')::date, kpi.spec ->> 'timezone')
            end as last_year_start
    ) as near
left join
    {{ source("kpi", "period_value") }} as previous
    on cell.kpi_id = previous.kpi_id
    and cell.grain = previous.grain
    and near.previous_start = previous.period_start
    and cell.dimension_key = previous.dimension_key
left join
    {{ source("kpi", "period_value") }} as last_year
    on cell.kpi_id = last_year.kpi_id
    and cell.grain = last_year.grain
    and near.last_year_start = last_year.period_start
    and cell.dimension_key = last_year.dimension_key
cross join
    lateral(
        select
            {{ tick("published_as_of") }}
            < cell.period_end + (kpi.spec ->> 'allow_late')::integer * interval '1 second'
            or exists (
                select
                from {{ source("kpi", "clock") }} as clock
                where
                    kpi.spec -> 'clocks' ? clock.clock
                    and (
                        clock.read_at < cell.period_end or clock.open_from
                        at time zone case when clock.is_date then 'UTC' else kpi.spec ->> 'timezone' end
                        < cell.period_end at time zone(kpi.spec ->> 'timezone')
                    )
            ) as is_provisional
    ) as closing
