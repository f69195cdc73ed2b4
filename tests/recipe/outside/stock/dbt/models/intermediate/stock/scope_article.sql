{{ config(group="stock", indexes=[{"columns": ["article"], "unique": true}]) }}

-- new, taken out, or held until its time has come
select counted.article
from {{ source("stock", "stock_count") }} as counted
where load_id > {{ tick("low") }} and load_id <= {{ tick("high") }}
union
select counted.article
from {{ source("raw", "unload") }} as taken
inner join {{ source("stock", "stock_count") }} as counted on taken.unloaded_load_id = counted.load_id
where taken.load_id > {{ tick("low") }} and taken.load_id <= {{ tick("high") }}
union
select counted.article
from {{ source("stock", "stock_count") }} as counted
where counted_at > {{ tick("previous_as_of") }} and counted_at <= {{ tick("as_of") }} and load_id <= {{ tick("high") }}
