{{ config(group="stock", materialized="view") }}

select
    article as subject,
    '' as occurrence,
    'warning' as severity,
    'Out of stock: ' || article as title,
    format('There was no %s when it was last counted. Order some.', article) as message,
    counted_at as began_at,
    null::text as application_id,
    null::text as slo_id,
    null::date as business_date,
    null::text as group_key,
    '{}'::jsonb as detail
from {{ ref("stock_level") }}
where quantity = 0
