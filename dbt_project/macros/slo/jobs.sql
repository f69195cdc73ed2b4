{#-
  How each job of an occurrence stands, one row per (slo_id, business_date, slot, application_id, job_id), whether it
  reported or not.
-#}
{% macro job_verdicts(occurrences, slot_runs, runs) -%}
    with
        counted_runs as (
            select slot_run.slo_id, slot_run.slot, run.*
            from {{ occurrences }} as occurrence
            inner join {{ slot_runs }} as slot_run using (slo_id, business_date, slot)
            inner join {{ runs }} as run using (application_id, job_id, business_date, run_key)
        ),

        states as (
            select
                slo_id,
                business_date,
                slot,
                application_id,
                job_id,
                promise_job.expected_start_at,
                promise_job.expected_end_at,
                promise_job.upstream_rank,
                count(run.run_key)::integer as run_count,
                min(run.first_start_at) as first_start_at,
                min(run.first_success_at) as first_success_at,
                min(run.first_fail_at) as first_fail_at,
                max(run.last_success_at) as last_success_at,
                max(run.last_status_at) as last_status_at,
                min(run.first_ahead_success_at) as first_ahead_success_at,
                max(run.last_ahead_at) as last_ahead_at,
                {{ last_status("run.last_status", "run.last_status_at") }} as last_status
            from {{ occurrences }} as promise
            inner join
                {{ source("catalog", "promise_job") }} as promise_job using (
                    slo_id, business_date, slot, load_id, entry_no
                )
            left join counted_runs as run using (slo_id, business_date, slot, application_id, job_id)
            group by
                slo_id,
                business_date,
                slot,
                application_id,
                job_id,
                promise_job.expected_start_at,
                promise_job.expected_end_at,
                promise_job.upstream_rank
        ),

        revised as (
            -- what comes after the first SUCCEED is a revision
            select slo_id, business_date, slot, application_id, job_id, count(*)::integer as revisions
            from states
            inner join counted_runs as run using (slo_id, business_date, slot, application_id, job_id)
            cross join unnest(run.status_ats) as status_at
            where states.last_status_at > states.first_success_at and status_at > states.first_success_at
            group by slo_id, business_date, slot, application_id, job_id
        )

    select
        slo_id,
        business_date,
        slot,
        application_id,
        job_id,
        expected_start_at,
        expected_end_at,
        case
            when first_success_at is null or first_start_at <= first_success_at then first_start_at
        end as actual_start_at,
        first_success_at as actual_end_at,
        case
            when first_success_at is null or first_fail_at <= first_success_at then first_fail_at
        end as failed_at,
        case
            when first_success_at is not null
            then 'complete'
            when run_count = 0
            then 'pending'
            when last_status = 'FAIL'
            then 'failed'
            else 'running'
        end as progress,
        run_count,
        coalesce(revised.revisions, 0) as revisions,
        last_success_at,
        last_status_at,
        last_status,
        upstream_rank,
        coalesce(
            case
                when first_success_at is not null
                then first_ahead_success_at = first_success_at
                else last_ahead_at = last_status_at
            end,
            false
        ) as is_ahead
    from states
    left join revised using (slo_id, business_date, slot, application_id, job_id)
{%- endmacro %}
