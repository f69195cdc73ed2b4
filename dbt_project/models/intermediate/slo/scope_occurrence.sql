{{ config(indexes=[{"columns": ["slo_id", "business_date"], "unique": true}]) }}

{%- set performance_before -%}
    {{
        published(
            "slo_performance",
            {
                "slo_id": 'text collate "C"',
                "business_date": "date",
                "outcome": "text",
                "expected_end_at": "timestamptz",
                "gives_up_at": "timestamptz",
                "blocking_job": 'text collate "C"',
            },
        )
    }}
{%- endset %}

with
    scope_job_date as (select * from {{ ref("scope_job_date") }}),

    -- not materialised: each use through the index that suits it
    promise as not materialized(
        -- no status, and so no occurrence, is further ahead: local dates are at most 26 hours apart
        select *
        from {{ source("catalog", "promise") }}
        where opens_at <= {{ tick("as_of") }} + interval '26 hours'
    ),

    slo_version as not materialized(
        select * from {{ source("catalog", "slo_version") }} where load_id <= {{ tick("high") }}
    ),

    by_status as (
        select promise_job.slo_id, scope_job_date.business_date
        from scope_job_date
        inner join
            {{ source("catalog", "promise_job") }} as promise_job using (
                application_id, job_id, business_date
            )
    ),

    by_time as (
        -- what opened, and what fell due: overdue is as_of > expected_end_at
        select slo_id, business_date
        from promise
        where opens_at > {{ tick("previous_as_of") }} and opens_at <= {{ tick("as_of") }}
        union all
        select slo_id, business_date
        from promise
        where expected_end_at >= {{ tick("previous_as_of") }} and expected_end_at < {{ tick("as_of") }}
        union all
        -- what an exception had put off
        select slo_id, business_date
        from {{ performance_before }} as put_off
        where
            outcome = 'not_due'
            and expected_end_at >= {{ tick("previous_as_of") }}
            and expected_end_at < {{ tick("as_of") }}
        union all
        -- missed is as_of > gives_up_at; what falls due only now is here by its due time
        select slo_id, business_date
        from {{ performance_before }} as overdue
        where outcome = 'overdue' and gives_up_at < {{ tick("as_of") }}
    ),

    by_exception as (
        -- new, or taken away
        select promise.slo_id, promise.business_date
        from
            (
                select *
                from {{ source("catalog", "exception_version") }}
                where load_id > {{ tick("low") }} and load_id <= {{ tick("high") }}
            ) as exception
        inner join
            (select distinct slo_id, spec ->> 'application' as application_id from slo_version) as slo
            on slo.slo_id = exception.slo_id
            or slo.application_id = exception.application_id
        inner join
            promise
            on promise.slo_id = slo.slo_id
            and promise.business_date >= exception.from_date
            and promise.business_date <= exception.to_date
    ),

    by_promise as (
        select slo_id, business_date
        from promise
        where planned_load_id > {{ tick("low") }} and planned_load_id <= {{ tick("high") }}
        union all
        -- a new version also takes away what an older one promised
        select slo_id, promise.business_date
        from slo_version
        inner join promise using (slo_id)
        where slo_version.load_id > {{ tick("low") }} and promise.business_date >= slo_version.applies_from
    ),

    by_start as (
        -- an open start that moved: the dates between the old one and the new one
        select slo_id, promise.business_date
        from
            (
                select slo_id, load_id, entry_no, start_date
                from {{ ref("int_slo_start") }}
                where load_id is not null
            ) as now_at
        full join
            (
                select slo_id, load_id, entry_no, start_date
                from {{ starts_before() }} as published
                where slo_id in (select slo_id from {{ ref("int_slo_start") }})
            ) as before using (slo_id, load_id, entry_no)
        inner join promise using (slo_id)
        where
            promise.business_date >= least(now_at.start_date, before.start_date)
            and promise.business_date < greatest(
                coalesce(now_at.start_date, 'infinity'::date), coalesce(before.start_date, 'infinity'::date)
            )
    ),

    by_own as (
        select slo_id, business_date
        from by_status
        union
        select slo_id, business_date
        from by_time
        union
        select slo_id, business_date
        from by_promise
        union
        select slo_id, business_date
        from by_start
        union
        select slo_id, business_date
        from by_exception
    ),

    by_cause as (
        {{
            downstream_of(
                "by_own",
                ref("scope_job_date"),
                ref("int_coming_job_edge"),
                performance_before,
                tick("low"),
                tick("high"),
            )
        }}
    ),

    final as (
        select slo_id, business_date
        from by_own
        union
        select slo_id, business_date
        from by_cause
    )

select slo_id, business_date
from final
