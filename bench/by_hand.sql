-- The marts of SLO performance, all rows at once, as one would write them by hand where nothing is incremental: from
-- raw and promises, each step a set, tables filled before they get their keys. The yardstick of a full build.

create temp table status as
select
    *,
    case status_code when 'START' then 0 when 'FAIL' then 1 else 2 end as status_rank,
    case
        when run_id is null then
            '~' || count(*) filter (where status_code = 'START') over (
                partition by application_id, job_id, business_date, run_id
                order by status_at, status_code = 'START'
            )
        when run_id like '~%' then '~' || run_id
        else run_id
    end as run_key
from (
    select distinct on (application_id, job_id, business_date, status_at, status_code)
        application_id, job_id, business_date, status_code, status_at, run_id, host_id
    from raw.job_status
    where status_at <= :as_of
    order by application_id, job_id, business_date, status_at, status_code, run_id, host_id
) as identity;

analyze status;

create temp table run as
select
    application_id,
    job_id,
    business_date,
    run_key,
    min(run_id) as run_id,
    min(status_at) as first_status_at,
    max(status_at) as last_status_at,
    min(status_at) filter (where status_code = 'START') as first_start_at,
    min(status_at) filter (where status_code = 'SUCCEED') as first_success_at,
    max(status_at) filter (where status_code = 'SUCCEED') as last_success_at,
    min(status_at) filter (where status_code = 'FAIL') as first_fail_at,
    max(status_at) filter (where status_code = 'FAIL') as last_fail_at,
    (array_agg(status_code order by status_at desc, status_rank desc))[1] as last_status,
    (array_agg(host_id order by status_at desc, status_rank desc) filter (where host_id is not null))[1] as host_id
from status
group by application_id, job_id, business_date, run_key;

analyze run;

create table by_hand.job_run as
select
    application_id,
    job_id,
    business_date,
    run_key,
    run_id,
    row_number() over (
        partition by application_id, job_id, business_date order by first_status_at, run_id, run_key
    )::integer as attempt,
    first_status_at,
    started_at,
    ended_at,
    ended_at - started_at as duration,
    case when first_success_at is not null then 'SUCCEED' else last_status end as final_status,
    host_id
from run
cross join lateral (
    select
        case when first_success_at is null or first_start_at <= first_success_at then first_start_at end as started_at,
        case when first_success_at is not null then first_success_at when last_status = 'FAIL' then last_fail_at end
            as ended_at
) as timed;

create temp table occurrence as
with
    version as (
        select
            *,
            coalesce(
                min(applies_from) over (
                    partition by slo_id
                    order by load_id desc, applies_from desc, entry_no desc
                    rows between unbounded preceding and 1 preceding
                ),
                'infinity'
            ) as applies_before
        from catalog.slo_version
    ),

    first_of_job as (
        select application_id, job_id, min(business_date) as business_date
        from run
        group by application_id, job_id
    ),

    first_of_version as (
        select slo_id, load_id, entry_no, min(business_date) as first_date
        from catalog.slo_job
        inner join first_of_job using (application_id, job_id)
        group by slo_id, load_id, entry_no
    )

select
    promise.*,
    coalesce(
        promise.expected_end_at + version.gives_up_after,
        least(promise.next_due_at, promise.expected_end_at + interval '168 hours')
    ) as gives_up_at,
    version.timezone,
    version.spec ->> 'application' as slo_application_id
from catalog.promise
inner join version using (slo_id, load_id, entry_no)
left join first_of_version using (slo_id, load_id, entry_no)
where
    promise.business_date >= version.applies_from
    and promise.business_date < version.applies_before
    and promise.business_date <= coalesce(version.effective_to, 'infinity')
    and not version.is_retired
    and (not version.is_open_start or promise.business_date >= first_of_version.first_date)
    and (
        promise.opens_at <= :as_of
        or exists (
            select
            from catalog.promise_job
            inner join status using (application_id, job_id, business_date)
            where
                promise_job.slo_id = promise.slo_id
                and promise_job.business_date = promise.business_date
                and promise_job.load_id = promise.load_id
                and promise_job.entry_no = promise.entry_no
        )
    );

