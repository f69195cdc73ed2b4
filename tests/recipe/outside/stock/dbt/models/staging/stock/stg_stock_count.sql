{{ config(group="stock") }}

select load_id, seq, article, counted_at, quantity
from {{ source("stock", "stock_count") }} as counted
where load_id <= {{ tick("high") }} and counted_at <= {{ tick("as_of") }} and {{ standing("counted", tick("high")) }}
