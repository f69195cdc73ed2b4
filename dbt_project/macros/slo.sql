{#-
  The rules of SLO performance, each step once, over relations that the caller names. The marts call them for the keys
  of a tick; `slo_performance_at` calls the same for any two clocks.
-#}
{#- The order of statuses at one instant: START, then FAIL, then SUCCEED. -#}
{% macro status_rank(column) -%}
    case {{ column }} when 'START' then 0 when 'FAIL' then 1 else 2 end
{%- endmacro %}

{#-
  Versions of SLOs loaded up to `high`, with the business dates for which each stands: [applies_from, applies_before).
  A version gives way to any later load, and within a load to any later entry, from where that one applies.
-#}
{% macro standing_versions(high) -%}
    select
        slo_version.*,
        coalesce(
            min(applies_from) over (
                partition by slo_id
                order by load_id desc, applies_from desc, entry_no desc
                rows between unbounded preceding and 1 preceding
            ),
            'infinity'::date
        ) as applies_before
    from {{ source("catalog", "slo_version") }} as slo_version
    where load_id <= {{ high }}
{%- endmacro %}

{#-
  What clocks differ by (pipelines/slo/receipt.py), such as: 5 minutes. A status that lies further ahead of its receipt is
  from the future: its sender's clock is wrong.
-#}
{% macro future_status() -%} {{ env_var("DUEMARK_DBT_FUTURE_STATUS") }} {%- endmacro %}

{#- Copies with whether each came from the future of its receipt. -#}
{% macro with_receipt(copies) -%}
    select copy.*, copy.status_at > load.received_at + interval '{{ future_status() }}' as is_ahead
    from {{ copies }} as copy
    left join {{ source("raw", "load") }} as load using (load_id)
{%- endmacro %}

{#-
  Of copies of one identity the least (run_id, host_id), nulls last, is the status; it was received with the first of
  them, so it is ahead if any is.
-#}
{% macro distinct_statuses(copies) -%}
    select distinct
        on (application_id, job_id, business_date, status_at, status_code)
        application_id,
        job_id,
        business_date,
        status_code,
        status_at,
        run_id,
        host_id,
        bool_or(is_ahead) over (
            partition by application_id, job_id, business_date, status_at, status_code
        ) as is_ahead
    from ({{ with_receipt(copies) }}) as copies_with_receipt
    order by application_id, job_id, business_date, status_at, status_code, run_id, host_id
{%- endmacro %}

{#-
  Statuses to runs, one row per (application_id, job_id, business_date, run_key).
  Statuses without a run_id make runs by themselves: each START opens one that lasts to the next START (run_key ~1,
  ~2, …; ~0 is what came before the first START); what else stands at the instant of a START closes the run before.
-#}
{% macro runs_of(statuses) -%}
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
        max(status_at) filter (where status_code = 'FAIL') as last_fail_at,
        min(status_at) filter (where status_code = 'SUCCEED' and is_ahead) as first_ahead_success_at,
        max(status_at) filter (where is_ahead) as last_ahead_at,
        (array_agg(status_code order by status_at desc, {{ status_rank("status_code") }} desc))[
            1
        ] as last_status,
        (
            array_agg(host_id order by status_at desc, {{ status_rank("status_code") }} desc) filter (
                where host_id is not null
            )
        )[1] as host_id,
        array_agg(status_at) as status_ats
    from
        (
            select
                *,
                case
                    when run_id is null
                    then
                        '~' || count(*) filter (where status_code = 'START') over (
                            partition by application_id, job_id, business_date, run_id
                            order by status_at, status_code = 'START'
                        )
                    -- a sender's own id never meets one of ours
                    when run_id like '~%'
                    then '~' || run_id
                    else run_id
                end as run_key
            from {{ statuses }}
        ) as statuses_with_run
    group by application_id, job_id, business_date, run_key
{%- endmacro %}

{#-
  Occurrences of the (slo_id, business_date) in `keys`: of the version that applies, not after its end, and for an SLO
  with an open start not before the date in `starts`. An occurrence is there from the start of its business date in its
  SLO's zone, or from the first status of that date.
  `seen`: relations that together hold the jobs' dates that have a visible status.
-#}
{% macro occurrences_of(keys, versions, starts, seen, as_of) -%}
    select
        promise.slo_id,
        promise.business_date,
        promise.slot,
        promise.load_id,
        promise.entry_no,
        promise.opens_at,
        promise.claims_from,
        promise.claims_before,
        promise.expected_start_at,
        promise.expected_end_at,
        version.timezone,
        version.spec ->> 'application' as slo_application_id
    from {{ keys }} as keys
    inner join
        {{ source("catalog", "promise") }} as promise
        on keys.slo_id = promise.slo_id
        and keys.business_date = promise.business_date
    inner join
        {{ versions }} as version
        on promise.slo_id = version.slo_id
        and promise.load_id = version.load_id
        and promise.entry_no = version.entry_no
        and promise.business_date >= version.applies_from
        and promise.business_date < version.applies_before
        and promise.business_date <= coalesce(version.effective_to, 'infinity'::date)
        and not version.is_retired
    left join
        {{ starts }} as slo_start
        on version.slo_id = slo_start.slo_id
        and version.load_id = slo_start.load_id
        and version.entry_no = slo_start.entry_no
    where
        (not version.is_open_start or promise.business_date >= slo_start.start_date)
        and (
            promise.opens_at <= {{ as_of }}
            {%- for relation in seen %}
                or exists (
                    select
                    from {{ source("catalog", "promise_job") }} as promise_job
                    inner join {{ relation }} as begun using (application_id, job_id, business_date)
                    where
                        promise_job.slo_id = promise.slo_id
                        and promise_job.business_date = promise.business_date
                        -- all slots of the date, but of the promise that stands
                        and promise_job.load_id = promise.load_id
                        and promise_job.entry_no = promise.entry_no
                )
            {%- endfor %}
        )
{%- endmacro %}

{#-
  Where SLOs without `effective_from` start: the first business date that opens it, by the rule of control.opens_slo, and
  the lone ones before, which open nothing. Of `versions` with an open start, one row for each that has a date at all.
  `seen`: relations that together hold the jobs' dates that have a visible status, up to `high` and `as_of`.
-#}
{% macro open_starts(versions, seen, high, as_of) -%}
    {%- set following_of -%}
        control.opens_slo(
            slo_id, load_id, entry_no, business_date, following, {{ high }}, {{ high }}, {{ as_of }}
        )
    {%- endset -%}
    with recursive
        begun as (
            select version.slo_id, version.load_id, version.entry_no, first_date.business_date
            from {{ versions }} as version
            cross join lateral({{ next_business_date("version", "'-infinity'::date", seen) }}) as first_date
            where version.is_open_start and first_date.business_date is not null
        ),

        candidate as (
            select *, {{ following_of }} as is_opening
            from
                (
                    select begun.*, after.business_date as following
                    from begun
                    cross join
                        lateral({{ next_business_date("begun", "begun.business_date", seen) }}) as after
                ) as first_of_all
            union all
            select *, {{ following_of }}
            from
                (
                    select
                        before.slo_id,
                        before.load_id,
                        before.entry_no,
                        before.following as business_date,
                        after.business_date as following
                    from candidate as before
                    cross join lateral({{ next_business_date("before", "before.following", seen) }}) as after
                    where not before.is_opening and before.following is not null
                ) as next_one
        )

    select
        slo_id,
        load_id,
        entry_no,
        min(business_date) filter (where is_opening) as start_date,
        coalesce(
            array_agg(business_date order by business_date) filter (where not is_opening), '{}'
        ) as lone_dates
    from candidate
    group by slo_id, load_id, entry_no
{%- endmacro %}

{#-
  The first business date of a version's jobs after `after`, null without one: a look at an index for each job and
  relation.
-#}
{% macro next_business_date(version, after, seen) -%}
    select
        min(
            least(
                {%- for relation in seen %}
                    (
                        select seen.business_date
                        from {{ relation }} as seen
                        where
                            seen.application_id = slo_job.application_id
                            and seen.job_id = slo_job.job_id
                            and seen.business_date > {{ after }}
                        order by seen.business_date
                        limit 1
                    ){{ "," if not loop.last }}
                {%- endfor %}
            )
        ) as business_date
    from {{ source("catalog", "slo_job") }} as slo_job
    where
        slo_job.slo_id = {{ version }}.slo_id
        and slo_job.load_id = {{ version }}.load_id
        and slo_job.entry_no = {{ version }}.entry_no
{%- endmacro %}

{#- Jobs' dates that have a visible status now: those of the scope, and those before that nothing took away. -#}
{% macro seen_now() -%}
    {%- set before -%}
        {{
            published(
                "job_run",
                {"application_id": 'text collate "C"', "job_id": 'text collate "C"', "business_date": "date"},
            )
        }}
    {%- endset -%}
    {%- set visible -%}
        (select application_id, job_id, business_date from {{ ref("scope_job_date") }} where is_visible)
    {%- endset -%}
    {%- set kept -%}
        (
            select before.application_id, before.job_id, before.business_date
            from {{ before }} as before
            where
                not exists (
                    select
                    from {{ ref("scope_job_date") }} as gone
                    where
                        gone.application_id = before.application_id
                        and gone.job_id = before.job_id
                        and gone.business_date = before.business_date
                        and not gone.is_visible
                )
        )
    {%- endset -%}
    {{ return([visible, kept]) }}
{%- endmacro %}

{#- Where SLOs started as the last tick left it. -#}
{% macro starts_before() -%}
    {{
        published(
            "slo_start",
            {
                "slo_id": 'text collate "C"',
                "load_id": "bigint",
                "entry_no": "integer",
                "start_date": "date",
            },
        )
    }}
{%- endmacro %}

{#- Which runs count for which slot: the last window begun at a run's first status; earlier than the first, the first. -#}
{% macro slot_runs(occurrences, runs) -%}
    select
        promise_job.slo_id,
        promise_job.business_date,
        promise_job.slot,
        promise_job.application_id,
        promise_job.job_id,
        run.run_key
    from {{ occurrences }} as promise
    inner join
        {{ source("catalog", "promise_job") }} as promise_job using (
            slo_id, business_date, slot, load_id, entry_no
        )
    inner join
        {{ runs }} as run
        on promise_job.application_id = run.application_id
        and promise_job.job_id = run.job_id
        and promise_job.business_date = run.business_date
        and promise.claims_from <= run.first_status_at
        and promise.claims_before > run.first_status_at
{%- endmacro %}

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

{#- The status that stands last; at one instant SUCCEED after FAIL after START. -#}
{% macro last_status(status, at) -%}
    (array_agg({{ status }} order by {{ at }} desc nulls last, {{ status_rank(status) }} desc))[1]
{%- endmacro %}

{#-
  The verdict, one row per (slo_id, business_date, slot), as of `as_of`.
-#}
{% macro slo_verdicts(occurrences, jobs, as_of) -%}
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
                    when occurrence.actual_end_at <= promise.expected_end_at
                    then 'on_time'
                    when occurrence.actual_end_at > promise.expected_end_at
                    then 'late'
                    when {{ as_of }} > promise.expected_end_at
                    then 'overdue'
                    else 'not_due'
                end as outcome,
                occurrence.actual_end_at - promise.expected_end_at as late_by,
                occurrence.revisions,
                occurrence.last_success_at,
                occurrence.last_status,
                occurrence.job_count,
                occurrence.completed_job_count,
                occurrence.blocking_job,
                occurrence.ahead_job,
                occurrence.ahead_at,
                promise.timezone
            from {{ occurrences }} as promise
            inner join totals as occurrence using (slo_id, business_date, slot)
        )

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
        late_by,
        revisions,
        last_success_at,
        last_status,
        job_count,
        completed_job_count,
        blocking_job,
        {{ explanation() }} as explanation
    from verdicts
{%- endmacro %}

{#- The verdict in one sentence. It names instants, never elapsed minutes, so that it changes only when something happened. -#}
{% macro explanation() -%}
    case
        outcome
        when 'on_time'
        then 'On time: '
        when 'late'
        then 'Late: '
        when 'overdue'
        then 'Overdue: '
        else 'Not due yet: '
    end || case
        when progress = 'complete' and job_count = 1
        then blocking_job || ' succeeded at ' || {{ local_text("actual_end_at") }}
        when progress = 'complete'
        then
            'all '
            || job_count
            || ' jobs are complete, the last, '
            || blocking_job
            || ', at '
            || {{ local_text("actual_end_at") }}
        when progress = 'failed'
        then
            'a job failed; '
            || completed_job_count
            || ' of '
            || job_count
            || ' complete, waiting for '
            || blocking_job
        when progress = 'running'
        then completed_job_count || ' of ' || job_count || ' jobs complete, waiting for ' || blocking_job
        when job_count = 1
        then 'nothing reported, waiting for ' || blocking_job
        else 'nothing reported for any of its ' || job_count || ' jobs, waiting for ' || blocking_job
    end
    || ', due '
    || {{ local_text("expected_end_at") }}
    || ' '
    || timezone
    || case
        when revisions > 0
        then '; revised since, last success ' || {{ local_text("last_success_at") }}
        else ''
    end
    || case
        when ahead_job is not null
        then
            '; a clock is ahead: the status of '
            || ahead_job
            || ' at '
            || {{ local_text("ahead_at") }}
            || ' was received more than {{ future_status() }} before that instant'
        else ''
    end
    || '.'
{%- endmacro %}

{% macro local_text(column) -%}
    to_char({{ column }} at time zone timezone, 'YYYY-MM-DD HH24:MI:SS')
{%- endmacro %}
