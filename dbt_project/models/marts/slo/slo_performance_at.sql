{{
    config(
        materialized="table_function",
        meta={
            "arguments": [
                "as_of timestamptz",
                "known_at timestamptz default 'infinity'",
                "slo text default null",
                '"from" date default null',
                '"to" date default null',
            ],
            "settings": ["enable_nestloop = off", "work_mem = '128MB'"],
        },
    )
}}

{#-
  $1 as_of, $2 known_at, $3 slo, $4 from, $5 to. load_id follows the order of the commits, so a moment is a load_id.
  The planner knows nothing of the rows of a CTE and would join them by nested loops.
-#}
{%- set high -%}
    (select coalesce(max(load_id), 0) from {{ source("raw", "load") }} where received_at <= coalesce($2, 'infinity'))
{%- endset -%}

with
    versions as ({{ standing_versions(high) }}),

    visible as not materialized(
        select *
        from {{ source("raw", "job_status") }} as status
        where load_id <= {{ high }} and status_at <= $1 and {{ standing("status", high) }}
    ),

    keys as (
        select distinct slo_id, business_date
        from {{ source("catalog", "promise") }}
        where
            (slo_id = $3 or $3 is null)
            and business_date >= coalesce($4, '-infinity')
            and business_date <= coalesce($5, 'infinity')
            and load_id <= {{ high }}
            and opens_at <= (select control.within_plan($1)) + interval '26 hours'
    ),

    versions_in_keys as (select * from versions where slo_id in (select slo_id from keys)),

    starts as ({{ open_starts("versions_in_keys", ["visible"], high, "$1") }}),

    occurrences as ({{ occurrences_of("keys", "versions", "starts", ["visible"], "$1", high) }}),

    job_dates as (
        select distinct promise_job.application_id, promise_job.job_id, promise_job.business_date
        from occurrences
        inner join
            {{ source("catalog", "promise_job") }} as promise_job using (
                slo_id, business_date, slot, load_id, entry_no
            )
    ),

    copies as (
        select status.*
        from job_dates
        inner join visible as status using (application_id, job_id, business_date)
        where
            status.business_date >= coalesce($4, '-infinity')
            and status.business_date <= coalesce($5, 'infinity')
    ),

    statuses as ({{ distinct_statuses("copies") }}),

    runs as ({{ runs_of("statuses") }}),

    counted as ({{ slot_runs("occurrences", "runs") }}),

    jobs as ({{ job_verdicts("occurrences", "counted", "runs") }}),

    final as ({{ slo_verdicts("occurrences", "jobs", "$1") }})

select
    slo_id,
    business_date,
    slot,
    application_id,
    expected_start_at,
    expected_end_at,
    actual_start_at,
    actual_end_at,
    progress,
    outcome,
    is_waived,
    gives_up_at,
    coalesce(late_by, case when outcome = 'overdue' then $1 - expected_end_at end) as late_by,
    revisions,
    last_success_at,
    last_status,
    job_count,
    completed_job_count,
    blocking_job,
    explanation
from final
