{#-
  The last of the steps to SLO performance, a file each: versions, statuses, runs, starts, occurrences, jobs, verdicts.
  They stand over relations that the caller names. The marts call them for the keys of a tick; `slo_performance_at`
  calls the same for any two clocks.
-#}
{#-
  The verdict, one row per (slo_id, business_date, slot), as of `as_of`; with the cause where it is late, by `edges` and
  `upstream` as causes_of takes them.
-#}
{% macro slo_verdicts(occurrences, jobs, as_of, edges, upstream) -%}
    with
        totals as (
            select
                slo_id,
                business_date,
                slot,
                count(*)::integer as job_count,
                count(job.actual_end_at)::integer as completed_job_count,
                min(job.actual_start_at) as actual_start_at,
                case
                    when count(*) = count(job.actual_end_at) then max(job.actual_end_at)
                end as actual_end_at,
                case
                    when bool_and(job.progress = 'complete')
                    then 'complete'
                    when bool_or(job.progress = 'failed')
                    then 'failed'
                    when bool_or(job.progress <> 'pending')
                    then 'running'
                    else 'pending'
                end as progress,
                sum(job.revisions)::integer as revisions,
                max(job.last_success_at) as last_success_at,
                {{ last_status("job.last_status", "job.last_status_at") }} as last_status,
                -- incomplete before complete; of those the latest expected end, else the last to end; then
                -- the most upstream
                (
                    array_agg(
                        job.application_id || '/' || job.job_id
                        order by
                            job.actual_end_at is null desc,
                            coalesce(job.actual_end_at, job.expected_end_at) desc,
                            job.upstream_rank,
                            job.application_id collate "C",
                            job.job_id collate "C"
                    )
                )[1] as blocking_job,
                (
                    array_agg(
                        job.application_id || '/' || job.job_id
                        order by
                            coalesce(job.actual_end_at, job.last_status_at) desc,
                            job.application_id collate "C",
                            job.job_id collate "C"
                    ) filter (where job.is_ahead)
                )[1] as ahead_job,
                max(coalesce(job.actual_end_at, job.last_status_at)) filter (where job.is_ahead) as ahead_at
            from {{ occurrences }} as promise
            inner join {{ jobs }} as job using (slo_id, business_date, slot)
            group by slo_id, business_date, slot
        ),

        verdicts as (
            select
                promise.slo_id,
                promise.business_date,
                promise.slot,
                promise.slo_application_id as application_id,
                promise.expected_start_at,
                promise.expected_end_at,
                occurrence.actual_start_at,
                occurrence.actual_end_at,
                occurrence.progress,
                case
                    when promise.is_waived
                    then 'not_due'
                    when occurrence.actual_end_at <= promise.expected_end_at
                    then 'on_time'
                    when occurrence.actual_end_at > promise.expected_end_at
                    then 'late'
                    when {{ as_of }} > promise.gives_up_at
                    then 'missed'
                    when {{ as_of }} > promise.expected_end_at
                    then 'overdue'
                    else 'not_due'
                end as outcome,
                promise.is_waived,
                promise.gives_up_at,
                case
                    when not promise.is_waived then occurrence.actual_end_at - promise.expected_end_at
                end as late_by,
                occurrence.revisions,
                occurrence.last_success_at,
                occurrence.last_status,
                occurrence.job_count,
                occurrence.completed_job_count,
                occurrence.blocking_job,
                occurrence.ahead_job,
                occurrence.ahead_at,
                promise.promised_end_at,
                promise.exception_reason,
                promise.excepted_by,
                promise.timezone
            from {{ occurrences }} as promise
            inner join totals as occurrence using (slo_id, business_date, slot)
        ),

        late as (
            select slo_id, business_date, slot, blocking_job
            from verdicts
            where outcome in ('late', 'overdue', 'missed')
        ),

        causes as ({{ causes_of("late", jobs, edges, upstream) }})

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
        late_by,
        revisions,
        last_success_at,
        last_status,
        job_count,
        completed_job_count,
        blocking_job,
        cause_job,
        cause_business_date,
        case when is_cause_upstream then 'late_upstream' else cause_delay end as cause_kind,
        {{ explanation() }} as explanation
    from verdicts
    left join causes using (slo_id, business_date, slot)
{%- endmacro %}