analyze occurrence;

create table by_hand.slo_job_run as
select
    promise_job.slo_id,
    promise_job.business_date,
    promise_job.slot,
    promise_job.application_id,
    promise_job.job_id,
    run.run_key
from occurrence
inner join catalog.promise_job using (slo_id, business_date, slot, load_id, entry_no)
inner join run
    on
        promise_job.application_id = run.application_id
        and promise_job.job_id = run.job_id
        and promise_job.business_date = run.business_date
        and run.first_status_at >= occurrence.claims_from
        and run.first_status_at < occurrence.claims_before;

analyze by_hand.slo_job_run;

create table by_hand.slo_job_performance as
with
    jobs as (
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
            (
                array_agg(
                    run.last_status
                    order by
                        run.last_status_at desc nulls last,
                        case run.last_status when 'START' then 0 when 'FAIL' then 1 else 2 end desc
                )
            )[1] as last_status
        from occurrence
        inner join catalog.promise_job using (slo_id, business_date, slot, load_id, entry_no)
        left join by_hand.slo_job_run using (slo_id, business_date, slot, application_id, job_id)
        left join run using (application_id, job_id, business_date, run_key)
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
        select slo_id, business_date, slot, application_id, job_id, count(*)::integer as revisions
        from jobs
        inner join by_hand.slo_job_run using (slo_id, business_date, slot, application_id, job_id)
        inner join status using (application_id, job_id, business_date, run_key)
        where jobs.last_status_at > jobs.first_success_at and status.status_at > jobs.first_success_at
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
    case when first_success_at is null or first_start_at <= first_success_at then first_start_at end as actual_start_at,
    first_success_at as actual_end_at,
    case when first_success_at is null or first_fail_at <= first_success_at then first_fail_at end as failed_at,
    case
        when first_success_at is not null then 'complete'
        when run_count = 0 then 'pending'
        when last_status = 'FAIL' then 'failed'
        else 'running'
    end as progress,
    run_count,
    coalesce(revised.revisions, 0) as revisions,
    last_success_at,
    last_status_at,
    last_status,
    upstream_rank,
    -- the simulated clocks are right
    false as is_ahead
from jobs
left join revised using (slo_id, business_date, slot, application_id, job_id);

analyze by_hand.slo_job_performance;

create temp table verdict as
with
    totals as (
        select
            slo_id,
            business_date,
            slot,
            count(*)::integer as job_count,
            count(actual_end_at)::integer as completed_job_count,
            min(actual_start_at) as actual_start_at,
            case when count(*) = count(actual_end_at) then max(actual_end_at) end as actual_end_at,
            case
                when count(*) = count(actual_end_at) then 'complete'
                when bool_or(progress = 'failed') then 'failed'
                when bool_or(progress <> 'pending') then 'running'
                else 'pending'
            end as progress,
            sum(revisions)::integer as revisions,
            max(last_success_at) as last_success_at,
            (
                array_agg(
                    last_status
                    order by
                        last_status_at desc nulls last,
                        case last_status when 'START' then 0 when 'FAIL' then 1 else 2 end desc
                )
            )[1] as last_status,
            (
                array_agg(
                    application_id || '/' || job_id
                    order by
                        actual_end_at is null desc,
                        coalesce(actual_end_at, expected_end_at) desc,
                        upstream_rank,
                        application_id collate "C",
                        job_id collate "C"
                )
            )[1] as blocking_job
        from by_hand.slo_job_performance
        group by slo_id, business_date, slot
    ),

    verdicts as (
        select
            slo_id,
            business_date,
            slot,
            occurrence.slo_application_id as application_id,
            occurrence.expected_start_at,
            occurrence.expected_end_at,
            totals.actual_start_at,
            totals.actual_end_at,
            totals.progress,
            case
                when totals.actual_end_at <= occurrence.expected_end_at then 'on_time'
                when totals.actual_end_at > occurrence.expected_end_at then 'late'
                when :as_of > occurrence.gives_up_at then 'missed'
                when :as_of > occurrence.expected_end_at then 'overdue'
                else 'not_due'
            end as outcome,
            -- the catalog has no exceptions
            false as is_waived,
            occurrence.gives_up_at,
            totals.actual_end_at - occurrence.expected_end_at as late_by,
            totals.revisions,
            totals.last_success_at,
            totals.last_status,
            totals.job_count,
            totals.completed_job_count,
            totals.blocking_job,
            occurrence.timezone
        from occurrence
        inner join totals using (slo_id, business_date, slot)
    )

select *
from verdicts;

create index way on by_hand.slo_job_performance (application_id, job_id, business_date);

create temp table cause as
with recursive
    edge as materialized (
        -- a simulated job waits for one other at most
        select distinct on (application_id, job_id)
            application_id,
            job_id,
            spec -> 'depends_on' -> 0 ->> 0 as upstream_application_id,
            spec -> 'depends_on' -> 0 ->> 1 as upstream_job_id
        from catalog.job_version
        order by application_id, job_id, load_id desc
    ),

    way as (
        select verdict.slo_id, verdict.business_date, verdict.slot, 0 as steps, job as stood
        from verdict
        inner join by_hand.slo_job_performance as job
            on
                verdict.slo_id = job.slo_id
                and verdict.business_date = job.business_date
                and verdict.slot = job.slot
                and verdict.blocking_job = job.application_id || '/' || job.job_id
        where verdict.outcome in ('late', 'overdue', 'missed')
        union all
        select way.slo_id, way.business_date, way.slot, way.steps + 1, upstream.stood
        from way
        inner join edge
            on (way.stood).application_id = edge.application_id and (way.stood).job_id = edge.job_id
        cross join lateral (
            select job as stood
            from by_hand.slo_job_performance as job
            where
                job.application_id = edge.upstream_application_id
                and job.job_id = edge.upstream_job_id
                and job.business_date <= (way.stood).business_date
            order by
                job.business_date desc,
                (job.slo_id, job.slot) = ((way.stood).slo_id, (way.stood).slot) desc,
                job.expected_end_at <= coalesce((way.stood).expected_start_at, (way.stood).expected_end_at) desc,
                job.expected_end_at desc,
                job.slo_id,
                job.slot
            limit 1
        ) as upstream
        where
            coalesce(
                (upstream.stood).actual_end_at
                > greatest((way.stood).expected_start_at, (upstream.stood).expected_end_at),
                true
            )
            and coalesce(
                coalesce((way.stood).actual_start_at, (way.stood).actual_end_at) >= (upstream.stood).actual_end_at,
                (way.stood).actual_start_at is null and (way.stood).actual_end_at is null
            )
    )

select distinct on (slo_id, business_date, slot)
    slo_id,
    business_date,
    slot,
    (stood).application_id || '/' || (stood).job_id as cause_job,
    (stood).business_date as cause_business_date,
    not exists (
        select
        from by_hand.slo_job_performance as own
        where
            own.slo_id = way.slo_id
            and own.business_date = way.business_date
            and own.slot = way.slot
            and own.application_id = (way.stood).application_id
            and own.job_id = (way.stood).job_id
    ) as is_upstream,
    case
        when (stood).failed_at is not null then 'failure'
        when (stood).run_count = 0 then 'never_started'
        when
            (stood).actual_start_at - expected >= greatest(
                coalesce(
                    ((stood).actual_end_at - (stood).actual_start_at) - ((stood).expected_end_at - expected),
                    ((stood).expected_end_at - expected) / 2
                ),
                interval '1 microsecond'
            )
            then 'late_start'
        else 'long_run'
    end as delay,
    (stood).expected_start_at as cause_expected_start_at,
    (stood).expected_end_at as cause_expected_end_at,
    (stood).actual_start_at as cause_start_at,
    (stood).actual_end_at as cause_end_at,
    (stood).failed_at as cause_failed_at
from way
cross join lateral (select coalesce((stood).expected_start_at, (stood).expected_end_at) as expected) as due
order by slo_id, business_date, slot, steps desc;

drop index by_hand.way;

create table by_hand.slo_performance as
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
    case when is_upstream then 'late_upstream' else delay end as cause_kind,
    case outcome
            when 'on_time' then 'On time: '
            when 'late' then 'Late: '
            when 'overdue' then 'Overdue: '
            when 'missed' then
                'Missed, given up at ' || to_char(gives_up_at at time zone timezone, 'YYYY-MM-DD HH24:MI:SS') || ': '
            else 'Not due yet: '
        end
        || case
            when progress = 'complete' and job_count = 1 then
                blocking_job || ' succeeded at '
                || to_char(actual_end_at at time zone timezone, 'YYYY-MM-DD HH24:MI:SS')
            when progress = 'complete' then
                'all ' || job_count || ' jobs are complete, the last, ' || blocking_job || ', at '
                || to_char(actual_end_at at time zone timezone, 'YYYY-MM-DD HH24:MI:SS')
            when progress = 'failed' then
                'a job failed; ' || completed_job_count || ' of ' || job_count || ' complete, waiting for '
                || blocking_job
            when progress = 'running' then
                completed_job_count || ' of ' || job_count || ' jobs complete, waiting for ' || blocking_job
            when job_count = 1 then 'nothing reported, waiting for ' || blocking_job
            else 'nothing reported for any of its ' || job_count || ' jobs, waiting for ' || blocking_job
        end
        || ', due ' || to_char(expected_end_at at time zone timezone, 'YYYY-MM-DD HH24:MI:SS') || ' ' || timezone
        || case
            when cause_job is null then ''
            else
                '; cause: ' || cause_job
                || case
                    when cause_business_date <> business_date then ' for ' || to_char(cause_business_date, 'YYYY-MM-DD')
                    else ''
                end
                || case when is_upstream then ', upstream, ' else ' ' end
                || concat_ws(
                    ', ',
                    case delay
                        when 'failure'
                            then 'failed at ' || to_char(cause_failed_at at time zone timezone, 'YYYY-MM-DD HH24:MI:SS')
                        when 'never_started' then 'has not started'
                        when 'late_start'
                            then 'started late at '
                            || to_char(cause_start_at at time zone timezone, 'YYYY-MM-DD HH24:MI:SS')
                        else coalesce(
                            'took too long from '
                            || to_char(cause_start_at at time zone timezone, 'YYYY-MM-DD HH24:MI:SS'),
                            'ended too late'
                        )
                    end,
                    case
                        when delay in ('never_started', 'late_start')
                            then 'expected at '
                                || to_char(cause_expected_start_at at time zone timezone, 'YYYY-MM-DD HH24:MI:SS')
                    end,
                    case
                        when cause_job <> blocking_job
                            then 'succeeded at ' || to_char(cause_end_at at time zone timezone, 'YYYY-MM-DD HH24:MI:SS')
                    end,
                    case
                        when cause_job <> blocking_job and delay in ('never_started', 'long_run')
                            then 'due ' || to_char(cause_expected_end_at at time zone timezone, 'YYYY-MM-DD HH24:MI:SS')
                    end
                )
        end
        || case
            when revisions > 0 then
                '; revised since, last success '
                || to_char(last_success_at at time zone timezone, 'YYYY-MM-DD HH24:MI:SS')
            else ''
        end
        || '.' as explanation
from verdict
left join cause using (slo_id, business_date, slot);
