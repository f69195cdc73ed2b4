{{ config(materialized="view") }}

select published_high as high, published_as_of as as_of, published_at, needs_rebuild as is_rebuild_due
from {{ source("control", "tick") }}
