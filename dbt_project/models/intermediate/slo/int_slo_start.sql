{{ config(indexes=[{"columns": ["slo_id"]}]) }}

with
    scope as (
        select slo_job.slo_id
        from {{ source("catalog", "slo_job") }} as slo_job
        inner join
            (select distinct application_id, job_id from {{ ref("scope_job_date") }}) as changed_job using (
                application_id, job_id
            )
        union
        select slo_id
        from {{ source("catalog", "slo_version") }}
        where load_id > {{ tick("low") }} and load_id <= {{ tick("high") }}
    ),

    version as (select * from {{ ref("stg_slo_version") }} where slo_id in (select slo_id from scope)),

    computed as ({{ open_starts("version", seen_now(), tick("high"), tick("as_of")) }}),

    final as (
        -- a row without a version for an SLO that starts nowhere: what it had goes
        select scope.slo_id, computed.load_id, computed.entry_no, computed.start_date, computed.lone_dates
        from scope
        left join computed using (slo_id)
    )

select *
from final
