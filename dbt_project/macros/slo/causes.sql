{#-
  Why occurrences are late, one row for each of `late` (slo_id, business_date, slot, blocking_job). From the blocking job
  upstream, step by step, to a job that was not there when the one before was to start, and that this one waited for; the
  last one reached is the cause. Facts and promises decide, not how much time has passed.
  `jobs`: how jobs stand, as of job_verdicts. `edges`: the graph. `upstream`: where a job upstream is looked up, see
  upstream_in_marts.
-#}
{% macro causes_of(late, jobs, edges, upstream) -%}
    with recursive
        graph as materialized({{ edges }}),

        explored as (
            -- a row for each job that holds another up, `parent`; all ways, for the best one is known only
            -- at the end
            select
                late.slo_id,
                late.business_date,
                late.slot,
                null::text[] collate "C" as parent,
                {{
                    node_key(
                        "job", "job.business_date", "coalesce(job.expected_start_at, job.expected_end_at)"
                    )
                }} as node,
                job.application_id as at_application_id,
                job.job_id as at_job_id,
                false as is_passed,
                job.application_id,
                job.job_id,
                job.business_date as job_date,
                job.slo_id as job_slo_id,
                job.slot as job_slot,
                job.expected_start_at,
                job.expected_end_at,
                job.actual_start_at,
                job.actual_end_at,
                job.failed_at,
                job.run_count > 0 as is_heard,
                -- when it was to be there for what comes after it: a job without an SLO says nothing itself
                coalesce(job.expected_start_at, job.expected_end_at) as needed_at,
                0 as upstream_rank
            from {{ late }} as late
            inner join
                {{ jobs }} as job
                on late.slo_id = job.slo_id
                and late.business_date = job.business_date
                and late.slot = job.slot
                and {{ application_of("late.blocking_job") }} = job.application_id
                and {{ job_of("late.blocking_job") }} = job.job_id

            union

            select explored.slo_id, explored.business_date, explored.slot, step.*
            from explored
            inner join
                graph as edge
                on explored.at_application_id = edge.application_id
                and explored.at_job_id = edge.job_id
                {{ upstream.histories }}
            left join
                lateral(
                    select *, bool_or(is_promised) over () as has_promise
                    from
                        (
                            (
                                -- the same business date, else the latest earlier one; of its own
                                -- occurrence, else
                                -- the last that is due before it is needed, else the last
                                select
                                    candidate.business_date,
                                    candidate.slo_id,
                                    candidate.slot,
                                    candidate.expected_start_at,
                                    candidate.expected_end_at,
                                    candidate.actual_start_at,
                                    candidate.actual_end_at,
                                    candidate.failed_at,
                                    candidate.run_count > 0 as is_heard,
                                    true as is_promised
                                from {{ upstream.jobs }} as candidate
                                where
                                    candidate.application_id = edge.upstream_application_id
                                    and candidate.job_id = edge.upstream_job_id
                                    and candidate.business_date <= explored.job_date
                                order by
                                    candidate.business_date desc,
                                    coalesce(
                                        candidate.slo_id = explored.job_slo_id
                                        and candidate.slot = explored.job_slot,
                                        false
                                    ) desc,
                                    candidate.expected_end_at <= explored.needed_at desc,
                                    candidate.expected_end_at desc,
                                    candidate.slo_id,
                                    candidate.slot
                                limit 1
                            )
                            union all
                            select
                                run_date.business_date,
                                null,
                                null,
                                null,
                                null,
                                run_date.actual_start_at,
                                run_date.actual_end_at,
                                run_date.failed_at,
                                true,
                                false
                            from ({{ upstream.run_date }}) as run_date
                        ) as either
                    order by business_date desc, is_promised desc
                    limit 1
                ) as found
                on true
            cross join
                lateral(
                    -- it was not there when it was needed, nor by its own promise, and the job waited for it
                    select
                        explored.node as parent,
                        {{ node_key("edge", "found.business_date", "needed.needed_at") }} as node,
                        edge.upstream_application_id as at_application_id,
                        edge.upstream_job_id as at_job_id,
                        false as is_passed,
                        edge.upstream_application_id as application_id,
                        edge.upstream_job_id as job_id,
                        found.business_date as job_date,
                        found.slo_id as job_slo_id,
                        found.slot as job_slot,
                        found.expected_start_at,
                        found.expected_end_at,
                        found.actual_start_at,
                        found.actual_end_at,
                        found.failed_at,
                        found.is_heard,
                        needed.needed_at,
                        edge.upstream_rank
                    from
                        (
                            select
                                coalesce(
                                    found.expected_start_at, found.expected_end_at, explored.needed_at
                                ) as needed_at
                        ) as needed
                    where
                        found.business_date is not null
                        and (
                            found.actual_end_at is null
                            or found.actual_end_at > coalesce(
                                greatest(explored.expected_start_at, found.expected_end_at),
                                explored.needed_at
                            )
                        )
                        and coalesce(
                            coalesce(explored.actual_start_at, explored.actual_end_at) >= found.actual_end_at,
                            explored.actual_start_at is null and explored.actual_end_at is null
                        )
                    union all
                    -- nothing is known of a job without an SLO that has not reported: what it waits for
                    -- counts instead
                    select
                        explored.parent,
                        explored.node,
                        edge.upstream_application_id,
                        edge.upstream_job_id,
                        true,
                        explored.application_id,
                        explored.job_id,
                        explored.job_date,
                        explored.job_slo_id,
                        explored.job_slot,
                        explored.expected_start_at,
                        explored.expected_end_at,
                        explored.actual_start_at,
                        explored.actual_end_at,
                        explored.failed_at,
                        explored.is_heard,
                        explored.needed_at,
                        explored.upstream_rank
                    where
                        found.has_promise is not true
                        and found.business_date is distinct from explored.job_date
                ) as step
        ),

        chain as (
            select *, 0 as steps
            from explored
            where parent is null and not is_passed

            union all

            select *
            from
                (
                    -- the one that was there last (none yet is later than all), then the most upstream
                    select distinct
                        on (chain.slo_id, chain.business_date, chain.slot) explored.*,
                        chain.steps + 1 as steps
                    from chain
                    inner join
                        explored
                        on chain.slo_id = explored.slo_id
                        and chain.business_date = explored.business_date
                        and chain.slot = explored.slot
                        and chain.node = explored.parent
                        and not explored.is_passed
                    order by
                        chain.slo_id,
                        chain.business_date,
                        chain.slot,
                        explored.actual_end_at desc nulls first,
                        explored.upstream_rank,
                        explored.application_id,
                        explored.job_id
                ) as next_one
        )

    select distinct
        on (chain.slo_id, chain.business_date, chain.slot)
        chain.slo_id,
        chain.business_date,
        chain.slot,
        chain.application_id || '/' || chain.job_id as cause_job,
        chain.job_date as cause_business_date,
        {{ delay_kind("chain") }} as cause_delay,
        not exists (
            select
            from {{ jobs }} as job
            where
                job.slo_id = chain.slo_id
                and job.business_date = chain.business_date
                and job.slot = chain.slot
                and job.application_id = chain.application_id
                and job.job_id = chain.job_id
        ) as is_cause_upstream,
        chain.expected_start_at as cause_expected_start_at,
        chain.expected_end_at as cause_expected_end_at,
        chain.actual_start_at as cause_start_at,
        chain.actual_end_at as cause_end_at,
        chain.failed_at as cause_failed_at
    from chain
    order by chain.slo_id, chain.business_date, chain.slot, chain.steps desc
{%- endmacro %}

{#- What tells a job of one occurrence, or of one date, from all others. -#}
{% macro node_key(job, business_date, needed_at) -%}
    {%- set source = "found" if job == "edge" else job -%}
    {%- set prefix = "upstream_" if job == "edge" else "" -%}
    array[
        {{ job }}.{{ prefix }}application_id,
        {{ job }}.{{ prefix }}job_id,
        {{ business_date }}::text,
        {{ source }}.slo_id,
        {{ source }}.slot,
        {{ needed_at }}::text
    ] collate "C"
{%- endmacro %}

{#-
  Why a job was not there in time, if it was not: the first of these that holds. It started late where that cost no less
  than what its run took beyond the time promised for it; until it has ended, where half of that time was gone.
  A job that was given no start was to start when it was due, at the latest.
-#}
{% macro delay_kind(job) -%}
    {%- set expected -%} coalesce({{ job }}.expected_start_at, {{ job }}.expected_end_at) {%- endset -%}
    case
        when {{ job }}.failed_at is not null
        then 'failure'
        when not {{ job }}.is_heard
        then 'never_started'
        when
            {{ job }}.actual_start_at > {{ expected }}
            and {{ job }}.actual_start_at - {{ expected }} >= coalesce(
                ({{ job }}.actual_end_at - {{ job }}.actual_start_at)
                - ({{ job }}.expected_end_at - {{ expected }}),
                ({{ job }}.expected_end_at - {{ expected }}) / 2
            )
        then 'late_start'
        else 'long_run'
    end
{%- endmacro %}

{#- How a job without an SLO stood on one date, by all of its runs (as of run_results). -#}
{% macro run_date_columns(run) -%}
    {%- set succeeded_at -%} min({{ run }}.ended_at) filter (where {{ run }}.final_status = 'SUCCEED') {%- endset -%}
    {%- set failed_at -%} min({{ run }}.ended_at) filter (where {{ run }}.final_status = 'FAIL') {%- endset -%}
    {{ run }}.application_id,
    {{ run }}.job_id,
    {{ run }}.business_date,
    case
        when {{ succeeded_at }} is null or min({{ run }}.started_at) <= {{ succeeded_at }}
        then min({{ run }}.started_at)
    end as actual_start_at,
    {{ succeeded_at }} as actual_end_at,
    case
        when {{ succeeded_at }} is null or {{ failed_at }} <= {{ succeeded_at }} then {{ failed_at }}
    end as failed_at
{%- endmacro %}

{#-
  Where causes_of looks up `edge.upstream_…` for dates up to `explored.job_date`: the marts, by their indexes.
  `jobs`: a relation like slo_job_performance; `run_date`: a query for the last date with runs; `histories`: a join that
  the other two need.
-#}
{% macro upstream_in_marts(jobs, runs) -%}
    {%- set run_date -%}
        select {{ run_date_columns("run") }}
        from {{ runs }} as run
        where
            run.application_id = edge.upstream_application_id
            and run.job_id = edge.upstream_job_id
            and run.business_date = (
                select earlier.business_date
                from {{ runs }} as earlier
                where
                    earlier.application_id = edge.upstream_application_id
                    and earlier.job_id = edge.upstream_job_id
                    and earlier.business_date <= explored.job_date
                order by earlier.business_date desc
                limit 1
            )
        group by run.application_id, run.job_id, run.business_date
    {%- endset -%}
    {{ return({"jobs": jobs, "run_date": run_date, "histories": ""}) }}
{%- endmacro %}

{#-
  For a query whose relations have no indexes: what the jobs upstream in `edges` were on all dates, a row for each, as CTEs.
-#}
{% macro histories(jobs, runs, edges) -%}
    {%- set is_upstream -%}
        (application_id, job_id) in (select upstream_application_id, upstream_job_id from {{ edges }})
    {%- endset -%}
    job_histories as (
        select application_id, job_id, array_agg(row({{ history_columns() | join(", ") }})) as kept
        from {{ jobs }}
        where {{ is_upstream }}
        group by application_id, job_id
    ),

    run_dates as (
        -- where the job is promised, its runs are counted there
        select {{ run_date_columns("run") }}
        from ({{ run_results(runs) }}) as run
        where
            {{ is_upstream }}
            and not exists (
                select
                from {{ jobs }} as job
                where
                    job.application_id = run.application_id
                    and job.job_id = run.job_id
                    and job.business_date = run.business_date
            )
        group by run.application_id, run.job_id, run.business_date
    ),

    run_histories as (
        select application_id, job_id, array_agg(row({{ run_history_columns() | join(", ") }})) as kept
        from run_dates
        group by application_id, job_id
    )
{%- endmacro %}

{% macro history_columns() -%}
    {{
        return(
            dict(
                run_history_columns(),
                slo_id='text collate "C"',
                slot='text collate "C"',
                application_id='text collate "C"',
                job_id='text collate "C"',
                run_count="integer",
                expected_start_at="timestamptz",
                expected_end_at="timestamptz",
            )
        )
    }}
{%- endmacro %}

{% macro run_history_columns() -%}
    {{
        return(
            {
                "business_date": "date",
                "actual_start_at": "timestamptz",
                "actual_end_at": "timestamptz",
                "failed_at": "timestamptz",
            }
        )
    }}
{%- endmacro %}

{#- As upstream_in_marts, in the CTEs of `histories`. -#}
{% macro upstream_in_histories() -%}
    {%- set joins -%}
        {%- for history in ["job_histories", "run_histories"] %}
            left join
                {{ history }}
                on edge.upstream_application_id = {{ history }}.application_id
                and edge.upstream_job_id = {{ history }}.job_id
        {%- endfor %}
    {%- endset -%}
    {%- set run_date -%}
        select *
        from {{ unnested("run_histories.kept", run_history_columns()) }}
        where business_date <= explored.job_date
        order by business_date desc
        limit 1
    {%- endset -%}
    {%- set jobs -%} (select * from {{ unnested("job_histories.kept", history_columns()) }}) {%- endset -%}
    {{ return({"jobs": jobs, "run_date": run_date, "histories": joins}) }}
{%- endmacro %}

{% macro unnested(rows, columns) -%}
    unnest({{ rows }}) as kept(
        {%- for column, type in columns.items() %}
            {{ column }} {{ type }}{{ ", " if not loop.last }}
        {%- endfor -%}
    )
{%- endmacro %}

{#-
  Whose cause may be another by what changes: of the occurrences that are late in `performance`, the mart before, those
  that are downstream of the jobs of the `occurrences` in scope, of the jobs' dates in `job_dates`, and of jobs whose edges
  changed by a load in (low, high]. Others have no cause, or are in scope by themselves.
  Forwards as causes_of goes backwards: what a job is on a date counts for its downstream on that date and those after, up
  to the job's next date. Dates too many do no harm.
-#}
{% macro downstream_of(occurrences, job_dates, edges, performance, low, high) -%}
    {%- set job_date = {
        "application_id": 'text collate "C"',
        "job_id": 'text collate "C"',
        "business_date": "date",
    } -%}
    {%- set dates_before = [published("slo_job_performance", job_date), published("job_run", job_date)] -%}
    {%- set is_late -%} performance.outcome in ('late', 'overdue', 'missed') {%- endset -%}
    with recursive
        newest_late as (
            select max(performance.business_date) as business_date
            from {{ performance }} as performance
            where {{ is_late }}
        ),

        changed as (
            select application_id, job_id, business_date
            from {{ job_dates }}
            where business_date <= (select business_date from newest_late)
            union
            -- of all promises of the date, those before it too
            select promise_job.application_id, promise_job.job_id, occurrence.business_date
            from {{ occurrences }} as occurrence
            inner join {{ source("catalog", "promise_job") }} as promise_job using (slo_id, business_date)
            where
                -- by itself, so that a rebuild reads no promise
                (select business_date from newest_late) is not null
                and occurrence.business_date <= (select business_date from newest_late)
        ),

        graph as materialized(select * from {{ edges }}),

        downstream as (
            select
                application_id,
                job_id,
                business_date as since,
                {{ first_date(dates_before, "changed", "changed.business_date + 1") }} as before
            from changed
            union
            select application_id, job_id, '-infinity'::date as since, 'infinity'::date as before
            from {{ source("catalog", "job_version") }}
            where
                load_id > {{ low }}
                and load_id <= {{ high }}
                and (select business_date from newest_late) is not null
            union
            select
                edge.application_id,
                edge.job_id,
                upstream.since,
                case
                    when upstream.before = 'infinity'
                    then upstream.before
                    else {{ first_date(dates_before, "edge", "upstream.before") }}
                end as before
            from downstream as upstream
            inner join
                graph as edge
                on upstream.application_id = edge.upstream_application_id
                and upstream.job_id = edge.upstream_job_id
        )

    select performance.slo_id, performance.business_date
    from downstream
    inner join
        {{ performance }} as performance
        on downstream.application_id || '/' || downstream.job_id = performance.blocking_job
        and downstream.since <= performance.business_date
        and downstream.before > performance.business_date
    where
        {{ is_late }}
        -- for the index
        and performance.business_date >= (select min(since) from downstream)
        and performance.business_date < (select max(before) from downstream)
{%- endmacro %}

{#- The first business date of a job from `bound` on in any of these relations; infinity without one. -#}
{% macro first_date(relations, job, bound) -%}
    least(
        {%- for relation in relations %}
            (
                select seen.business_date
                from {{ relation }} as seen
                where
                    seen.application_id = {{ job }}.application_id
                    and seen.job_id = {{ job }}.job_id
                    and seen.business_date >= {{ bound }}
                order by seen.business_date
                limit 1
            ),
        {%- endfor %}
        'infinity'::date
    )
{%- endmacro %}
