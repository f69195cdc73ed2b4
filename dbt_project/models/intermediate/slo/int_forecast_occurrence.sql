{{ config(materialized="view", schema="intermediate") }}

with
    slo_version as (select * from {{ ref("stg_slo_version") }}),

    exceptions as ({{ standing_exceptions(tick("high")) }}),

    open_now as (
        select slo_id, business_date, slot, application_id, expected_end_at, null::timestamptz as opens_at
        from {{ ref("slo_performance") }}
        where outcome in ('not_due', 'overdue') and progress <> 'complete' and not is_waived
    ),

    coming as (
        select distinct
            on (version.slo_id)
            version.slo_id,
            promise.business_date,
            promise.slot,
            version.spec ->> 'application' as slo_application_id,
            promise.expected_end_at,
            promise.opens_at,
            version.timezone
        from slo_version as version
        left join
            {{ ref("slo_start") }} as slo_start
            on version.slo_id = slo_start.slo_id
            and version.load_id = slo_start.load_id
            and version.entry_no = slo_start.entry_no
        cross join
            lateral(
                select business_date, slot, expected_end_at, opens_at
                from {{ source("catalog", "promise") }} as candidate
                where
                    candidate.slo_id = version.slo_id
                    and candidate.load_id = version.load_id
                    and candidate.entry_no = version.entry_no
                    and candidate.opens_at > {{ tick("as_of") }}
                    -- what follows from it, for the index
                    and candidate.business_date >= ({{ tick("as_of") }} at time zone 'UTC')::date - 1
                    and candidate.business_date >= version.applies_from
                    and candidate.business_date < version.applies_before
                    and candidate.business_date <= coalesce(version.effective_to, 'infinity'::date)
                    and (not version.is_open_start or candidate.business_date >= slo_start.start_date)
                    -- one that began early is open
                    and not exists (
                        select
                        from {{ ref("slo_performance") }} as begun
                        where
                            begun.slo_id = candidate.slo_id
                            and begun.business_date = candidate.business_date
                            and begun.slot = candidate.slot
                    )
                    -- and nothing is due of one that is waived
                    and not exists (
                        select
                        from exceptions as waiver
                        where
                            waiver.due_minutes is null
                            and (
                                waiver.slo_id = candidate.slo_id
                                or waiver.application_id = version.spec ->> 'application'
                            )
                            and candidate.business_date between waiver.from_date and waiver.to_date
                            and (waiver.slot is null or waiver.slot = candidate.slot)
                    )
                order by candidate.business_date, candidate.expected_end_at, candidate.slot
                limit 1
            ) as promise
        where not version.is_retired
        order by version.slo_id, promise.expected_end_at, promise.slot
    ),

    put_off as (
        select slo_id, business_date, slot, max(due_at) as due_at
        from ({{ exceptions_of("coming", "exceptions") }}) as covered
        group by slo_id, business_date, slot
    )

select
    occurrence.slo_id,
    occurrence.business_date,
    occurrence.slot,
    occurrence.application_id,
    occurrence.expected_end_at,
    occurrence.opens_at,
    newest.timezone,
    newest.spec ->> 'every' is not null as is_windowed
from
    (
        select *
        from open_now
        union all
        select
            coming.slo_id,
            coming.business_date,
            coming.slot,
            coming.slo_application_id,
            greatest(coming.expected_end_at, put_off.due_at) as expected_end_at,
            coming.opens_at
        from coming
        left join put_off using (slo_id, business_date, slot)
    ) as occurrence
cross join
    lateral(
        -- one by one, by the index: the planner takes a join of the two for one of few rows
        select timezone, spec
        from {{ source("catalog", "slo_version") }} as version
        where version.slo_id = occurrence.slo_id and version.load_id <= {{ tick("high") }}
        order by load_id desc, applies_from desc, entry_no desc
        limit 1
    ) as newest
