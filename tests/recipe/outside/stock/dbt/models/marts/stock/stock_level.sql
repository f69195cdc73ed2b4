{{ config(group="stock", meta={"scope": "scope_article", "scope_keys": ["article"]}) }}

with
    counted as (
        select
            count.article,
            count.counted_at,
            count.quantity,
            -- of equal moments the higher count, which no order of arrival changes
            row_number() over (partition by article order by count.counted_at desc, count.quantity desc) as place
        from {{ ref("scope_article") }} as scope
        inner join {{ ref("stg_stock_count") }} as count using (article)
    )

select article, counted_at, quantity
from counted
where place = 1
