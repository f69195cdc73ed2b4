select
    load_id, seq, application_id, job_id, status_code, status_at, business_date, run_id, host_id, is_ambiguous
from {{ source("raw", "job_status") }} as status
where
    load_id <= {{ tick("high") }}
    and status_at <= {{ tick("as_of") }}
    and {{ standing("status", tick("high")) }}
