{{ config(materialized="view") }}

with
    calendar as (
        select distinct on (calendar_id) calendar_id, is_retired
        from {{ source("catalog", "calendar_version") }}
        where load_id <= {{ tick("published_high") }}
        order by calendar_id, load_id desc
    ),

    made as (
        select distinct on (calendar_id, year) *
        from {{ source("catalog", "calendar_year") }}
        where load_id <= {{ tick("published_high") }}
        order by calendar_id, year, load_id desc
    ),

    day as (
        select
            made.calendar_id,
            make_date(made.year, 1, 1) + number::integer - 1 as business_date,
            element.is_business_date,
            element.reason,
            element.holiday
        from made
        inner join calendar using (calendar_id)
        cross join lateral unnest(made.is_business_date, made.reasons, made.holidays)
        with ordinality as element(is_business_date, reason, holiday, number)
        where not calendar.is_retired
    )

select calendar_id, business_date, to_char(business_date, 'dy') as weekday, is_business_date, reason, holiday
from day
