select load_id, seq, input, minute_at, dimension, amount
from {{ source("raw", "metric_input") }} as fact
where
    load_id <= {{ tick("high") }}
    and minute_at <= {{ tick("as_of") }}
    and {{ standing("fact", tick("high")) }}
