{{ config(materialized="view") }}

with
    trend as (
        select
            *,
            -- one that runs no more is not slowing: it has missed the last dates that it should have had
            last_date + 7 + 3 * (last_date - first_date) / (date_count - 1)
            >= ({{ tick("published_as_of") }} at time zone 'UTC')::date as is_current,
            -- asked is whether it gets slower, not whether it changes
            case when slope > 0 then p_value / 2 else 1 - p_value / 2 end as p_slower
        from {{ source("forecast", "job_trend") }}
    ),

    ranked as (
        select
            p_slower,
            row_number() over (order by p_slower, application_id, job_id) as place,
            count(*) over () as jobs
        from trend
        where is_current
    ),

    -- Benjamini and Hochberg: of those told, one in ten at most is none
    accepted as (select max(p_slower) as p_slower from ranked where p_slower <= 0.1 * place / jobs),

    judged as (
        select
            trend.*,
            coalesce(trend.is_current and trend.p_slower <= accepted.p_slower, false) as is_significant,
            coalesce(
                trend.is_current and trend.p_slower <= accepted.p_slower and trend.is_large, false
            ) as is_slowing
        from trend
        cross join accepted
    )

select
    application_id,
    job_id,
    basis,
    date_count,
    first_date,
    last_date,
    {{ minutes_interval("level") }} as level_at_first,
    {{ minutes_interval("slope") }} as slope_per_date,
    {{ minutes_interval("slope_low") }} as slope_low,
    {{ minutes_interval("slope_high") }} as slope_high,
    {{ minutes_interval("grew_by") }} as grew_by,
    p_value,
    is_significant,
    is_slowing,
    case when is_slowing then shape end as shape,
    case when is_slowing then changed_on end as changed_on,
    {{ minutes_interval("p90_end") }} as p90_end,
    case when is_slowing then days_until_due end as days_until_due,
    case
        when is_slowing
        then
            application_id
            || '/'
            || job_id
            || case basis when 'duration' then ' takes ' else ' ends ' end
            || {{ minutes_spelled("grew_by") }}
            || ' '
            || case basis when 'duration' then 'longer' else 'later' end
            || case
                when shape = 'step'
                then ' since ' || changed_on
                else
                    ' than on '
                    || changed_on
                    || case
                        changed_on
                        when first_date
                        then ', the first date that is looked at'
                        else ', when it began'
                    end
            end
            || case
                when basis = 'duration'
                then ' (at first it took ' || {{ minutes_spelled("level") }} || ')'
                else ''
            end
            || '; over '
            || date_count
            || ' dates to '
            || last_date
            || ' '
            || {{ minutes_spelled("slope") }}
            || ' more a date ('
            || {{ minutes_spelled("slope_low") }}
            || ' to '
            || {{ minutes_spelled("slope_high") }}
            || ').'
            || case
                when days_until_due = 0
                then ' One in ten ends after the due time already.'
                when days_until_due > 0
                then
                    ' In '
                    || days_until_due
                    || case days_until_due when 1 then ' day' else ' days' end
                    || ' one in ten will end after the due time.'
                else ''
            end
        when not is_current
        then 'Not judged: its last date is ' || last_date || '.'
        when not is_significant
        then 'No slowing that ' || date_count || ' dates could not show by chance.'
        else
            'A trend, but one of '
            || {{ minutes_spelled("grew_by") }}
            || ' only over '
            || date_count
            || ' dates.'
    end as evidence
from judged
