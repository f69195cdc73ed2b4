{#-
  Occurrences of the (slo_id, business_date) in `keys`: of the version that applies, not after its end, and for an SLO
  with an open start not before the date in `starts`. An occurrence is there from the start of its business date in its
  SLO's zone, or from the first status of that date. With what exceptions loaded up to `high` make of it: waived, or due
  later.
  `seen`: relations that together hold the jobs' dates that have a visible status.
-#}
{% macro occurrences_of(keys, versions, starts, seen, as_of, high) -%}
    with
        standing as (
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
                promise.next_due_at,
                version.gives_up_after,
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
                and {{ stands_on("version", "promise.business_date") }}
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
        ),

        exceptions as ({{ standing_exceptions(high) }}),

        excepted as (
            -- what waives before what moves, the latest time before an earlier one
            select distinct
                on (slo_id, business_date, slot)
                slo_id,
                business_date,
                slot,
                due_at is null as is_waived,
                due_at,
                reason,
                excepted_by
            from ({{ exceptions_of("standing", "exceptions") }}) as covered
            order by
                slo_id, business_date, slot, due_at desc nulls first, exception_load_id desc, exception_id
        ),

        due as (
            select
                standing.*,
                coalesce(excepted.is_waived, false) as is_waived,
                excepted.reason as exception_reason,
                excepted.excepted_by,
                -- later, never sooner
                greatest(standing.expected_end_at, excepted.due_at) as due_at
            from standing
            left join excepted using (slo_id, business_date, slot)
        )

    select
        slo_id,
        business_date,
        slot,
        load_id,
        entry_no,
        opens_at,
        claims_from,
        claims_before,
        expected_start_at,
        due_at as expected_end_at,
        expected_end_at as promised_end_at,
        case
            when gives_up_after is not null
            then due_at + gives_up_after
            -- what was put off beyond the next one is given up by time alone
            when next_due_at > due_at
            then least(next_due_at, due_at + interval '168 hours')
            else due_at + interval '168 hours'
        end as gives_up_at,
        is_waived,
        exception_reason,
        excepted_by,
        timezone,
        slo_application_id
    from due
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
