{{ config(materialized="view") }}

{%- set now_at = tick("published_as_of") %}

-- Worked out for each application by itself: who asks for one reads no more than what that sent. What is
-- usual is also
-- said in sensors/oncall/incidents/silence.py, which the replay of past days asks.
select
    application.application_id,
    heard.last_status_at,
    expected.expected_count,
    expected.seen_count,
    missing.missing_moments,
    missing.missing_jobs,
    heard.quiet_for,
    usual.usual_pause,
    usual.basis_days,
    heard.last_status_at
    + coalesce(usual.usual_pause, interval '0')
    + interval '15 minutes' as silent_from_at,
    coalesce(
        missing.missing_moments > 0
        and heard.quiet_for > coalesce(usual.usual_pause, interval '0') + interval '15 minutes',
        false
    ) as is_silent,
    case
        when heard.last_status_at is null
        then 'Nothing was heard in 30 days.'
        else
            'Last heard at '
            || to_char(heard.last_status_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')
            || ' UTC; '
            || case
                when usual.usual_pause is null
                then 'too little of its past is known'
                else
                    'at this time of day usually silent for '
                    || to_char(make_interval(secs => extract(epoch from usual.usual_pause)), 'HH24:MI:SS')
                    || ' at most'
            end
            || '; '
            || case
                missing.missing_moments
                when 0
                then 'nothing is missing since'
                when 1
                then '1 due time passed since'
                else missing.missing_moments || ' due times passed since'
            end
            || coalesce(': ' || array_to_string(missing.missing_jobs[:10], ', '), '')
            || '.'
    end as evidence,
    {{ now_at }} as as_of
from {{ ref("stg_application") }} as application
cross join
    lateral(
        select
            max(sent_at) as last_status_at,
            {{ now_at }} - max(sent_at) as quiet_for,
            coalesce(array_agg(sent_at order by sent_at), '{}') as moments
        from
            (
                select distinct status.status_at as sent_at
                from {{ source("raw", "job_status") }} as status
                where
                    status.application_id = application.application_id
                    and status.load_id <= {{ tick("published_high") }}
                    and status.status_at <= {{ now_at }}
                    and status.status_at >= {{ now_at }} - interval '30 days'
                    and status.business_date >= ({{ now_at }} at time zone 'UTC')::date - 31
                    -- not by the function of raw: it would run with the rights of who asks
                    and not exists (
                        select
                        from {{ source("raw", "unload") }} as taken
                        where
                            taken.unloaded_load_id = status.load_id
                            and taken.first_seq <= status.seq
                            and taken.end_seq > status.seq
                            and taken.load_id <= {{ tick("published_high") }}
                    )
            ) as statuses
    ) as heard
cross join
    lateral(
        -- of each past day the longest pause about this time; the one that lasts is none of them
        select
            count(*)::integer as basis_days,
            case
                when count(*) >= 5
                -- a tenth of the days left out: an outage is not usual
                then (array_agg(longest order by longest))[count(*) - ceil(count(*) / 10.0)::integer]
            end as usual_pause
        from
            (
                select
                    day.then_at,
                    coalesce(
                        max(pause.end_at - pause.begin_at) filter (
                            where
                                pause.end_at > day.then_at - interval '30 minutes'
                                and pause.begin_at < day.then_at + interval '30 minutes'
                        ),
                        interval '0'
                    ) as longest
                from
                    (
                        select {{ now_at }} - number * interval '24 hours' as then_at
                        from generate_series(1, 28) as number
                    ) as day
                cross join
                    (
                        select moment as begin_at, lead(moment) over (order by moment) as end_at
                        from unnest(heard.moments) as moment
                    ) as pause
                where day.then_at + interval '30 minutes' < heard.last_status_at
                group by day.then_at
                having
                    bool_or(
                        pause.begin_at
                        between day.then_at - interval '12 hours' and day.then_at + interval '12 hours'
                    )
            ) as days
    ) as usual
cross join
    lateral(
        select count(*)::integer as expected_count, count(last_status_at)::integer as seen_count
        from {{ ref("slo_job_performance") }} as job
        where
            job.application_id = application.application_id
            and job.expected_end_at < {{ now_at }}
            and job.expected_end_at >= {{ now_at }} - interval '24 hours'
    ) as expected
cross join
    lateral(
        select
            count(distinct date_trunc('minute', job.expected_end_at))::integer as missing_moments,
            array_agg(distinct job.job_id order by job.job_id) as missing_jobs
        from {{ ref("slo_job_performance") }} as job
        inner join {{ ref("slo_performance") }} as performance using (slo_id, business_date, slot)
        where
            job.application_id = application.application_id
            and job.expected_end_at < {{ now_at }}
            and job.expected_end_at > heard.last_status_at
            and job.progress = 'pending'
            and performance.outcome = 'overdue'
            -- one that waits for a job that did report, or for another application, says nothing of its
            -- sender
            and not exists (
                select
                from {{ ref("int_job_edge") }} as edge
                inner join
                    {{ ref("slo_job_performance") }} as upstream
                    on edge.upstream_application_id = upstream.application_id
                    and edge.upstream_job_id = upstream.job_id
                    and job.business_date = upstream.business_date
                where
                    edge.application_id = job.application_id
                    and edge.job_id = job.job_id
                    and upstream.progress <> 'complete'
                    and (upstream.application_id <> job.application_id or upstream.progress <> 'pending')
            )
    ) as missing
where not application.is_retired
