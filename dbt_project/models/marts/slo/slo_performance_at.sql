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

with recursive
    versions as ({{ standing_versions(high) }}),

    edges as ({{ standing_edges(high) }}),

    visible as not materialized(
        select *
        from {{ source("raw", "job_status") }} as status
        where load_id <= {{ high }} and status_at <= $1 and {{ standing("status", high) }}
    ),

    slo_jobs as (
        select slo_id, application_id, job_id
        from {{ source("catalog", "slo_job") }}
        where load_id <= {{ high }}
    ),

    -- what is asked for, and all upstream of it, where causes are
    jobs_upstream as (
        select application_id, job_id
        from slo_jobs
        where slo_id = $3 or $3 is null
        union
        select edge.upstream_application_id, edge.upstream_job_id
        from jobs_upstream as downstream
        inner join edges as edge using (application_id, job_id)
    ),

    versions_upstream as (
        select *
        from versions
        where slo_id in (select slo_id from slo_jobs inner join jobs_upstream using (application_id, job_id))
    ),

    starts as ({{ open_starts("versions_upstream", ["visible"], high, "$1") }}),

    -- from which business date on: where a job upstream has none of the same date, its latest earlier one
    -- counts
    jobs_since as (
        select application_id, job_id, coalesce($4, '-infinity') as since
        from slo_jobs
        where slo_id = $3 or $3 is null
        union
        select
            edge.upstream_application_id,
            edge.upstream_job_id,
            coalesce(
                (
                    select promise_job.business_date
                    from {{ source("catalog", "promise_job") }} as promise_job
                    where
                        promise_job.application_id = edge.upstream_application_id
                        and promise_job.job_id = edge.upstream_job_id
                        and promise_job.business_date <= downstream.since
                        -- it has opened, wherever it is
                        and promise_job.business_date < ($1 at time zone 'UTC')::date
                        and (
                            select
                                {{ stands_on("version", "promise_job.business_date") }}
                                and (
                                    not version.is_open_start
                                    or promise_job.business_date >= starts.start_date
                                )
                            from versions_upstream as version
                            left join starts using (slo_id, load_id, entry_no)
                            where
                                version.slo_id = promise_job.slo_id
                                and version.load_id = promise_job.load_id
                                and version.entry_no = promise_job.entry_no
                        )
                    order by promise_job.business_date desc
                    limit 1
                ),
                (
                    select status.business_date
                    from visible as status
                    where
                        status.application_id = edge.upstream_application_id
                        and status.job_id = edge.upstream_job_id
                        and status.business_date <= downstream.since
                    order by status.business_date desc
                    limit 1
                ),
                downstream.since
            )
        from jobs_since as downstream
        inner join edges as edge using (application_id, job_id)
    ),

    keys as (
        select distinct promise.slo_id, promise.business_date
        from
            (
                select slo_id, min(since) as since
                from slo_jobs
                inner join jobs_since using (application_id, job_id)
                group by slo_id
            ) as slo
        inner join {{ source("catalog", "promise") }} as promise using (slo_id)
        where
            promise.business_date >= slo.since
            and promise.business_date <= coalesce($5, 'infinity')
            and promise.load_id <= {{ high }}
            and promise.opens_at <= (select control.within_plan($1)) + interval '26 hours'
    ),

    occurrences as ({{ occurrences_of("keys", "versions_upstream", "starts", ["visible"], "$1", high) }}),

    copies as (
        select status.*
        from
            (
                select application_id, job_id, min(since) as since
                from jobs_since
                group by application_id, job_id
            ) as job
        inner join visible as status using (application_id, job_id)
        where
            status.business_date >= job.since
            -- for all, so that only their partitions are opened
            and status.business_date >= (select min(since) from jobs_since)
            and status.business_date <= coalesce($5, 'infinity')
    ),

    statuses as ({{ distinct_statuses("copies") }}),

    runs as ({{ runs_of("statuses") }}),

    counted as ({{ slot_runs("occurrences", "runs") }}),

    jobs as ({{ job_verdicts("occurrences", "counted", "runs") }}),

    {{ histories("jobs", "runs", "edges") }},

    asked as (
        select *
        from occurrences
        where (slo_id = $3 or $3 is null) and business_date >= coalesce($4, '-infinity')
    ),

    final as ({{ slo_verdicts("asked", "jobs", "$1", "select * from edges", upstream_in_histories()) }})

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
    cause_job,
    cause_business_date,
    cause_kind,
    explanation
from final
